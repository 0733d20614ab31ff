"""Networks of containers, on a host of their own."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from network_host import NEEDS, Host, answering, get, host, serve  # noqa: F401

pytestmark = NEEDS


def test_a_container_has_an_address_and_a_way_out(host: Host) -> None:
    script = "ip -o -4 addr show eth0; ip route; cat /sys/class/net/eth0/address"
    out = host.good("run", "--rm", "--network", "bridge", "busybox", "sh", "-c", script)
    assert "inet 10.89.0.2/24" in out and "default via 10.89.0.1 dev eth0" in out and "02:42:0a:59:00:02" in out
    assert len(host.links()) == 1  # the bridge


def test_what_goes_out_has_the_host_s_address(host: Host) -> None:
    with answering(host.world):
        said = host.good("run", "--rm", "--network", "bridge", "busybox", "nc", "192.0.2.2", "7000")
    assert said == "192.0.2.1"


def test_a_published_port_is_reached_from_the_world_from_here_and_from_another_network(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-p", "8080:80")
    assert host.ask(host.world, "192.0.2.1", 8080) == "web"
    assert host.ask(host.host, "127.0.0.1", 8080) == "web"
    assert host.ask(host.host, "192.0.2.1", 8080) == "web"
    host.good("network", "create", "other")
    assert host.good("run", "--rm", "--network", "other", "busybox", *get("192.0.2.1:8080")) == "web\n"
    assert host.good("port", "web") == "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"


def test_a_port_that_is_not_published_is_not_reached_from_the_world(host: Host) -> None:
    serve(host, "--name", "web", "--network", "bridge")
    address = host.address("web")
    host.run(host.world, "ip", "route", "add", "10.89.0.0/16", "via", "192.0.2.1")
    assert "timed out" in host.ask(host.world, address, 80)
    assert len(host.ask(host.host, address, 80)) == 12  # its host name: from the host itself it is


def test_networks_do_not_see_each_other(host: Host) -> None:
    for name in ("one", "two"):
        host.good("network", "create", name)
    serve(host, "--name", "db", "--network", "one")
    done = host.minirt("run", "--rm", "--network", "two", "busybox", *get(host.address("db", "one")))
    assert done.returncode != 0 and done.stdout == ""


def test_nothing_leaves_or_enters_an_internal_network(host: Host) -> None:
    host.good("network", "create", "--internal", "shut")
    assert "default" not in host.good("run", "--rm", "--network", "shut", "busybox", "ip", "route")
    serve(host, "--name", "db", "--hostname", "db", "--network", "shut")
    assert host.good("run", "--rm", "--network", "shut", "busybox", *get("db")) == "db\n"


def test_many_at_once_have_addresses_of_their_own(host: Host) -> None:
    host.good("run", "--rm", "busybox", "true")  # the image is there

    def one(_: int) -> str:
        return host.good("run", "--rm", "--network", "bridge", "busybox", "ip", "-o", "-4", "addr", "show", "eth0")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(8)))) == 8


def test_a_network_comes_and_goes_while_it_runs(host: Host) -> None:
    host.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    host.good("network", "create", "late")
    host.good("network", "connect", "--ip", "10.89.0.77", "late", "box")
    assert "10.89.0.77/24" in host.good("exec", "box", "ip", "-o", "addr", "show", "eth0")
    host.good("network", "disconnect", "late", "box")
    assert "eth0" not in host.good("exec", "box", "ip", "link")


def test_two_may_share_one_network_namespace(host: Host) -> None:
    serve(host, "--name", "db", "--network", "bridge")
    assert len(host.good("run", "--rm", "--network", "container:db", "busybox", *get("127.0.0.1"))) == 13


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--network", "nowhere", "busybox"), "no network 'nowhere'"),
        (("run", "-p", "http", "busybox"), "'http' is no port"),
        (("run", "-p", "80-82:80-81", "busybox"), "3 ports of the host for 2"),
        (("run", "--network", "host", "-p", "80", "busybox"), "nothing to publish"),
        (("run", "--network", "bridge", "--ip", "10.1.2.3", "busybox"), "the network has the subnet"),
        (("network", "create", "host"), "is none of host"),
        (("network", "create", "--subnet", "10.0.0.0/33", "x"), "--subnet 10.0.0.0/33"),
        (("network", "rm", "nowhere"), "no network 'nowhere'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(host: Host, words: tuple[str, ...], said: str) -> None:
    done = host.minirt(*words)
    assert done.returncode == (125 if words[0] == "run" else 1 if words[1] == "rm" else done.returncode) != 0
    assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert host.links() == set() and host.good("ps", "-aq") == ""


def test_a_port_that_is_taken_is_refused(host: Host) -> None:
    serve(host, "--name", "web", "-p", "8080:80")
    done = host.minirt("run", "-d", "-p", "8080:80", "busybox", "true")
    assert done.returncode == 125 and "is published by" in done.stderr
    with answering(host.host):
        done = host.minirt("run", "-d", "-p", "7000:80", "busybox", "true")
    assert done.returncode == 125 and "Address already in use" in done.stderr


def test_a_container_does_not_reach_the_host_s_own_loopback(host: Host) -> None:
    """route_localnet is what lets 127.0.0.1:8080 of the host reach a container; the other way is closed (CVE-2020-8558)."""
    host.good("run", "-d", "--name", "box", "-p", "8080:80", "busybox", "sleep", "1000")
    with answering(host.host):
        script = "ip route add 127.0.0.77 via 10.89.0.1; ip addr del 127.0.0.1/8 dev lo; timeout 2 nc 127.0.0.77 7000; echo $?"
        lost = host.good("exec", "--privileged", "box", "sh", "-c", script)
        seen = host.good("exec", "box", "sh", "-c", "timeout 5 nc 192.0.2.1 7000")
    assert lost == "143\n" or lost.endswith("1\n")
    assert seen == host.address("box")  # the server is there, at the host's other addresses


def test_several_networks_and_the_way_out_is_the_first_that_has_one(host: Host) -> None:
    for words in (["--internal", "shut"], ["one"], ["two"]):
        host.good("network", "create", *words)
    host.good("run", "-d", "--name", "box", "--network", "shut", "--network", "name=one,ip=10.89.1.77",
              "--network", "two", "busybox", "sleep", "1000")  # fmt: skip
    out = host.good("exec", "box", "sh", "-c", "ip -o -4 addr; ip route")
    assert "eth0    inet 10.89.0.2/24" in out and "eth1    inet 10.89.1.77/24" in out and "eth2    inet 10.89.2.2/24" in out
    assert "default via 10.89.1.1 dev eth1" in out
    host.good("network", "disconnect", "one", "box")
    assert "default via 10.89.2.1 dev eth2" in host.good("exec", "box", "ip", "route")
    host.good("network", "connect", "one", "box")
    assert "eth1" in host.good("exec", "box", "ip", "-o", "-4", "addr")  # the first name that is free


def test_what_was_connected_while_it_did_not_run_is_there_when_it_does(host: Host) -> None:
    host.good("network", "create", "--subnet", "10.7.0.0/24", "one")
    host.good("create", "--name", "box", "--network", "bridge", "busybox", "sleep", "1000")
    host.good("network", "connect", "--ip", "10.7.0.9", "--mac-address", "02:00:00:00:00:07", "one", "box")
    assert host.links().isdisjoint({link for link in host.links() if link.startswith("mv")})
    host.good("start", "box")
    assert "10.7.0.9/24" in host.good("exec", "box", "ip", "-o", "addr", "show", "eth1")
    assert host.good("exec", "box", "cat", "/sys/class/net/eth1/address") == "02:00:00:00:00:07\n"
    host.good("network", "disconnect", "bridge", "box")
    host.good("restart", "-t", "0", "box")
    assert "10.7.0.9/24" in host.good("exec", "box", "ip", "-o", "addr", "show", "eth0")


def test_a_stopped_container_has_no_interface_no_rule_and_no_address(host: Host) -> None:
    serve(host, "--name", "web", "-p", "8080:80")
    assert "dnat ip to 10.89.0.2:80" in host.table() and any(link.startswith("mv") for link in host.links())
    host.good("stop", "-t", "0", "web")
    assert "dnat ip to" not in host.table() and not any(link.startswith("mv") for link in host.links())
    (found,) = json.loads(host.good("network", "inspect", "bridge"))
    assert found["Containers"] == {}
    host.good("start", "web")
    assert host.ask(host.world, "192.0.2.1", 8080)


def test_udp_ranges_any_port_and_one_address(host: Host) -> None:
    host.good("run", "-d", "--name", "udp", "-p", "5300:53/udp", "busybox", "sleep", "1000")
    (found,) = json.loads(host.good("inspect", "udp"))
    echo = "import socket; s=socket.socket(2, 2); s.bind(('', 53)); print(flush=True)\nwhile True: s.sendto(*s.recvfrom(99))"
    script = "import socket; s=socket.socket(2, 2); s.settimeout(20); s.sendto(b'hi', ('192.0.2.1', 5300)); print(s.recv(9))"
    with answering(found["State"]["Pid"], echo):
        assert host.run(host.world, sys.executable, "-c", script) == "b'hi'\n"
    serve(host, "--name", "two", "-p", "8000-8001:80-81", "-p", "80")
    assert host.ask(host.host, "127.0.0.1", 8000) and "80/tcp -> 0.0.0.0:8000" in host.good("port", "two")
    serve(host, "--name", "any", "--hostname", "any", "-p", "8000-8003:80")
    assert host.ask(host.host, "127.0.0.1", 8002) == "any"  # the first of the range that is free
    serve(host, "--name", "here", "--hostname", "here", "-p", "127.0.0.1:9000:80")
    assert host.ask(host.host, "127.0.0.1", 9000) == "here" and "refused" in host.ask(host.world, "192.0.2.1", 9000)


def test_publish_all_publishes_what_is_exposed(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-P", "--expose", "80")
    where = host.good("port", "web", "80").split()[0]
    assert where.startswith("0.0.0.0:") and host.ask(host.world, "192.0.2.1", int(where.rpartition(":")[2])) == "web"


def test_rules_that_somebody_flushed_are_back_with_the_next_container(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-p", "8080:80")
    host.run(host.host, "nft", "flush", "ruleset")
    assert "refused" in host.ask(host.world, "192.0.2.1", 8080)
    host.good("run", "--rm", "--network", "bridge", "busybox", "true")
    assert host.ask(host.world, "192.0.2.1", 8080) == "web"


def test_macvlan_is_on_the_host_s_wire_with_an_address_of_its_own(host: Host) -> None:
    host.good("network", "create", "-d", "macvlan", "-o", "parent=out", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.2",
              "--ip-range", "192.0.2.128/25", "lan")  # fmt: skip
    with answering(host.world):
        said = host.good("run", "--rm", "--network", "lan", "busybox", "sh", "-c", "timeout 5 nc 192.0.2.2 7000")
    assert said.startswith("192.0.2.128") and host.links() == set()
    host.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    host.good("network", "connect", "lan", "box")
    assert "192.0.2.129/24" in host.good("exec", "box", "ip", "-o", "addr", "show", "eth0")
    host.good("network", "disconnect", "lan", "box")
    assert "eth0" not in host.good("exec", "box", "ip", "link")


def test_explain_shows_each_message_with_its_reason(host: Host) -> None:
    host.good("run", "--rm", "--network", "bridge", "busybox", "true")  # the bridge is there
    done = host.minirt("run", "--rm", "--explain", "--network", "bridge", "busybox", "true")
    lines = done.stderr.splitlines()
    messages = [i for i, line in enumerate(lines) if line.startswith("  RTM_")]
    said = [lines[i].split("(")[0].strip() for i in messages]
    assert said == ["RTM_GETLINK", "RTM_NEWLINK", "RTM_GETLINK", "RTM_NEWADDR", "RTM_NEWLINK", "RTM_GETLINK", "RTM_NEWROUTE",
                    "RTM_DELLINK"]  # fmt: skip
    assert all(lines[i + 1].startswith("      ") for i in messages)
    assert "  nft(" not in done.stderr  # what is in the table has not changed


def test_networks_are_listed_filtered_and_told_as_docker_does(host: Host) -> None:
    host.good("network", "create", "--label", "stage=test", "--opt", "mtu=1400", "one")
    serve(host, "--name", "web", "--network", "one", "--network-alias", "www")
    assert host.good("network", "ls", "-q", "--no-trunc", "--filter", "label=stage=test") == host.good(
        "network", "ls", "-q", "--no-trunc", "--filter", "type=custom"
    )
    assert set(host.good("network", "ls", "--format", "{{.Name}}").split()) == {"one", "host", "none"}
    listed = [json.loads(line) for line in host.good("network", "ls", "--format", "json").splitlines()]
    assert {one["Name"] for one in listed} == {"one", "host", "none"}
    (found,) = json.loads(host.good("network", "inspect", "one"))
    (member,) = found["Containers"].values()
    for word, names in (("one", "web\n"), (found["Id"], "web\n"), ("none", "")):
        assert host.good("ps", "--format", "{{.Names}}", "--filter", f"network={word}") == names
    assert host.good("exec", "web", "cat", "/sys/class/net/eth0/address").strip() == member["MacAddress"]
    assert host.good("exec", "web", "cat", "/sys/class/net/eth0/mtu") == "1400\n"
    assert found["IPAM"]["Config"][0]["Gateway"] in host.good("exec", "web", "ip", "route")
    link = json.loads(host.run(host.host, "ip", "-j", "-d", "link", "show", found["Options"]["com.docker.network.bridge.name"]))
    assert link[0]["linkinfo"]["info_kind"] == "bridge"
    done = host.minirt("network", "rm", "one")
    assert done.returncode == 1 and "in use by web" in done.stderr
    host.good("rm", "-f", "web")
    assert host.good("network", "prune", "--filter", "label=other") == "" and host.good("network", "prune") == "one\n"


def test_a_container_reaches_its_own_published_port_by_the_host_s_address(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-p", "8080:80")
    assert host.good("exec", "web", *get("192.0.2.1:8080")) == "web\n"


def test_who_shares_a_network_has_its_files_of_names(host: Host) -> None:
    host.good("network", "create", "back")
    host.good("run", "-d", "--name", "db", "--network", "back", "busybox", "sleep", "1000")
    for file in ("hosts", "resolv.conf", "hostname"):
        there = host.good("exec", "db", "cat", f"/etc/{file}")
        assert host.good("run", "--rm", "--network", "container:db", "busybox", "cat", f"/etc/{file}") == there != ""
    done = host.minirt("network", "connect", "back", "db")
    assert done.returncode == 1 and "is in it already" in done.stderr

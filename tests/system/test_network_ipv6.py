"""IPv6 of networks of containers: addresses, the way out, published ports, and [::1] of the host."""

from __future__ import annotations

import json
import sys

import pytest
from network_host import NEEDS, Host, answering, host, serve  # noqa: F401

pytestmark = NEEDS


def make(host: Host, *words: str) -> None:
    host.good("network", "create", "--ipv6", "--subnet", "fd00:7::/64", *words, "six")


def test_a_container_has_both_addresses_at_once(host: Host) -> None:
    make(host, "--subnet", "10.7.0.0/24")
    out = host.good("run", "--rm", "--network", "six", "--ip6", "fd00:7::9", "--ip", "10.7.0.9", "busybox", "sh", "-c",
                    "ip -o addr show eth0; ip route; ip -6 route; ping -6 -c 1 fd00:7::1")  # fmt: skip
    assert "inet 10.7.0.9/24" in out and "inet6 fd00:7::9/64" in out and "tentative" not in out.partition("fe80")[0]
    assert "default via 10.7.0.1" in out and "default via fd00:7::1" in out and "1 packets received" in out


def test_what_goes_out_has_the_host_s_address(host: Host) -> None:
    make(host)
    with answering(host.world):
        assert host.good("run", "--rm", "--network", "six", "busybox", "nc", "fd00:2::2", "7000") == "fd00:2::1"


def test_a_published_port_is_reached_by_ipv6_from_the_world_and_from_here(host: Host) -> None:
    make(host)
    serve(host, "--name", "web", "--hostname", "web", "--network", "six", "-p", "8080:80", "-p", "[fd00:2::1]:8081:80")
    assert host.ask(host.world, "[fd00:2::1]", 8080) == host.ask(host.world, "[fd00:2::1]", 8081) == "web"
    assert host.ask(host.world, "192.0.2.1", 8080) == "web" and "refused" in host.ask(host.world, "192.0.2.1", 8081)
    assert host.ask(host.host, "[::1]", 8080) == host.ask(host.host, "[fd00:2::1]", 8080) == "web"
    assert "80/tcp -> [fd00:2::1]:8081" in host.good("port", "web")


def test_ipv6_leads_to_a_container_without_ipv6_too(host: Host) -> None:
    serve(host, "--name", "web", "--hostname", "web", "-p", "8080:80", "-p", "127.0.0.1:8082:80")
    assert host.ask(host.host, "[::1]", 8080) == "web" and "refused" in host.ask(host.host, "[::1]", 8082)
    assert host.ask(host.world, "[fd00:2::1]", 8080) == host.ask(host.host, "[fd00:2::1]", 8080) == "web"
    host.good("rm", "-f", "web")
    assert "refused" in host.ask(host.host, "[::1]", 8080)


@pytest.mark.parametrize("six", [False, True], ids=["without IPv6", "with it"])
def test_datagrams_by_ipv6_are_led_on_and_answered(host: Host, six: bool) -> None:
    make(host)
    network = "six" if six else "bridge"
    host.good("run", "-d", "--name", "udp", "--network", network, "-p", "5300:53/udp", "busybox", "sleep", "1000")
    (found,) = json.loads(host.good("inspect", "udp"))
    echo = "import socket; s=socket.socket(10, 2); s.bind(('::', 53)); print(flush=True)\n" \
           "while True: d, a = s.recvfrom(70000); s.sendto(d, a)"  # fmt: skip
    send = "import socket, sys; s=[socket.socket(10, 2) for _ in range(3)]; [x.settimeout(20) for x in s]\n" \
           "[x.connect((sys.argv[1], 5300)) for x in s]; [x.send(b'%d' % i * 9000) for i, x in enumerate(s)]\n" \
           "print([x.recv(70000)[:2] for x in s])"  # fmt: skip
    with answering(found["State"]["Pid"], echo):
        for where, address in ((host.host, "::1"), (host.host, "fd00:2::1"), (host.world, "fd00:2::1")):
            assert host.run(where, sys.executable, "-c", send, address) == "[b'00', b'11', b'22']\n"  # from who was asked


def test_a_network_without_ipv6_has_none_on_its_bridge(host: Host) -> None:
    host.good("network", "create", "four")
    host.good("run", "--rm", "--network", "four", "busybox", "true")
    (found,) = json.loads(host.good("network", "inspect", "four"))
    bridge = found["Options"]["com.docker.network.bridge.name"]
    assert host.run(host.host, "cat", f"/proc/sys/net/ipv6/conf/{bridge}/disable_ipv6") == "1\n"
    make(host)
    host.good("run", "--rm", "--network", "six", "busybox", "true")
    (found,) = json.loads(host.good("network", "inspect", "six"))
    bridge = found["Options"]["com.docker.network.bridge.name"]
    assert host.run(host.host, "cat", f"/proc/sys/net/ipv6/conf/{bridge}/accept_ra") == "0\n"  # CVE-2020-10749


def test_a_host_that_hears_routers_hears_them_when_it_forwards(host: Host) -> None:
    host.run(host.host, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/out/accept_ra")
    make(host)
    host.good("run", "--rm", "--network", "six", "busybox", "true")
    assert host.run(host.host, "cat", "/proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
    assert host.run(host.host, "cat", "/proc/sys/net/ipv6/conf/out/accept_ra") == "2\n"


def test_networks_do_not_see_each_other_by_ipv6(host: Host) -> None:
    make(host)
    host.good("network", "create", "--ipv6", "--subnet", "fd00:8::/64", "other")
    serve(host, "--name", "db", "--network", "six", "--ip6", "fd00:7::9")
    done = host.minirt("run", "--rm", "--network", "other", "busybox", "sh", "-c", "timeout 3 nc fd00:7::9 80 </dev/null; exit $?")
    assert done.returncode != 0
    host.run(host.world, "ip", "route", "add", "fd00:7::/64", "via", "fd00:2::1")
    assert "timed out" in host.ask(host.world, "[fd00:7::9]", 80) and len(host.ask(host.host, "[fd00:7::9]", 80)) == 12

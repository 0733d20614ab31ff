"""`minirt graph` says what the kernel says, asked here in other ways."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from network_host import NEEDS, Host, host, serve  # noqa: F401

pytestmark = NEEDS


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Host:
    """web in two networks, db in one, side in db's network namespace, and old in the host's."""
    host.good("network", "create", "--ipv6", "--subnet", "fd00:7::/64", "back")
    odd = tmp_path / "a<b>&c"
    odd.mkdir()
    serve(host, "--name", "web", "--network", "back", "--network", "bridge", "-p", "8080:80", "-v", f"{odd}:/data:ro")
    for name, network in (("db", "back"), ("side", "container:db"), ("old", "host")):
        host.good("run", "-d", "--name", name, "--network", network, "busybox", "sleep", "1000")
    return host


def facts(machine: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.good("graph", "--format", "json"))
    return found


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found["containers"]}


def test_namespaces_are_the_kernel_s_and_who_shares_them_is_known(machine: Host) -> None:
    found = facts(machine)
    for one in found["containers"]:
        for kind, space in one["namespaces"].items():
            assert os.readlink(f"/proc/{one['pid']}/ns/{kind}").endswith(f"[{space['number']}]")
        assert one["program"] == Path(f"/proc/{one['pid']}/comm").read_text().strip()
    named = by_name(found)
    assert named["db"]["shares"] == {"net": ["side"]} and named["side"]["shares"] == {"net": ["db"]} and not named["web"]["shares"]
    assert named["old"]["namespaces"]["net"]["host"] and not named["db"]["namespaces"]["net"]["host"]
    assert os.readlink(f"/proc/{machine.host}/ns/net").endswith(f"[{found['host']['namespaces']['net']}]")


def test_pairs_are_tied_at_both_ends_and_to_their_bridges(machine: Host) -> None:
    found = facts(machine)
    here = {link["ifname"]: link for link in json.loads(machine.run(machine.host, "ip", "-j", "-d", "link"))}
    assert {link["name"] for link in found["host"]["links"]} == set(here)
    tied = 0
    for link in found["host"]["links"]:
        assert here[link["name"]].get("master", "") == link["bridge"] and here[link["name"]]["address"] == link["hardware"]
        if link["end"]:
            pid = by_name(found)[link["end"]["container"]]["pid"]
            inside = {other["ifname"]: other for other in json.loads(machine.run(pid, "ip", "-j", "link"))}
            assert inside[link["end"]["name"]]["ifindex"] == here[link["name"]]["link_index"]
            tied += 1
    assert tied == 3
    addresses = [address for link in by_name(found)["web"]["links"] for address in link["addresses"]]
    assert sorted(addresses) == sorted(["10.89.0.2/24", "fd00:7::2/64", "10.89.1.2/24"])


def test_ports_layers_mounts_and_groups(machine: Host) -> None:
    found = facts(machine)
    assert {(port["port"], port["container"], port["to"]) for port in found["ports"]} == {
        (8080, "web", "10.89.0.2"), (8080, "web", "fd00:7::2")
    }  # fmt: skip
    web = by_name(found)["web"]
    assert (machine.minirt.root / "lib/containers" / web["id"] / "upper").samefile(web["layers"]["upper"])
    assert all(Path(path).is_dir() for path in web["layers"]["lower"])
    (data,) = [mount for mount in web["mounts"] if mount["target"] == "/data"]
    assert data["read_only"] and data["source"].endswith("a<b>&c")
    for one in found["containers"]:
        if one["cgroup"]:
            assert str(one["pid"]) in Path(one["cgroup"]["path"], "cgroup.procs").read_text().split()


def test_the_picture_is_whole_and_has_them_all_in_it(machine: Host, tmp_path: Path) -> None:
    file = tmp_path / "machine.svg"
    machine.good("graph", "--format", "svg", "--output", file)
    root = ElementTree.fromstring(file.read_text())
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in ("web", "db", "side", "old"):
        assert name in texts
    assert any("a<b>&c" in text for text in texts) and any(text.startswith("*:8080/tcp") for text in texts)
    wires = [element for element in root.iter("{http://www.w3.org/2000/svg}path") if element.get("class") == "wire"]
    assert len(wires) == 3
    width = float(root.get("width", "0"))
    assert all(0 <= float(element.get("x", "0")) <= width for element in root.iter("{http://www.w3.org/2000/svg}text"))


def test_text_is_a_tree_without_colours_where_nobody_looks(machine: Host) -> None:
    out = machine.good("graph")
    assert "\x1b" not in out and "shared     net with side" in out and "══" in out and "network back" in out


def test_a_program_s_name_draws_nothing_of_its_own(host: Host, tmp_path: Path) -> None:
    """It may call itself anything (man 5 proc_pid_comm)."""
    script = "printf 'a\\033[2J<' >/proc/$$/comm; touch /ready; while :; do sleep 1; done"
    host.good("run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    host.good("exec", "box", "sh", "-c", "until test -e /ready; do sleep 0.1; done")
    assert "  a\\x1b[2J<, process" in host.good("graph")
    host.good("graph", "--format", "svg", "-o", tmp_path / "picture.svg")
    assert "a\\x1b[2J<" in "".join(ElementTree.parse(tmp_path / "picture.svg").getroot().itertext())
    host.good("rm", "-f", "box")


def test_a_machine_without_containers_is_drawn_too(host: Host) -> None:
    assert facts(host)["containers"] == []
    ElementTree.fromstring(host.good("graph", "--format", "svg"))
    assert host.good("graph").startswith(os.uname().nodename)
    done = host.minirt("graph", "--format", "svg", "-o", "/nowhere/x.svg")
    assert done.returncode == 125 and done.stderr.count("\n") == 1

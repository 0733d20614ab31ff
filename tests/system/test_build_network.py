"""The networks of a build's steps, on a host of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from network_host import NEEDS, Host, answering, host  # noqa: F401

pytestmark = NEEDS


@pytest.fixture(autouse=True)
def own_images(host: Host) -> None:
    """Give the host an image store of its own, as it gets more images."""
    place = host.minirt.root / "lib" / "image"
    shared = place.resolve()
    place.unlink()
    subprocess.run(["cp", "-a", "--reflink=auto", shared, place], check=True, timeout=60)


def build(host: Host, place: Path, text: str, network: str) -> str:
    (place / "Dockerfile").write_text(text)
    words = ["--network", network] if network else []
    done = host.minirt("build", *words, "-t", "made", place)
    assert done.returncode in (0, 1), done.stderr
    return done.stderr


def members(host: Host, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(host.good("network", "inspect", name))[0]["Containers"]
    return found


def test_a_step_reaches_the_world_by_a_network(host: Host, tmp_path: Path) -> None:
    with answering(host.world):
        build(host, tmp_path, "FROM busybox\nRUN nc 192.0.2.2 7000 > /said\n", "")
    assert host.good("run", "--rm", "made", "cat", "/said") == "192.0.2.1"
    assert members(host, "bridge") == {}


def test_a_step_that_fails_leaves_its_network(host: Host, tmp_path: Path) -> None:
    host.good("network", "create", "back")
    said = build(host, tmp_path, "FROM busybox\nRUN ip -o addr show eth0 && exit 3\n", "back")
    assert "ended with status 3" in said and " inet 10.89." in said
    assert members(host, "back") == {} and host.minirt.containers == []
    host.good("network", "rm", "back")


def test_what_a_network_writes_is_no_part_of_the_image(host: Host, tmp_path: Path) -> None:
    build(host, tmp_path, "FROM busybox\nRUN grep nameserver /etc/resolv.conf && grep minirt-build /etc/hosts\n", "bridge")
    layers = json.loads(host.good("image", "inspect", "made"))[0]["Layers"]
    assert layers[-1]["size"] == 1024, "an archive of nothing"


def test_a_network_that_is_not_there_is_told_with_the_step(host: Host, tmp_path: Path) -> None:
    said = build(host, tmp_path, "FROM busybox\nRUN true\n", "nosuch").splitlines()[-1]
    assert said.startswith("minirt: Dockerfile:2: RUN true: no network 'nosuch'") and host.minirt.containers == []

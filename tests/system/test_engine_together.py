"""Two commands at once, and the second comes just between two steps of the first: each is done, or refused in words."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import Minirt
from interference import before_next

import minirt.engine.start
import minirt.network.manage
import minirt.oci.join
import minirt.plan.birth
from minirt.build.commit import commit
from minirt.engine import changes, control, exec_start, gc, networks, owner, volumes
from minirt.engine.container import Conflict, Container, NoContainer, containers, find
from minirt.engine.exec import execute
from minirt.engine.options import RunOptions
from minirt.engine.removal import remove
from minirt.engine.start import create, run_detached, start
from minirt.engine.update import update
from minirt.image.store import Store
from minirt.linux.cgroup_group import Cgroup
from minirt.volume import store

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root"),
]


@pytest.fixture
def root(own_store: Minirt, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MINIRT_ROOT", str(own_store.root))
    yield own_store.root
    for container in containers():
        remove(container, force=True)
    networks.prune()  # their bridges are the host's


def options(name: str = "box", **chosen: object) -> RunOptions:
    return RunOptions("busybox", ["sleep", "1000"], name=name, detach=True, stop_timeout=0, **chosen)


# -- volumes -------------------------------------------------------------------------------------------------------------


def test_a_volume_that_is_being_removed_is_left_to_who_removes_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that makes a volume removes what killed ones have left half removed; this one is not."""
    volumes.create("going")
    meanwhile: list[str] = []
    place = root / "lib" / "volumes"
    before_next(monkeypatch, volumes, "erase", lambda: (volumes.create("coming"), meanwhile.extend(os.listdir(place))))
    volumes.remove("going")
    assert sorted(name.split(".")[1] if "." in name else name for name in meanwhile) == ["coming", "going"]
    assert os.listdir(place) == ["coming"]


def test_what_a_killed_removal_has_left_goes_with_the_next_volume(root: Path) -> None:
    with store.removing(), store.changing():
        left = volumes.drop(volumes.make("going", {}, {}))
    assert os.path.isdir(left)
    volumes.create("coming")
    assert os.listdir(root / "lib" / "volumes") == ["coming"]


def test_a_volume_that_two_remove_is_gone_for_the_second(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes.create("going")
    happened = before_next(monkeypatch, store, "changing", lambda: volumes.remove("going"))
    with pytest.raises(store.NoVolume):
        volumes.remove("going")
    assert happened and os.listdir(root / "lib" / "volumes") == []


def test_a_directory_that_two_containers_want_is_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "shared" / "place"
    happened = before_next(monkeypatch, os, "makedirs", lambda: place.mkdir(parents=True), first=str(place))
    create(options(volume=[f"{place}:/data"]))
    assert happened and containers()[0].state["mounts"][0]["source"] == str(place)


def test_a_container_that_begins_while_its_volume_is_filled_has_what_it_was_filled_with(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, waits = create(options(volume=["data:/data"])), threading.Event()
    changing = store.changing
    with changing():
        monkeypatch.setattr(store, "changing", lambda: (waits.set(), changing())[1])
        begins = threading.Thread(target=lambda: start(box))
        begins.start()
        while not waits.wait(0.02) and not find("box").running:
            pass
        assert volumes.is_open("data", made=False)  # so whoever comes now leaves it as it is
        new = root / "lib" / "volumes" / "data" / "new"
        new.mkdir()
        (new / "file").write_text("content")
        new.rename(new.parent / "_data")  # as who fills it does
    begins.join()
    assert Path(f"/proc/{find('box').state['pid']}/root/data/file").read_text() == "content"


@pytest.mark.parametrize("other", ["its last user ends", "gc"])
def test_a_volume_that_is_a_mount_stays_for_a_container_that_begins(
    other: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes.create("ram", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"})
    first = run_detached(create(options("first", volume=["ram:/ram"])))
    create(options(volume=["ram:/ram"]))
    if other == "gc":
        control.stop(first, 0)
    meanwhile = (lambda: ends(first)) if other != "gc" else gc.collect
    happened = before_next(monkeypatch, minirt.engine.start, "make_cgroup", meanwhile)
    box = start(find("box"))
    assert happened and os.statvfs(f"/proc/{box.state['pid']}/root/ram").f_blocks * 4096 == 1 << 20
    control.stop(box, 0)
    assert not os.path.ismount(root / "lib" / "volumes" / "ram" / "_data")


# -- what joins a container that runs ------------------------------------------------------------------------------------


@pytest.fixture
def box(root: Path) -> Container:
    networks.create({"Name": "net"})
    return run_detached(create(options(network="net")))


def joining(box: Container, detach: bool = False) -> None:
    execute(box, RunOptions("", ["true"], detach=detach))


def in_network(box: Container) -> None:
    networks.disconnect("net", box)


def ends(box: Container) -> None:
    """The same container, as another command knows it."""
    control.stop(Container(box.state), 0)


def goes(box: Container) -> None:
    remove(Container(box.state), force=True)


BETWEEN: dict[str, tuple[object, str, object]] = {
    "exec": (minirt.oci.join, "namespace_flags", joining),
    "exec's executor": (minirt.plan.birth, "send", joining),
    "exec's files": (os, "mkdir", lambda box: joining(box, True)),
    "exec's beginning": (exec_start, "place", lambda box: joining(box, True)),
    "exec's birth": (minirt.oci.join, "namespace_flags", lambda box: joining(box, True)),
    "network": (minirt.plan.birth, "Birth", in_network),
    "network's namespace": (os, "open", in_network),
}


@pytest.mark.parametrize("end", [ends, goes])
@pytest.mark.parametrize("name", BETWEEN)
def test_what_joins_a_container_that_ends_meanwhile_is_told_so(
    name: str, end: Callable[[Container], None], box: Container, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, function, join = BETWEEN[name]
    first = f"/proc/{box.state['pid']}/ns/net" if function == "open" else None
    happened = before_next(monkeypatch, where, function, lambda: end(box), first)
    with pytest.raises(Conflict, match="container box is not running"):
        join(box)
    assert happened and os.listdir(root / "lib" / "containers") == ([box.id] if end is ends else [])


# -- what changes a container --------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Container], None]] = {
    "update": lambda box: update(box, {"restart": "always"}),
    "network": in_network,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_container_that_is_removed_while_it_is_changed_is_told_to_be_gone(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks.create({"Name": "net"})
    box = create(options(network="net"))
    happened = before_next(monkeypatch, json, "dumps", lambda: goes(box))
    with pytest.raises(NoContainer, match="container box was removed"):
        CHANGES[name](box)
    assert happened and os.listdir(root / "lib" / "containers") == []


READS: dict[str, Callable[[Container], object]] = {
    "diff": lambda box: list(changes.changes(box)),
    "export": lambda box: list(changes.files(box)),
    "commit": lambda box: commit(box, "made"),
}


@pytest.mark.parametrize("name", READS)
def test_a_container_that_is_removed_while_it_is_read_is_told_to_be_gone(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = create(options())
    happened = before_next(monkeypatch, Store, "held", lambda: goes(box))
    with pytest.raises(NoContainer, match="container box was removed"):
        READS[name](box)
    assert happened


@pytest.mark.parametrize("name", READS)
def test_a_container_that_is_read_while_it_is_made_is_told_to_be_just_that(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> None:
        with pytest.raises(Conflict, match="container box is just being made"):
            READS[name](find("box"))

    happened = before_next(monkeypatch, minirt.engine.start, "hold", read)
    assert create(options()).state["status"] == "created" and happened


@pytest.mark.parametrize("function", ["freeze", "thaw"])
def test_a_container_that_ends_while_it_is_held_still_for_commit_is_an_image(
    function: str, box: Container, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened = before_next(monkeypatch, Cgroup, function, lambda: ends(box))
    id = commit(box)
    store = Store(str(root / "lib" / "image"))
    assert happened and store.resolve(id).layers()


def test_a_container_whose_group_goes_while_it_is_looked_at_has_none(box: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    assert box.cgroup is not None and not box.paused
    happened = before_next(monkeypatch, Cgroup, "open", lambda: ends(box))
    assert box.cgroup is None and happened


@pytest.mark.parametrize("way", [control.pause, control.unpause])
def test_a_group_that_goes_meanwhile_means_that_the_container_does_not_run(
    way: Callable[[Container], object], box: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert box.cgroup is not None
    if way is control.unpause:
        control.pause(box)
    happened = before_next(monkeypatch, Cgroup, "freeze" if way is control.pause else "thaw", lambda: ends(box))
    with pytest.raises(Conflict, match="container box is not running"):
        way(box)
    assert happened


# -- a container that is started while it is to end ----------------------------------------------------------------------


@pytest.mark.parametrize("end", [control.stop, lambda box, _: remove(box, force=True)])
def test_one_that_begins_just_when_it_is_to_end_ends(
    end: Callable[[Container, int], None], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not running when we looked, and by the time that we ask who has it, it is: --restart may have done that."""
    create(options(restart="always"))
    happened = before_next(monkeypatch, owner, "take", lambda: start(find("box")))
    end(find("box"), 0)
    assert happened and [box.state["status"] for box in containers()] == (["exited"] if end is control.stop else [])


# -- networks ------------------------------------------------------------------------------------------------------------


def test_a_network_that_is_removed_as_soon_as_it_is_made_was_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = before_next(monkeypatch, minirt.network.manage, "note", lambda: networks.remove("net"))
    made = networks.create({"Name": "net"})
    assert happened and made["Name"] == "net" and len(made["Id"]) == 64

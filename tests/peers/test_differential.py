"""One bundle under minirt-oci, runc and crun: the probe inside sees the same, or the specification says who is right.

Everything is run once, in one go (`results`); the tests look at what came of it. See configurations.py for what is run, and
differences.toml for what may differ.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from configurations import CONFIGURATIONS, EXECS, Configuration, Exec
from differential import Difference, Outcome, Stage, differences, flat

HERE = Path(__file__).parent
PEERS = ("runc", "crun")
RUNTIME = Path(sys.executable).parent / "minirt-oci"
IN_LAB = os.path.isdir("/run/minirt-lab")
Results = dict[str, dict[str, Outcome]]


def chosen() -> list[Configuration | Exec]:
    """Return what is run on this machine: what is about limits wants cgroup v2 with all its controllers."""
    return [one for one in (*CONFIGURATIONS, *EXECS) if one.lab == IN_LAB]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mpd-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def probe(place: Path) -> Path:
    """The program that runs in the containers, compiled; static, as there is nothing else in them."""
    path = place / "probe"
    if IN_LAB:  # there is no compiler: it was brought along (the Makefile's test-lab)
        shutil.copy(HERE / "probe" / "probe.elf", path)
    else:
        flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-static"]
        subprocess.run(["gcc", *flags, "-o", path, HERE / "probe" / "probe.c"], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def results(place: Path, probe: Path) -> Iterator[Results]:
    """Outcomes by configuration and runtime."""
    for program in PEERS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test installs it with apt where it may")
    if os.geteuid() != 0:
        pytest.skip("the peers are run as root here")
    ours = RUNTIME
    if not ours.exists():  # the lab's python has no installed commands
        ours = place / "minirt-oci"
        ours.write_text(f'#!/bin/sh\nPYTHONPATH={HERE.parents[1]} exec {sys.executable} -m minirt oci "$@"\n')
        ours.chmod(0o755)
    runtimes = {"minirt": str(ours), "runc": "runc", "crun": "crun"}
    stage = Stage(place, probe)
    try:
        yield {
            one.name: {
                name: stage.run(path, one) if isinstance(one, Configuration) else stage.join(path, one)
                for name, path in runtimes.items()
            }
            for one in chosen()
        }
    finally:
        left = [path.name for path in place.glob("state-minirt-oci/*")]
        stage.close()
    assert left == []


@pytest.fixture(scope="module")
def found(results: Results) -> list[Difference]:
    """All differences between ours and a peer's."""
    return [
        difference
        for name, outcomes in results.items()
        for peer in PEERS
        for difference in differences(peer, name, outcomes["minirt"], outcomes[peer])
    ]


def excuses() -> list[dict[str, Any]]:
    """Return the entries of differences.toml for this machine."""
    entries = tomllib.loads((HERE / "differences.toml").read_text())["difference"]
    return [entry for entry in entries if ("lab" in entry.get("on", "host")) == IN_LAB]


@pytest.mark.root
@pytest.mark.timeout(400)
def test_a_container_of_ours_is_as_the_peers_but_for_what_is_listed(found: list[Difference]) -> None:
    entries = excuses()
    unlisted = [difference for difference in found if not any(difference.is_of(entry) for entry in entries)]
    assert not unlisted, "\n".join(
        f"{d.peer} {d.configuration} {d.path}: ours {d.ours!r}, theirs {d.theirs!r}" for d in unlisted[:40]
    )


@pytest.mark.root
@pytest.mark.timeout(400)
def test_what_is_listed_still_occurs_and_names_its_reason(found: list[Difference]) -> None:
    for entry in excuses():
        assert len(entry["rule"]) > 20, entry
        assert entry.get("sometimes") or any(difference.is_of(entry) for difference in found), entry


@pytest.mark.root
@pytest.mark.timeout(400)
def test_the_kernel_says_what_was_asked_for(results: Results) -> None:
    """What no packaged peer has is compared with what the kernel says in the container."""
    for one in chosen():
        if one.facts:
            said = flat(results[one.name]["minirt"].answers)
            assert {path: said.get(path) for path in one.facts} == one.facts, one.name


@pytest.mark.root
@pytest.mark.timeout(400)
def test_ours_refuses_what_this_machine_has_not_and_runs_the_rest(results: Results) -> None:
    failed = {name: outcomes["minirt"].error for name, outcomes in results.items() if outcomes["minirt"].status}
    assert failed.keys() == {one.name for one in chosen() if one.refused}, failed
    for name, error in failed.items():
        *warnings, last = error.splitlines()
        assert last.startswith("minirt oci: ") and all("level=warning" in line for line in warnings), (name, error)


@pytest.mark.root
@pytest.mark.timeout(400)
def test_ours_leaves_no_cgroup(results: Results) -> None:
    """Not even the parents that cgroupsPath named and that were not there before; both peers leave those."""
    assert {name: outcomes["minirt"].groups for name, outcomes in results.items() if outcomes["minirt"].groups} == {}

"""One bundle under minirt-oci, runc and crun: the probe inside sees the same, or the specification says who is right.

Everything is run once, in one go (`results`); the tests look at what came of it. See configurations.py for what is run, and
differences.toml for what may differ.
"""

from __future__ import annotations

import json
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
from configurations import CONFIGURATIONS, Configuration
from differential import Difference, Outcome, Stage, differences, flat
from fields import all_fields, fields_of, table

from minirt.oci.validate import ConfigError, validate

HERE = Path(__file__).parent
PEERS = ("runc", "crun")
RUNTIME = Path(sys.executable).parent / "minirt-oci"
IN_LAB = os.path.isdir("/run/minirt-lab")
WRONG = 7.5  # no field of the specification takes a fraction
Results = dict[str, dict[str, Outcome]]


def chosen() -> list[Configuration]:
    """Return the configurations for this machine: those of limits want cgroup v2 with all its controllers."""
    return [one for one in CONFIGURATIONS if one.lab == IN_LAB]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mpd-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def probe(place: Path) -> Path:
    """The program that runs in the containers, compiled; static, as there is nothing else in them."""
    path = place / "probe"
    if (HERE / "probe" / "probe").exists():  # the lab has no compiler: brought along
        shutil.copy(HERE / "probe" / "probe", path)
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
    runtimes = {"minirt": str(RUNTIME), "runc": "runc", "crun": "crun"}
    stage = Stage(place, probe)
    try:
        yield {one.name: {name: stage.run(path, one) for name, path in runtimes.items()} for one in chosen()}
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
@pytest.mark.timeout(300)
def test_a_container_of_ours_is_as_the_peers_but_for_what_is_listed(found: list[Difference]) -> None:
    entries = excuses()
    unlisted = [difference for difference in found if not any(difference.is_of(entry) for entry in entries)]
    assert not unlisted, "\n".join(
        f"{d.peer} {d.configuration} {d.path}: ours {d.ours!r}, theirs {d.theirs!r}" for d in unlisted[:40]
    )


@pytest.mark.root
@pytest.mark.timeout(300)
def test_what_is_listed_still_occurs_and_names_its_reason(found: list[Difference]) -> None:
    for entry in excuses():
        assert len(entry["rule"]) > 20, entry
        assert entry.get("sometimes") or any(difference.is_of(entry) for difference in found), entry


@pytest.mark.root
@pytest.mark.timeout(300)
def test_the_kernel_says_what_was_asked_for(results: Results) -> None:
    """What no packaged peer has is compared with what the kernel says in the container."""
    for one in chosen():
        if one.facts:
            said = flat(results[one.name]["minirt"].answers)
            assert {path: said.get(path) for path in one.facts} == one.facts, one.name


@pytest.mark.root
@pytest.mark.timeout(300)
def test_ours_refuses_what_this_machine_has_not_and_runs_the_rest(results: Results) -> None:
    failed = {name: outcomes["minirt"].error for name, outcomes in results.items() if outcomes["minirt"].status}
    assert failed.keys() == {one.name for one in chosen() if one.refused}, failed
    for name, error in failed.items():
        assert error.count("\n") == 1, (name, error)


def test_each_field_of_the_schema_occurs_in_at_least_two_configurations() -> None:
    counted = table(one.config() for one in CONFIGURATIONS)
    assert counted.keys() == all_fields()
    rare = {field: count for field, count in counted.items() if count < 2}
    assert not rare, f"{len(counted)} fields in {len(CONFIGURATIONS)} configurations; in fewer than two of them: {rare}"
    assert len({one.name for one in CONFIGURATIONS}) == len(CONFIGURATIONS) >= 60


def places(value: Any, parts: list[str], path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield where a field is in a configuration: what holds it, its key there, its JSON path."""
    part, *rest = parts
    keys = range(len(value)) if part == "[]" else list(value) if part == "{}" else [part] if part in value else []
    for key in keys:
        where = path + (f"[{key!r}]" if part in ("[]", "{}") else f".{key}")
        if rest:
            yield from places(value[key], rest, where)
        else:
            yield value, key, where.removeprefix(".")


def test_each_field_of_the_schema_is_refused_once_with_its_path() -> None:
    for field in sorted(all_fields()):
        one = next(one for one in CONFIGURATIONS if field in fields_of(one.config()))
        config = json.loads(json.dumps(one.config(holder="/proc/1", bundle="/b", rootfs="/b/rootfs", tree="/t", device="eth0")))
        owner, key, path = next(places(config, field.replace("[]", ".[]").replace("{}", ".{}").split(".")))
        owner[key] = WRONG
        with pytest.raises(ConfigError) as caught:
            validate(config)
        assert str(caught.value).startswith(f"config.json: {path}: {WRONG} is not "), (field, str(caught.value))


if __name__ == "__main__":  # the coverage table, for people
    for field, count in table(one.config() for one in CONFIGURATIONS).items():
        print(f"{count:4} {field}")
    sys.exit(0)

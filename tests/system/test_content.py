"""diff, export, commit, top: held against what tar, the kernel and a container of the new image say."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator

import pytest
from command import Minirt
from hypothesis import given
from hypothesis import strategies as st

from minirt.cli.stats import bars

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
CHANGE = "echo new > /etc/new; rm /bin/ls; mkdir -p /a/b; touch /a/b/c; chmod 700 /etc"


@pytest.fixture
def box(own_store: Minirt) -> Iterator[Minirt]:
    done = own_store("run", "--name", "box", "busybox", "sh", "-c", CHANGE)
    assert done.returncode == 0, done.stderr
    yield own_store
    own_store("rm", "-f", "box")


def test_diff_tells_what_was_added_changed_and_deleted(box: Minirt) -> None:
    lines = set(box.good("diff", "box").splitlines())
    assert {"A /etc/new", "C /etc", "D /bin/ls", "A /a", "A /a/b", "A /a/b/c"} <= lines
    told = json.loads(box.good("diff", "--format", "json", "box"))
    assert {f"{entry['kind']} {entry['path']}" for entry in told} == lines


@pytest.mark.parametrize("instead", ["nothing", "link"])
def test_diff_goes_on_where_a_directory_goes_meanwhile_and_follows_no_link(box: Minirt, instead: str) -> None:
    """What the container does between two looks is done between two of what is told."""
    script = f"""
import os, shutil
from minirt.engine.changes import changes
from minirt.engine.container import find
box = find("box")
for kind, path in changes(box):
    print(kind, path)
    if path == "/a":
        shutil.rmtree(box.path + "/upper/a")
        if {instead == "link"}:
            os.symlink("/etc", box.path + "/upper/a")
"""
    done = subprocess.run([sys.executable, "-c", script], env=box.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"A /a", "C /etc", "D /bin/ls"} <= set(lines) and not [line for line in lines if "/a/" in line]


def test_diff_tells_of_names_that_are_no_text(own_store: Minirt) -> None:
    own_store.good("run", "--name", "bad", "busybox", "sh", "-ec", "touch /$(printf 'a\\377b')")
    own_store.env["PYTHONIOENCODING"] = "utf-8:strict"  # as in most locales
    done = subprocess.run([*own_store.program, "diff", "bad"], env=own_store.env, capture_output=True, timeout=60)
    own_store.good("rm", "bad")
    assert (done.returncode, done.stderr) == (0, b"") and b"A /a\xffb\n" in done.stdout


def test_diff_tells_of_directories_however_deep(own_store: Minirt) -> None:
    script = "i=0; while test $i -lt 1500; do mkdir d; cd d; i=$((i + 1)); done"
    own_store.good("run", "--name", "deep", "busybox", "sh", "-ec", script)
    lines = own_store.good("diff", "deep").splitlines()
    own_store.good("rm", "deep")
    assert [line for line in lines if "/d" in line] == ["A " + "/d" * depth for depth in range(1, 1501)]


def test_export_is_the_tree_that_the_container_saw(box: Minirt, tmp_path: object) -> None:
    box.good("export", "-o", f"{tmp_path}/box.tar", "box")
    with open(f"{tmp_path}/box.tar", "rb") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as archive:
        names = {member.name: member for member in archive}
        assert archive.extractfile("etc/new").read() == b"new\n"  # type: ignore[union-attr]
    assert names["etc"].mode == 0o700 and "bin/ls" not in names and "bin/sh" in names


def test_a_committed_image_runs_with_what_was_changed(box: Minirt) -> None:
    id = box.good("commit", "-m", "why", "-a", "me", "-c", 'CMD ["cat", "/etc/new"]', "box", "boxed:1").strip()
    assert box.good("run", "--rm", "boxed:1") == "new\n"
    assert box("run", "--rm", "boxed:1", "ls").returncode == 127
    assert id in box.good("image", "inspect", "boxed:1")
    newest = json.loads(box.good("image", "history", "--format", "json", "boxed:1").splitlines()[0])
    assert newest["Comment"] == "why"
    assert box("image", "verify", "boxed:1").returncode == 0


MEANWHILE = """
import sys
from minirt.build import commit
from minirt.cli.main import main
from minirt.image.store import Store
from minirt.paths import data_root

add = commit.add_layer

def add_layer(*words):
    add(*words)
    Store(data_root() + "/image").collect(wait=False)  # as another command may at any moment

commit.add_layer = add_layer
sys.exit(main(["commit", "box", "boxed:1"]))
"""


def test_a_layer_is_not_collected_before_its_image_has_a_name(box: Minirt) -> None:
    done = subprocess.run([sys.executable, "-c", MEANWHILE], env=box.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert box.good("run", "--rm", "boxed:1", "cat", "/etc/new") == "new\n"
    box.good("image", "verify", "boxed:1")


def test_top_lists_the_processes_that_are_in_it(minirt: Minirt) -> None:
    minirt.good("run", "-d", "--name", "busy", "busybox", "sh", "-c", "sleep 1001 & sleep 1002")
    try:
        lines = minirt.good("top", "busy", "-eo", "pid,args").splitlines()
        pid = json.loads(minirt.good("inspect", "busy"))[0]["State"]["Pid"]
        assert str(pid) in {line.split()[0] for line in lines}
        assert "sleep 1000" not in "".join(lines)
    finally:
        minirt("rm", "-f", "busy")


def test_stats_tell_the_processor_time_that_the_kernel_counts(minirt: Minirt) -> None:
    minirt.good("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    minirt.good("run", "-d", "--name", "idle", "busybox", "sleep", "1000")
    try:
        lines = minirt.good("stats", "--no-stream", "--format", "json").splitlines()
        found = {entry["Name"]: entry for entry in map(json.loads, lines)}
        if not found:
            pytest.skip("no cgroup v2 here that a group can be made in")
        busy, idle = (float(found[name]["CPUPerc"].rstrip("%")) for name in ("busy", "idle"))
        assert busy > 10 * idle and busy < 150
        assert found["idle"]["PIDs"] == "1"
        assert minirt.good("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "idle").split() == ["idle", "1"]
        assert "busy" in minirt.good("stats", "--no-stream", "busy")
    finally:
        minirt("rm", "-f", "busy", "idle")


def test_stats_plot_what_was_used_the_newest_on_the_right(minirt: Minirt) -> None:
    minirt.good("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    minirt.good("run", "-d", "--name", "idle", "busybox", "sleep", "1000")
    try:
        if not minirt.good("stats", "--no-stream", "--format", "{{.Name}}"):
            pytest.skip("no cgroup v2 here that a group can be made in")
        minirt.env["COLUMNS"] = "90"
        with minirt.start("stats", "--plot", "--interval", "0.2", "busy", "idle") as process:
            assert process.stdout
            lines = [process.stdout.readline() for _ in range(12)][-4:]  # of the third look
            process.kill()
        bars = {line[:4]: line[line.index("% ") + 2 : line.index(" of ")].split() for line in lines if " CPU " in line}
        assert {name: len(one) for name, (one,) in bars.items()} == {"busy": 3, "idle": 3}
        assert max(bars["busy"][0]) == "█" and max(bars["idle"][0]) < "█"
    finally:
        minirt("rm", "-f", "busy", "idle")
    assert "leave out --no-stream" in minirt("stats", "--plot", "--no-stream").stderr


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=50), st.integers(1, 60))
def test_bars_are_a_column_each_and_no_lower_for_more(values: list[float | None], wide: int) -> None:
    most = max([1.0, *(value for value in values if value is not None)])
    drawn = bars(values, most, wide)
    shown = values[-wide:]
    assert len(drawn) == wide and drawn[: wide - len(shown)].strip() == ""
    pairs = list(zip(shown, drawn[wide - len(shown) :], strict=True))
    assert all((bar == " ") == (value is None) for value, bar in pairs)
    ordered = sorted((value, bar) for value, bar in pairs if value is not None)
    assert [bar for _, bar in ordered] == sorted(bar for _, bar in ordered)


BAD = [("diff", "none"), ("export", "none"), ("commit", "none"), ("top", "none"), ("top", "box"), ("stats", "--no-stream", "none"),
       ("commit", "box", "Not A Name"), ("commit", "-c", "RUN x", "box", "y")]  # fmt: skip


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_input_is_one_line(box: Minirt, words: tuple[str, ...]) -> None:
    done = box(*words)
    assert done.returncode != 0 and done.stderr.count("\n") == 1, done.stderr

"""Volumes: what is in them, who owns it, who may remove them; by what the file system and the kernel say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="root alone mounts and owns files of others")]

DOCKERFILE = """\
FROM busybox
RUN mkdir -p /data/sub && echo from-image > /data/file && ln /data/file /data/same && ln -s file /data/link \\
    && chown -R 1234:4321 /data && chmod 2750 /data && chmod 600 /data/file && mkfifo /data/fifo
VOLUME /data
"""


@pytest.fixture
def filled(own_store, tmp_path: Path):
    """A minirt with an image that has a VOLUME with something in it."""
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    done = own_store("build", "--network", "none", "-q", "-t", "filled", tmp_path)
    assert done.returncode == 0, done.stderr
    return own_store


def good(minirt, *words: object, **more: object) -> str:
    done = minirt(*words, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bad(minirt, *words: object) -> str:
    done = minirt(*words)
    assert done.returncode != 0 and done.stderr.count("\n") == 1, (done.returncode, done.stderr)
    return done.stderr


def place(minirt, name: str) -> Path:
    return minirt.root / "lib" / "volumes" / name / "_data"


def names(minirt) -> list[str]:
    return good(minirt, "volume", "ls", "-q").split()


def test_a_volume_keeps_what_one_container_wrote_for_the_next(minirt) -> None:
    minirt.sh("echo kept > /v/note", "-v", "data:/v")
    assert minirt.sh("cat /v/note", "-v", "data:/v:ro") == "kept"
    assert place(minirt, "data").joinpath("note").read_text() == "kept\n" and names(minirt) == ["data"]
    assert minirt("run", "--rm", "-v", "data:/v:ro", "busybox", "touch", "/v/x").returncode == 1


def test_an_empty_volume_begins_with_what_the_image_has_there(filled) -> None:
    good(filled, "run", "--rm", "-v", "data:/data", "filled", "true")
    data = place(filled, "data")
    found = os.stat(data)
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 4321, 0o2750)
    assert (data / "file").read_text() == "from-image\n" and os.stat(data / "file").st_mode & 0o777 == 0o600
    assert os.readlink(data / "link") == "file" and os.path.samefile(data / "file", data / "same")
    (data / "file").write_text("changed\n")
    assert good(filled, "run", "--rm", "-v", "data:/data", "filled", "cat", "/data/file") == "changed"


def test_nocopy_leaves_it_empty(filled) -> None:
    assert good(filled, "run", "--rm", "-v", "data:/data:nocopy", "filled", "ls", "/data") == ""
    good(filled, "run", "--rm", "--mount", "src=more,dst=/data,volume-nocopy", "filled", "ls", "/data")
    assert os.listdir(place(filled, "more")) == []


def test_volumes_that_were_made_for_a_container_go_with_rm_and_stay_without(filled) -> None:
    assert good(filled, "run", "--rm", "-v", "/other", "filled", "cat", "/data/file") == "from-image"
    assert names(filled) == []
    good(filled, "run", "--name", "box", "-v", "/other", "-v", "named:/named", "filled", "true")
    assert len(names(filled)) == 3
    good(filled, "rm", "box")
    assert len(names(filled)) == 3
    good(filled, "run", "--name", "box", "-v", "named:/named", "filled", "true")
    good(filled, "rm", "-v", "box")
    assert len(names(filled)) == 3 and "named" in names(filled)
    assert "Total reclaimed space" in good(filled, "volume", "prune", "-f")
    assert names(filled) == ["named"]
    good(filled, "volume", "prune", "--all", "--force")
    assert names(filled) == []


def test_prune_asks_and_takes_no_answer_for_no(minirt) -> None:
    good(minirt, "volume", "create", "data")
    good(minirt, "volume", "prune", "-a", input="n\n")
    good(minirt, "volume", "prune", "-a")
    assert names(minirt) == ["data"]
    good(minirt, "volume", "prune", "-a", input="y\n")
    assert names(minirt) == []


def test_one_in_use_is_not_removed_and_the_container_is_named(minirt) -> None:
    good(minirt, "create", "--name", "user", "-v", "data:/v", "busybox", "true")
    assert "user" in bad(minirt, "volume", "rm", "data") and names(minirt) == ["data"]
    good(minirt, "rm", "user")
    assert good(minirt, "volume", "rm", "data") == "data" and names(minirt) == []
    assert "data" in bad(minirt, "volume", "rm", "data")
    assert good(minirt, "volume", "rm", "-f", "data") == "data"


def test_volumes_from_another_container(filled) -> None:
    good(filled, "create", "--name", "first", "-v", "named:/named", "-v", "/etc:/host-etc:ro", "filled", "true")
    script = "cat /data/file && echo more > /named/x && ! touch /host-etc/x 2>/dev/null"
    assert good(filled, "run", "--rm", "--volumes-from", "first", "filled", "sh", "-c", script) == "from-image"
    assert good(filled, "run", "--rm", "--volumes-from", "first:ro", "filled", "sh", "-c", "touch /named/y || echo no") == "no"
    assert len(names(filled)) == 2  # those of `first`, which still has them
    assert "no container" in bad(filled, "run", "--volumes-from", "nobody", "filled", "true")


def test_a_volume_made_by_a_start_that_failed_is_not_left(filled) -> None:
    assert filled("run", "-d", "filled", "no-such-program").returncode == 127
    assert filled("run", "filled", "no-such-program").returncode == 127
    assert names(filled) == [] and filled.containers == []


def test_a_part_of_a_volume(minirt) -> None:
    minirt.sh("mkdir -p /v/a/b && echo inner > /v/a/b/file", "-v", "data:/v")
    assert minirt.sh("cat /x/file", "--mount", "src=data,dst=/x,volume-subpath=a/b") == "inner"
    assert minirt.sh("cat /x", "--mount", "src=data,dst=/x,volume-subpath=a/b/file") == "inner"
    assert "nowhere" in bad(minirt, "run", "--rm", "--mount", "src=data,dst=/x,volume-subpath=nowhere", "busybox", "true")


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "up/../../../../../etc"])
def test_a_link_in_a_volume_leads_to_nothing_beyond_it(minirt, link: str) -> None:
    minirt.sh(f"mkdir /v/up; ln -s {link} /v/out", "-v", "data:/v")
    words = ["run", "--rm", "--mount", "src=data,dst=/x,volume-subpath=out", "busybox", "ls", "/x"]
    assert "cross-device" in bad(minirt, *words).lower()


def test_a_part_that_is_exchanged_for_a_link_meanwhile_never_shows_the_host(minirt) -> None:
    """Somebody renames without end while containers begin: each sees the directory, or does not begin."""
    minirt.sh("mkdir /v/part; echo inside > /v/part/os-release; ln -s /etc /v/link", "-v", "data:/v")
    data = place(minirt, "data")
    program = f"cd {data}; until [ -e stop ]; do mv part kept; mv link part; mv part link; mv kept part; done"
    with subprocess.Popen(["sh", "-c", program], stderr=subprocess.DEVNULL) as swap:
        seen = set()
        try:
            for _ in range(12):
                done = minirt("run", "--rm", "--mount", "src=data,dst=/x,volume-subpath=part", "busybox", "cat", "/x/os-release")
                seen.add(done.stdout)
        finally:
            (data / "stop").touch()  # and not by a signal, which would leave its last mv to go on
            swap.wait(60)
    assert seen <= {"inside\n", ""}


def test_root_of_a_user_namespace_sees_the_owners_through_its_map(filled) -> None:
    words = ["run", "--rm", "--userns", "auto", "-v", "data:/data", "filled", "sh", "-c", "stat -c %u:%g /data; touch /data/new"]
    assert good(filled, *words) == "1234:4321"
    assert os.stat(place(filled, "data") / "new").st_uid == 0  # and not 100000: another container sees its root's file


def test_a_volume_that_is_a_tmpfs_is_shared_while_somebody_runs(minirt) -> None:
    good(minirt, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=700", "fast")
    good(minirt, "run", "-d", "--name", "one", "-v", "fast:/f", "busybox", "sh", "-c", "echo here > /f/x; sleep 1000")
    data = place(minirt, "fast")
    try:
        assert os.path.ismount(data)
        seen = minirt.sh("while ! test -s /f/x; do sleep 0.1; done; cat /f/x; stat -f -c %T /f", "-v", "fast:/f")
        assert seen.split() == ["here", "tmpfs"]
        assert os.path.ismount(data)  # one still runs
    finally:
        good(minirt, "rm", "-f", "one")
    assert not os.path.ismount(data)
    assert minirt.sh("ls /f", "-v", "fast:/f") == ""
    good(minirt, "volume", "rm", "fast")


def test_a_volume_that_is_a_directory_of_the_host(minirt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    options = ["-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}"]
    good(minirt, "volume", "create", *options, "here")
    assert minirt.sh("cat /v/file; echo back > /v/new", "-v", "here:/v") == "host"
    assert (tmp_path / "new").read_text() == "back\n"
    good(minirt, "volume", "rm", "here")
    assert (tmp_path / "file").exists()
    assert "device" in bad(minirt, "volume", "create", "-o", "type=tmpfs", "x1")
    assert "no option" in bad(minirt, "volume", "create", "-o", "size=3", "x1")


def test_a_volume_that_is_a_mount_keeps_its_owners_in_a_user_namespace(minirt) -> None:
    good(minirt, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=mode=1777", "fast")
    assert minirt.sh("stat -f -c %T /f; echo x > /f/x; stat -c %u /f /f/x", "--userns", "auto", "-v", "fast:/f").split() == [
        "tmpfs", "65534", "0"]  # fmt: skip


def test_a_device_that_cannot_be_mounted_is_told_in_a_line(minirt) -> None:
    good(minirt, "volume", "create", "-o", "type=ext4", "-o", "device=/dev/null", "broken")
    assert "/dev/null" in bad(minirt, "run", "--rm", "-v", "broken:/v", "busybox", "true")
    assert minirt.containers == []


def test_what_inspect_and_ls_tell(minirt) -> None:
    good(minirt, "volume", "create", "--label", "team=blue", "data")
    good(minirt, "volume", "create", "--label", "team=red", "more")
    (told,) = json.loads(good(minirt, "volume", "inspect", "data"))
    assert told["Mountpoint"] == str(place(minirt, "data")) and told["Labels"] == {"team": "blue"} and told["Scope"] == "local"
    assert good(minirt, "volume", "inspect", "-f", "{{.Name}} {{.Labels.team}} {{.Labels.no}}", "more") == "more red <no value>"
    assert good(minirt, "volume", "ls", "-q", "--filter", "label=team=red") == "more"
    assert good(minirt, "volume", "ls", "--format", '{{.Name}}={{.Label "team"}}').split() == ["data=blue", "more=red"]
    assert good(minirt, "volume", "ls").splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert [json.loads(line)["Name"] for line in good(minirt, "volume", "ls", "--format", "json").splitlines()] == ["data", "more"]
    good(minirt, "create", "--name", "user", "-v", "data:/v", "busybox", "true")
    assert good(minirt, "volume", "ls", "-q", "-f", "dangling=true") == "more"
    assert good(minirt, "volume", "prune", "-af", "--filter", "label!=team=red").startswith("Total")
    assert names(minirt) == ["data", "more"]


@pytest.mark.parametrize("moment", range(12))
def test_killed_at_any_moment_the_next_command_has_a_whole_volume(filled, moment: int) -> None:
    """A container with a volume to be filled, killed a little later each time: then it works, and nothing half made is left."""
    run = filled.start("run", "--rm", "-v", "data:/data", "-v", "/more", "filled", "true")
    try:
        run.wait(timeout=0.03 * moment)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    assert good(filled, "run", "--rm", "-v", "data:/data", "filled", "cat", "/data/file", "/data/same") == "from-image\nfrom-image"
    good(filled, "gc")
    assert names(filled) == ["data"]
    assert sorted(os.listdir(filled.root / "lib" / "volumes")) == ["data"]
    assert sorted(os.listdir(filled.root / "lib" / "volumes" / "data")) == ["_data", "volume.json"]


def test_two_at_once_that_first_use_a_volume_both_see_it_whole(filled) -> None:
    runs = [filled.start("run", "--rm", "-v", "data:/data", "filled", "cat", "/data/file") for _ in range(4)]
    assert [run.communicate(timeout=60)[0] for run in runs] == ["from-image\n"] * 4


@pytest.fixture
def nobody() -> Iterator[object]:
    """A minirt of a user without rights, with a directory of its own."""
    root = Path(tempfile.mkdtemp(prefix="minirt-nobody-", dir="/var/tmp"))
    os.chown(root, 1234, 1234)

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HOME": str(root), "MINIRT_ROOT": f"{root}/root"}
        how = {"user": 1234, "group": 1234, "extra_groups": [], "cwd": root, "env": env, "stdin": subprocess.DEVNULL}
        words = (sys.executable, "-m", "minirt", *map(str, words))
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **how)

    run.root = root
    yield run
    shutil.rmtree(root)


def test_without_root_volumes_and_cp_and_compose_are_the_same(nobody) -> None:
    first = nobody("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/x; stat -c %u /data/x")
    if first.returncode == 125 and "PermissionError" in first.stderr:
        pytest.skip("another user may not read these sources")
    assert first.stdout == "0\n", first.stderr
    assert good(nobody, "run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/x") == "kept"
    assert os.stat(nobody.root / "root/lib/volumes/data/_data/x").st_uid == 1234
    good(nobody, "create", "--name", "box", "-v", "data:/data", "busybox", "true")
    (nobody.root / "file").write_text("copied\n")
    good(nobody, "cp", "file", "box:/data/file")
    good(nobody, "cp", "box:/data/file", "back")
    assert (nobody.root / "back").read_text() == "copied\n" and os.stat(nobody.root / "back").st_uid == 1234
    good(nobody, "rm", "box")
    service = "{image: busybox, command: sleep 1000, volumes: ['v:/v'], network_mode: none}"
    (nobody.root / "compose.yaml").write_text(f"name: own\nservices:\n  a: {service}\nvolumes: {{v: }}\n")
    good(nobody, "compose", "up", "-d")
    assert good(nobody, "compose", "ps", "--format", "{{.Name}} {{.State}}") == "own-a-1 running"
    good(nobody, "compose", "down", "-v", "-t", "1")
    assert good(nobody, "volume", "ls", "-q") == "data"

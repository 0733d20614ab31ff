"""`minirt cp`: where files come to lie, whose they are, and that no link of a container leads out of it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SLEEP = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]
STATES = ("created", "running", "ended", "mapped", "mapped and running")


def good(minirt, *words: object, **more: object) -> str:
    done = minirt(*words, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bad(minirt, *words: object) -> str:
    done = minirt(*words)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, (done.returncode, done.stderr)
    return done.stderr


@pytest.fixture(params=STATES)
def box(minirt, request) -> Iterator[object]:
    """A minirt with a container `box` in each state that one can be in."""
    state = request.param
    mapped = ["--userns", "auto"] if state.startswith("mapped") else []
    good(minirt, "create", "--name", "box", *mapped, "-v", "data:/data", "busybox", *SLEEP)
    if "running" in state or state == "ended":
        good(minirt, "start", "box")
    if state == "ended":
        good(minirt, "stop", "box")
    yield minirt
    good(minirt, "rm", "-f", "box")


def seen(box, script: str) -> str:
    """Run a script where the container's files are."""
    ran = '"running"' in good(box, "inspect", "box")
    if not ran:
        good(box, "start", "box")
    try:
        return good(box, "exec", "box", "sh", "-ec", script)
    finally:
        if not ran:
            good(box, "stop", "box")


def test_there_and_back_in_each_state(box, tmp_path: Path) -> None:
    source = tmp_path / "site"
    (source / "sub").mkdir(parents=True)
    (source / "page").write_text("hello\n")
    (source / "sub" / "link").symlink_to("../page")
    os.link(source / "page", source / "same")
    os.chmod(source / "page", 0o640)
    os.utime(source / "page", (1_000_000_000, 1_000_000_000))
    good(box, "cp", source, "box:/site")
    good(box, "cp", f"{source}/page", "box:/data/")  # a volume
    good(box, "cp", "box:/site", tmp_path / "back")
    back = tmp_path / "back"
    assert (back / "page").read_text() == "hello\n" and os.readlink(back / "sub" / "link") == "../page"
    assert os.stat(back / "page").st_mode & 0o777 == 0o640 and os.stat(back / "page").st_mtime == 1_000_000_000
    assert os.path.samefile(back / "page", back / "same")
    assert (box.root / "lib/volumes/data/_data/page").read_text() == "hello\n"
    words = seen(box, "cat /site/page /data/page; stat -c %u:%g:%a /site/page /site /data/page; id -u").split()
    assert words == ["hello", "hello", "0:0:640", "0:0:755", "0:0:640", "0"]


def test_owners_are_kept_with_archive_both_ways(box, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 1234, 4321)
    good(box, "cp", "-a", tmp_path / "file", "box:/kept")
    good(box, "cp", tmp_path / "file", "box:/plain")
    assert seen(box, "stat -c %u:%g /kept /plain").split() == ["1234:4321", "0:0"]
    good(box, "cp", "-a", "box:/kept", tmp_path / "kept")
    good(box, "cp", "box:/kept", tmp_path / "mine")
    assert os.stat(tmp_path / "kept").st_uid == 1234 and os.stat(tmp_path / "mine").st_uid == os.geteuid()


@pytest.fixture
def made(minirt) -> Iterator[object]:
    """A container that was made and never started, with a few files."""
    good(minirt, "create", "--name", "box", "busybox", "true")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name, kind, text in (
            ("dir", "dir", ""), ("dir/inner", "file", "inner"), ("dir/deeper", "dir", ""), ("file", "file", "content"),
            ("to-etc", "link", "/etc"), ("to-file", "link", "file"), ("up", "link", "../../../../../../etc/os-release"),
        ):  # fmt: skip
            info = tarfile.TarInfo(f"w/{name}")
            info.type = {"dir": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}[kind]
            info.mode, info.linkname, info.size = 0o755, text if kind == "link" else "", len(text) if kind == "file" else 0
            archive.addfile(info, io.BytesIO(text.encode()))
    subprocess.run([*minirt.program, "cp", "-", "box:/"], input=tar.getvalue(), env=minirt.env, check=True, timeout=60)
    yield minirt
    good(minirt, "rm", "box")


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


# docs.docker.com/reference/cli/docker/container/cp: source, target, what there is then below the working directory
OUT = [
    ("/w/file", "new", ["new"]), ("/w/file", "have", ["have"]), ("/w/file", "place", ["place/file"]),
    ("/w/file", "place/", ["place/file"]), ("/w/file", ".", ["file"]), ("/w/dir", "new", ["new", "new/deeper", "new/inner"]),
    ("/w/dir", "new/", ["new", "new/deeper", "new/inner"]), ("/w/dir/.", "new", ["new", "new/deeper", "new/inner"]),
    ("/w/dir", "place", ["place/dir", "place/dir/deeper", "place/dir/inner"]),
    ("/w/dir/", "place", ["place/dir", "place/dir/deeper", "place/dir/inner"]),
    ("/w/dir/.", "place", ["place/deeper", "place/inner"]), ("/w/dir/.", ".", ["deeper", "inner"]),
    ("w/../w/file", "new", ["new"]), ("/../../w/file", "new", ["new"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "want"), OUT)
def test_which_name_means_what_on_the_way_out(made, tmp_path: Path, source: str, target: str, want: list[str]) -> None:
    (tmp_path / "have").write_text("old")
    (tmp_path / "place").mkdir()
    good(made, "cp", f"box:{source}", target, cwd=tmp_path)
    assert set(tree(tmp_path)) == {"have", "place", *want}
    if source.endswith("file"):
        (name,) = want
        assert (tmp_path / name).read_text() == "content"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [("/w/dir", "have", "no directory"), ("/w/file", "new/", "no such directory"), ("/w/file", "have/", "no directory"),
     ("/w/none", "x", "No such file"), ("/w/file", "no/where", "No such file"), ("/w/file/", "x", "Not a directory")],
)  # fmt: skip
def test_what_docker_refuses_on_the_way_out(made, tmp_path: Path, source: str, target: str, words: str) -> None:
    (tmp_path / "have").write_text("old")
    done = made("cp", f"box:{source}", target, cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert tree(tmp_path) == ["have"] and (tmp_path / "have").read_text() == "old"


IN = [
    ("file", "/new", "/new"), ("file", "/w/file", "/w/file"), ("file", "/w/dir", "/w/dir/file"), ("file", "/w/dir/", "/w/dir/file"),
    ("file", "w", "/w/file"), ("site", "/new", "/new/page"), ("site/.", "/new", "/new/page"), ("site", "/w", "/w/site/page"),
    ("site/.", "/w", "/w/page"), ("site/", "/w/", "/w/site/page"), ("file", "/w/to-file", "/w/file"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "want"), IN)
def test_which_name_means_what_on_the_way_in(made, tmp_path: Path, source: str, target: str, want: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page").write_text("from here")
    (tmp_path / "file").write_text("from here")
    if target == "/w/to-file":  # as docker: a link that is the target itself is replaced by what is copied
        want = "/w/to-file"
    good(made, "cp", source, f"box:{target}", cwd=tmp_path)
    good(made, "cp", f"box:{want}", "back", cwd=tmp_path)
    assert (tmp_path / "back").read_text() == "from here"


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [("site", "/w/file", "no directory"), ("file", "/new/", "no such directory"), ("none", "/x", "No such file"),
     ("file", "/no/where", "No such file"), ("file", "/w/file/", "no directory")],
)  # fmt: skip
def test_what_docker_refuses_on_the_way_in(made, tmp_path: Path, source: str, target: str, words: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "file").write_text("x")
    done = made("cp", source, f"box:{target}", cwd=tmp_path)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_link_is_copied_as_such_and_followed_with_l(made, tmp_path: Path) -> None:
    good(made, "cp", "box:/w/to-file", tmp_path / "link")
    assert os.readlink(tmp_path / "link") == "file"
    good(made, "cp", "-L", "box:/w/to-file", tmp_path / "followed")
    assert (tmp_path / "followed").read_text() == "content" and not (tmp_path / "followed").is_symlink()


@pytest.mark.parametrize("name", ["up", "to-etc/os-release", "to-etc/../../../../etc/os-release"])
def test_a_link_never_leads_to_the_hosts_files(made, tmp_path: Path, name: str) -> None:
    assert "No such file" in bad(made, "cp", "-L", f"box:/w/{name}", tmp_path / "x")
    (tmp_path / "evil").write_text("evil")
    before = Path("/etc/os-release").read_bytes()
    made("cp", tmp_path / "evil", f"box:/w/{name}")
    assert Path("/etc/os-release").read_bytes() == before and not Path("/etc/evil").exists()


def test_a_program_that_gives_rights_gives_none_of_ours(minirt, tmp_path: Path) -> None:
    """Of a container's setuid program, and of its device that all may open, nobody on the host gets what he could not have."""
    script = "mkdir /d; echo x >/d/s; chown 7:7 /d/s; chmod 6755 /d/s; mknod -m 666 /d/n c 1 3; touch /done; sleep 1000"
    good(minirt, "run", "-d", "--name", "box", "busybox", "sh", "-c", script)
    try:
        good(minirt, "exec", "box", "sh", "-c", "until test -e /done; do sleep 0.1; done")
        good(minirt, "cp", "box:/d", tmp_path / "out")
        good(minirt, "cp", "-a", "box:/d", tmp_path / "kept")
    finally:
        good(minirt, "rm", "-f", "box")
    program, device = (tmp_path / "out" / "s").stat(), (tmp_path / "out" / "n").stat()
    assert (program.st_uid, program.st_mode & 0o7777) == (0, 0o755)
    assert stat.S_ISCHR(device.st_mode) and device.st_mode & 0o777 == 0o600
    program = (tmp_path / "kept" / "s").stat()
    assert (program.st_uid, program.st_mode & 0o7777) == (7, 0o6755), "with -a all is as it was asked for"


def test_a_tar_with_ways_out_is_refused(made, tmp_path: Path) -> None:
    for name, link in (("../out", ""), ("x/../../out", ""), ("hard", "../../../etc/passwd")):
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = (tarfile.LNKTYPE, link) if link else (tarfile.REGTYPE, "")
            archive.addfile(info)
        words = [*made.program, "cp", "-", "box:/w"]
        done = subprocess.run(words, input=tar.getvalue(), env=made.env, capture_output=True, timeout=60, check=False)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done.stderr


def test_a_tar_through_standard_output_and_input(made, tmp_path: Path) -> None:
    words = [*made.program, "cp", "box:/w", "-"]
    tar = subprocess.run(words, env=made.env, capture_output=True, check=True, timeout=60).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
    assert names[0] == "w" and {"w/dir/inner", "w/file", "w/up"} <= set(names)
    import gzip

    words = [*made.program, "cp", "-", "box:/w/dir"]
    subprocess.run(words, input=gzip.compress(tar), env=made.env, check=True, timeout=60)
    good(made, "cp", "box:/w/dir/w/file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "content"


def test_a_directory_that_is_exchanged_for_a_link_meanwhile_never_shows_the_host(minirt, tmp_path: Path) -> None:
    """The container renames without end; each copy has the directory's file, nothing, or ends with an error."""
    swap = "mkdir -p /a/dir; echo inside > /a/dir/os-release; ln -s /etc /a/link; cd /a; "
    swap += "while :; do mv dir kept; mv link dir; mv dir link; mv kept dir; done"
    good(minirt, "run", "-d", "--name", "box", "busybox", "sh", "-c", swap)
    host = Path("/etc/os-release").read_bytes()
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "planted").write_text("evil")
    try:
        for i in range(15):
            out = tmp_path / f"out{i}"
            minirt("cp", "box:/a", out)
            assert all(p.read_bytes() == b"inside\n" for p in out.rglob("os-release") if p.is_file() and not p.parent.is_symlink())
            minirt("cp", tmp_path / "evil/planted", "box:/a/dir/")
        assert not Path("/etc/planted").exists() and Path("/etc/os-release").read_bytes() == host
    finally:
        good(minirt, "rm", "-f", "box")


def test_a_container_that_is_copied_from_does_not_begin_meanwhile_and_then_does(minirt, tmp_path: Path) -> None:
    good(minirt, "create", "--name", "box", "busybox", "true")
    (tmp_path / "big").write_bytes(os.urandom(1 << 20))
    good(minirt, "cp", tmp_path / "big", "box:/big")
    threads = [threading.Thread(target=minirt, args=("cp", "box:/big", str(tmp_path / f"copy{i}"))) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(tmp_path / f"copy{i}").read_bytes() for i in range(3)} == {(tmp_path / "big").read_bytes()}
    assert good(minirt, "start", "box") == "box"
    good(minirt, "wait", "box")
    good(minirt, "rm", "box")
    assert str(minirt.root) not in Path("/proc/self/mountinfo").read_text()


def test_a_read_only_place_is_refused(minirt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    good(minirt, "run", "-d", "--name", "box", "--read-only", "-v", "data:/data", "-v", "data:/ro:ro", "busybox", *SLEEP)
    try:
        for target in ("/x", "/ro/x"):
            assert "Read-only" in bad(minirt, "cp", tmp_path / "file", f"box:{target}")
        good(minirt, "cp", tmp_path / "file", "box:/data/x")
    finally:
        good(minirt, "rm", "-f", "box")


def test_a_container_that_is_looked_into_is_told_of_as_before(minirt, tmp_path: Path) -> None:
    for state in ("created", "ended"):
        good(minirt, "create", "--name", state, "--hostname", "mine", "-v", "data:/data", "busybox", "true")
        if state == "ended":
            good(minirt, "start", "-a", state)
        (folder,) = (path for path in minirt.containers if path.name == good(minirt, "inspect", "-f", "{{.Id}}", state))
        before, files = good(minirt, "inspect", state), sorted(os.listdir(folder))
        good(minirt, "cp", f"{state}:/etc/passwd", tmp_path / "passwd")
        assert good(minirt, "inspect", state) == before and sorted(os.listdir(folder)) == files
        good(minirt, "rm", state)


@pytest.mark.parametrize("moment", range(8))
def test_killed_at_any_moment_a_copy_leaves_a_container_that_starts(minirt, tmp_path: Path, moment: int) -> None:
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    good(minirt, "create", "--name", "box", "-v", "data:/data", "busybox", "cat", "/proc/sys/kernel/hostname")
    run = minirt.start("cp", tmp_path / "big", "box:/data/big")
    try:
        run.wait(timeout=0.04 * moment)
    except subprocess.TimeoutExpired:
        run.kill()
    run.communicate(timeout=60)
    assert good(minirt, "start", "-a", "box")
    good(minirt, "cp", tmp_path / "big", "box:/data/big")
    good(minirt, "cp", "box:/data/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    good(minirt, "rm", "box")
    assert minirt.containers == [] and str(minirt.root) not in Path("/proc/self/mountinfo").read_text()


def test_words_that_are_none(minirt) -> None:
    for words in (["a", "b"], ["one:/a", "two:/b"], ["box:", "x"], ["-", "-"]):
        done = minirt("cp", *words)
        assert done.returncode == 125 and done.stderr.count("\n") == 1
    assert "no container" in minirt("cp", "none:/x", "y").stderr

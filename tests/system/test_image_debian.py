"""A real Debian, imported: what its own package manager, shell and Python find in a container, and what the host sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from debian_root import find_or_build

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(900),  # the first one builds the root
    pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices of a distribution's files need root"),
]

BOTH = pytest.mark.parametrize("options", [(), ("--userns", "auto")], ids=["plain", "userns"])


@pytest.fixture(scope="module")
def archive() -> Path:
    found = find_or_build()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(scope="module")
def debian(archive: Path) -> Iterator[Minirt]:
    """A minirt with the image `debian`."""
    root = Path(tempfile.mkdtemp(prefix="minirt-debian-", dir="/var/tmp"))
    root.chmod(0o755)
    try:
        minirt = Minirt(root)
        done = minirt("image", "import", "-c", 'CMD ["bash"]', "-c", "ENV LANG=C.UTF-8", archive, "debian")
        assert done.returncode == 0, done.stderr
        yield minirt
    finally:
        shutil.rmtree(root)


def run(minirt: Minirt, options: tuple[str, ...], *command: str, input: str | None = None) -> str:
    flags = ("-i",) if input is not None else ()
    done = minirt("run", "--rm", *flags, *options, "debian", *command, input=input)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_it_is_unpacked_as_tarfile_reads_it(debian, archive):
    (root,) = (debian.root / "lib" / "image" / "layers").iterdir()
    names = set()
    with tarfile.open(archive) as tar:
        for info in tar:
            path = root / os.path.normpath(info.name)
            status = path.lstat()
            names.add(os.path.relpath(path, root))
            assert (status.st_uid, status.st_gid, int(status.st_mtime)) == (info.uid, info.gid, int(info.mtime)), path
            assert info.issym() or status.st_mode & 0o7777 == info.mode, path
            if info.issym():
                assert os.readlink(path) == info.linkname
            elif info.islnk():
                assert status.st_ino == (root / info.linkname).lstat().st_ino
            elif info.isreg() and info.size < 65536:
                assert path.read_bytes() == tar.extractfile(info).read()
    assert names == {os.path.relpath(os.path.join(above, n), root) for above, d, f in os.walk(root) for n in d + f} | {"."}


@BOTH
def test_dpkg_finds_every_file_of_every_package_as_it_was_packed(debian, options):
    """--verify computes each file's MD5; --audit names what is half installed."""
    script = "dpkg --verify && dpkg --audit && dpkg-query -W -f '${db:Status-Abbrev}\\n' | sort | uniq -c"
    count, status = run(debian, options, "sh", "-c", script).split()
    assert int(count) > 80 and status == "ii"


CONTROL = """\
Package: lesson
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Depends: bash, python3-minimal
Description: a program, a configuration file and a directory of another owner
"""
POSTINST = """\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
getent passwd lesson >/dev/null || useradd --system --uid 900 --user-group --no-create-home lesson
chown -R lesson:lesson /var/lib/lesson
dpkg-divert --package lesson --rename --divert /bin/true.coreutils --add /bin/true >/dev/null
ln -s /usr/bin/lesson /bin/true
"""
PRERM = "#!/bin/sh\nset -e\nrm /bin/true\ndpkg-divert --package lesson --rename --remove /bin/true >/dev/null\n"
PROGRAM = "#!/usr/bin/python3\nprint('installed', *open('/etc/lesson.conf'), sep='\\n', end='')\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A directory with lesson.deb, made by dpkg-deb."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed")
    folder = tmp_path_factory.mktemp("package")
    texts = {"DEBIAN/control": CONTROL, "DEBIAN/conffiles": "/etc/lesson.conf\n", "DEBIAN/postinst": POSTINST,
             "DEBIAN/prerm": PRERM, "etc/lesson.conf": "words=1\n", "usr/bin/lesson": PROGRAM,
             "var/lib/lesson/state": ""}  # fmt: skip
    for name, text in texts.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644 if name.startswith(("etc", "var", "DEBIAN/con")) else 0o755)
    shared = Path(tempfile.mkdtemp(prefix="minirt-package-", dir="/var/tmp"))
    shared.chmod(0o755)
    build = ["dpkg-deb", "--root-owner-group", "--build", folder / "tree", shared / "lesson.deb"]
    subprocess.run(build, check=True, capture_output=True, timeout=60)
    yield shared
    shutil.rmtree(shared)


INSTALL = """
    list() { find /etc /opt /usr -xdev -not -path '/etc/*-' | sort; }
    list >/tmp/before
    dpkg --install /package/lesson.deb >&2
    dpkg --verify lesson
    dpkg-query -W -f '${db:Status-Abbrev}\\n' lesson
    /bin/true
    stat -c '%U %u' /var/lib/lesson/state
    list | diff /tmp/before - | grep '^[<>]' || :
    echo words=2 >/etc/lesson.conf
    dpkg --verify lesson
    dpkg --purge lesson >&2
    userdel lesson
    list | cmp /tmp/before - && /bin/true
"""


@BOTH
def test_dpkg_installs_and_removes_a_package(debian, package, options):
    """The package diverts a file of the image, which overlayfs copies up to rename it, and back again."""
    lines = run(debian, ("-v", f"{package}:/package:ro", *options), "bash", "-ec", INSTALL).splitlines()
    assert lines == [
        "ii ", "installed", "words=1", "lesson 900",
        "> /etc/lesson.conf", "> /usr/bin/lesson", "> /usr/bin/true.coreutils",
        "??5?????? c /etc/lesson.conf",
    ]  # fmt: skip


@BOTH
def test_what_a_package_owns_belongs_to_an_id_of_the_namespace_outside(debian, package, options):
    """Inside it is user 900's; outside, on the disk, 900 above where the namespace's ids begin."""
    script = "dpkg --install /package/lesson.deb >/dev/null; cat /proc/self/uid_map"
    done = debian("run", "-v", f"{package}:/package:ro", *options, "debian", "sh", "-ec", script)
    try:
        assert done.returncode == 0, done.stderr
        begin = int(done.stdout.split()[1])
        (container,) = debian.containers
        assert (container / "upper/var/lib/lesson/state").stat().st_uid == begin + 900
        assert (container / "upper/usr/bin/lesson").stat().st_uid == begin
        assert (begin == 0) == (options == ())
    finally:
        for container in debian.containers:
            debian("rm", container.name)


SHELL = r"""
#!/bin/bash
set -euo pipefail
trap 'echo "trap $?"' EXIT
work=$(mktemp -d)
for i in {1..5}; do echo "$i $((i * i))"; done >"$work/squares"
diff <(sort -rn "$work/squares") <(tac "$work/squares")
awk '{ sum += $2 } END { print "sum", sum }' "$work/squares"
printf '%s\n' café | iconv -f UTF-8 -t ISO-8859-1 | od -An -tx1
mkfifo "$work/pipe"; (echo through a pipe >"$work/pipe") & cat "$work/pipe"; wait
tar -C "$work" -cz squares | tar -tz
rm -r "$work"
su nobody -s /bin/sh -c 'echo "$(id -un) $(cat /etc/shadow 2>&1 | head -c 4)"'
exit 3
"""


@BOTH
def test_a_shell_script_runs(debian, options):
    done = debian("run", "--rm", "-i", *options, "debian", "bash", "-s", input=SHELL)
    assert (done.returncode, done.stderr) == (3, "")
    expected = ["sum 55", " 63 61 66 e9 0a", "through a pipe", "squares", "nobody cat:", "trap 3"]
    assert done.stdout.splitlines() == expected


PYTHON = r"""
import os, socket, subprocess, sys, tempfile, threading
reader, writer = os.pipe()
child = os.fork()
if not child:
    os.setgid(65534); os.setuid(65534)
    os.write(writer, b"%d" % os.getuid())
    os._exit(5)
print(os.read(reader, 9).decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
found = []
threads = [threading.Thread(target=lambda n=n: found.append(sum(range(n)))) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sorted(found))
a, b = socket.socketpair(); a.sendall(b"socket"); print(b.recv(6).decode())
with tempfile.NamedTemporaryFile() as file:
    os.chown(file.name, 1, 2); print(os.stat(file.name).st_uid, os.stat(file.name).st_gid)
print(subprocess.run(["dpkg", "-S", os.path.realpath(sys.executable)], capture_output=True, text=True).stdout.split(":")[0])
print([line.split()[8:9] for line in open("/proc/self/mountinfo") if line.split()[4] == "/"][0], os.getpid())
os.kill(os.getpid(), 0)
"""


@BOTH
def test_a_python_program_runs(debian, options):
    lines = run(debian, options, "python3", "-", input=PYTHON).splitlines()
    assert lines[:3] == ["65534 5", "[0, 0, 1, 3, 6, 10, 15, 21]", "socket"]
    assert lines[3] == "1 2" and lines[4].startswith("python3") and lines[5].endswith(" 1") and "overlay" in lines[5]


@BOTH
def test_without_a_command_the_images_own_runs_with_its_environment(debian, options):
    done = debian("run", "--rm", "-i", *options, "debian", input='echo "$0 $LANG"; cat /proc/$$/comm')
    assert (done.returncode, done.stdout) == (0, "bash C.UTF-8\nbash\n"), done.stderr


@BOTH
def test_one_containers_changes_are_not_in_the_next_nor_in_the_image(debian, options):
    (root,) = (debian.root / "lib" / "image" / "layers").iterdir()
    run(debian, options, "sh", "-ec", "rm -r /usr/share/doc /etc/debian_version; echo x >>/etc/passwd")
    assert run(debian, options, "cat", "/etc/debian_version") == (root / "etc/debian_version").read_text()
    assert run(debian, options, "cat", "/etc/passwd") == (root / "etc/passwd").read_text()
    assert debian.containers == []

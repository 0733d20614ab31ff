"""Kernels by name: fetched by the real apt-get from an archive that is made here, kept, listed, removed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import make_bzimage, make_pvh

from minivm.kernels.cache import Kernel, directory, find, version_key

LIMIT = 60
VMLINUX = make_pvh()


def make_package(directory: Path, release: str, version: str, image: bytes, usr: str = "") -> Path:
    """Build linux-image-RELEASE with dpkg-deb: a kernel, a module, and what is not kept."""
    root = directory / f"root-{release}-{version}"
    modules = root / usr / "lib" / "modules" / release / "kernel"
    for place in (root / "DEBIAN", root / "boot", modules, root / "usr" / "share" / "doc"):
        place.mkdir(parents=True, exist_ok=True)
    control = f"Package: linux-image-{release}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Nobody <n@example.org>\n"
    (root / "DEBIAN" / "control").write_text(control + "Description: a test\n")
    (root / "boot" / f"vmlinuz-{release}").write_bytes(image)
    (root / "boot" / f"System.map-{release}").write_text("ffffffffffffffff B The real System.map is elsewhere\n")
    (modules / "virtio_blk.ko").write_bytes(b"\0depends=\0")
    (root / "usr" / "share" / "doc" / "copyright").write_text("nobody's")
    deb = directory / f"linux-image-{release}_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, deb], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    return deb


def control_of(deb: Path) -> str:
    return subprocess.run(["dpkg-deb", "-f", deb], capture_output=True, text=True, check=True, timeout=LIMIT).stdout


class Archive:
    """An apt archive of one directory, and an apt that knows no other."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.config = directory / "archive", directory / "apt.conf"
        for place in ("archive", "state/lists/partial", "cache/archives/partial", "etc/parts"):
            (directory / place).mkdir(parents=True)
        (directory / "etc" / "sources.list").write_text(f"deb [trusted=yes] file:{self.directory} ./\n")
        (directory / "status").touch()
        names = {"State": "state", "State::status": "status", "Cache": "cache", "Etc::sourcelist": "etc/sources.list",
                 "Etc::sourceparts": "etc/parts", "Etc::preferencesparts": "etc/parts"}  # fmt: skip
        text = "".join(f'Dir::{name} "{directory / place}";\n' for name, place in names.items())
        self.config.write_text(text + 'APT::Sandbox::User "root";\nAPT::Architecture "amd64";\n')
        self.packages = ""

    def add(self, deb: Path) -> None:
        data = deb.read_bytes()
        deb.rename(self.directory / deb.name)
        more = f"Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        self.packages += control_of(self.directory / deb.name).strip() + "\n" + more + "\n"

    def means(self, meta: str, package: str) -> None:
        self.packages += f"Package: {meta}\nVersion: 1\nArchitecture: amd64\nDepends: {package}\nFilename: ./none.deb\nSize: 1\n\n"

    def update(self) -> None:
        (self.directory / "Packages").write_text(self.packages)
        environment = {**os.environ, "APT_CONFIG": str(self.config)}
        subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True, timeout=LIMIT, capture_output=True)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def minivm(archive: Archive, tmp_path: Path):
    """The command, with a cache of its own and that apt."""
    environment = {**os.environ, "MINIRT_ROOT": str(tmp_path / "root"), "APT_CONFIG": str(archive.config)}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minivm", *map(str, words)]
        return subprocess.run(command, env=environment, input="", capture_output=True, text=True, timeout=LIMIT)

    run.environment = environment
    return run


def test_a_name_means_the_newest_kernel_that_apt_knows(archive, minivm, tmp_path):
    image = make_bzimage(zlib.compress(VMLINUX, wbits=31))
    for number in (9, 10):
        archive.add(make_package(tmp_path, f"6.1.0-{number}-cloud-amd64", "6.1.5-1", image))
    archive.means("linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64")
    archive.update()
    assert minivm("kernel", "fetch", "debian-cloud").stdout == "6.1.0-9-cloud-amd64\n"
    archive.packages = archive.packages.replace("Depends: linux-image-6.1.0-9-", "Depends: linux-image-6.1.0-10-")
    archive.update()
    done = minivm("kernel", "fetch", "debian-cloud", "--format", "json")
    kernel = json.loads(done.stdout)
    assert (kernel["release"], kernel["version"], kernel["system_map"]) == ("6.1.0-10-cloud-amd64", "6.1.5-1", "")
    assert Path(kernel["vmlinux"]).read_bytes() == VMLINUX and Path(kernel["vmlinuz"]).read_bytes() == image
    assert (Path(kernel["modules"]) / "kernel" / "virtio_blk.ko").exists() and not (Path(kernel["path"]) / "usr").exists()
    listed = json.loads(minivm("kernel", "ls", "--format", "json").stdout)
    assert [row["release"] for row in listed] == ["6.1.0-10-cloud-amd64", "6.1.0-9-cloud-amd64"]
    plan = json.loads(minivm("run", "debian-cloud", "--plan", "--format", "json").stdout)
    assert any("ELF segment" in operation["args"].get("what", "") for operation in plan), "--kernel takes the vmlinux in it"
    assert minivm("kernel", "rm", "6.1.0-9-cloud-amd64").returncode == 0
    assert minivm("kernel", "rm", "debian-cloud").stdout == "6.1.0-10-cloud-amd64\n"
    assert minivm("kernel", "ls", "--format", "json").stdout == "[]\n"


def make_parts(directory: Path, release: str, image: bytes) -> list[Path]:
    """Build what Debian's kernels of today are (7.3): an empty linux-image-, the kernel, and its modules."""
    made = []
    depends = f"Depends: initramfs, linux-binary-{release} (= 1), linux-modules-{release} (= 1)\n"
    for part, more in (("image", depends), ("binary", ""), ("modules", "")):
        root = directory / f"root-{part}-{release}"
        place = root / "usr" / "lib" / "modules" / release
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: linux-{part}-{release}\nVersion: 1\nArchitecture: amd64\nMaintainer: Nobody <n@example.org>\n{more}"
        (root / "DEBIAN" / "control").write_text(control + "Description: a test\n")
        if part == "binary":
            place.mkdir(parents=True)
            (place / "vmlinuz").write_bytes(image)
        if part == "modules":
            (place / "kernel").mkdir(parents=True)
            (place / "kernel" / "virtio_blk.ko").write_bytes(b"\0depends=\0")
        made.append(directory / f"linux-{part}-{release}_1_amd64.deb")
        words = ["dpkg-deb", "--build", "--root-owner-group", root, made[-1]]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    return made


def test_a_kernel_of_three_packages_is_fetched_whole(archive, minivm, tmp_path):
    release, image = "7.3.4+deb13-cloud-amd64", make_bzimage(zlib.compress(VMLINUX, wbits=31))
    for deb in make_parts(tmp_path, release, image):
        archive.add(deb)
    archive.means("linux-image-cloud-amd64", f"linux-base-cloud-amd64, linux-image-{release}")
    archive.update()
    kernel = json.loads(minivm("kernel", "fetch", "debian-cloud", "--format", "json").stdout)
    assert (kernel["release"], kernel["version"], kernel["package"]) == (release, "1", f"linux-image-{release}")
    assert Path(kernel["vmlinuz"]).read_bytes() == image and Path(kernel["vmlinux"]).read_bytes() == VMLINUX
    assert [file.name for file in Path(kernel["modules"]).rglob("*") if file.is_file()] == ["virtio_blk.ko"]
    again = minivm("kernel", "fetch", "debian-cloud")
    assert (again.stdout, again.stderr) == (f"{release}\n", ""), "it is kept: nothing is downloaded"


def test_of_three_packages_at_hand_none_may_be_left_out(minivm, tmp_path):
    release = "7.3.4+deb13-amd64"
    debs = make_parts(tmp_path, release, make_bzimage(zlib.compress(VMLINUX, wbits=31)))
    words = [word for deb in debs for word in ("--deb", deb)]
    done = minivm("kernel", "fetch", "debian", *words[:2])
    assert done.returncode == 125 and f"linux-binary-{release} and linux-modules-{release}: give --deb for each" in done.stderr
    assert minivm("kernel", "fetch", "debian", *words).stdout == f"{release}\n"


def test_a_newer_version_of_the_same_release_takes_its_place(archive, minivm, tmp_path):
    for version in ("6.12.1-1", "6.12.1-2"):
        image = make_bzimage(zlib.compress(VMLINUX + version.encode(), wbits=31))
        archive.packages = ""
        archive.add(make_package(tmp_path, "6.12.1-amd64", version, image, usr="usr"))
        archive.means("linux-image-amd64", "linux-image-6.12.1-amd64")
        archive.update()
        kernel = json.loads(minivm("kernel", "fetch", "debian", "--format", "json").stdout)
        assert kernel["version"] == version and Path(kernel["vmlinux"]).read_bytes().endswith(version.encode())
        assert (Path(kernel["modules"]) / "kernel").is_dir()
    again = minivm("kernel", "fetch", "debian")
    assert "downloading" not in again.stderr and again.stdout == "6.12.1-amd64\n"


def test_what_cannot_be_fetched_is_said_in_one_line(archive, minivm, tmp_path):
    archive.update()
    done = minivm("kernel", "fetch", "debian-cloud")
    assert (done.returncode, done.stderr.count("\n")) == (125, 1) and "apt-get update" in done.stderr
    (tmp_path / "no.deb").write_bytes(b"not a package")
    done = minivm("kernel", "fetch", "debian", "--deb", tmp_path / "no.deb")
    assert done.returncode == 125 and "cannot unpack" in done.stderr and done.stderr.count("\n") == 2
    done = minivm("run", "--kernel", "debian")
    assert done.returncode == 2 and "minivm kernel fetch debian" in done.stderr
    assert minivm("kernel", "rm", "debian").returncode == 125
    assert sorted(path.name for path in (tmp_path / "root" / "cache" / "kernels").iterdir()) == ["tmp", "tmp.lock"]


def test_a_killed_fetch_leaves_nothing_that_the_next_does_not_remove(archive, minivm, tmp_path):
    deb = make_package(tmp_path, "6.1.0-9-amd64", "1", make_bzimage(zlib.compress(VMLINUX, wbits=31)))
    cache = tmp_path / "root" / "cache" / "kernels"
    tool = tmp_path / "bin" / "dpkg-deb"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\n[ "$1" = -f ] && kill -9 $PPID\nexec {"/usr/bin/dpkg-deb"} "$@"\n')  # once it is unpacked
    tool.chmod(0o755)
    command = [sys.executable, "-m", "minivm", "kernel", "fetch", "debian", "--deb", deb]
    environment = {**minivm.environment, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    assert subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT).returncode == -signal.SIGKILL
    assert list((cache / "tmp").iterdir()) and minivm("kernel", "ls", "--format", "json").stdout == "[]\n"
    assert minivm("kernel", "fetch", "debian", "--deb", deb).stdout == "6.1.0-9-amd64\n"
    assert not list((cache / "tmp").iterdir())


@pytest.mark.parametrize(
    "name", ["kernel.json", "lib", "boot", "usr", "boot/vmlinux-6.1-x", "boot/vmlinuz-6.1-x", "boot/System.map-6.1-x"]
)
def test_a_package_of_a_strangers_writes_nothing_and_shows_nothing_outside_of_the_cache(minivm, tmp_path, name):
    """dpkg-deb makes the links that a package has, wherever they lead."""
    image = make_bzimage(zlib.compress(VMLINUX, wbits=31))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "vmlinuz-6.1-x").write_bytes(image)
    (outside / "secret").write_text("secret" * 1000)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}
    root = tmp_path / "root-6.1-x-1"
    make_package(tmp_path, "6.1-x", "1", image, usr="usr")
    target = root / name
    subprocess.run(["rm", "-rf", target], check=True, timeout=LIMIT)
    whole = name in ("lib", "boot", "usr")
    target.symlink_to(outside if whole else outside / ("new.json" if name == "kernel.json" else "secret"))
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "bad.deb"], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    done = minivm("kernel", "fetch", "debian", "--deb", tmp_path / "bad.deb", "--format", "json")
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before
    assert "a bug" not in done.stderr
    if done.returncode == 0:
        kernel = json.loads(done.stdout)
        kept = Path(kernel["path"])
        assert not [path for path in kept.rglob("*") if path.is_symlink()]
        assert not [path for path in kept.rglob("*") if path.is_file() and b"secretsecret" in path.read_bytes()]


@pytest.mark.parametrize("release", ["", ".hidden", "tmp", "a b"])
def test_a_release_that_cannot_name_a_directory_is_refused(minivm, tmp_path, release):
    image = make_bzimage(zlib.compress(VMLINUX, wbits=31))
    make_package(tmp_path, "6.1-x", "1", image)
    root = tmp_path / "root-6.1-x-1"
    (root / "boot" / "vmlinuz-6.1-x").rename(root / "boot" / f"vmlinuz-{release}")
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "bad.deb"], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    done = minivm("kernel", "fetch", "debian", "--deb", tmp_path / "bad.deb")
    assert done.returncode == 125 and "no package of a kernel" in done.stderr
    assert minivm("kernel", "ls", "--format", "json").stdout == "[]\n"


def test_a_kernel_is_unpacked_by_two_at_once_and_never_seen_half(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path / "root"))
    whole = VMLINUX + os.urandom(4 << 20)
    boot = tmp_path / "root/cache/kernels/6.1-x/boot"
    boot.mkdir(parents=True)
    (boot / "vmlinuz-6.1-x").write_bytes(make_bzimage(zlib.compress(whole, 1, wbits=31)))
    kernel = Kernel("6.1-x", str(boot.parent), {})
    code = "import sys\nfrom minivm.kernels.cache import Kernel\nprint(Kernel('6.1-x', sys.argv[1], {}).unpack())"
    for _ in range(3):
        children = [
            subprocess.Popen([sys.executable, "-c", code, kernel.path], stdout=subprocess.PIPE, text=True) for _ in range(4)
        ]
        while any(child.poll() is None for child in children):
            if os.path.exists(kernel.vmlinux):
                assert Path(kernel.vmlinux).stat().st_size == len(whole)
        assert {child.communicate(timeout=LIMIT)[0] for child in children} == {kernel.vmlinux + "\n"}
        assert Path(kernel.vmlinux).read_bytes() == whole
        os.unlink(kernel.vmlinux)


def test_what_is_unpacked_must_be_a_kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path / "root"))
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "vmlinuz-x").write_bytes(make_bzimage(zlib.compress(b"no ELF file", wbits=31)))
    kernel = Kernel("x", str(tmp_path), {})
    assert kernel.unpack() == kernel.vmlinuz and not os.path.exists(kernel.vmlinux)


@given(st.binary(max_size=40) | st.sampled_from([b"[]", b"7", b"null", b'{"name": 7}', b"[" * 100_000]))
@settings(deadline=None)
def test_whatever_a_kernels_description_says_the_others_are_listed(tmp_path_factory, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIRT_ROOT", str(tmp_path_factory.mktemp("root")))
        for name, data in (("1", text), ("2", b'{"name": "debian"}')):
            path = Path(directory()) / name
            path.mkdir(parents=True)
            (path / "kernel.json").write_bytes(data)
        found = find("debian")
        assert found and found.release == "2" and isinstance(found["name"], str)


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), min_size=2, max_size=2))
@settings(deadline=None)
def test_releases_are_ordered_by_their_numbers(pair):
    first, second = (f"{a}.{b}.{c}-{d}-amd64" for a, b, c, d in pair)
    assert (version_key(first) < version_key(second)) == (pair[0] < pair[1])


def test_completion_knows_every_command():
    done = subprocess.run([sys.executable, "-m", "minivm", "completion", "bash"], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and "kernel" in done.stdout and "--initrd" in done.stdout
    script = f"{done.stdout}\nCOMP_WORDS=(minivm kernel f); COMP_CWORD=2; _shtab_minivm; echo ${{COMPREPLY[@]}}"
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=LIMIT).stdout == "fetch\n"

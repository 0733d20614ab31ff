"""Unpacking: nothing outside the root changes, whatever the archive says, and inside is what a model says."""

from __future__ import annotations

import copy
import errno
import os
import stat
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_archives import archive, folder, hardlink, member, reader, snapshot, symlink
from image_model import Model, Refused

from minirt.image.attributes import Privilege
from minirt.image.errors import BadArchive
from minirt.image.layer import Limits, unpack

ROOT = os.geteuid() == 0
MARKS = Privilege().marks


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A directory with `root`, to unpack into, and things beside it that have to stay as they are."""
    return make_ground(tmp_path)


def make_ground(path: Path) -> Path:
    (path / "root").mkdir()
    (path / "outside").mkdir(mode=0o755)
    (path / "outside" / "file").write_bytes(b"mine")
    (path / "outside" / "empty").mkdir()
    return path


def put(ground: Path, *members: tuple[tarfile.TarInfo, bytes], **options: object) -> Path:
    unpack(reader(archive(*members)), str(ground / "root"), **options)  # type: ignore[arg-type]
    return ground / "root"


# -- any archive at all

names = st.sampled_from(["a", "b", "c", "a/b", "a/c", "a/b/c", "b/a", "c/a/b", "d/", "./a", "/a/b", "a//c", "b/./c"])
odd_names = st.sampled_from(
    ["..", "../x", "a/../b", "a/../../outside/file", "/", ".", "/../outside/x", ".wh.a", "a/.wh.b", ".wh..wh..opq",
     "a/.wh..wh..opq", "b/.wh..wh.plnk/1", ".wh.", ".wh..", ".wh...", "a/b/.wh.c", ".wh.a/b"]
)  # fmt: skip
targets = st.sampled_from(
    ["a", "b", "a/b", "b/a", "..", "../..", "../outside", "../outside/file", "/", "/a", "/a/b", ".", "../a", "a/..",
     "/../outside", "nowhere", "nowhere/a", "{outside}", "{outside}/file", "../../../../../../etc", ""]
)  # fmt: skip
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


@st.composite
def members(draw):
    kind = draw(kinds)
    data = draw(st.binary(max_size=8)) if kind == tarfile.REGTYPE else b""
    fields = {"mode": draw(st.sampled_from([0o700, 0o755, 0o4755, 0o1777])), "mtime": draw(st.integers(0, 2**31))}
    if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        fields["linkname"] = draw(targets)
    return member(draw(st.one_of(names, names, names, odd_names)), kind, data, **fields)


def flat(root: Path) -> dict[str, tuple]:
    """What is below a root, in the words of Model.flat."""
    found = {}
    for path, (mode, _, _, mtime, content, _, xattrs) in snapshot(root).items():
        bits = int(mode, 8)
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
                stat.S_IFCHR: "whiteout"}[stat.S_IFMT(bits)]  # fmt: skip
        if kind == "whiteout":
            assert content == (0, 0)
            found[path] = (kind, 0, 0, None, False)
        else:
            content = b"" if kind == "fifo" else content
            found[path] = (kind, bits & 0o7777, mtime // 10**9, content, all((mark, b"y") in xattrs for mark in MARKS))
    return found


lower_members = st.builds(
    lambda name, kind, mode, mtime: member(name, kind, mode=mode, mtime=mtime),
    st.sampled_from(["a", "b", "c", "d", "a/a", "a/b", "a/c", "b/a", "b/b", "a/b/c", "c/a/b"]),
    st.sampled_from([tarfile.DIRTYPE, tarfile.DIRTYPE, tarfile.REGTYPE]),
    st.sampled_from([0o700, 0o2750]),
    st.integers(1, 2**31),
)


@settings(max_examples=400, deadline=None)
@given(entries=st.lists(members(), max_size=12), lower_entries=st.lists(lower_members, max_size=6))
def test_an_archive_changes_only_its_root_and_that_as_the_model_says(tmp_path_factory, entries, lower_entries):
    ground = make_ground(tmp_path_factory.mktemp("ground"))
    for info, _ in entries:
        info.linkname = info.linkname.replace("{outside}", str(ground / "outside"))
    before = snapshot(ground / "outside")
    (ground / "lower").mkdir()
    lower, lower_entries = modelled(lower_entries)
    unpack(reader(archive(*lower_entries)), str(ground / "lower"))
    model, refused = Model(), False
    try:
        for info, data in entries:
            model.apply(info, data)
    except Refused:
        refused = True
    try:
        put(ground, *entries, lower=[str(ground / "lower")])
    except BadArchive as error:
        assert refused, error
    else:
        assert not refused
        model.finish(lower)
        assert flat(ground / "root") == model.flat()
        assert links(ground / "root") == model_links(model)
    assert snapshot(ground / "outside") == before
    assert sorted(os.listdir(ground)) == ["lower", "outside", "root"]
    assert flat(ground / "lower") == lower.flat()


def modelled(entries: list) -> tuple[Model, list]:
    """A lower layer and its entries, without those that are refused."""
    model, kept = Model(), []
    for entry in entries:
        attempt = copy.deepcopy(model)
        with suppress(Refused):
            attempt.apply(*entry)
            model = attempt
            kept.append(entry)
    return model, kept


def links(root: Path) -> set[frozenset[str]]:
    """Which names are one file."""
    by_inode: dict[int, set[str]] = {}
    for above, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(above) / name
            if not stat.S_ISDIR(path.lstat().st_mode):
                by_inode.setdefault(path.lstat().st_ino, set()).add(str(path.relative_to(root)))
    return {frozenset(names) for names in by_inode.values()}


def model_links(model: Model) -> set[frozenset[str]]:
    by_node: dict[int, set[str]] = {}

    def walk(node, path):
        for name, child in node.children.items():
            below = f"{path}/{name}" if path else name
            if child.kind == "directory":
                walk(child, below)
            else:
                by_node.setdefault(id(child), set()).add(below)

    walk(model.root, "")
    return {frozenset(names) for names in by_node.values()}


# -- archives that were made to get out

ESCAPES = {
    "a name with ..": [member("../outside/file", data=b"x")],
    "a name with .. inside": [folder("a"), member("a/../../outside/file", data=b"x")],
    "an absolute name with ..": [member("/../../outside/file", data=b"x")],
    "a directory ..": [folder("..", mode=0o777)],
    "a hard link to ..": [hardlink("a", "../outside/file")],
    "a hard link to an absolute name": [hardlink("a", "{outside}/file")],
    "a hard link through a link": [symlink("l", "{outside}"), hardlink("a", "l/file")],
    "a whiteout of ..": [member(".wh...")],
    "a whiteout of .": [member(".wh..")],
    "a whiteout of nothing": [member(".wh.")],
    "a whiteout in ..": [member("../outside/.wh.file")],
    "an opaque mark in ..": [member("../outside/.wh..wh..opq")],
    "a name with NUL": [member("a", pax_headers={"path": "a\0b"})],
    "an empty name": [member("a", pax_headers={"path": ""})],
    "a link with NUL": [member("a", tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"})],
    "a root that is a link": [symlink("./", "{outside}")],
    "a root that is a file": [member("/", data=b"x")],
    "a dangling link as a directory": [symlink("l", "new"), member("l/file", data=b"x")],
    "a link to itself as a directory": [symlink("l", "l"), member("l/file", data=b"x")],
    "two links in a circle": [symlink("a", "b"), symlink("b", "a"), member("a/file")],
    "a file as a directory": [member("f"), member("f/file")],
    "a hard link to itself": [member("a"), hardlink("a", "a")],
    "a hard link to a directory": [folder("d"), hardlink("a", "d")],
    "a hard link to nothing": [hardlink("a", "b")],
    "a hard link to a whiteout": [member(".wh.b"), hardlink("a", "b")],
    "a component that is too long": [member("x" * 256)],
    "a depth without end": [folder("d/" * 1000 + "d")],
    "an owner that chown does not take": [member("a", pax_headers={"uid": str(2**32 - 1)})],
    "an owner beyond any": [folder("a", pax_headers={"gid": str(2**40)})],
    "a size that no disk has": [member("a", pax_headers={"size": "9" * 18})],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_is_refused_and_touches_nothing_outside(ground, name):
    for info, _ in ESCAPES[name]:
        info.linkname = info.linkname.replace("{outside}", str(ground / "outside"))
    before = snapshot(ground / "outside")
    if "owner" in name and not ROOT:
        pytest.skip("owners are not set without root")
    with pytest.raises(BadArchive) as caught:
        put(ground, *ESCAPES[name])
    assert "\n" not in str(caught.value)
    assert snapshot(ground / "outside") == before
    assert sorted(os.listdir(ground)) == ["outside", "root"]


def test_a_link_out_of_the_root_is_followed_as_if_the_root_were_slash(ground):
    root = put(
        ground, folder("etc"), symlink("abs", "/etc"), symlink("up", "../../../etc"), symlink("chain", "abs/../up"),
        member("abs/one"), member("up/two"), member("chain/three"),
    )  # fmt: skip
    assert sorted(os.listdir(root / "etc")) == ["one", "three", "two"]


def test_a_link_is_replaced_and_never_written_through(ground):
    root = put(ground, symlink("a", str(ground / "outside" / "file")), member("a", data=b"x"))
    assert (root / "a").read_bytes() == b"x" and not (root / "a").is_symlink()
    assert (ground / "outside" / "file").read_bytes() == b"mine"


def test_a_directory_over_a_link_replaces_the_link(ground):
    root = put(ground, symlink("a", str(ground / "outside")), folder("a", mode=0o777), member("a/new"))
    assert not (root / "a").is_symlink()
    assert sorted(os.listdir(ground / "outside")) == ["empty", "file"]


def test_links_that_add_depth_to_depth_are_refused(ground):
    deep = "d/" * 200
    with pytest.raises(BadArchive, match="deeper"):
        put(ground, folder(deep + "d"), symlink("s", deep + "d"), folder("s/" + deep + "d"))


def test_many_directories_need_few_descriptors(ground):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        root = put(ground, *(member(f"d{at}/f") for at in range(1000)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir(root)) == 1000


def test_unpacking_leaves_no_descriptor_open(ground):
    before = os.listdir("/proc/self/fd")
    put(ground, *(member(f"d{at}/f") for at in range(10)))
    with pytest.raises(BadArchive):
        put(ground, *(member(f"e{at}/f") for at in range(10)), member("../x"))
    assert os.listdir("/proc/self/fd") == before


# -- bombs


def test_an_archive_beyond_its_size_limit_is_refused(ground):
    with pytest.raises(BadArchive, match="limit"):
        put(ground, member("a", data=bytes(2 << 20)), limits=Limits(size=1 << 20))


def test_an_archive_with_too_many_entries_is_refused(ground):
    with pytest.raises(BadArchive, match="10 entries"):
        put(ground, *(member(f"f{at}") for at in range(11)), limits=Limits(entries=10))


# -- attributes


def test_modes_times_and_xattrs_are_the_archives(ground):
    root = put(
        ground,
        folder("d", mode=0o2755, pax_headers={"mtime": "1000000000.000000001", "SCHILY.xattr.user.d": "1"}),
        member("d/f", data=b"x", mode=0o6711, pax_headers={"mtime": "1500000000.123456789", "SCHILY.xattr.user.f": "\udcff"}),
        symlink("d/l", "f", pax_headers={"mtime": "1600000000.5"}),
    )  # fmt: skip
    found = snapshot(root)
    assert found["d"][0] == "0o42755" and found["d"][3] == 10**18 + 1 and found["d"][6] == (("user.d", b"1"),)
    assert found["d/f"][0] == "0o106711" and found["d/f"][3] == 1500000000123456789
    assert found["d/f"][6] == (("user.f", b"\xff"),)
    assert found["d/l"][3] == 1600000000500000000


def test_a_time_beyond_the_file_system_is_bounded(ground):
    root = put(ground, member("a", pax_headers={"mtime": "9" * 18}), member("b", pax_headers={"mtime": "-" + "9" * 18}))
    assert (root / "a").stat().st_mtime > 2**32 and (root / "b").stat().st_mtime < 0


def test_a_sparse_file_stays_sparse(ground):
    import subprocess

    (ground / "outside" / "sparse").touch()
    os.truncate(ground / "outside" / "sparse", 64 << 20)
    tar = subprocess.run(["tar", "-C", ground / "outside", "-Scf", "-", "sparse"], capture_output=True, check=True)
    unpack(reader(tar.stdout), str(ground / "root"))
    status = (ground / "root" / "sparse").stat()
    assert status.st_size == 64 << 20 and status.st_blocks * 512 < 1 << 20


def test_overlayfs_own_xattrs_are_not_the_archives_to_set(ground):
    headers = {f"SCHILY.xattr.{kind}.overlay.redirect": "/x" for kind in ("trusted", "user")}
    root = put(ground, folder("d", pax_headers=headers), member("f", pax_headers=headers))
    assert os.listxattr(root / "d") == os.listxattr(root / "f") == []


def test_the_entry_slash_is_the_root(ground):
    root = put(ground, folder("/", mode=0o711, mtime=5), member("/f"))
    assert stat.S_IMODE(root.stat().st_mode) == 0o711 and root.stat().st_mtime == 5 and os.listdir(root) == ["f"]


# -- whiteouts


def opaque(path: Path) -> bool:
    """For mounts in a user namespace, and for others if we may."""
    return all(os.getxattr(path, mark) == b"y" for mark in MARKS)



def test_a_whiteout_is_a_device_and_an_opaque_mark_an_xattr(ground):
    (ground / "lower" / "d").mkdir(parents=True)
    (ground / "lower" / "d" / "gone").touch()
    root = put(
        ground, member("d/.wh.gone"), member("o/.wh..wh..opq"), member("o/new"), lower=[str(ground / "lower")]
    )
    status = (root / "d" / "gone").lstat()
    assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
    assert opaque(root / "o") and (root / "o" / "new").exists()


@pytest.mark.parametrize("order", [1, -1])
def test_a_whiteout_hides_nothing_of_its_own_layer(ground, order):
    entries = [member(".wh.f"), member("f", data=b"x"), member(".wh.d"), folder("d"), member("d/new")]
    root = put(ground, *entries[::order])
    assert (root / "f").read_bytes() == b"x"
    assert opaque(root / "d") and os.listdir(root / "d") == ["new"]


def test_an_implied_directory_is_as_in_the_layers_below(ground):
    lower, middle = ground / "lower", ground / "middle"
    for layer in (lower, middle):
        layer.mkdir()
        os.chmod(layer, 0o711)
    (lower / "tmp" / "in").mkdir(parents=True)
    os.chmod(lower / "tmp", 0o1777)
    os.chmod(lower / "tmp" / "in", 0o2770)
    (middle / "other").mkdir()
    os.utime(lower / "tmp", ns=(5, 5))
    root = put(ground, member("tmp/in/file"), member("new/file", mtime=9), lower=[str(middle), str(lower)])
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777 and (root / "tmp").stat().st_mtime_ns == 5
    assert stat.S_IMODE((root / "tmp" / "in").stat().st_mode) == 0o2770
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o755 and (root / "new").stat().st_mtime_ns == 9 * 10**9
    assert stat.S_IMODE(root.stat().st_mode) == 0o711


@pytest.mark.parametrize("order", [1, -1])
def test_an_implied_directory_below_a_whiteout_is_new(ground, order):
    lower = ground / "lower"
    (lower / "d").mkdir(parents=True)
    os.chmod(lower / "d", 0o1777)
    entries = [member(".wh.d"), member("d/f", mtime=7)]
    root = put(ground, *entries[::order], lower=[str(ground / "outside"), str(lower)])
    assert opaque(root / "d") and stat.S_IMODE((root / "d").stat().st_mode) == 0o755


def test_a_whiteout_of_what_no_layer_has_is_not_made(ground):
    """overlayfs would list its name in a directory that only this layer has."""
    lower, middle = ground / "lower", ground / "middle"
    (lower / "d").mkdir(parents=True)
    (lower / "d" / "f").touch()
    middle.mkdir()
    unpack(reader(archive(member("d/.wh..wh..opq"))), str(middle), lower=[str(lower)])
    root = put(ground, member("new/.wh.f"), member("d/.wh.f"), member(".wh.g"), lower=[str(middle), str(lower)])
    assert os.listdir(root / "new") == os.listdir(root / "d") == [] and sorted(os.listdir(root)) == ["d", "new"]


def test_without_xattrs_an_opaque_directory_has_a_whiteout_for_each_hidden_name(ground, monkeypatch):
    lower = ground / "lower"
    (lower / "d" / "both" / "deep").mkdir(parents=True)
    for name in ("d/low", "d/replaced", "d/both/low", "shown"):
        (lower / name).touch()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no xattrs")

    monkeypatch.setattr(os, "setxattr", refuse)
    entries = [member("d/.wh..wh..opq"), member("d/replaced", data=b"x"), member("d/both/new"), member("other")]
    root = put(ground, *entries, lower=[str(lower)])
    found = flat(root)
    assert {path for path, what in found.items() if what[0] == "whiteout"} == {"d/low", "d/both/low", "d/both/deep"}
    assert {path for path, what in found.items() if what[0] == "file"} == {"d/replaced", "d/both/new", "other"}


# -- with and without root


@pytest.mark.skipif(not ROOT, reason="chown and mknod need root")
def test_root_restores_owners_devices_and_capabilities(ground):
    capability = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service, man 7 capabilities
    text = capability.decode("utf-8", "surrogateescape")
    root = put(
        ground,
        member("f", uid=1000, gid=2**32 - 2, mode=0o4755, pax_headers={"SCHILY.xattr.security.capability": text}),
        symlink("l", "f", uid=7, gid=8),
        member("c", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("b", tarfile.BLKTYPE, devmajor=259, devminor=70000),
    )
    found = snapshot(root)
    assert found["f"][:3] == ("0o104755", 1000, 2**32 - 2)
    assert found["f"][6] == (("security.capability", capability),)
    assert found["l"][1:3] == (7, 8)
    assert found["c"][0] == "0o20666" and found["c"][4] == (1, 3) and found["b"][4] == (259, 70000)


def test_without_privilege_files_are_ours_and_devices_are_left_out(ground):
    ours = Privilege(full=False)
    root = put(
        ground, folder("d", uid=5, mode=0o555), member("d/f", uid=5, pax_headers={"SCHILY.xattr.security.x": "y"}),
        member("n", tarfile.CHRTYPE, devmajor=1, devminor=3), member("d/.wh..wh..opq"), privilege=ours,
    )  # fmt: skip
    assert (root / "d" / "f").stat().st_uid == os.geteuid() and not (root / "n").exists()
    assert os.listxattr(root / "d" / "f") == [] and os.getxattr(root / "d", "user.overlay.opaque") == b"y"

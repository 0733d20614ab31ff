"""An upper directory becomes a layer, and the layer becomes that directory again; GNU tar and Python read it too."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_archives import reader, snapshot

from minirt.image.diff import layer_of
from minirt.image.errors import ImageError
from minirt.image.header import Entry
from minirt.image.layer import unpack
from minirt.image.pack import Pieces, header
from minirt.image.tar import Archive

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and trusted xattrs need root")
LOWER = Path("/nonexistent")


def pack(upper: Path, lower: list[str] | None = None, latest: int | None = None) -> bytes:
    return b"".join(layer_of(str(upper), lower or [], latest=latest))


def unpacked(layer: bytes, to: Path, lower: list[str] | None = None) -> Path:
    to.mkdir()
    unpack(reader(layer), str(to), lower=lower)
    return to


def below_root(root: Path) -> dict[str, object]:
    """All but the root itself, which has no entry where it is as it always is."""
    return {name: what for name, what in snapshot(root).items() if name != "."}


NAMES = st.text("abé", min_size=1, max_size=3) | st.sampled_from(["n" * 120, "white space", "new\nline", "\udcff"])
TIMES = st.integers(-(10**9), 2 * 10**18)  # ns
FILES = st.tuples(st.just("file"), st.binary(max_size=600), st.sampled_from([0o644, 0o4755, 0o1000, 0]), TIMES)
LINKS = st.tuples(st.just("link"), st.text("ab/.", min_size=1, max_size=130), st.just(0), TIMES)
TREES = st.recursive(FILES | LINKS, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)


def grow(root: Path, tree: object, path: Path) -> None:
    """Make what a drawn tree says."""
    if isinstance(tree, dict):
        path.mkdir(exist_ok=True)
        for name, inner in tree.items():
            grow(root, inner, path / name)
        return
    kind, content, mode, time = tree
    if kind == "link":
        os.symlink(content, path)
    else:
        path.write_bytes(content)
        path.chmod(mode)
    os.utime(path, ns=(time, time), follow_symlinks=False)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, TREES, max_size=4))
def test_a_tree_is_itself_again(tree):
    with tempfile.TemporaryDirectory() as place:
        upper = Path(place) / "upper"
        grow(upper, tree, upper)
        layer = pack(upper)
        assert below_root(unpacked(layer, Path(place) / "again")) == below_root(upper)
        copy = Path(place) / "copy"
        subprocess.run(["cp", "-a", upper, copy], check=True)
        assert pack(copy) == layer, "the same tree gives the same bytes, wherever it lies"


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        lambda name, kind, mode, ids, mtime, link: (name, kind, mode, ids, mtime, link),
        st.binary(min_size=1, max_size=200).filter(lambda name: not set(name) & {0} and name.strip(b"/") and name[:1] != b"/"),
        st.sampled_from(["symlink", "fifo", "char"]), st.integers(0, 0o7777), st.integers(0, 2**32 - 2),
        st.integers(-(10**17), 10**20), st.binary(min_size=1, max_size=150).filter(lambda link: 0 not in link),
    )
)  # fmt: skip
def test_a_header_says_all_of_an_entry(fields):
    name, kind, mode, owner, mtime, link = fields
    entry = Entry(name.strip(b"/"), kind)
    entry.mode, entry.uid, entry.gid, entry.mtime = mode, owner, owner, mtime
    entry.link = link if kind == "symlink" else b""
    entry.device = (7, 300) if kind == "char" else (0, 0)
    entry.xattrs = {"user.a": b"x=\n\0y", "security.capability": bytes(range(20))}
    (again,) = Archive(reader(header(entry) + bytes(1024)))
    for field in ("name", "kind", "mode", "uid", "gid", "mtime", "link", "device", "xattrs"):
        assert getattr(again, field) == getattr(entry, field), field


def test_holes_stay_holes_and_gnu_tar_sees_the_same(tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    with open(upper / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(9 << 20)
    layer = pack(upper)
    assert len(layer) < 1 << 18
    again = unpacked(layer, tmp_path / "again") / "sparse"
    assert again.read_bytes() == (upper / "sparse").read_bytes() and again.stat().st_blocks < 1000
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "gnu"], input=layer, check=True)
    assert (tmp_path / "gnu" / "sparse").read_bytes() == again.read_bytes()
    dense = tmp_path / "dense"
    dense.mkdir()
    with open(dense / "sparse", "wb") as file:
        file.write((upper / "sparse").read_bytes())  # the same content, every block allocated
    shutil.copystat(upper / "sparse", dense / "sparse")
    assert pack(dense) == layer


def test_other_names_of_a_file_are_hard_links_to_the_first(tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "b").write_text("content")
    os.link(upper / "b", upper / "a")
    with tarfile.open(fileobj=io.BytesIO(pack(upper))) as tar:
        assert [(info.name, info.type, info.linkname) for info in tar] == [("a", b"0", ""), ("b", b"1", "a")]


@ROOT
def test_what_overlayfs_keeps_becomes_whiteouts_and_nothing_else(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for folder in (lower / "gone", lower / "new", upper / "new"):
        folder.mkdir(parents=True)
    os.mknod(upper / "gone", stat.S_IFCHR, 0)
    os.setxattr(upper / "new", "trusted.overlay.opaque", b"y")
    os.setxattr(upper / "new", "trusted.overlay.origin", b"whatever")
    os.setxattr(upper / "new", "user.kept", b"1")
    os.mknod(upper / "device", stat.S_IFCHR | 0o620, os.makedev(5, 1))
    layer = pack(upper, [str(lower)])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.getnames() == ["device", ".wh.gone", "new", "new/.wh..wh..opq"]
        assert tar.getmember("new").pax_headers.keys() & {"SCHILY.xattr.user.kept", "SCHILY.xattr.trusted.overlay.origin"} \
            == {"SCHILY.xattr.user.kept"}  # fmt: skip
    again = unpacked(layer, tmp_path / "again", [str(lower)])
    assert os.lstat(again / "gone").st_rdev == 0 and os.getxattr(again / "new", "trusted.overlay.opaque") == b"y"
    assert (again / "device").stat().st_rdev == os.makedev(5, 1)


@ROOT
def test_a_changed_root_has_an_entry_and_an_unchanged_one_has_none(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    lower.mkdir(mode=0o755)
    upper.mkdir(mode=0o755)
    assert pack(upper, [str(lower)]) == bytes(1024)
    upper.chmod(0o711)
    assert oct(unpacked(pack(upper, [str(lower)]), tmp_path / "again").stat().st_mode & 0o7777) == "0o711"


@ROOT
@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_content_that_lies_in_a_lower_layer_is_refused(tmp_path, mark):
    (tmp_path / "file").touch()
    os.setxattr(tmp_path / "file", f"trusted.overlay.{mark}", b"/elsewhere")
    with pytest.raises(ImageError, match="redirect_dir"):
        pack(tmp_path)


def test_a_name_that_would_be_a_whiteout_is_refused(tmp_path):
    (tmp_path / ".wh.me").touch()
    with pytest.raises(ImageError, match=r"\.wh\.me"):
        pack(tmp_path)


def test_no_time_is_later_than_asked(tmp_path):
    upper = tmp_path / "upper"
    upper.mkdir()
    for name, time in (("old", 5), ("new", 5000)):
        (upper / name).touch()
        os.utime(upper / name, (time, time))
    layer = pack(upper, latest=1000 * 10**9)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert {info.name: info.mtime for info in tar} == {"old": 5, "new": 1000}


def test_an_iterator_of_bytes_can_be_read_in_any_sizes():
    pieces = Pieces(iter([b"", b"abc", b"", b"defg"]))
    assert [pieces.read(2) for _ in range(5)] == [b"ab", b"c", b"de", b"fg", b""]

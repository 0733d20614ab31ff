"""Layers seen as one tree are what overlayfs shows: the kernel mounts them, and is asked."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from minirt.image.errors import ImageError
from minirt.image.view import View

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting an overlay needs CAP_SYS_ADMIN")

SHOW = """
mount -t overlay overlay -o lowerdir={lowers} {target}
cd {target}; find . -mindepth 1 -printf '%P %y %m %s %l\\n' | LC_ALL=C sort
"""


def layers(place: Path) -> list[str]:
    """Three layers, the topmost first, in which everything is covered by something."""
    low, middle, top = (place / name for name in ("low", "middle", "top"))
    for path in (low / "a/b", low / "c", low / "opaque/x", middle / "a", middle / "opaque", top / "a/b", top / "c2"):
        path.mkdir(parents=True)
    for file in (low / "a/one", low / "a/b/two", low / "c/three", low / "file", middle / "a/four", top / "a/b/five"):
        file.write_text(str(file.relative_to(place)))
    os.symlink("a/b", low / "link")
    os.symlink("/c/../link", middle / "chain")
    os.mknod(middle / "file", stat.S_IFCHR, 0)
    os.mknod(top / "c", stat.S_IFCHR, 0)
    os.setxattr(middle / "opaque", "trusted.overlay.opaque", b"y")
    (middle / "opaque/y").touch()
    return [str(top), str(middle), str(low)]


@ROOT
def test_the_tree_is_the_one_that_the_kernel_mounts(tmp_path):
    roots = layers(tmp_path)
    (tmp_path / "target").mkdir()
    script = SHOW.format(lowers=":".join(roots), target=tmp_path / "target")
    shown = subprocess.run(["unshare", "-m", "sh", "-ec", script], capture_output=True, text=True, check=True).stdout
    lines = []
    for path, found in View(roots).walk(b""):
        kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(found.kind, "f")
        link = os.readlink(found.path).decode() if kind == "l" else ""
        size = os.lstat(found.path).st_size
        lines.append(f"{path.decode()} {kind} {stat.S_IMODE(found.status.st_mode):o} {size} {link}")
    assert sorted(lines) == shown.splitlines()
    assert "opaque/y" in shown and "opaque/x" not in shown and "a/b/two" in shown, "the layers do cover each other"


@ROOT
def test_links_are_followed_inside_and_never_above_the_root(tmp_path):
    view = View(layers(tmp_path))
    assert view.resolve(b"link/two") == b"a/b/two"
    assert view.resolve(b"/chain") == b"a/b" and view.resolve(b"chain", last=False) == b"chain"
    assert view.resolve(b"../../etc/passwd") == b"etc/passwd"
    assert view.read("/link/two") == "low/a/b/two" and view.read("/none") == ""
    loop = tmp_path / "loop"
    loop.mkdir()
    os.symlink("self", loop / "self")
    with pytest.raises(ImageError, match="too many levels"):
        View([str(loop)]).resolve(b"self")

"""What a container changed, made a layer and unpacked again, is what the container saw: the kernel's overlayfs is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minirt.image.diff import layer_of
from minirt.image.errors import ImageError
from minirt.image.layer import unpack
from minirt.image.pack import Pieces
from minirt.oci.rootfs import overlay_options
from minirt.oci.step import Overlay

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting an overlay needs CAP_SYS_ADMIN"),
]

LIST = r"""
find . -mindepth 1 -printf '%P %y %m %U:%G %n %T@ %s %l\n' | grep -v ' d ' | LC_ALL=C sort
find . -type d -printf '%P %m %U:%G\n' | sort
"""
CHANGES = f"""
rm -r gone; rm -r again; mkdir again; touch again/new; mv moved elsewhere; echo more >> file; chmod 4711 mode; chown 7:8 owner
ln file another; mknod device c 1 7; mkfifo pipe; ln -sf nowhere link; mkdir -p deep/er/and/deeper
{sys.executable} -c 'import os; os.setxattr("mode", "user.colour", b"blue")'
touch -d @1000000000.123456789 deep/er/time; rm -r becomes; echo file > becomes; rm file2; mkdir file2; touch file2/inside
chmod 711 .
"""


def overlay(script: str, target: Path, lowers: list[Path], upper: Path | None = None) -> str:
    data = "lowerdir=" + ":".join(map(str, lowers))
    if upper is not None:
        (upper.parent / "work").mkdir()
        data += f",upperdir={upper},workdir={upper.parent / 'work'}"
    words = f"mount -t overlay overlay -o {data} {target}; cd {target}; {script}"
    return subprocess.run(["unshare", "-m", "sh", "-ec", words], capture_output=True, text=True, check=True, timeout=60).stdout


def test_what_is_to_become_a_layer_is_whole_also_where_the_kernel_would_redirect(tmp_path):
    """The options that a step of a build is mounted with, against those that would leave content below."""
    whole = Overlay([], "", "", "")
    whole.whole = True
    wanted = overlay_options(whole, [], False).partition(",workdir=,")[2]
    for options, refused in (("redirect_dir=on", True), (f"redirect_dir=on,{wanted}", False)):
        place = tmp_path / str(refused)
        for name in ("lower/directory/in", "upper", "target", "work"):
            (place / name).mkdir(parents=True)
        data = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work,{options}"
        script = f"mount -t overlay overlay -o {data} {place}/target; mv {place}/target/directory {place}/target/moved"
        subprocess.run(["unshare", "-m", "sh", "-ec", script], check=True, timeout=60)
        if refused:
            with pytest.raises(ImageError, match="redirect_dir"):
                b"".join(layer_of(f"{place}/upper", [f"{place}/lower"]))
        else:
            assert b"moved/in/" in b"".join(layer_of(f"{place}/upper", [f"{place}/lower"]))


def test_a_layer_gives_back_what_was_seen(tmp_path):
    lower, upper, target, layer = (tmp_path / name for name in ("lower", "upper", "target", "layer"))
    for path in (lower, upper, target, layer):
        path.mkdir()
    for name in ("gone", "again/old", "moved/sub", "becomes/dir"):
        (lower / name).mkdir(parents=True)
        (lower / name / "file").write_text(name)
    for name in ("file", "file2", "mode", "owner", "untouched"):
        (lower / name).write_text(name)
    seen = overlay(CHANGES + LIST, target, [lower], upper)
    pieces = layer_of(str(upper), [str(lower)])
    unpack(Pieces(pieces), str(layer), lower=[str(lower)])
    assert overlay(LIST, target, [layer, lower]) == seen
    assert "elsewhere/sub/file" in seen and "again/old" not in seen
    assert oct(layer.stat().st_mode & 0o777) == "0o711"
    assert os.getxattr(layer / "mode", "user.colour") == b"blue"

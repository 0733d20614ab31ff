"""The kernel's table of mounts: names come back as they are, whatever is in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minirt.linux import mountinfo

NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, 0x2F} & {*name})


def written(name: bytes) -> bytes:
    """Return a name as fs/seq_file.c, mangle_path writes it."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


@given(NAMES, NAMES, NAMES)
def test_names_come_back_as_they_are(root: bytes, point: bytes, source: bytes) -> None:
    names = tuple(map(written, (root, point, source)))
    line = b"36 35 98:0 /%s /%s rw,noatime shared:1 master:2 - ext3 %s rw,errors=continue\n" % names
    with tempfile.NamedTemporaryFile() as file:
        file.write(line * 2)
        file.flush()
        one, other = mountinfo.read(file.name)
    assert (os.fsencode(one.root), os.fsencode(one.point), os.fsencode(one.source)) == (b"/" + root, b"/" + point, source)
    assert (one.id, one.device, one.kind, one.tags) == ("36", "98:0", "ext3", ["shared:1", "master:2"])
    assert (one.options, one.superblock) == (["rw", "noatime"], ["rw", "errors=continue"])
    assert other.point == one.point


def test_a_source_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("36 35 0:9 / /mnt rw - tmpfs  rw\n")
    (mount,) = mountinfo.read(str(tmp_path / "mountinfo"))
    assert (mount.kind, mount.source, mount.superblock) == ("tmpfs", "", ["rw"])


def test_a_path_is_on_the_mount_that_the_kernel_says() -> None:
    proc = mountinfo.holding("/proc/self/status")
    assert proc is not None and (proc.kind, proc.point) == ("proc", "/proc")
    here = mountinfo.holding(__file__)
    assert here is not None and os.path.realpath(__file__).startswith(here.point)

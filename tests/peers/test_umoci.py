"""The same layers unpacked by umoci and by us, and layers of umoci's and buildah's by us: every attribute of every file."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command import Minirt

from minirt.image.store import Store
from minirt.image.view import View

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root"),
    pytest.mark.skipif(shutil.which("umoci") is None, reason="umoci is not installed"),
]
OURS = ("trusted.overlay.", "user.overlay.")


def run(*words: object, **more: Any) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=100, **more)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def attributes(path: bytes, names: dict[tuple[int, int], list[bytes]]) -> tuple[Any, ...]:
    """Return all that stat, readlink and getxattr say of a file, and its content."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content: Any = None
    if kind == stat.S_IFREG:
        content = Path(os.fsdecode(path)).read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = (os.major(status.st_rdev), os.minor(status.st_rdev))
    every = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith(OURS)]
    xattrs = sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in every)
    return (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs,
            sorted(names.get((status.st_dev, status.st_ino), [])) if kind != stat.S_IFDIR else [])  # fmt: skip


def tree(roots: list[str]) -> dict[bytes, tuple[Any, ...]]:
    """Return what a stack of layers shows, by path; hard links by all of their names."""
    found = dict(View(roots).walk(b""))
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, one in found.items():
        names.setdefault((one.status.st_dev, one.status.st_ino), []).append(path)
    return {path: attributes(one.path, names) for path, one in found.items()}


def compare(ours: dict[bytes, tuple[Any, ...]], theirs: dict[bytes, tuple[Any, ...]]) -> None:
    assert set(ours) == set(theirs)
    assert {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]} == {}


CHANGES = """
cd {root}
mkdir -p new/deep etc; echo hello > new/deep/file; ln new/deep/file new/hard; ln -s ../etc new/link
echo changed > etc/passwd; rm -rf home; rm -f bin/ls; rm -rf var/log; echo now-a-file > var/log
chmod 4755 new/deep/file; chown 12:34 new; chmod 2711 new/deep
touch -d '2001-02-03 04:05:06.789012345 UTC' new/deep/file; touch -h -d '1999-01-01 UTC' new/link
mknod new/null c 1 3; mkfifo new/fifo
truncate -s 3M new/sparse; printf data | dd of=new/sparse bs=1 seek=2000000 conv=notrunc status=none
printf 'x%.0s' $(seq 200) > new/$(printf 'n%.0s' $(seq 150)); echo > "new/name with ünïcode"
setfattr -n user.note -v value new/deep/file 2>/dev/null || true
"""


def test_umoci_unpacks_our_layers_as_we_do(own_store: Minirt, tmp_path: Path) -> None:
    store = Store(str(own_store.root / "lib" / "image"))
    run("skopeo", "copy", "-q", f"oci:{store.root}:busybox:latest", f"oci:{tmp_path}/layout:box")
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:box", tmp_path / "bundle")
    compare(tree(store.resolve("busybox").layers()), tree([str(tmp_path / "bundle" / "rootfs")]))


def test_we_unpack_what_umoci_packs_as_umoci_does(own_store: Minirt, tmp_path: Path) -> None:
    """A layer that changes, replaces, removes and adds every kind of file."""
    layout = f"{tmp_path}/layout"
    run("skopeo", "copy", "-q", f"oci:{own_store.root}/lib/image:busybox:latest", f"oci:{layout}:box")
    run("umoci", "unpack", "--image", f"{layout}:box", tmp_path / "bundle")
    run("sh", "-ec", CHANGES.format(root=tmp_path / "bundle" / "rootfs"))
    run("umoci", "repack", "--image", f"{layout}:changed", tmp_path / "bundle")
    run("umoci", "unpack", "--image", f"{layout}:changed", tmp_path / "theirs")
    run("skopeo", "copy", "-q", f"oci:{layout}:changed", f"oci-archive:{tmp_path}/changed.tar:changed")
    assert own_store("load", "-i", tmp_path / "changed.tar").returncode == 0
    image = Store(str(own_store.root / "lib" / "image")).resolve("changed")
    ours, theirs = tree(image.layers()), tree([str(tmp_path / "theirs" / "rootfs")])
    assert ours[b"new/deep/file"][3] % 1_000_000_000 in (789012345, 0) and b"home" not in ours and b"bin/ls" not in ours
    compare(ours, theirs)


def test_umoci_unpacks_a_layer_of_ours_with_every_kind_of_file(own_store: Minirt, tmp_path: Path) -> None:
    """Packed by `diff.layer_of` from what a container changed in its upper directory."""
    from minirt.image.diff import layer_of

    store = Store(str(own_store.root / "lib" / "image"))
    base = store.resolve("busybox")
    upper, work, merged = (tmp_path / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir(mode=0o755)
    options = f"lowerdir={':'.join(base.layers())},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "overlay", merged)
    try:
        run("sh", "-ec", CHANGES.format(root=merged))
    finally:
        run("umount", merged)
    with store.adding():
        with store.blobs.writer() as blob:
            for piece in layer_of(str(upper), base.layers()):
                blob.write(piece)
            layer = blob.commit("application/vnd.oci.image.layer.v1.tar")
        rootfs = {"type": "layers", "diff_ids": [*base.diff_ids, layer["digest"]]}
        descriptor = store.add_image({**base.config, "rootfs": rootfs, "history": []}, [*base.manifest["layers"], layer])
        store.set_name("changed", descriptor)
    run("skopeo", "copy", "-q", f"oci:{store.root}:changed:latest", f"oci:{tmp_path}/layout:changed")
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:changed", tmp_path / "bundle")
    compare(tree(store.resolve("changed").layers()), tree([str(tmp_path / "bundle" / "rootfs")]))


def test_what_buildah_commits_is_unpacked_as_umoci_does(own_store: Minirt, tmp_path: Path) -> None:
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed")
    conf = tmp_path / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(conf)}
    container = run("buildah", "from", f"oci:{own_store.root}/lib/image:busybox:latest", env=env).strip()
    root = run("buildah", "mount", container, env=env).strip()
    run("sh", "-ec", CHANGES.format(root=root))
    run("buildah", "commit", "-q", container, f"oci:{tmp_path}/layout:built", env=env)
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:built", tmp_path / "bundle")
    run("skopeo", "copy", "-q", f"oci:{tmp_path}/layout:built", f"oci-archive:{tmp_path}/built.tar:built")
    assert own_store("load", "-i", tmp_path / "built.tar").returncode == 0
    image = Store(str(own_store.root / "lib" / "image")).resolve("built")
    assert len(json.loads(own_store("image", "inspect", "built").stdout)[0]["Layers"]) == 2
    compare(tree(image.layers()), tree([str(tmp_path / "bundle" / "rootfs")]))
    run("buildah", "rm", "-a", env=env)

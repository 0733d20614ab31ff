"""image diff, du, tree, ls, history: what they say of images is what was put into them."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile

import pytest
from command import Minirt

from minirt.image.store import Store

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="layers with owners need root"),
]
LAYER = "application/vnd.oci.image.layer.v1.tar"


def tar(*files: tuple[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def stack(minirt: Minirt, name: str, *tars: bytes, **config: object) -> list[dict[str, object]]:
    """Make an image of layers. Returns their descriptors."""
    store = Store(str(minirt.root / "lib" / "image"))
    with store.adding():
        layers = [store.blobs.add(data, LAYER) for data in tars]
        document = {"architecture": "amd64", "os": "linux", "config": config,
                    "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}}  # fmt: skip
        store.set_name(name, store.add_image(document, layers))
    return layers


def ok(minirt: Minirt, *words: str) -> str:
    done = minirt(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


BASE = tar(("same", b"s"), ("other", b"1"), ("gone", b"g"), ("dir/in", b"i"), ("swap", b"file"), folders=("dir", "old"))


def test_diff_tells_each_way_in_which_trees_differ(own_store: Minirt) -> None:
    stack(own_store, "a", BASE, Env=["A=1"], Cmd=["x"])
    top = tar(("other", b"2"), (".wh.gone", b""), ("new/deep/file", b"n"), ("dir/in", b"i"), (".wh.old", b""), (".wh.swap", b""),
              folders=("swap", "new", "new/deep"))  # fmt: skip
    stack(own_store, "b", BASE, top, Env=["A=2"], User="u")
    assert ok(own_store, "image", "diff", "a", "b").splitlines() == [
        'D config Cmd: ["x"] -> null', 'C config Env: ["A=1"] -> ["A=2"]', 'A config User: null -> "u"',
        "D /gone", "A /new", "A /new/deep", "A /new/deep/file", "D /old", "C /other", "C /swap",
    ]  # fmt: skip
    assert ok(own_store, "image", "diff", "b", "b") == ""
    kinds = [json.loads(line)["Kind"] for line in ok(own_store, "image", "diff", "--format=json", "b", "a").splitlines()]
    assert kinds.count("A") == 3 and kinds.count("D") == 2, "of a directory that is gone only its own name is told, as docker does"


def test_du_counts_what_is_shared_once(own_store: Minirt) -> None:
    big = tar(("big", os.urandom(1_000_000)))
    stack(own_store, "a", big, tar(("a", b"a")))
    stack(own_store, "b", big, tar(("b", os.urandom(500_000))))
    for name in ("a", "b"):
        own_store("run", "--rm", name, "none")  # unpacks it
    rows = {row["Name"]: row for row in map(json.loads, ok(own_store, "image", "du", "--format=json").splitlines())}
    assert rows["a:latest"]["Shared"] == rows["b:latest"]["Shared"] > 2_000_000
    assert rows["b:latest"]["Unique"] > 1_000_000 > rows["a:latest"]["Unique"] > 0
    assert all(row["Stored"] + row["Unpacked"] == row["Shared"] + row["Unique"] for row in rows.values())
    assert "busybox:latest" in ok(own_store, "image", "du")


def test_tree_shows_who_stands_on_what(own_store: Minirt) -> None:
    base, left, right = tar(("base", b"1")), tar(("left", b"2")), tar(("right", b"3"))
    stack(own_store, "base", base)
    stack(own_store, "left", base, left)
    stack(own_store, "right", base, right)
    stack(own_store, "top", base, right, left)
    line = re.compile(r"([ │├└─]*)[0-9a-f]{12}  \S+  (\S+)")
    shape = [line.fullmatch(text).groups() for text in ok(own_store, "image", "tree").splitlines()]
    assert [one for one in shape if one[1] != "busybox:latest"] == [
        ("", "base:latest"), ("├─ ", "left:latest"), ("└─ ", "right:latest"), ("   └─ ", "top:latest"),
    ]  # fmt: skip


def test_ls_takes_names_and_history_takes_json(own_store: Minirt) -> None:
    stack(own_store, "app:1", BASE)
    stack(own_store, "app:2", BASE)
    stack(own_store, "other/app:1", BASE)
    tags = [json.loads(line)["Tag"] for line in ok(own_store, "images", "--format=json", "app").splitlines()]
    assert tags == ["1", "2"]
    assert len(ok(own_store, "image", "ls", "-q", "app:2").split()) == 1
    steps = [*map(json.loads, ok(own_store, "image", "history", "--format=json", "busybox").splitlines())]
    assert max(step["Size"] for step in steps) > 1_000_000

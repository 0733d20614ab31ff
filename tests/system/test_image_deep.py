"""Images of hundreds of layers: beyond overlayfs's old 128, beyond a page of mount options, up to the kernel's 500."""

from __future__ import annotations

import io
import os
import tarfile

import pytest
from command import Minirt

from minirt.image.store import Store

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root"),
]
LAYER = "application/vnd.oci.image.layer.v1.tar"


def one_file(name: str, text: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def deepen(minirt: Minirt, name: str, depth: int) -> None:
    """Make an image of busybox and layers of one file each; all of them write `top`."""
    store = Store(str(minirt.root / "lib" / "image"))
    base = store.resolve("busybox")
    with store.adding():
        layers = list(base.manifest["layers"])
        for number in range(len(layers), depth):
            file = one_file("top", f"{number}\n") if number % 2 else one_file(f"files/{number}", f"{number}\n")
            layers.append(store.blobs.add(file, LAYER))
        config = {**base.config, "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(one["digest"] for one in layers[1:])]}}
        store.set_name(name, store.add_image(config, layers))


@pytest.mark.parametrize("userns", [[], ["--userns=auto"]])
@pytest.mark.parametrize("depth", [40, 129, 300, 500])
def test_a_deep_image_runs_and_its_topmost_layer_counts(own_store: Minirt, depth: int, userns: list[str]) -> None:
    deepen(own_store, "deep", depth)
    last = depth - 1 if depth % 2 == 0 else depth - 2
    done = own_store("run", "--rm", *userns, "deep", "sh", "-ec", "cat /top; ls /files | wc -l; pwd; echo new >/top; cat /top")
    assert done.stdout.split() == [str(last), str((depth - 1) // 2), "/", "new"], done.stderr
    assert own_store.containers == []


def test_more_layers_than_the_kernel_stacks_are_refused_in_a_line(own_store: Minirt) -> None:
    deepen(own_store, "deep", 501)
    done = own_store("run", "--rm", "deep", "true")
    assert done.returncode == 125 and "501 layers" in done.stderr and done.stderr.count("\n") == 1
    assert own_store.containers == []


def test_the_working_directory_is_said_to_change_in_the_plan(own_store: Minirt) -> None:
    deepen(own_store, "deep", 200)
    plan = own_store("run", "--plan", "deep", "true").stdout
    step = plan[plan.index("overlay  [") : plan.index("pivot_root  [")]
    assert 'layers")' in step and "lowerdir=0:1:2:" in step

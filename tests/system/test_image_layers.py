"""Images of several layers as containers see them: what an upper layer hides is hidden, in a user namespace too."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from minirt.image.store import Store

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting an overlay needs CAP_SYS_ADMIN"),
]

PLAIN, USERNS = (), ("--userns", "auto")
BOTH = pytest.mark.parametrize("options", [PLAIN, USERNS], ids=["plain", "userns"])


def tar(names: dict[str, str]) -> bytes:
    """A layer of files and, where the name ends in a slash, directories."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in names.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size, info.mode = len(text), 0o755
            archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def stack(root: Path, name: str, *layers: bytes) -> None:
    """Give the image store an image: the default one, and these layers above it."""
    store = Store(str(root / "lib" / "image"))
    base = store.resolve("busybox")
    with store.adding():
        above = [store.blobs.add(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers]
        config = json.loads(json.dumps(base.config))
        config["rootfs"]["diff_ids"] += [layer["digest"] for layer in above]
        store.set_name(name, store.add_image(config, base.manifest["layers"] + above))


LOWER = tar({"d/": "", "d/low": "", "d/sub/": "", "d/sub/low": "", "e/": "", "e/low": "", "e/both": "lower", "f": "", "g/": ""})


@BOTH
@pytest.mark.parametrize(
    ("upper", "seen"),
    [
        ({"d/": "", "d/.wh..wh..opq": "", "d/new": ""}, "d/new e/both e/low f"),
        ({"d/new": "", "d/.wh..wh..opq": ""}, "d/new e/both e/low f"),  # the mark may come last
        ({".wh.d": "", "d/": "", "d/sub/": "", "d/sub/new": ""}, "d/sub/new e/both e/low f"),
        ({"d/sub/.wh..wh..opq": ""}, "d/low e/both e/low f"),
        ({".wh.d": "", "e/.wh.low": "", ".wh.f": ""}, "e/both"),
        ({"e/both": "upper"}, "d/low d/sub/low e/both e/low f"),
    ],
    ids=["opaque", "opaque last", "whiteout and directory", "opaque below", "whiteouts", "replaced"],
)
def test_what_an_upper_layer_hides_is_hidden(own_store, options, upper, seen):
    stack(own_store.root, "layered", LOWER, tar(upper))
    done = own_store("run", "--rm", *options, "layered", "sh", "-ec", "find d e f ! -type d 2>/dev/null | sort; cat e/both")
    assert done.returncode == 0, done.stderr
    *found, both = done.stdout.split()
    assert " ".join(found) == seen and both == upper.get("e/both", "lower")


def test_an_opaque_directory_hides_on_a_file_system_without_xattrs(own_store):
    """ramfs has none; tmpfs has none of user.* before Linux 6.6."""
    image = own_store.root / "lib" / "image"
    image.rename(own_store.root / "image")
    image.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "none", image], check=True, timeout=10)
    try:
        subprocess.run(["cp", "-a", f"{own_store.root}/image/.", image], check=True, timeout=10)
        with pytest.raises(OSError):
            os.setxattr(image, "trusted.overlay.opaque", b"y")
        stack(own_store.root, "layered", LOWER, tar({"d/new": "", "d/.wh..wh..opq": "", "d/sub/new": ""}))
        done = own_store("run", "--rm", "layered", "find", "d", "e", "!", "-type", "d")
        assert (done.returncode, sorted(done.stdout.split())) == (0, ["d/new", "d/sub/new", "e/both", "e/low"]), done.stderr
    finally:
        subprocess.run(["umount", image], check=True, timeout=10)


@BOTH
def test_a_layer_without_anything_below_is_all_there_is(own_store, options):
    """An opaque root: overlayfs looks at no mark there, so what is below must not be mounted."""
    store = Store(str(own_store.root / "lib" / "image"))
    layer = Path(store.resolve("busybox").layers()[0])
    program = (layer / "bin" / "busybox").read_bytes()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in {".wh..wh..opq": b"", "busybox": program}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    stack(own_store.root, "bare", LOWER, stream.getvalue())
    done = own_store("run", "--rm", *options, "bare", "/busybox", "ls", "/")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"busybox", "dev", "etc", "proc", "sys"}


def test_a_whiteout_of_what_no_layer_has_leaves_no_name_behind(own_store):
    stack(own_store.root, "layered", tar({"new/": "", "new/.wh.gone": "", "new/there": ""}))
    done = own_store("run", "--rm", "layered", "ls", "-l", "new")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.splitlines()[-1].endswith(" there")


@pytest.mark.parametrize("how", ["rm", "tag over it", "prune"])
def test_a_containers_image_stays_while_the_container_does(own_store, how):
    """Without its layers' directories, what it has not opened yet is gone."""
    stack(own_store.root, "layered", LOWER)
    holds = own_store.root / "lib" / "image" / "holds"
    script = "echo up; read x; cat e/both; ls d"
    child = own_store.start("run", "-i", "layered", "sh", "-c", script, stdin=subprocess.PIPE)
    assert child.stdout.readline() == "up\n"
    words = {"rm": ["rm", "layered"], "tag over it": ["tag", "busybox", "layered"], "prune": ["prune"]}[how]
    if how == "rm":
        refused = own_store("image", *words)
        assert refused.returncode == 1 and "is using its referenced image" in refused.stderr
        words.append("--force")
    assert own_store("image", *words).returncode == 0
    stack(own_store.root, "another", tar({"x": ""}))
    assert own_store("image", "rm", "another").returncode == 0
    assert child.communicate("\n", timeout=30) == ("lowerlow\nsub\n", "") and child.returncode == 0
    (container,) = own_store.containers
    assert os.listdir(holds) == [container.name]  # it could be started again
    assert own_store("rm", container.name).returncode == 0
    assert os.listdir(holds) == [] and own_store("image", "prune").returncode == 0
    assert len(os.listdir(own_store.root / "lib" / "image" / "layers")) == (2 if how == "prune" else 1)


@pytest.mark.parametrize(
    ("words", "code"), [(("true",), 0), (("/nowhere",), 127), (("--fail", "pivot_root=EPERM", "true"), 125)]
)
def test_a_container_that_is_gone_holds_nothing(own_store, words, code):
    *options, command = words
    assert own_store("run", "--rm", *options, "busybox", command).returncode == code
    assert os.listdir(own_store.root / "lib" / "image" / "holds") == own_store.containers == []


@BOTH
def test_what_a_container_removes_of_a_layer_stays_in_the_layer(own_store, options):
    stack(own_store.root, "layered", LOWER)
    for _ in range(2):
        script = "ls d; rm -r d; mkdir d; ls -A d; mv e h; ls h"
        done = own_store("run", "--rm", *options, "layered", "sh", "-ec", script)
        assert (done.returncode, done.stdout.split()) == (0, ["low", "sub", "both", "low"]), done.stderr


@BOTH
def test_a_programs_capabilities_in_a_layer_count(own_store, options):
    """man 7 capabilities, "File capabilities": here NET_BIND_SERVICE (bit 10), permitted and effective."""
    data = Path("/bin/busybox").read_bytes()
    info = tarfile.TarInfo("bound/grep")  # busybox goes by the name that it is called by
    info.size, info.mode = len(data), 0o755
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    info.pax_headers = {"SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(data))
    stack(own_store.root, "capable", stream.getvalue())
    for program, expected in (("/bound/grep", 1 << 10), ("/bin/grep", 0)):
        command = (program, "CapEff", "/proc/self/status")
        done = own_store("run", "--rm", "--user", "nobody", *options, "capable", *command)
        assert int(done.stdout.split()[1], 16) == expected, done.stderr

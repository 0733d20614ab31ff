"""The embedded default image: the distribution's static busybox, as a correct OCI image.

The same program gives the same image, digest for digest: entries are sorted, all times are the
program's own (which dpkg restores from the package) or SOURCE_DATE_EPOCH, and the layer is a plain tar,
as two zlibs need not compress alike.
"""

from __future__ import annotations

import os

from minirt.image.errors import Attempt, ImageError, UnknownImage
from minirt.image.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.image.store import Image, Store

__all__ = ["NAME", "build", "ensure_default", "find"]

NAME = "busybox"
PROGRAM = "/bin/busybox"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# e_machine (elf.h) -> GOARCH, the word that image-spec config.md#properties asks for
_ARCHITECTURES = {3: "386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}

_DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
    "usr/local": 0o755, "usr/local/bin": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/log": 0o755,
    "var/spool": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
_LINKS = {"sbin": "bin", "usr/bin/env": "../../bin/env", "var/run": "../run"}
_FILES = {
    "etc/group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\n"
    "www-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/hostname": "",  # these three are mount points: the engine binds its own over them
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/resolv.conf": "",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nmail:x:8:8:mail:/var/spool/mail:/bin/false\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/shadow": "root:*:::::::\ndaemon:*:::::::\nbin:*:::::::\nsys:*:::::::\nmail:*:::::::\n"
    "www-data:*:::::::\nnobody:*:::::::\n",
}
_MODES = {"etc/shadow": 0o600}


def find(store: Store, name: str) -> Image:
    """Find an image; build the embedded one if it is asked for and not there.

    Raises UnknownImage, and what `build` raises.
    """
    try:
        return store.resolve(name)
    except UnknownImage:
        if Reference.parse(name) != Reference.parse(NAME):
            raise
    return ensure_default(store)


def ensure_default(store: Store) -> Image:
    """Return the image `busybox`, built now if no image has that name. Raises what `build` raises."""
    try:
        return store.resolve(NAME)
    except UnknownImage:
        pass
    build(store)
    return store.resolve(NAME)


def build(store: Store, program: str = PROGRAM) -> Descriptor:
    """Build the image from a static busybox and name it `busybox`.

    Returns its manifest's descriptor. Raises ImageError, in one line, where the program is missing or is
    linked dynamically.
    """
    architecture = _architecture(program)
    version = _version(program)
    epoch = _epoch(program)
    with store.adding(), Attempt("build the image 'busybox'"):
        with store.blobs.writer() as blob:
            blob.write(_root_tar(program, epoch))
            layer = blob.commit("application/vnd.oci.image.layer.v1.tar")
        config = _config(architecture, version, epoch, layer["digest"])
        descriptor = store.add_image(config, [layer])
        store.set_name(NAME, descriptor)
    return descriptor


def _epoch(program: str) -> int:
    """Seconds since the epoch that stand for all times (reproducible-builds.org, SOURCE_DATE_EPOCH)."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isdigit() else int(os.stat(program).st_mtime)


def _architecture(program: str) -> str:
    """Return what the program runs on. Raises ImageError unless it is a static ELF (man 5 elf)."""
    import struct

    hint = "`apt-get install busybox-static` (or import an image: `minirt image import ROOTFS.tar NAME`)"
    try:
        with open(program, "rb") as stream:
            head = stream.read(4096)
    except OSError as error:
        raise ImageError(f"the default image needs {program}, {error.strerror}: {hint}") from None
    if len(head) < 64 or head[:4] != b"\x7fELF":
        raise ImageError(f"{program} is not an ELF program: {hint}")
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    wide = head[4] == 2  # ELFCLASS64
    offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
    for at in range(offset, min(offset + size * count, len(head) - 4), size or len(head)):
        if struct.unpack_from(order + "I", head, at)[0] == 3:  # PT_INTERP: it wants a dynamic linker
            raise ImageError(f"{program} is linked dynamically; the default image needs the static one: {hint}")
    return _ARCHITECTURES.get(machine) or os.uname().machine


def _version(program: str) -> str:
    """Return the package and its version, or the program's own first line where dpkg knows nothing of it."""
    import subprocess

    form = "${Package} ${Version}"
    query = ["dpkg-query", "--showformat=" + form, "--show", "busybox-static"]
    if program == PROGRAM:
        try:
            return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    first = subprocess.run([program], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    return first.partition(" (")[0] or "busybox"


def _applets(program: str) -> list[str]:
    import subprocess

    try:
        listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ImageError(f"{program} --list does not work: {error}") from None
    return sorted({name for name in listed if "/" not in name} - {"busybox"})


def _root_tar(program: str, epoch: int) -> bytes:
    """Return the root file system as a tar, in order of names."""
    import io
    import tarfile

    with open(program, "rb") as source:
        busybox = source.read()
    members: dict[str, tuple[tarfile.TarInfo, bytes]] = {}

    def add(name: str, kind: bytes, mode: int, *, data: bytes = b"", link: str = "") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime, info.size, info.linkname = kind, mode, epoch, len(data), link
        info.uname = info.gname = ""
        members[name] = (info, data)

    add(".", tarfile.DIRTYPE, 0o755)
    for name, mode in _DIRECTORIES.items():
        add(name, tarfile.DIRTYPE, mode)
    for name, text in _FILES.items():
        add(name, tarfile.REGTYPE, _MODES.get(name, 0o644), data=text.encode())
    for name, target in _LINKS.items():
        add(name, tarfile.SYMTYPE, 0o777, link=target)
    for applet in _applets(program):
        add("bin/" + applet, tarfile.LNKTYPE, 0o755, link="bin/busybox")
    add("bin/busybox", tarfile.REGTYPE, 0o755, data=busybox)

    def order(name: str) -> tuple[int, str]:  # a hard link comes after what it links to
        return (1 if members[name][0].islnk() else 0, name)

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(members, key=order):
            info, data = members[name]
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _config(architecture: str, version: str, epoch: int, diff_id: str) -> dict[str, Any]:
    """Return the image's configuration (image-spec config.md)."""
    import time

    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    return {
        "created": created,
        "author": "minirt",
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=" + PATH],
            "Cmd": ["sh"],
            "Labels": {
                "org.opencontainers.image.title": NAME,
                "org.opencontainers.image.version": version.rpartition(" ")[2],
                "io.minirt.source": version,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {"created": created, "created_by": f"minirt: root file system of {version}"},
            {"created": created, "created_by": 'CMD ["sh"]', "empty_layer": True},
        ],
    }

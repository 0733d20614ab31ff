"""`minivm disk`: make disks: empty ones, an image's root, a seed for cloud-init."""

from __future__ import annotations

import argparse
import os

from minirt.cli.help import Help
from minivm.cli.table import print_json
from minivm.errors import MinivmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.images.seed import Given

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minivm disk create data.img --size 10g                       sparse: costs nothing until it is written to
  minivm disk create root.ext4 --image busybox --size 1g       an image's root file system
  minivm disk create top.qcow2 --format qcow2 --base stock.qcow2
  minivm disk seed seed.iso --user me --key ~/.ssh/id_ed25519.pub --net dhcp
  minivm disk seed seed.iso user-data.yaml -H box --key ~/.ssh/id_ed25519.pub
  minivm kernel extract stock.qcow2
  minivm run --kernel vmlinuz-* --initrd initrd.img-* --cmdline 'root=/dev/vda1 console=ttyS0' \
    -m 1g --disk top.qcow2 --disk seed.iso,ro --net user
"""


def add_parser(commands: Any) -> None:
    """Add the command with its own commands."""
    disk = commands.add_parser(
        "disk", help="make disks, and seeds for cloud-init", description="Make disks.", epilog=EPILOG, formatter_class=Help
    )
    verbs = disk.add_subparsers(dest="verb", required=True, metavar="VERB")
    create = verbs.add_parser("create", help="make a disk", description="Make a disk.", epilog=EPILOG, formatter_class=Help)
    create.add_argument("file", metavar="FILE", help="must not be there yet")
    create.add_argument("-s", "--size", default="", metavar="SIZE", help="64m, 10g; with --image: what is to be free in it")
    create.add_argument("--format", choices=("raw", "qcow2"), default="raw", help="qcow2 takes qemu-img (default: raw)")
    create.add_argument("--image", default="", metavar="IMAGE", help="an ext4 with the root of an image of minirt's")
    create.add_argument(
        "--base", default="", metavar="FILE",
        help="qcow2 only: begin as FILE, which stays as it is; where it lies elsewhere it is named again: --disk ...,base=FILE",
    )  # fmt: skip
    create.set_defaults(do=_create)
    seed = verbs.add_parser(
        "seed", help="make a seed for cloud-init", formatter_class=Help, epilog=EPILOG,
        description="Make a disk from which a stock cloud image learns its user, key, name and network (NoCloud).",
    )  # fmt: skip
    seed.add_argument("file", metavar="FILE", help="must not be there yet")
    seed.add_argument("user_data", nargs="?", default="", metavar="USER-DATA", help="as --user-data: the words of cloud-localds")
    seed.add_argument("meta_data", nargs="?", default="", metavar="META-DATA", help="as --meta-data")
    seed.add_argument("-u", "--user", default="", metavar="NAME", help="make this user, who may use sudo (default: none)")
    seed.add_argument("-k", "--key", action="append", default=[], metavar="KEY", help="public key, or its file; may be given again")
    seed.add_argument("-H", "--hostname", default="", metavar="NAME")
    seed.add_argument("--net", default="", metavar="dhcp|none|ADDRESS/PREFIX[,GATEWAY[,NAMESERVER...]]", help="default: dhcp")
    seed.add_argument("--run", action="append", default=[], metavar="COMMAND", help="run at the first boot; may be given again")
    seed.add_argument(
        "--user-data", "--cloud-init", dest="user_data_file", default="", metavar="FILE",
        help="what you have for cloud-init already: #cloud-config, a script, ...; - is standard input; --user, --key and --run add"
        " to it",
    )  # fmt: skip
    seed.add_argument("--meta-data", dest="meta_data_file", default="", metavar="FILE", help="an instance-id of its own, say")
    seed.add_argument("-N", "--network-config", default="", metavar="FILE", help="version 1 or 2, rather than --net")
    seed.add_argument("-V", "--vendor-data", default="", metavar="FILE", help="as --user-data, which goes over it")
    seed.add_argument("--print", action="store_true", help="only print what would be in it, as JSON")
    seed.set_defaults(do=_seed)


def _create(options: argparse.Namespace) -> int:
    if options.base and options.format != "qcow2":
        raise UsageError("--base is for --format qcow2: a raw disk holds all of itself")
    if options.image and (options.base or options.format != "raw"):
        raise UsageError("--image makes a raw disk, with no --base")
    if not (options.size or options.image or options.base):
        raise UsageError("--size is needed: how large is the disk to be?")
    if os.path.lexists(options.file):
        raise MinivmError(f"{options.file!r} is there already: it is not overwritten")
    if options.image:
        _from_image(options)
    elif options.format == "qcow2":
        _qcow2(options)
    else:
        size = _size(options.size)
        with open(options.file, "xb") as file:
            file.truncate(size)
    print(options.file)
    return 0


def _size(text: str) -> int:
    from minivm.machine.config import parse_size

    return parse_size(text, 1 << 62, "disk size")


def _from_image(options: argparse.Namespace) -> None:
    from minivm.images.command import find
    from minivm.images.root_disk import ROOM, copy_sparse, root_disk

    copy_sparse(root_disk(find(options.image), _size(options.size) if options.size else ROOM), options.file)


def _qcow2(options: argparse.Namespace) -> None:
    """Have qemu-img make it; the format of a base is looked at here, as guessing it later would be a hole (man 1 qemu-img)."""
    import subprocess

    words = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if options.base:
        try:
            file = open(options.base, "rb")
        except OSError as error:
            raise MinivmError(f"cannot read --base {options.base!r}: {error.strerror}") from None
        with file:
            kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
        words += ["-b", os.path.abspath(options.base), "-F", kind]
    words += ["--", options.file] + ([str(_size(options.size))] if options.size else [])
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MinivmError("qemu-img is missing, which makes qcow2: apt-get install qemu-utils") from None
    if done.returncode:
        raise MinivmError(done.stderr.strip().replace("\n", " "))


def _seed(options: argparse.Namespace) -> int:
    from minivm.images.seed import seed, write_iso

    files = seed(
        user=options.user, keys=options.key, hostname=options.hostname, net=options.net, commands=options.run, given=_given(options)
    )
    if options.print:
        print_json({name: data.decode(errors="backslashreplace") for name, data in files.items()})
        return 0
    if os.path.lexists(options.file):
        raise MinivmError(f"{options.file!r} is there already: it is not overwritten")
    write_iso(options.file, files)
    print(options.file)
    return 0


def _given(options: argparse.Namespace) -> Given:
    from minivm.images.seed import Given

    for name in ("user", "meta"):
        word, file = getattr(options, f"{name}_data"), getattr(options, f"{name}_data_file")
        if word and file:
            raise UsageError(f"{name}-data is named twice: {word!r} and --{name}-data {file!r}")
    return Given(
        user=options.user_data or options.user_data_file,
        meta=options.meta_data or options.meta_data_file,
        network=options.network_config,
        vendor=options.vendor_data,
    )

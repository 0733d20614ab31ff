"""`minivm kernel`: fetch, list and remove kernels that --kernel can then name, and take one out of a disk."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help
from minivm.cli.table import add_format, print_json, print_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.kernels.cache import Kernel

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minivm kernel fetch debian-cloud
  minivm run debian-cloud --rootfs DIR --init 'uname -a'
  minivm kernel ls --format json
  minivm kernel rm debian-cloud
  minivm kernel extract stock.qcow2
"""


def add_parser(commands: Any) -> None:
    """Add the command with its own commands."""
    kernel = commands.add_parser(
        "kernel", help="keep Debian's kernels, or take one out of a disk", epilog=EPILOG, formatter_class=Help,
        description="Keep Linux kernels out of Debian's packages, for --kernel to name.",
    )  # fmt: skip
    verbs = kernel.add_subparsers(dest="verb", required=True, metavar="VERB")
    fetch = verbs.add_parser(
        "fetch", help="download a kernel by apt and keep it", formatter_class=Help,
        description="Download the newest kernel that apt knows, and keep kernel, modules and the vmlinux in it. Nothing is\n"
        "installed, and no root is needed.",
        epilog="examples:\n  minivm kernel fetch debian-cloud\n  minivm kernel fetch debian --deb linux-image-6.1.0-9-amd64.deb",
    )  # fmt: skip
    fetch.add_argument("name", choices=("debian-cloud", "debian"), help="debian-cloud: for machines; debian: for any hardware")
    fetch.add_argument(
        "--deb", action="append", default=[], metavar="FILE",
        help="a package file that is at hand, rather than a download; may be given again: newer kernels are three packages",
    )  # fmt: skip
    fetch.set_defaults(do=_fetch)
    listing = verbs.add_parser(
        "ls", help="list what is kept", description="List the kernels that are kept.", formatter_class=Help,
        epilog="examples:\n  minivm kernel ls\n  minivm kernel ls --format json",
    )  # fmt: skip
    listing.set_defaults(do=_list)
    remove = verbs.add_parser(
        "rm", help="remove a kernel", description="Remove a kernel from the cache.", formatter_class=Help,
        epilog="examples:\n  minivm kernel rm debian-cloud\n  minivm kernel rm 6.1.0-9-cloud-amd64",
    )  # fmt: skip
    remove.add_argument("kernel", nargs="+", metavar="KERNEL", help="a release; or a name: all that it was fetched as")
    remove.set_defaults(do=_remove)
    extract = verbs.add_parser(
        "extract", help="take a kernel and its initrd out of a disk", formatter_class=Help,
        description="Take newest kernel and initrd out of a disk's /boot, for --kernel and --initrd: no boot loader runs.\n"
        "Of raw and qcow2 disks with ext file systems; no root is needed.",
        epilog="examples:\n  minivm kernel extract stock.qcow2\n  minivm kernel extract stock.raw kernels --format json",
    )  # fmt: skip
    extract.add_argument("disk", metavar="DISK[,base=PATH]", help="as --disk has it")
    extract.add_argument("directory", nargs="?", default=".", metavar="DIR", help="where they are put (default: here)")
    extract.set_defaults(do=_extract)
    for parser in (fetch, listing, extract):
        add_format(parser)


def _fetch(options: argparse.Namespace) -> int:
    from minivm.kernels.debian import fetch

    kernel = fetch(options.name, options.deb, lambda text: print(f"minivm: {text}", file=sys.stderr))
    if options.format == "json":
        print_json(_described(kernel))
    else:
        print(f"{kernel.release}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from minivm.kernels.cache import kernels

    found = [_described(kernel) for kernel in kernels()]
    if options.format == "json":
        print_json(found)
        return 0
    rows = [(row["name"], row["release"], row["version"], "yes" if row["vmlinux"] else "no", row["path"]) for row in found]
    print_rows(("NAME", "RELEASE", "VERSION", "VMLINUX", "PATH"), rows)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from minivm.kernels.cache import remove

    for text in options.kernel:
        print("\n".join(remove(text)))
    return 0


def _extract(options: argparse.Namespace) -> int:
    import os

    from minivm.errors import UsageError
    from minivm.kernels.inside import extract
    from minivm.machine.devices import parse_disk

    if not os.path.isdir(options.directory):
        raise UsageError(f"{options.directory!r} is no directory, for the kernel to be put in")
    disk = parse_disk(options.disk)
    found = extract(disk.path, options.directory, disk.base)
    if options.format == "json":
        print_json({"kernel": found.kernel, "initrd": found.initrd, "root": found.root})
        return 0
    print("\n".join(path for path in (found.kernel, found.initrd) if path), flush=True)
    words = ["minivm run --kernel", found.kernel] + (["--initrd", found.initrd] if found.initrd else []) + ["--disk", options.disk]
    print(f"minivm: {' '.join(words)} --cmdline root={found.root or '/dev/...'} ...", file=sys.stderr)
    return 0


def _described(kernel: Kernel) -> dict[str, Any]:
    import os

    vmlinux = kernel.vmlinux if os.path.exists(kernel.vmlinux) else ""
    return {
        **kernel.about, "release": kernel.release, "path": kernel.path, "vmlinuz": kernel.vmlinuz, "vmlinux": vmlinux,
        "system_map": kernel.system_map, "modules": kernel.modules,
    }  # fmt: skip

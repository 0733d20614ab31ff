"""`minivm boot IMAGE`: the image that `minirt run` runs, as a machine with a kernel of its own."""

from __future__ import annotations

import argparse
import os

from minirt.cli.help import Help
from minivm.cli.words import add_looking, add_machine
from minivm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.machine.config import Config

__all__ = ["add_parser"]

EPILOG = """\
The image's layers become an ext4 disk (made once, kept in the cache). What the machine writes goes with it, or stays with
its name (-d, which gives it a copy). The image's configuration and the words here say what runs, as with `minirt run`.
Exit status: the program's; 126 and 127 where it cannot be run or is not there; 125 where minivm failed.
It needs a kernel: minivm kernel fetch debian-cloud

examples:
  minivm boot busybox uname -a
  minivm boot -m 512m -c 2 busybox              a shell, where this is a terminal
  minivm boot -e A=1 -w /tmp -u nobody busybox sh -c 'id; pwd; echo $A'
  minivm boot -v ~/src:/src busybox ls /src     a directory of this host, by virtiofsd
  minivm boot -d --name box busybox sleep 1h; minivm stop box
  minivm boot --kernel ./vmlinuz --console virtio busybox dmesg
"""
KERNEL = "debian-cloud"


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "boot", help="run a container's image as a machine of its own", epilog=EPILOG, formatter_class=Help,
        description="Run a program of an OCI image in a machine with a Linux kernel of its own.",
    )  # fmt: skip
    parser.add_argument("image", metavar="IMAGE", help="of minirt's store (minirt image ls)")
    words = parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND", help="the image's own unless given")
    words.required = False  # before Python 3.12 "the following arguments are required" named it too
    add = parser.add_argument_group("the program, in docker's words").add_argument
    add("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable, or pass it on")
    add("--env-file", action="append", default=[], metavar="FILE", help="variables, one a line")
    add("-w", "--workdir", default="", metavar="DIR", help="working directory")
    add("-u", "--user", default="", metavar="USER[:GROUP]", help="names or numbers, looked up in the image")
    add("--entrypoint", metavar="PROGRAM", help="instead of the image's; empty: none")
    add("--hostname", default="minivm", metavar="NAME", help="the machine's (default: minivm)")
    add("-v", "--volume", action="append", default=[], metavar="DIR:PATH[:ro]", help="a directory of this host, at PATH (--share)")
    add("-t", "--tty", action="store_true", help="somebody sits at the console (default: where this is a terminal)")
    add("-d", "--detach", action="store_true", help="make a machine with a name, as `minivm create`, start it, and return")
    add("--name", default="", metavar="NAME", help="the machine's name, with -d (default: the image's and a number)")
    add("--room", default="1g", metavar="SIZE", help="what the machine may add to the disk (default: 1g)")
    add_machine(parser, root=False)
    add("--modules", default="", metavar="DIR", help="the kernel's modules (default: beside the kernel)")
    add_looking(parser)
    parser.set_defaults(do=_boot, kernel=None, rootfs=None, init="")


def _boot(options: argparse.Namespace) -> int:
    from minivm.cli.run import check_timeout
    from minivm.images.command import find
    from minivm.images.root_disk import root_disk
    from minivm.machine.config import parse_size

    check_timeout(options)
    if options.name and not options.detach:
        raise UsageError("--name is for a machine that stays: say -d too")
    image = find(options.image)
    config = _config(options)
    base = root_disk(image, parse_size(options.room, 1 << 50, "--room"))
    return (_detach if options.detach else _stay)(options, config, image, base)


def _stay(options: argparse.Namespace, config: Config, image: Any, base: str) -> int:
    """Run the machine here; what it writes goes with it."""
    from minivm.cli.run import run_config

    return run_config(options, _rooted(options, config, image, base, overlay=""))


def _detach(options: argparse.Namespace, config: Config, image: Any, base: str) -> int:
    """Make a machine with a name and start it."""
    from minivm.manager import life
    from minivm.manager.machines import LONGEST, create, root_of
    from minivm.manager.settings import document_of

    called = image.label.rpartition("/")[2].partition(":")[0]
    name = options.name or f"{called[: LONGEST - 5]}-{os.urandom(2).hex()}"
    config = _rooted(options, config, image, root_of(name), overlay=None)
    kept = options.kernel_option if options.kernel_option != config.kernel else None  # a name stays a name
    machine = create(name, document_of(config, kept), base)
    life.start(machine)
    print(name)
    return 0


def _config(options: argparse.Namespace) -> Config:
    """Return the machine, still without its root."""
    from minivm.cli.config import config_of

    options.kernel_option = options.kernel_option or KERNEL
    options.memory = options.memory or "256m"
    options.share += [volume(text) for text in options.volume]
    modules, options.modules = options.modules, ""
    config = config_of(options)
    options.modules = modules
    if "loglevel=" not in config.cmdline:  # "quiet" would still show an error that is none: that there is no PCI
        config.cmdline = f"loglevel=3 {config.cmdline}".strip()
    return config


def volume(text: str) -> str:
    """Return docker's words for a bind mount as those of --share. Raises UsageError."""
    path, colon, rest = text.partition(":")
    where, _, mode = rest.partition(":")
    if not (colon and path and where.startswith("/") and mode in ("", "ro", "rw")):
        raise UsageError(f"--volume {text!r}: write DIR:PATH, or DIR:PATH:ro, with an absolute PATH")
    return f"{path}:{where}" + (",ro" if mode == "ro" else "")


def _rooted(options: argparse.Namespace, config: Config, image: Any, disk: str, overlay: str | None) -> Config:
    """Return the machine with its root and its program; `overlay` as of a Disk."""
    from minirt.engine.options import RunOptions
    from minivm.images.command import program
    from minivm.machine.config import Disk, Rootfs

    if not 0 < len(options.hostname) <= 64:
        raise UsageError("--hostname: 1 to 64 bytes (man 2 sethostname)")
    words = {name: getattr(options, name) for name in ("env", "env_file", "workdir", "user", "entrypoint")}
    terminal = options.tty or (os.isatty(0) and os.isatty(1) and not options.detach)
    asked = RunOptions(options.image, list(options.argv), tty=terminal, **words)
    config.disks = [Disk(disk, overlay=overlay), *config.disks]
    config.rootfs = Rootfs(disk, modules=options.modules, program=program(image, asked, options.hostname))
    return config

"""The words that `minivm run` takes, and its --help."""

from __future__ import annotations

from minivm.boot.formats import FORMATS
from minivm.cli.plain import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["add_looking", "add_machine", "add_parser", "declare"]

RUN_EPILOG = """\
kernel formats (--boot):
{formats}

exit status:
  the guest's: what it wrote to the debug-exit port 0x501 (or, at port 0xf4, value * 2 + 1 as with QEMU)
  0    the guest halted for good, or was ended from the keyboard
  2    the command line is wrong
  124  --timeout ended it             125  minivm or the host failed
  134  the guest crashed              128 + N  ended by signal N (130 ctrl-C, 143 SIGTERM, 141 nobody reads)

keys, where the input is a terminal:
  ctrl-a x  end the machine     ctrl-a a  send ctrl-a     ctrl-a h  help

examples:
  minivm run                                      boot the in-tree guest
  echo exit 7 | minivm run; echo $?               its exit status is minivm's: 7
  minivm run vmlinux-like.elf -m 256m --cmdline 'debug'
  minivm run boot.bin --boot flat16               16-bit code, entered at 0x7c00
  minivm run vmlinuz --initrd initrd.img -m 512m --cmdline 'console=ttyS0'
  minivm run debian-cloud --rootfs DIR --init 'ls -l /' --cpus 2
  minivm run vmlinuz --rootfs root.ext4 --console virtio --rng
  minivm run my-kernel.elf --disk fs.img --virtio legacy    a kernel that knows virtio-mmio's Version 1 only
  minivm run debian-cloud --rootfs DIR --share ~/src:/src --init 'ls /src'
  minivm run --explain </dev/null                 tell every ioctl and exit, on stderr
  minivm run --plan --format json                 the list of ioctls as data
  minivm run --trace run.jsonl --stats            record all of it; count the exits
  minivm run --step 20 </dev/null                 the first 20 instructions, with the state's difference after each
  minivm run --timeout 2 --dump guest.core        then: gdb guest.elf guest.core
  minivm run --profile </dev/null                 which functions of the guest exit, how often, at which instruction
  minivm run --gdb 1234                           wait for: gdb guest.elf -ex 'target remote :1234'
  minivm run --jail --gdb /tmp/gdb.sock           a debugger at a machine whose process has no rights
  minivm run --jail --explain </dev/null          the machine's process gives up its rights: each call, and why
  minivm run --fail KVM_CREATE_VCPU=ENOMEM        make one call fail, and see that all is undone
"""


NAMED = "minivm create NAME makes a machine that minivm start NAME leaves running"
# Options of docker's run and of QEMU's, and what does that here.
ELSEWHERE = {
    "--name": NAMED,
    "-d": NAMED,
    "--detach": NAMED,
    "--network": "a network card is --net",
    "--volume": "a directory of the host is --share; minivm boot IMAGE has -v",
    "-v": "a directory of the host is --share; minivm boot IMAGE has -v",
    "--image": "minivm boot IMAGE runs a container's image",
    "--drive": "a disk is --disk",
    "--hda": "a disk is --disk",
    "--nographic": "there is no other way: the console is on stdin and stdout",
}


def add_parser(commands: Any) -> None:
    """Add `run` to the commands."""
    from minirt.cli.help import Help

    formats = "\n".join(f"  {name:9} {text}" for name, text in FORMATS.items())
    parser = commands.add_parser(
        "run",
        help="build a machine, run a guest in it, end with the guest's exit status",
        description="Build a machine on /dev/kvm, run a guest in it with its serial port on stdin and stdout,\n"
        "and end with the guest's exit status.",
        epilog=RUN_EPILOG.format(formats=formats),
        formatter_class=Help,
    )
    parser.elsewhere = ELSEWHERE
    declare(parser)


def declare(parser: Any) -> None:
    """Add the words of `run` to its parser, or to a table of them (plain.py)."""
    add = parser.add_argument
    add("kernel", nargs="?", metavar="KERNEL", help="file to boot, or a name of `minivm kernel ls`; without it, the in-tree guest")
    add_machine(parser)
    add_looking(parser)
    parser.set_defaults(do=_run)


def add_looking(parser: Any) -> None:
    """Add the flags of a machine that is stayed with: how long, and what is told of it."""
    add = parser.add_argument_group("its process").add_argument
    add("--timeout", type=float, metavar="SECONDS", help="stop the machine after so long, with status 124")
    add(
        "--jail",
        action="store_true",
        help="once the machine is built, give up all rights: no files, no network, a user that nobody is, few system calls",
    )
    looking = parser.add_argument_group("looking at it (on stderr, but for --plan)")
    add = looking.add_argument
    add("--plan", action="store_true", help="list the calls that would build the machine, and why; run nothing")
    add("--explain", action="store_true", help="tell each call and exit as it happens, and count the exits")
    add("--trace", metavar="FILE", help="write each call and exit to FILE, one JSON object a line")
    add("--stats", action="store_true", help="count the exits, and say where the processors' time went")
    add("--profile", action="store_true", help="count the exits by function of the guest too, and disassemble where they come from")
    add("--step", type=int, default=0, metavar="N", help="go through the first N instructions and show what each changed")
    add("--dump", metavar="FILE", help="at the end, write memory and registers as an ELF core, for gdb, crash, `minivm walk`")
    add("--symbols", metavar="FILE", help="of --profile and --step: System.map, or a kernel (default: the one that runs)")
    add("--format", choices=("text", "json"), default="text", help="of --plan, --stats and --profile (default: text)")
    add(
        "--fail",
        action="append",
        default=[],
        metavar="CALL[:N]=ERRNO",
        help="make the Nth such call fail, as KVM_RUN:3=EFAULT; may be given again",
    )
    add(
        "--gdb",
        metavar="[HOST:]PORT|PATH[,nowait]",
        help="serve gdb there (localhost, or a socket's path with a / in it); the guest waits for it, or with nowait does not",
    )
    add(
        "--debug",
        action="store_true",
        default=suppress(),
        help="show where an error came from; show a crashed guest's registers",
    )


def add_machine(parser: Any, root: bool = True) -> None:
    """Add the flags that say what a machine is to be: the same for each command that makes one.

    Args:
        root: whether those are among them that say what Linux has as its root.
    """
    machine = parser.add_argument_group("the machine")
    add = machine.add_argument
    if root:
        _add_root(add)
    add("--boot", choices=("auto", *FORMATS), default="auto", help="how to start KERNEL (auto: look at its bytes)")
    add("-m", "--memory", metavar="SIZE", help="guest memory: 64m, 1g (default: 64m; 256m for a kernel that is kept)")
    add("--kernel", dest="kernel_option", metavar="FILE", help="another way to name KERNEL")
    add("--initrd", action="append", default=[], metavar="FILE", help="initial RAM file system; may be given again: joined")
    add("--module", action="append", default=[], metavar="'FILE WORDS'", help="a Multiboot module; may be given again")
    add("-c", "--cpus", "--smp", type=int, default=1, metavar="N", help="virtual processors (default: 1)")
    add(
        "--disk",
        action="append",
        default=[],
        metavar="FILE[,ro|,overlay[=FILE]][,qcow2][,base=PATH][,queues=N][,rate=N][,iops=N]",
        help="a virtio-blk disk; may be given again. overlay: FILE stays as it is, and what is written goes elsewhere, or"
        " nowhere after the end; qcow2 needs qemu-storage-daemon, and base=PATH if what it stands on lies elsewhere; rate and"
        " iops limit bytes and requests a second",
    )
    add(
        "--net",
        action="append",
        default=[],
        metavar="tap:NAME|user[,mac=M][,in=N][,out=N]",
        help="a network card: on a tap of this host, or in user mode by passt; in and out limit bytes a second (10m)",
    )
    add(
        "--share",
        action="append",
        default=[],
        metavar="DIR[:TAG][,ro]",
        help="a directory of this host, by virtiofsd: in the guest, mount -t virtiofs TAG /mnt; where the root is made here and"
        " TAG is an absolute path, it is mounted there",
    )
    add("--rng", action="store_true", help="a virtio-rng: random bytes from the host")
    add(
        "--console",
        choices=("serial", "virtio"),
        default="serial",
        help="where input goes: the UART (ttyS0) or a virtio-console (hvc0)",
    )
    add(
        "--port",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a port of the virtio-console: /dev/virtio-ports/NAME in the guest, a socket at PATH here; may be given again",
    )
    add("--split-queues", action="store_true", help="offer virtio's older form of queues alone, not the packed one")
    add(
        "--virtio",
        choices=("modern", "legacy"),
        default="modern",
        help="which interface virtio devices have: legacy is for drivers from before VIRTIO 1.0 (virtio-mmio Version 1), and for"
        " disks, cards, consoles, --rng and --balloon only",
    )
    add(
        "--balloon",
        nargs="?",
        const="0",
        metavar="SIZE",
        help="a virtio-balloon: memory that is free in the guest goes back to the host; it takes SIZE from the start (default: 0)",
    )
    add(
        "--hotplug",
        metavar="SIZE[,plugged=SIZE]",
        help="a virtio-mem: up to SIZE more memory while it runs (minivm hotplug), so much of it from the start (default: 0)",
    )
    add("--watchdog", action="store_true", help="a watchdog: a guest that uses it and falls silent ends, with status 134")
    add(
        "--vsock",
        metavar="PATH[,cid=N]",
        help='sockets between guest and host: a client of PATH says "CONNECT port"; the guest reaches PATH_port at cid 2',
    )
    add("--cmdline", "--append", default="", metavar="TEXT", help="command line for the kernel")
    add(
        "--irqchip",
        choices=("kernel", "none"),
        help="interrupt controllers and timer in the host kernel, or none: then `hlt` ends the machine"
        " (default: none for flat16, else kernel)",
    )
    add(
        "--cpu-affinity",
        default="",
        metavar="LIST[:LIST...]",
        help="processors of the host that may run the virtual ones, as 0,2-3; one list for all, or one for each",
    )
    add("--cgroup", default="", metavar="DIR", help="control group to run in, which must be there; below /sys/fs/cgroup, or a path")


def _add_root(add: Any) -> None:
    """Add the flags for Linux's root."""
    add(
        "--rootfs",
        metavar="DIR|IMAGE[,ro]",
        help="what Linux is to have as its root: a directory (copied into the initramfs), or an ext4 or squashfs image"
        " (the first disk); the initramfs is made here",
    )
    add("--init", default="", metavar="COMMAND", help="with --rootfs: run this there; its status is minivm's")
    add("--modules", default="", metavar="DIR", help="with --rootfs: the kernel's modules (default: beside the kernel)")


def _run(options: argparse.Namespace) -> int:
    from minivm.cli.run import run

    return run(options)

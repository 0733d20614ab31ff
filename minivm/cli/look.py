"""`minivm symbols`, `minivm exits`, `minivm walk`: what can be learnt of a guest from files, without running it."""

from __future__ import annotations

import sys

from minirt.cli.help import Help
from minivm.errors import MinivmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

__all__ = ["add_parser"]

SYMBOLS = """\
examples:
  minivm symbols /boot/vmlinuz-6.12-cloud-amd64 | head
  minivm symbols debian-cloud -o kernel.elf         then: gdb kernel.elf -ex 'target remote :1234'
  minivm symbols debian-cloud --core box.core -o kernel.elf      then: gdb kernel.elf box.core
  minivm symbols debian-cloud --grep start_kernel --format json
"""


EXITS = """\
examples:
  minivm run --trace run.jsonl </dev/null; minivm exits run.jsonl
  minivm exits run.jsonl --symbols /boot/System.map --format json
"""

WALK = """\
examples:
  minivm run --timeout 2 --dump guest.core </dev/null; minivm walk guest.core 0x100000
  minivm walk guest.core start_kernel --symbols kernel.elf --cpu 1
"""


DUMP = """\
examples:
  minivm dump box box.core; minivm walk box.core 0x100000
  minivm symbols debian-cloud --core box.core -o kernel.elf; gdb kernel.elf box.core
  crash vmlinux box.core                   vmlinux: of Debian's linux-image-...-dbg, below /usr/lib/debug/boot

crash finds by itself where KASLR put the kernel. With Linux 6.1.x of today it must be 8.0.6 (Debian 13's) or newer to list all
tasks; and of kernels without CONFIG_X86_MCE, as Debian's for the cloud, it may refuse the dump of an idle machine ("read of
stack ... failed"), QEMU's too: linux-image-amd64 has it, and `crash --minimal` shows memory and the log.
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    _add_dump(commands)
    _add_symbols(commands)
    _add_exits(commands)
    _add_walk(commands)


def _add_symbols(commands: Any) -> None:
    parser = commands.add_parser(
        "symbols",
        help="list a kernel's symbols, or write them to a file for gdb",
        description="List the symbols of a kernel: of an ELF file's table, a System.map, or what Linux carries in itself\n"
        "(kallsyms), as a stripped kernel of a distribution does.",
        epilog=SYMBOLS,
        formatter_class=Help,
    )
    add = parser.add_argument
    add("kernel", nargs="?", metavar="KERNEL", help="a kernel's file, or a name of `minivm kernel ls`; default: the in-tree guest")
    add("-o", "--output", metavar="FILE", help="write an ELF file with the symbols, for gdb")
    add("--core", metavar="FILE", help="a dump of that kernel: the symbols are moved to where KASLR has put it there")
    add("--grep", default="", metavar="TEXT", help="only symbols with this in their name")
    add("--format", choices=("text", "json"), default="text", help="default: text, as nm prints")
    parser.set_defaults(do=_symbols)


def _symbols(options: argparse.Namespace) -> int:
    symbols = read(options.kernel)
    if options.core:
        from minivm.inspect.core import open_core

        with open_core(options.core) as core:
            symbols = symbols.with_code_at(core.code)
    chosen = [symbol for symbol in symbols.all if options.grep in symbol[2]]
    if options.output:
        from minivm.inspect.symbolfile import symbol_file

        _write(options.output, symbol_file(chosen))
        print(f"minivm: {len(chosen)} symbols in {options.output}", file=sys.stderr)
    elif options.format == "json":
        import json

        print(json.dumps([{"address": address, "type": kind, "name": name} for address, kind, name in chosen]))
    else:
        sys.stdout.write("".join(f"{address:016x} {kind} {name}\n" for address, kind, name in chosen))
    return 0


def _add_exits(commands: Any) -> None:
    parser = commands.add_parser(
        "exits",
        help="count a trace's exits by place and guest function",
        description="Count the exits of a trace (minivm run --trace) by reason, place and function of the guest, and disassemble\n"
        "the instructions that exit most.",
        epilog=EXITS,
        formatter_class=Help,
    )
    add = parser.add_argument
    add("trace", metavar="TRACE", help="what `minivm run --trace` wrote")
    add("--symbols", metavar="FILE", help="System.map, or the kernel; default: the in-tree guest, for its traces")
    add("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(do=_exits)


def _exits(options: argparse.Namespace) -> int:
    from minirt.trace import open_trace
    from minivm.cli.report import profile_as_dict, profile_as_text, traced_code
    from minivm.inspect.profile import Profile

    try:
        header, events = open_trace(options.trace)
    except ValueError as error:
        raise MinivmError(str(error)) from None
    if header.get("kind") != "machine":
        raise MinivmError(f"{options.trace}: is a trace of a {header.get('kind')}, not of a machine")
    profile = Profile()
    for event in events:
        profile(event)
    symbols = read(options.symbols or header.get("guest")).with_code_at(traced_code(events))
    if options.format == "json":
        import json

        print(json.dumps(profile_as_dict(profile, symbols)))
    else:
        print(profile_as_text(profile, symbols))
    return 0


def _add_dump(commands: Any) -> None:
    parser = commands.add_parser(
        "dump",
        help="write a running machine's memory and registers as an ELF core",
        description="Write memory and registers of a machine that runs as an ELF core, for gdb, crash and `minivm walk`.\n"
        "It stands still meanwhile.",
        epilog=DUMP,
        formatter_class=Help,
    )
    parser.add_argument("name", metavar="NAME", help="the machine, as `minivm ps` shows it")
    parser.add_argument("file", metavar="FILE", help="where to")
    parser.set_defaults(do=_dump)


def _dump(options: argparse.Namespace) -> int:
    import os

    from minivm.manager.client import request
    from minivm.manager.machines import find

    answer = request(find(options.name), "PUT", "/dump", {"path": os.path.abspath(options.file)}, long=True)
    print(f"minivm: {answer['written'] >> 10} KiB that are not zero in {options.file}", file=sys.stderr)
    return 0


def _add_walk(commands: Any) -> None:
    parser = commands.add_parser(
        "walk",
        help="draw the walk through a guest's page tables, from a dump",
        description="Draw how the processor translates a guest's addresses: each table on the way, flags, rights, faults.\n"
        "From a dump (minivm run --dump); `monitor walk ADDRESS` in gdb does it for a machine that stands.",
        epilog=WALK,
        formatter_class=Help,
    )
    add = parser.add_argument
    add("core", metavar="CORE", help="what `minivm run --dump` wrote")
    add("address", nargs="+", metavar="ADDRESS", help="a number, or a symbol with --symbols")
    add("--cpu", type=int, default=0, metavar="N", help="whose CR3 (default: 0)")
    add("--symbols", metavar="FILE", help="System.map, or a kernel")
    add("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(do=_walk)


def _walk(options: argparse.Namespace) -> int:
    from minivm.inspect.core import open_core
    from minivm.inspect.paging import walk

    symbols = read(options.symbols) if options.symbols else None
    with open_core(options.core) as core:
        symbols = symbols and symbols.with_code_at(core.code)
        if not 0 <= options.cpu < len(core.modes):
            raise UsageError(f"--cpu {options.cpu}: the dump is of {len(core.modes)} processors")
        modes = core.modes[options.cpu]
        walks = [walk(_number(text, symbols), modes, core.bytes_at) for text in options.address]
    if options.format == "json":
        import json

        print(json.dumps([found.as_dict() for found in walks]))
    else:
        print("\n".join(found.draw() for found in walks))
    return 0 if all(found.physical is not None for found in walks) else 1


def _number(text: str, symbols: Any) -> int:
    """Return the address that a word means. Raises UsageError."""
    found = symbols.address(text) if symbols else None
    if found is not None:
        return int(found)
    try:
        number = int(text, 0)
    except ValueError:
        why = "no symbol of the kernel" if symbols else "without --symbols no name"
        raise UsageError(f"{text!r} is no address, and {why}") from None
    if not 0 <= number < 1 << 64:
        raise UsageError(f"{text} is no address of 64 bits")
    return number


def read(kernel: str | None) -> Any:
    """Return the symbols of a kernel, named as `minivm run` takes it. Raises MinivmError."""
    from minivm.inspect.symbols import read_symbols

    return read_symbols(path_of(kernel))


def path_of(kernel: str | None) -> str:
    """Return the path that a kernel's name means."""
    if kernel is None:
        from minivm.boot.formats import default_kernel

        return default_kernel()
    from minivm.kernels.resolve import resolve

    return resolve(kernel, "auto")


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise MinivmError(f"cannot write {path!r}: {error.strerror}") from None

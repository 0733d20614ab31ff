"""`minivm run`: a machine from its words (config.py), and from its Outcome the exit status."""

from __future__ import annotations

import sys

from minivm.cli.config import config_of, kernel_name
from minivm.errors import MinivmError, UsageError
from minivm.machine.prepare import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from minirt.trace import Sink
    from minivm.boot.start import Start
    from minivm.inspect.gdb.server import Server
    from minivm.machine.config import Config
    from minivm.machine.machine import Machine, Outcome
    from minivm.machine.plan import Operation

__all__ = ["check_timeout", "run", "run_config"]

HARDWARE = ("/sys/module/kvm_intel", "/sys/module/kvm_amd")  # of KVM's modules, those that leave ring 0 to the processor


class Nothing:
    """contextlib.nullcontext: that module takes longer to load than any of ours."""

    def __enter__(self) -> None:
        """Give None."""

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""


def run(options: argparse.Namespace) -> int:
    """Do what the command line says. Returns the exit status. Raises MinivmError."""
    check_timeout(options)
    return run_config(options, config_of(options))


def check_timeout(options: argparse.Namespace) -> None:
    """Refuse a time that is none."""
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g}: must be more than 0 seconds")


def run_config(options: argparse.Namespace, config: Config) -> int:
    """Run a machine as the words of add_looking say. Returns the exit status."""
    if options.jail and (options.profile or options.step):
        raise UsageError("--jail does not go together with --profile and --step, which want files")
    if options.symbols:
        from minivm.inspect.symbols import read_symbols

        read_symbols(options.symbols)  # whatever is wrong with it is to be heard before the run
    start = prepare(config)
    if options.plan:
        from minivm.machine.plan import machine_plan

        return _print_plan(machine_plan(config, start), options.format)
    if config.rootfs or config.kernel != kernel_name(options):  # Linux, as is a kernel with a name
        _warn_of_emulation()
    if not (options.explain or options.profile or options.trace):
        return _run(options, config, start, [])
    from minivm.cli.sinks import opened

    with opened(options) as sinks:
        return _run(options, config, start, sinks)


def _warn_of_emulation() -> None:
    """Say beforehand where Linux will hang, as it says nothing then. To try costs a machine: not where a module of KVM tells."""
    import os

    from minivm.errors import KvmError
    from minivm.inspect.probe import runs_kernels

    try:
        if any(map(os.path.isdir, HARDWARE)) or runs_kernels():
            return
    except KvmError:
        return  # the run itself says it
    print("minivm: this KVM emulates what a guest runs in ring 0, and has not all that Linux wants: it may hang without a word"
          " (`minivm doctor`; lab/run offers a machine with a full KVM)", file=sys.stderr)  # fmt: skip


def _run(options: argparse.Namespace, config: Config, start: Start, sinks: list[Sink]) -> int:
    from minivm.machine.machine import Machine
    from minivm.machine.recorder import Recorder, parse_failure

    recorder = Recorder(sinks, [parse_failure(text) for text in options.fail])
    with Machine(config, start, recorder) as machine, _debugger(options, machine) as debugger, _dump_file(options) as dump_file:
        machine.timed = options.stats or bool(options.profile)
        machine.build()
        if options.jail:
            from minivm.machine.jail import enter

            looked_at = bool(options.gdb or options.dump)
            enter(sinks[0] if options.explain else None, looked_at, machine.connections)
        if debugger:
            debugger.begin()
        if options.step:
            from minivm.cli.step import step

            step(options, machine)
        outcome = machine.run(0, options.timeout)
        if options.dump:
            from minivm.machine.dump import dump

            written = dump(machine, options.dump, dump_file)
            print(f"minivm: {written >> 10} KiB that are not zero in {options.dump}", file=sys.stderr)
        if options.debug and outcome.reason:
            _show_registers(machine)
        code = None
        if options.profile or options.trace:
            from minivm.cli.report import kernel_code, tell_code

            code = kernel_code(machine)
            if code is not None:
                tell_code(machine, code)
    return _report(options, machine, outcome, code)


def _dump_file(options: argparse.Namespace) -> AbstractContextManager[BinaryIO | None]:
    """Open the file of --dump: nobody wants to hear after the run that it cannot be, and in a jail there is no later. Raises
    MinivmError."""
    if not options.dump:
        return Nothing()
    try:
        import os

        # not emptied yet: what was dumped before is only lost to another dump
        return open(options.dump, "wb", opener=lambda path, flags: os.open(path, flags & ~os.O_TRUNC, 0o666))
    except OSError as error:
        raise MinivmError(f"cannot write dump {options.dump!r}: {error.strerror}") from None


def _debugger(options: argparse.Namespace, machine: Machine) -> AbstractContextManager[Server | None]:
    """Return what serves gdb during the run; nothing without --gdb."""
    if options.gdb is None:
        return Nothing()
    from minivm.cli.gdb import serve

    return serve(options, machine)


def _report(options: argparse.Namespace, machine: Machine, outcome: Outcome, code: int | None) -> int:
    """Say how it ended, where that needs saying, and return the exit status."""
    if outcome.error is not None and (options.debug or not isinstance(outcome.error, MinivmError)):
        raise outcome.error
    if outcome.reason:
        print(f"minivm: {outcome.reason}", file=sys.stderr)
    if options.stats or options.explain or options.profile:
        from minivm.cli.report import report

        print(report(options, machine, outcome, code), file=sys.stderr)
    return outcome.status


def _print_plan(operations: list[Operation], form: str) -> int:
    """Print the list, grouped by step."""
    if form == "json":
        import json

        print(json.dumps([operation.as_dict() for operation in operations], indent=1))
        return 0
    step = ""
    for operation in operations:
        if operation.step != step:
            step = operation.step
            print(step)
        print(f"  {operation.call}({', '.join(operation.shown())})")
        print(f"      {operation.why}")
    return 0


def _show_registers(machine: Machine) -> None:
    from minivm import kvm
    from minivm.inspect.registers import as_text

    for number, vcpu in enumerate(machine.vcpus):
        vcpu.settle()
        print(f"vcpu{number}\n{as_text(kvm.get_regs(vcpu.fd), kvm.get_sregs(vcpu.fd))}", file=sys.stderr)

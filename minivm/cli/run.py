"""`minivm run`: from words to a Config, and from an Outcome to an exit status."""

from __future__ import annotations

import contextlib
import os
import sys

from minivm.errors import MinivmError, UsageError
from minivm.machine.config import Config, Disk, Rootfs, parse_disk, parse_size
from minivm.machine.prepare import prepare

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from minirt.plan.events import Sink
    from minivm.boot.start import Start
    from minivm.machine.machine import Machine, Outcome
    from minivm.machine.plan import Operation

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Do what the command line says. Returns the exit status. Raises MinivmError."""
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g}: must be more than 0 seconds")
    kernel = _kernel(options)
    kept = kernel != (options.kernel or options.kernel_option)
    config = Config(
        kernel,
        boot=options.boot,
        memory=parse_size(options.memory or ("256m" if kept else "64m")),
        cmdline=options.cmdline,
        irqchip={"kernel": True, "none": False, None: None}[options.irqchip],
        initrd=options.initrd,
        modules=options.module,
        cpus=_cpus(options),
        disks=_disks(options),
        rootfs=_rootfs(options),
        rng=options.rng,
        hvc=options.console == "virtio",
    )
    start = prepare(config)
    if options.plan:
        from minivm.machine.plan import machine_plan

        return _print_plan(machine_plan(config, start), options.format)
    with _sinks(options) as sinks:
        return _run(options, config, start, sinks)


def _cpus(options: argparse.Namespace) -> int:
    """Return how many processors, 1 to 254: 255 is everybody in an APIC id of 8 bits."""
    count: int = options.cpus
    if not 1 <= count <= 254:
        raise UsageError(f"--cpus {count}: 1 to 254")
    if options.irqchip == "none" and (options.disk or options.rng or options.console == "virtio"):
        raise UsageError("virtio devices need --irqchip kernel: they interrupt through the IOAPIC")
    if count > 1 and options.irqchip == "none":
        raise UsageError(f"--cpus {count} needs --irqchip kernel: processors start each other through their local APICs")
    return count


def _kernel(options: argparse.Namespace) -> str | None:
    """Return the kernel's path, by whichever word it was given; one that is kept may be named (minivm kernel ls)."""
    if options.kernel and options.kernel_option:
        raise UsageError("the kernel is named twice: as KERNEL and by --kernel")
    name: str | None = options.kernel or options.kernel_option
    if not name:
        return None
    from minivm.kernels.resolve import resolve

    return resolve(name, options.boot)


def _disks(options: argparse.Namespace) -> list[Disk]:
    """Return the disks: a root that is an image comes first."""
    root = [parse_disk(options.rootfs)] if options.rootfs and not os.path.isdir(options.rootfs) else []
    return root + [parse_disk(text) for text in options.disk]


def _rootfs(options: argparse.Namespace) -> Rootfs | None:
    if options.rootfs is None:
        if options.init or options.modules:
            raise UsageError("--init and --modules are for --rootfs")
        return None
    disk = Disk(options.rootfs) if os.path.isdir(options.rootfs) else parse_disk(options.rootfs)
    return Rootfs(disk.path, command=options.init, modules=options.modules, read_only=disk.read_only)


def _run(options: argparse.Namespace, config: Config, start: Start, sinks: list[Sink]) -> int:
    from minivm.machine.machine import Machine
    from minivm.machine.recorder import Recorder, parse_failure

    recorder = Recorder(sinks, [parse_failure(text) for text in options.fail])
    with Machine(config, start, recorder) as machine, _debugger(options, machine):
        machine.build()
        outcome = machine.run(0, options.timeout)
        if options.debug and outcome.reason:
            _show_registers(machine)
    return _report(options, machine, outcome)


def _debugger(options: argparse.Namespace, machine: Machine) -> contextlib.AbstractContextManager[object]:
    """Return what serves gdb during the run; nothing without --gdb."""
    if options.gdb is None:
        return contextlib.nullcontext()
    from minivm.cli.gdb import serve

    return serve(options, machine)


def _report(options: argparse.Namespace, machine: Machine, outcome: Outcome) -> int:
    """Say how it ended, where that needs saying, and return the exit status."""
    if outcome.error is not None and (options.debug or not isinstance(outcome.error, MinivmError)):
        raise outcome.error
    if outcome.reason:
        print(f"minivm: {outcome.reason}", file=sys.stderr)
    if options.stats or options.explain:
        if options.format == "json":
            import json

            print(json.dumps({"status": outcome.status, "exits": machine.exits.rows()}), file=sys.stderr)
        else:
            print(machine.exits.table(), file=sys.stderr)
    return outcome.status


@contextlib.contextmanager
def _sinks(options: argparse.Namespace) -> Iterator[list[Sink]]:
    """Open what the events go to; flushed and closed at the end."""
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = []
        if options.explain:
            from minirt.plan.explain import Explainer
            from minivm.inspect.fold import Fold

            fold = Fold(Explainer(sys.stderr))
            stack.callback(fold.flush)
            sinks.append(fold)
        if options.trace:
            sinks.append(stack.enter_context(_trace(options.trace)))
        yield sinks


@contextlib.contextmanager
def _trace(path: str) -> Iterator[Sink]:
    """Open a trace. Raises MinivmError where it cannot be written, now or later (a full disk)."""
    from minirt.plan.events import TraceWriter

    try:
        with open(path, "w", encoding="utf-8") as file:
            yield TraceWriter(file, "machine")
    except OSError as error:
        raise MinivmError(f"cannot write trace {path!r}: {error.strerror}") from None


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

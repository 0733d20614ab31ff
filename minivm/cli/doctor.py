"""`minivm doctor`: try /dev/kvm, and say what it offers."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help
from minivm.errors import KvmError, MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser", "doctor", "findings"]

# capability -> (whether `minivm run` needs it, what it is for)
CAPABILITIES = {
    "KVM_CAP_USER_MEMORY": (True, "guest memory from this process"),
    "KVM_CAP_IMMEDIATE_EXIT": (True, "stopping a guest without a race"),
    "KVM_CAP_IRQCHIP": (True, "interrupt controllers in the kernel"),
    "KVM_CAP_PIT2": (True, "timer in the kernel"),
    "KVM_CAP_EXT_CPUID": (True, "asking which processor features a guest may have"),
    "KVM_CAP_NR_VCPUS": (True, "recommended number of vCPUs"),
    "KVM_CAP_MAX_VCPUS": (False, "largest number of vCPUs"),
    "KVM_CAP_NR_MEMSLOTS": (False, "memory slots"),
    "KVM_CAP_SYNC_REGS": (False, "registers at each exit with no further ioctl"),
    "KVM_CAP_IRQFD": (False, "interrupts raised by writing to a file descriptor"),
    "KVM_CAP_IOEVENTFD": (False, "a guest's write that becomes an event, with no exit"),
    "KVM_CAP_READONLY_MEM": (False, "read-only memory slots"),
    "KVM_CAP_SET_GUEST_DEBUG": (False, "single step and breakpoints"),
    "KVM_CAP_DIRTY_LOG_RING": (False, "which pages a guest has written, as a ring"),
    "KVM_CAP_XSAVE2": (False, "saving all of the processor's extended state"),
    "KVM_CAP_TSC_CONTROL": (False, "scaling the guest's time stamp counter"),
}
EMULATED = "KVM emulates it here, and has not all that Linux wants; lab/run offers a machine with a full KVM"
UPDATE = "a newer kernel has it; lab/run offers a machine with a full KVM"


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="say what this host's /dev/kvm offers, and what to do about what is missing",
        description="Try /dev/kvm and say what it offers: one line each, with what to do where something is missing.\n"
        "Exit status 0 where `minivm run` can work, else 1.",
        epilog="examples:\n  minivm doctor\n  minivm doctor --format json\n",
        formatter_class=Help,
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from")
    parser.set_defaults(do=doctor)


def findings() -> list[dict[str, Any]]:
    """Return what was found, one JSON object each: name, value, ok, needed, text, and what to do in advice."""
    from minivm import kvm

    try:
        system = kvm.open_kvm()
    except KvmError as error:
        return [_finding("/dev/kvm", None, True, "the kernel's KVM interface", str(error))]
    try:
        found = [_finding("/dev/kvm", 1, True, "opens", "")]
        version = kvm.get_api_version(system)
        right = int(version == kvm.lib.KVM_API_VERSION)
        found.append(_finding("KVM_GET_API_VERSION", version if right else 0, True, "12 since 2007", UPDATE))
        for name, (needed, text) in CAPABILITIES.items():
            found.append(_finding(name, kvm.check_extension(system, name), needed, text, UPDATE))
        found.append(_try_machine(system))
        text = "the processor itself runs a guest's kernel, as Linux needs"
        found.append(_finding("ring 0", _try_kernels(), False, text, EMULATED))
        return found
    finally:
        kvm.close(system)


def _try_machine(system: int) -> dict[str, Any]:
    """Make an empty machine: the one thing that a capability cannot promise."""
    from minivm import kvm

    try:
        kvm.close(kvm.create_vm(system))
    except MinivmError as error:
        return _finding("KVM_CREATE_VM", 0, True, "a machine can be made", str(error))
    return _finding("KVM_CREATE_VM", 1, True, "a machine can be made", "")


def _try_kernels() -> int:
    """Let a machine run an instruction that KVM's emulator does not know."""
    from minivm.inspect.probe import runs_kernels

    try:
        return int(runs_kernels())
    except MinivmError:
        return 0


def _finding(name: str, value: int | None, needed: bool, text: str, advice: str) -> dict[str, Any]:
    ok = bool(value)
    return {
        "name": name,
        "value": value or 0,
        "ok": ok,
        "needed": needed,
        "text": text,
        "advice": "" if ok else advice,
    }


def doctor(options: argparse.Namespace) -> int:
    """Print the findings. Returns 0 where `minivm run` can work, else 1."""
    found = findings()
    if options.format == "json":
        import json

        print(json.dumps(found, indent=1))
    else:
        color = _color()
        for finding in found:
            print(_line(finding, color))
    return 0 if all(finding["ok"] for finding in found if finding["needed"]) else 1


def _color() -> bool:
    from minirt.plan.explain import use_color

    return use_color(sys.stdout)


def _line(finding: dict[str, Any], color: bool) -> str:
    word, code = ("ok", "32") if finding["ok"] else ("MISSING", "31") if finding["needed"] else ("no", "33")
    mark = f"\x1b[{code}m{word:8}\x1b[0m" if color else f"{word:8}"
    value = f" {finding['value']}" if finding["value"] > 1 else ""
    advice = f": {finding['advice']}" if finding["advice"] else ""
    return f"{mark}{finding['name']}{value}  {finding['text']}{advice}"

"""Three judges of a filter that share no code with the compiler, for the other seccomp tests.

`run` interprets classic BPF as the kernel does; `judge` reads the JSON and says what it means;
`libseccomp` has libseccomp make a program of the JSON in the way that runc asks it to.
"""

import functools
import os
import struct
import tempfile

import pytest

from minirt.linux.seccomp import tables

try:
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # no libseccomp.so.2
    pyseccomp = None

KILL, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW, KILL_PROCESS = (
    0x00000000,
    0x00030000,
    0x00050000,
    0x7FC00000,
    0x7FF00000,
    0x7FFC0000,
    0x7FFF0000,
    0x80000000,
)
STRICTEST_FIRST = [KILL_PROCESS, KILL, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW]
BY_NAME = {
    "SCMP_ACT_KILL": KILL,
    "SCMP_ACT_KILL_THREAD": KILL,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
X86 = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")


def needs_libseccomp():
    """Skip a test where there is no libseccomp to ask."""
    if pyseccomp is None:
        pytest.skip("pyseccomp or libseccomp.so.2 is not installed")


def run(program, number, audit, args=(), order="little"):
    """Interpret a program for one call; also check, as the kernel does, that it cannot go astray."""
    sign = "<" if order == "little" else ">"
    code = list(struct.iter_unpack(sign + "HBBI", program))
    words = [*args, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack(sign + "IIQ6Q", number & 0xFFFFFFFF, audit, 0, *words)
    at, a = 0, 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:
            assert k % 4 == 0 and k < 64
            (a,) = struct.unpack_from(sign + "I", data, k)
        elif op == 0x54:
            a &= k
        elif op == 0x05:
            at += k
        elif op in (0x15, 0x25, 0x35, 0x45):
            true = {0x15: a == k, 0x25: a > k, 0x35: a >= k, 0x45: bool(a & k)}[op]
            at += jt if true else jf
        elif op == 0x06:
            return k
        else:
            raise AssertionError(f"unknown instruction {op:#x}")


def comparisons(program, number, audit):
    """Count the instructions that one call costs."""
    code = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<IIQ6Q", number, audit, *[0] * 7)
    at = a = steps = 0
    while True:
        op, jt, jf, k = code[at]
        at, steps = at + 1, steps + 1
        if op == 0x20:
            (a,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            return steps
        elif op == 0x05:
            at += k
        else:
            at += jt if {0x15: a == k, 0x25: a > k, 0x35: a >= k}.get(op) else jf


def action(name, number):
    """The kernel's verdict for an action's name and errnoRet."""
    value = BY_NAME[name]
    return value | (1 if number is None else number) if value in (ERRNO, TRACE) else value


def holds(arg, args, bits):
    """Whether one entry of `args` is true of a call."""
    mask = 2**bits - 1
    have = args[arg["index"]] & mask
    value, two = arg["value"] & mask, arg.get("valueTwo", 0) & mask
    return {
        "SCMP_CMP_EQ": have == value,
        "SCMP_CMP_NE": have != value,
        "SCMP_CMP_LT": have < value,
        "SCMP_CMP_LE": have <= value,
        "SCMP_CMP_GT": have > value,
        "SCMP_CMP_GE": have >= value,
        "SCMP_CMP_MASKED_EQ": have & value == two & value,
    }[arg["op"]]


@functools.cache
def names_of(column, number, function):
    """The names that a call can go by: its own, or what a gate is asked for."""
    table = tables.numbers(column)
    names = {name for name, known in table.items() if known == number}
    for gate in {"socketcall", "ipc"} & names:
        names |= {name for name, known in tables.numbers(gate).items() if known == function}
    return frozenset(names)


def judge(profile, arch, number, args=(), native="SCMP_ARCH_X86_64"):
    """Say what a profile in the OCI's format means for one call, straight from the JSON."""
    args = [*args, 0, 0, 0, 0, 0, 0][:6]
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    known = {native, *profile.get("architectures", ())}
    if arch == "SCMP_ARCH_X86_64" and number & tables.X32_BIT:
        if "SCMP_ARCH_X32" not in known:
            return default if number == 0xFFFFFFFF else KILL
        arch = "SCMP_ARCH_X32"
    if arch not in known:
        return KILL
    convention = tables.architecture(arch)
    table = tables.numbers(convention.column)
    plain = number & ~tables.X32_BIT if convention.column == "x32" else number
    always, sometimes = [], []
    called = names_of(convention.column, plain, args[0] & 0xFFFFFFFF)
    for entry in profile.get("syscalls", ()):
        if called.isdisjoint(entry["names"]):
            continue
        verdict = action(entry["action"], entry.get("errnoRet"))
        if verdict == default:
            continue
        conditions = entry.get("args") or []
        together = [conditions]
        if len({arg["index"] for arg in conditions}) < len(conditions):
            together = [[arg] for arg in conditions]
        for name in called.intersection(entry["names"]):
            for one in together:
                if table.get(name) == plain:
                    if not one:
                        always.append(verdict)
                    elif all(holds(arg, args, convention.bits) for arg in one):
                        sometimes.append(verdict)
                for gate in ("socketcall", "ipc"):
                    if table.get(gate) == plain and args[0] & 0xFFFFFFFF == tables.numbers(gate).get(name):
                        rest = [arg for arg in one if arg["index"]]
                        if all(holds(arg, args, convention.bits) for arg in rest):
                            sometimes.append(verdict)
    if always:
        return always[0]
    if sometimes:
        return min(sometimes, key=lambda verdict: STRICTEST_FIRST.index(verdict & 0xFFFF0000))
    return default


def libseccomp(profile, arch="SCMP_ARCH_X86_64", optimize=False):
    """Let libseccomp compile a profile, asked as runc asks it (libcontainer/seccomp, matchCall)."""

    def token(name):
        word = name.removeprefix("SCMP_ARCH_").lower()
        return pyseccomp._libseccomp.seccomp_arch_resolve_name(word.encode()) & 0xFFFFFFFF

    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    made = pyseccomp.SyscallFilter(default)
    if arch != "SCMP_ARCH_X86_64":
        made.remove_arch(pyseccomp.Arch.NATIVE)
        made.add_arch(token(arch))
    for name in profile.get("architectures", ()):
        if not made.exist_arch(token(name)):
            made.add_arch(token(name))
    operators = {f"SCMP_CMP_{op}": getattr(pyseccomp, op) for op in ("EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ")}
    for entry in profile.get("syscalls", ()):
        verdict = action(entry["action"], entry.get("errnoRet"))
        if verdict == default:
            continue
        args = [
            pyseccomp.Arg(arg["index"], operators[arg["op"]], arg["value"], arg.get("valueTwo", 0))
            for arg in entry.get("args") or ()
        ]
        together = [args]
        if len({arg["index"] for arg in entry.get("args") or ()}) < len(args):
            together = [[arg] for arg in args]
        for name in entry["names"]:
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number == -1:
                continue
            for one in together:
                made.add_rule(verdict, number, *one)
    if optimize:
        pyseccomp._check_status(pyseccomp._libseccomp.seccomp_attr_set(made._filter, 8, 2))
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        return os.pread(file.fileno(), 1 << 20, 0)


def test_the_interpreter_obeys_loads_jumps_and_returns():
    def insn(*parts):
        return struct.pack("<HBBI", *parts)

    program = b"".join(
        [
            insn(0x20, 0, 0, 16),
            insn(0x54, 0, 0, 0xF0),
            insn(0x15, 0, 1, 0x30),
            insn(0x06, 0, 0, ALLOW),
            insn(0x25, 0, 1, 0x80),
            insn(0x06, 0, 0, TRAP),
            insn(0x06, 0, 0, KILL),
        ]
    )
    assert run(program, 0, 0, [0x35]) == ALLOW
    assert run(program, 0, 0, [0x90]) == TRAP
    assert run(program, 0, 0, [0x80]) == KILL


def test_the_judge_and_libseccomp_agree_on_a_small_profile():
    needs_libseccomp()
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": list(X86),
        "syscalls": [
            {"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW"},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_TRAP",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_GE"}],
            },
        ],
    }
    program = libseccomp(profile)
    for arch in X86:
        convention = tables.architecture(arch)
        for name, number in tables.numbers(convention.column).items():
            number |= tables.X32_BIT if arch == "SCMP_ARCH_X32" else 0
            for value in (0, 1, 7, 8, 9):
                assert run(program, number, convention.audit, [value]) == judge(profile, arch, number, [value]), name

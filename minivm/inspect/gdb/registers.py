"""The registers as gdb numbers them, and the XML that tells gdb of them.

gdb knows four groups by name and wants the first whole (gdb manual, G.5.4 "i386 Features"); a group that it does not know
it shows under `info registers system`. The number of a register is its place in TABLE, and the answer to `g` is all of
them in that order, little-endian.
"""

from __future__ import annotations

from minivm import kvm

__all__ = ["TABLE", "Register", "Registers", "target_xml"]

KERNEL_GS_BASE = 0xC0000102


class Register:
    """One register."""

    __slots__ = ("bits", "feature", "kind", "name")

    def __init__(self, feature: str, name: str, bits: int, kind: str) -> None:
        self.feature, self.name, self.bits, self.kind = feature, name, bits, kind


GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
X87 = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
TABLES = ("gdt_base", "gdt_limit", "idt_base", "idt_limit", "tr_base", "ldt_base")
KINDS = {"rip": "code_ptr", "rsp": "data_ptr", "rbp": "data_ptr"}
CORE, SSE, BASES, SYSTEM = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse", "org.gnu.gdb.i386.segments", "org.minivm.system"
TABLE = [
    *(Register(CORE, name, 64, KINDS.get(name, "int64")) for name in GENERAL),
    Register(CORE, "eflags", 32, "i386_eflags"),
    *(Register(CORE, name, 32, "int32") for name in SEGMENTS),
    *(Register(CORE, f"st{n}", 80, "i387_ext") for n in range(8)),
    *(Register(CORE, name, 32, "int32") for name in X87),
    *(Register(SSE, f"xmm{n}", 128, "vec128") for n in range(16)),
    Register(SSE, "mxcsr", 32, "int32"),
    *(Register(BASES, name, 64, "int64") for name in ("fs_base", "gs_base")),
    *(Register(SYSTEM, name, 64, name if name in ("cr0", "cr4", "efer") else "int64") for name in CONTROL),
    Register(SYSTEM, "k_gs_base", 64, "int64"),
    *(Register(SYSTEM, name, 64, "int64") for name in TABLES),
]
FLAGS = {  # type -> (bytes, bit -> name)
    ("i386_eflags", 4, CORE): {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT",
                               16: "RF", 17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID"},
    ("cr0", 8, SYSTEM): {0: "PE", 1: "MP", 2: "EM", 3: "TS", 4: "ET", 5: "NE", 16: "WP", 18: "AM", 29: "NW", 30: "CD", 31: "PG"},
    ("cr4", 8, SYSTEM): {0: "VME", 1: "PVI", 2: "TSD", 3: "DE", 4: "PSE", 5: "PAE", 6: "MCE", 7: "PGE", 8: "PCE", 9: "OSFXSR",
                         10: "OSXMMEXCPT", 11: "UMIP", 12: "LA57", 16: "FSGSBASE", 17: "PCIDE", 18: "OSXSAVE", 20: "SMEP",
                         21: "SMAP", 22: "PKE"},
    ("efer", 8, SYSTEM): {0: "SCE", 8: "LME", 10: "LMA", 11: "NXE", 12: "SVME"},
}  # fmt: skip
VECTORS = (("v8_int16", "int16", 8), ("v16_int8", "int8", 16), ("v4_int32", "int32", 4), ("v2_int64", "int64", 2),
           ("v4_float", "ieee_single", 4), ("v2_double", "ieee_double", 2))  # fmt: skip


def target_xml() -> str:
    """Return the description of the registers (gdb manual, G.2 "Target Description Format")."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>",
             "<architecture>i386:x86-64</architecture>"]  # fmt: skip
    feature = ""
    for register in TABLE:
        if register.feature != feature:
            lines += ["</feature>"] * bool(feature) + [f'<feature name="{register.feature}">']
            feature = register.feature
            lines += _types(feature)
        lines.append(f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.kind}"{_group(register)}/>')
    return "\n".join([*lines, "</feature>", "</target>", ""])


def _group(register: Register) -> str:
    if register.feature == SYSTEM:
        return ' group="system"'
    return ' group="float"' if register.name in X87 else ' group="vector"' if register.name == "mxcsr" else ""


def _types(feature: str) -> list[str]:
    """Return the types that a feature's registers have and gdb does not bring along."""
    lines = []
    for (name, size, where), bits in FLAGS.items():
        if where == feature:
            fields = [f'<field name="{field}" start="{bit}" end="{bit}"/>' for bit, field in bits.items()]
            lines += [f'<flags id="{name}" size="{size}">', *fields, "</flags>"]
    if feature == SSE:
        lines += [f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in VECTORS]
        lines += ['<union id="vec128">', *(f'<field name="{name}" type="{name}"/>' for name, _, _ in VECTORS)]
        lines += ['<field name="uint128" type="uint128"/>', "</union>"]
    return lines


class Registers:
    """All registers of one processor that stands still: read at once, changed, and written back.

    Args:
        vcpu: file descriptor.
    """

    def __init__(self, vcpu: int) -> None:
        self._vcpu = vcpu
        self.regs, self.sregs, self._fpu = kvm.get_regs(vcpu), kvm.get_sregs(vcpu), kvm.get_fpu(vcpu)

    def read(self, number: int) -> bytes:
        """Return one register. Raises IndexError where there is none of that number."""
        register = TABLE[number]
        value = self._value(register.name)
        return value if isinstance(value, bytes) else (value & (1 << register.bits) - 1).to_bytes(register.bits // 8, "little")

    def read_all(self) -> bytes:
        """Return all of them, as `g` wants it."""
        return b"".join(self.read(number) for number in range(len(TABLE)))

    def _value(self, name: str) -> int | bytes:
        if name in GENERAL:
            return int(getattr(self.regs, name))
        if name == "eflags":
            return int(self.regs.rflags)
        if name in SEGMENTS:
            return int(getattr(self.sregs, name).selector)
        if name in CONTROL:
            return int(getattr(self.sregs, name))
        if name == "k_gs_base":
            return kvm.get_msr(self._vcpu, KERNEL_GS_BASE) or 0
        if name == "mxcsr":
            return int(self._fpu.mxcsr)
        place, _, field = name.partition("_")
        if field:  # fs_base, gdt_limit ...
            return int(getattr(getattr(self.sregs, place), field))
        return self._float(name)

    def _float(self, name: str) -> int | bytes:
        if name.startswith("st"):
            return bytes(self._fpu.fpr[int(name[2:])])[:10]
        if name.startswith("xmm"):
            return bytes(self._fpu.xmm[int(name[3:])])
        if name == "ftag":  # a bit a register here, two there: 00 it holds something, 11 it is empty
            return sum(0 if self._fpu.ftwx >> n & 1 else 3 << 2 * n for n in range(8))
        fields = {"fctrl": "fcw", "fstat": "fsw", "fioff": "last_ip", "fooff": "last_dp", "fop": "last_opcode"}
        return int(getattr(self._fpu, fields[name])) if name in fields else 0

    def write(self, number: int, data: bytes) -> None:
        """Change one register, here; store() gives it to the processor. Raises IndexError, ValueError (not one to change)."""
        register = TABLE[number]
        name, value = register.name, int.from_bytes(data, "little")
        if len(data) != register.bits // 8:
            raise ValueError(f"{name} has {register.bits // 8} bytes")
        if name in GENERAL:
            setattr(self.regs, name, value)
        elif name == "eflags":
            self.regs.rflags = value
        elif name in CONTROL:
            setattr(self.sregs, name, value)
        elif name == "mxcsr":
            self._fpu.mxcsr = value
        elif name in ("fs_base", "gs_base"):
            getattr(self.sregs, name[:2]).base = value
        elif name.startswith("xmm"):
            self._fpu.xmm[int(name[3:])] = data
        elif self.read(number) != data:
            raise ValueError(f"{name} is not to be changed from outside")

    def write_all(self, data: bytes) -> None:
        """Change all of them, as `G` says."""
        for number, register in enumerate(TABLE):
            size = register.bits // 8
            if data[:size] and data[:size] != self.read(number):
                self.write(number, data[:size])
            data = data[size:]

    def store(self) -> None:
        """Give the processor what was changed. Raises KvmError where it does not take it."""
        kvm.set_sregs(self._vcpu, self.sregs)
        kvm.set_regs(self._vcpu, self.regs)
        kvm.set_fpu(self._vcpu, self._fpu)


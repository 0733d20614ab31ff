"""The table of call numbers agrees with this machine's headers, and with libseccomp on every architecture."""

import glob
import re

import pytest
from test_seccomp_oracles import needs_libseccomp, pyseccomp

from minirt.linux.seccomp import SeccompError, tables

ARCHITECTURES = tables._table()[0]
MUXED = set(tables.numbers("socketcall")) | set(tables.numbers("ipc"))  # libseccomp numbers these otherwise
LATER = {"arm": {"sync_file_range2"}, "x32": {"map_shadow_stack"}}  # aliases, and 2.5's mistakes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_numbers_are_those_of_libseccomp(name):
    needs_libseccomp()
    word = name.removeprefix("SCMP_ARCH_").lower().encode()
    token = pyseccomp._libseccomp.seccomp_arch_resolve_name(word)
    if not token:
        pytest.skip(f"this libseccomp does not know {name}")
    arch = ARCHITECTURES[name]
    for call, number in tables.numbers(arch.column).items():
        theirs = pyseccomp.resolve_syscall(token, call)
        if theirs == -1 or call in MUXED or call in LATER.get(arch.column, ()):
            continue  # newer than it, or a pseudo number
        assert theirs & ~tables.X32_BIT == number if arch.column == "x32" else theirs == number, call


def test_numbers_are_those_of_the_installed_headers():
    found = glob.glob("/usr/include/x86_64-linux-gnu/asm/unistd_*.h")
    if not found:
        pytest.skip("asm/unistd_64.h is not installed (linux-libc-dev)")
    for path in found:
        column = {"64": "x86_64", "32": "x86", "x32": "x32"}[path.rpartition("_")[2].removesuffix(".h")]
        with open(path) as file:
            lines = re.findall(r"#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)", file.read())
        known = tables.numbers(column)
        assert {name: int(number) for name, number in lines if name in known}.items() <= known.items()
        assert len(known) > 300


def test_every_architecture_of_the_specification_is_there():
    words = {  # runtime-spec config-linux.md#seccomp
        *(
            "X86",
            "X86_64",
            "X32",
            "ARM",
            "AARCH64",
            "RISCV64",
            "LOONGARCH64",
            "S390",
            "S390X",
            "PPC",
            "PPC64",
            "PPC64LE",
        ),
        *(
            "MIPS",
            "MIPS64",
            "MIPS64N32",
            "MIPSEL",
            "MIPSEL64",
            "MIPSEL64N32",
            "PARISC",
            "PARISC64",
            "M68K",
            "SH",
            "SHEB",
        ),
    }
    assert set(ARCHITECTURES) == {"SCMP_ARCH_" + word for word in words}


def test_the_newest_calls_are_there():
    newest = {"cachestat", "fchmodat2", "futex_wait", "statmount", "listmount", "lsm_get_self_attr", "mseal"}
    for column in ("x86_64", "x86", "x32", "aarch64", "arm", "riscv64", "s390x", "ppc64"):
        assert newest <= set(tables.numbers(column)), column


def test_an_architecture_has_a_short_name():
    assert tables.architecture("aarch64") is tables.architecture("SCMP_ARCH_AARCH64")
    with pytest.raises(SeccompError, match="unknown architecture 'z80'"):
        tables.architecture("z80")

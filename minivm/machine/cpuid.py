"""What the guest's CPUID instruction answers: what host and kernel offer, made true for this machine.

KVM_GET_SUPPORTED_CPUID describes the host's processor. Some fields must say which virtual processor this is and how
many there are, and some features are KVM's to give though the list leaves them out. Intel SDM volume 2A, CPUID; AMD
APM volume 3, appendix E; Documentation/virt/kvm/x86/cpuid.rst for KVM's own leaves at 0x40000000.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["fit"]

TSC_DEADLINE, HYPERVISOR = 1 << 24, 1 << 31  # leaf 1, ECX
HTT = 1 << 28  # leaf 1, EDX: EBX bits 23 to 16 mean something


def fit(leaves: Any, number: int, processors: int, deadline: bool) -> None:
    """Change the leaves for one virtual processor.

    Args:
        leaves: struct kvm_cpuid2.
        number: its APIC id.
        processors: how many there are; each is a core of the one package.
        deadline: KVM_CAP_TSC_DEADLINE_TIMER: the local APIC's timer can wait for a value of the time stamp counter.
    """
    bits = (processors - 1).bit_length()  # of an APIC id
    for index in range(leaves.nent):
        leaf = leaves.entries[index]
        if leaf.function == 1:
            leaf.ebx = leaf.ebx & 0xFFFF | number << 24 | processors << 16
            leaf.ecx |= HYPERVISOR | (TSC_DEADLINE if deadline else 0)
            leaf.edx = leaf.edx | HTT if processors > 1 else leaf.edx & ~HTT
        elif leaf.function == 4 and leaf.eax & 0x1F:  # a cache: cores in the package, threads that share it
            shared = processors - 1 if leaf.eax >> 5 & 7 >= 3 else 0
            leaf.eax = leaf.eax & 0x3FFF | (processors - 1) << 26 | shared << 14
        elif leaf.function in (0x0B, 0x1F):
            _topology(leaf, number, processors, bits)
        elif leaf.function == 0x80000008:
            leaf.ecx = leaf.ecx & ~0xF0FF | bits << 12 | processors - 1
        elif leaf.function == 0x8000001E:  # AMD: APIC id; a core has one thread; one node
            leaf.eax, leaf.ebx, leaf.ecx = number, number & 0xFF, 0


def _topology(leaf: Any, number: int, processors: int, bits: int) -> None:
    """Fill in a level of the extended topology: 0 the threads of a core, 1 the cores of the package, then none."""
    levels = {0: (0, 1, 1 << 8), 1: (bits, processors, 2 << 8 | 1)}
    leaf.eax, leaf.ebx, leaf.ecx = levels.get(leaf.index, (0, 0, leaf.index))
    leaf.edx = number

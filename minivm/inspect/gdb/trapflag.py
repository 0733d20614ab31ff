"""The trap flag that single steps leave behind in the guest.

KVM steps by setting TF in RFLAGS (SDM volume 3B, 17.3.1). It hides that from us, but not from the guest: an interrupt that comes
meanwhile pushes RFLAGS with TF, and its handler begins without it. When the handler goes back, TF is set again; if we still step,
that is the next step, but if we do not any more, the guest gets a debug exception that it has not asked for, and most kernels
give up. So whoever stops stepping takes TF out of the frames that are on the stack, and out of RFLAGS.

    frame, 64-bit mode   RIP | CS | RFLAGS | RSP | SS       8 bytes each, from RSP or an error code on (SDM volume 3A, 6.14.2)

Simplified: the stack is searched for what looks like a frame, from RSP to the end of its 16 KiB. A kernel that has changed to
another stack in between (Linux does, for interrupts) keeps it; Linux takes no harm, it clears TF itself and warns once.
"""

from __future__ import annotations

from struct import unpack_from

from minivm import kvm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.inspect.gdb.memory import GuestView

__all__ = ["clear"]

TF, ALWAYS, RESERVED = 1 << 8, 1 << 1, ~0x3F7FD7  # of RFLAGS: bit 1 is always set, these are never
DEPTH = 16 << 10
WORDS = 5


def clear(vcpu: int, memory: GuestView) -> int:
    """Take TF out of RFLAGS and of the frames on the stack of a processor that stands still.

    Returns how many frames had it. Raises KvmError.
    """
    regs, sregs = kvm.get_regs(vcpu), kvm.get_sregs(vcpu)
    if regs.rflags & TF:
        regs.rflags &= ~TF
        kvm.set_regs(vcpu, regs)
    if not sregs.cs.l or sregs.cs.dpl:
        return 0  # in ring 3 there is no frame on the stack
    start, memory = int(regs.rsp), memory.own()
    try:
        stack = memory.read(vcpu, start, DEPTH - start % DEPTH)
    except IndexError:
        return 0
    count = 0
    for place in range(0, len(stack) - 8 * WORDS + 1, 8):
        if is_frame(*unpack_from(f"<{WORDS}Q", stack, place)):
            flags = int.from_bytes(stack[place + 16 : place + 24], "little") & ~TF
            memory.write(vcpu, start + place + 16, flags.to_bytes(8, "little"))
            count += 1
    return count


def is_frame(rip: int, cs: int, flags: int, rsp: int, ss: int) -> bool:
    """Say whether five words of a stack look like what an interrupt pushes while TF is set."""
    selectors = 0 < cs < 0x10000 and ss < 0x10000 and cs & 3 == ss & 3 and not cs & 4
    return selectors and flags & TF != 0 and flags & ALWAYS != 0 and not flags & RESERVED & (1 << 64) - 1 and bool(rip and rsp)

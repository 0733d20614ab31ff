"""Watching a processor: single steps, breakpoints, and the registers that only a debugger asks for."""

from __future__ import annotations

from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["get_fpu", "get_mp_state", "get_msr", "set_fpu", "set_guest_debug", "set_mp_state"]


def set_guest_debug(vcpu: int, control: int, registers: Sequence[int] = ()) -> None:
    """Say what is to stop the guest with KVM_EXIT_DEBUG, from the next KVM_RUN on.

    Args:
        control: KVM_GUESTDBG_* (uint32_t); 0 lets the guest have its debug registers back.
        registers: for KVM_GUESTDBG_USE_HW_BP the eight debug registers, DR0 to DR7 (uint64_t).

    Raises KvmError.
    """
    request = ffi.new("struct kvm_guest_debug *", {"control": control})
    for number, value in enumerate(registers):
        request.arch.debugreg[number] = value
    ioctl(vcpu, "KVM_SET_GUEST_DEBUG", pointer(request), f"control={control:#x}")


def get_fpu(vcpu: int) -> Any:
    """Return the registers of x87 and SSE, as a struct kvm_fpu."""
    fpu = ffi.new("struct kvm_fpu *")
    ioctl(vcpu, "KVM_GET_FPU", pointer(fpu), "")
    return fpu


def set_fpu(vcpu: int, fpu: Any) -> None:
    """Set the registers of x87 and SSE from a struct kvm_fpu."""
    ioctl(vcpu, "KVM_SET_FPU", pointer(fpu), "")


def get_mp_state(vcpu: int) -> int:
    """Return KVM_MP_STATE_*: whether it runs, sleeps in `hlt`, or waits to be started."""
    state = ffi.new("struct kvm_mp_state *")
    ioctl(vcpu, "KVM_GET_MP_STATE", pointer(state), "")
    return int(state.mp_state)


def set_mp_state(vcpu: int, state: int) -> None:
    """Set KVM_MP_STATE_*."""
    ioctl(vcpu, "KVM_SET_MP_STATE", pointer(ffi.new("struct kvm_mp_state *", {"mp_state": state})), f"{state}")


def get_msr(vcpu: int, number: int) -> int | None:
    """Return a model-specific register (uint64_t), or None where KVM has none of that number (uint32_t)."""
    msrs = ffi.new("struct kvm_msrs *", {"nmsrs": 1, "entries": [{"index": number}]})
    done = lib.kvm_ioctl(vcpu, lib.KVM_GET_MSRS, pointer(msrs))
    return int(msrs.entries[0].data) if done == 1 else None

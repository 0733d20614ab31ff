"""`lab/run python3 tests/lab/keys_stress.py [SECONDS]`: make and end first users of the kernel's static keys, in a hurry.

One process does that; another runs the code that the keys are in. A lab under emulation that does not hold them
(lab/keys.py) panics within seconds.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import socket
import struct
import sys
import time
from pathlib import Path

GROUP = "/sys/fs/cgroup/stress"
PLACE = Path(__file__).resolve().parents[2] / "lab" / "keys.py"
KVM_RUN = 0xAE80


def load():
    spec = importlib.util.spec_from_file_location("keys", PLACE)
    keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keys)
    return keys


def enter(vcpu: int) -> None:
    try:
        fcntl.ioctl(vcpu, KVM_RUN, 0)  # there is no memory: it returns at once
    except OSError:
        pass


def use(end: float, keys) -> None:
    """Run what asks for the keys."""
    kvm = os.open("/dev/kvm", os.O_RDWR)
    vm = fcntl.ioctl(kvm, keys.KVM_CREATE_VM, 0)
    fcntl.ioctl(vm, keys.KVM_CREATE_IRQCHIP, 0)
    vcpu = fcntl.ioctl(vm, keys.KVM_CREATE_VCPU, 0)
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    while time.monotonic() < end:
        for _ in range(20):
            enter(vcpu)
            peer.sendto(b"x", peer.getsockname())
            peer.recv(10)
            os.close(os.open("/dev/null", os.O_RDWR))
            os.sched_yield()


def change(end: float, keys) -> int:
    """Be the first user of each, and the last. Returns how often."""
    kvm, count = os.open("/dev/kvm", os.O_RDWR), 0
    while time.monotonic() < end:
        vm = fcntl.ioctl(kvm, keys.KVM_CREATE_VM, 0)
        vcpu = fcntl.ioctl(vm, keys.KVM_CREATE_VCPU, 0)
        enter(vcpu)
        os.close(vcpu)
        os.close(vm)
        os.mkdir(GROUP)
        Path(GROUP, "cpu.max").write_text("50000 100000")
        group = os.open(GROUP, os.O_RDONLY)
        attributes = struct.pack("<IIQQ", keys.DEVICE, 2, keys.address(keys.ALLOW), keys.address(b"GPL\0"))
        program = keys.bpf(keys.BPF_PROG_LOAD, attributes)
        keys.bpf(keys.BPF_PROG_ATTACH, struct.pack("<IIII", group, program, 6, 0))
        os.close(program)
        os.close(group)
        os.rmdir(GROUP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stamped:
            stamped.setsockopt(socket.SOL_SOCKET, keys.SO_TIMESTAMP, 1)
        count += 1
    return count


def main() -> None:
    end, keys = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 30), load()
    child = os.fork()
    if not child:
        use(end, keys)
        os._exit(0)
    print(change(end, keys), "times")
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()

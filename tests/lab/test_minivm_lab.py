"""minivm where KVM is whole (ring 0 runs on the processor, real or emulated, and not in KVM's instruction emulator)."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

import minivm.boot
from minivm import kvm

LIMIT = 120
COMMAND = [sys.executable, "-m", "minivm", "run", "--timeout", str(LIMIT)]
HELLO16 = str(Path(minivm.boot.__file__).with_name("hello16.bin"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 60),
]


def test_the_guest_boots_takes_turns_echoes_and_ends_with_its_status():
    word, line = secrets.token_hex(8), secrets.token_hex(8)
    command = [*COMMAND, "--cmdline", word]
    done = subprocess.run(command, input=f"{line}\nexit 77\n", capture_output=True, text=True, timeout=LIMIT, check=False)
    text = done.stdout.replace("\r", "")
    assert done.returncode == 77, (text, done.stderr)
    assert f"command line: {word}\n" in text and f"backwards: {line[::-1]}\n" in text
    assert [int(n) >= 1 for n in re.findall(r"task [12] exited.*preempted (\d+) times", text)] == [True, True]


def test_sixteen_bit_code_says_hello():
    done = subprocess.run([*COMMAND, HELLO16, "--boot", "flat16"], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.stdout.strip(), done.returncode) == ("Hello from 16-bit real mode.", 0)


def test_settle_finishes_the_instruction_of_an_exit():
    """Here RIP stands before the `out` at its exit; after settle() it stands behind it, as everywhere."""
    system = kvm.open_kvm()
    vm = kvm.create_vm(system)
    memory = kvm.GuestMemory(0x10000)
    kvm.set_user_memory_region(vm, 0, 0, memory)
    memory.view(0x1000, 4)[:] = bytes.fromhex("e6 43 90 f4")  # out 0x43, al; nop; hlt
    vcpu = kvm.Vcpu(kvm.create_vcpu(vm, 0), kvm.get_vcpu_mmap_size(system))
    sregs = kvm.get_sregs(vcpu.fd)
    sregs.cs.base = sregs.cs.selector = 0
    kvm.set_sregs(vcpu.fd, sregs)
    kvm.set_regs(vcpu.fd, kvm.new_regs(rip=0x1000, rflags=2))
    assert vcpu.run() == kvm.lib.KVM_EXIT_IO
    vcpu.settle()
    assert kvm.get_regs(vcpu.fd).rip == 0x1002
    assert vcpu.run() == kvm.lib.KVM_EXIT_HLT
    vcpu.close()
    kvm.close(vcpu.fd, vm, system)
    memory.close()

"""minivm.kvm by hand: the ioctls, one by one."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kernels import make_bzimage

from minivm import kvm
from minivm.boot import layout, longmode
from minivm.errors import KvmError
from minivm.inspect.probe import runs_kernels

KVM = Path("/dev/kvm")
pytestmark = [
    pytest.mark.skipif(not os.access(KVM, os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(60),
]


class Bare:
    """A machine of one page-aligned piece of memory and a vCPU, in real mode at 0x1000."""

    def __init__(self, code: bytes, size: int = 1 << 20) -> None:
        self.system = kvm.open_kvm()
        self.vm = kvm.create_vm(self.system)
        self.memory = kvm.GuestMemory(size)
        kvm.set_user_memory_region(self.vm, 0, 0, self.memory)
        self.memory.view(0x1000, len(code))[:] = code
        self.vcpu = kvm.Vcpu(kvm.create_vcpu(self.vm, 0), kvm.get_vcpu_mmap_size(self.system))
        sregs = kvm.get_sregs(self.vcpu.fd)
        sregs.cs.base = sregs.cs.selector = 0
        kvm.set_sregs(self.vcpu.fd, sregs)
        kvm.set_regs(self.vcpu.fd, kvm.new_regs(rip=0x1000, rflags=2, rsp=0x8000))

    def close(self) -> None:
        self.vcpu.close()
        kvm.close(self.vcpu.fd, self.vm, self.system)
        self.memory.close()


@pytest.fixture
def bare():
    made: list[Bare] = []

    def make(code: str, **more: int) -> Bare:
        made.append(Bare(bytes.fromhex(code), **more))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def test_the_example_of_the_rooms_first_page_is_true():
    result = doctest.testmod(kvm)
    assert result.attempted > 15 and result.failed == 0


def test_in_reads_what_we_answer(bare):
    machine = bare("e4 42 e6 43 f4")  # in al, 0x42; out 0x43, al; hlt
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_IO
    assert machine.vcpu.kvm_run.io.direction == kvm.lib.KVM_EXIT_IO_IN
    machine.vcpu.data[0] = 0x7B
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_IO
    assert (machine.vcpu.kvm_run.io.port, machine.vcpu.data[0]) == (0x43, 0x7B)


def test_coalesced_writes_are_no_exits_and_are_taken_in_their_order_until_the_ring_is_full(bare):
    # 1: mov [0x2000], ax, behind the memory; inc ax; loop 1b; out 0x43, al; jmp 1b with the next count
    machine = bare("a3 00 20  40  e2 fa  e6 43  b9 c8 00  eb f3", size=0x2000)
    page = kvm.check_extension(machine.system, "KVM_CAP_COALESCED_MMIO")
    if not page:
        pytest.skip("this kernel has no KVM_CAP_COALESCED_MMIO")
    kvm.register_coalesced_mmio(machine.vm, 0x2000, 4)
    kvm.set_regs(machine.vcpu.fd, kvm.new_regs(rip=0x1000, rflags=2, rax=0x1FE, rcx=3))
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_IO
    written = [(0x2000, number.to_bytes(2, "little")) for number in (0x1FE, 0x1FF, 0x200)]
    assert kvm.take_coalesced_mmio(machine.vcpu, page) == written
    assert kvm.take_coalesced_mmio(machine.vcpu, page) == []
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_MMIO, "200 writes are more than a page holds"
    first, taken = int.from_bytes(bytes(machine.vcpu.kvm_run.mmio.data)[:2], "little"), kvm.take_coalesced_mmio(machine.vcpu, page)
    assert [int.from_bytes(data, "little") for _, data in taken] == list(range(0x201, first)) and 100 < len(taken) < 200
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_IO
    assert len(taken) + 1 + len(kvm.take_coalesced_mmio(machine.vcpu, page)) == 200


def test_settle_finishes_the_instruction_of_an_exit(bare):
    machine = bare("e6 43 90 f4")  # out 0x43, al; nop; hlt
    machine.vcpu.run()
    machine.vcpu.settle()
    assert kvm.get_regs(machine.vcpu.fd).rip == 0x1002
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_HLT


def test_registers_shown_at_an_exit_cost_no_ioctl_and_are_the_guests(bare):
    machine = bare("b8 34 12 e7 43 f4")  # mov ax, 0x1234; out 0x43, ax; hlt
    registers = machine.vcpu.show_registers()
    machine.vcpu.run()
    assert registers.rax & 0xFFFF == 0x1234


def test_interrupt_stops_a_guest_that_never_exits(bare):
    machine, seen = bare("eb fe"), []
    thread = threading.Thread(target=lambda: seen.append(machine.vcpu.run()))
    thread.start()
    time.sleep(0.2)
    machine.vcpu.interrupt(thread.ident)
    thread.join(30)
    assert seen == [kvm.lib.KVM_EXIT_INTR]


def test_interrupt_before_run_is_not_lost(bare):
    machine = bare("eb fe")
    machine.vcpu.interrupt(threading.get_ident())
    assert machine.vcpu.run() == kvm.lib.KVM_EXIT_INTR


def test_the_processor_walks_our_page_tables_as_we_meant_them(bare):
    """KVM's own walker (KVM_TRANSLATE) against the builder."""
    machine = bare("f4")
    tables = longmode.PageTables(layout.PAGE_TABLES)
    tables.map(0, 0, 1 << 20)
    tables.map(0xFFFF_8000_0000_0000, 0x3000, 5 * 4096, longmode.WRITABLE | longmode.USER)
    data, gdt = tables.tobytes(), longmode.gdt()
    machine.memory.view(layout.PAGE_TABLES, len(data))[:] = data
    machine.memory.view(layout.GDT, len(gdt))[:] = gdt
    kvm.set_cpuid2(machine.vcpu.fd, kvm.get_supported_cpuid(machine.system))
    sregs = kvm.get_sregs(machine.vcpu.fd)
    for name, value in longmode.special_registers(layout.PAGE_TABLES, layout.GDT, len(gdt)).items():
        if isinstance(value, int):
            setattr(sregs, name, value)
        else:
            for field, number in value.items():
                setattr(getattr(sregs, name), field, number)
    kvm.set_sregs(machine.vcpu.fd, sregs)
    assert kvm.translate(machine.vcpu.fd, 0x12345) == 0x12345
    assert kvm.translate(machine.vcpu.fd, 0xFFFF_8000_0000_4FFF) == 0x7FFF
    assert kvm.translate(machine.vcpu.fd, 0xFFFF_8000_0000_5000) is None
    assert kvm.translate(machine.vcpu.fd, 1 << 21) is None


def test_a_failed_ioctl_names_itself_its_arguments_and_a_cause(bare):
    machine = bare("f4")
    with pytest.raises(KvmError, match=r"KVM_CREATE_VCPU\(0\): EEXIST .*: the machine has a vCPU of that number"):
        kvm.create_vcpu(machine.vm, 0)
    with pytest.raises(KvmError, match=r"KVM_CREATE_VM\(0\): ENOTTY .*: the file descriptor"):
        kvm.create_vm(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    with pytest.raises(KvmError, match=r"open\('/nonexistent'\): ENOENT"):
        kvm.open_kvm("/nonexistent")


def test_guest_memory_is_bounded():
    memory = kvm.GuestMemory(8192)
    for offset, length in [(-1, 1), (8192, 1), (8000, 193), (0, -1), (1 << 64, 1)]:
        with pytest.raises(IndexError):
            memory.view(offset, length)
    memory.view(8191, 1)[0] = 1
    memory.close()


def test_an_absurd_amount_of_memory_is_an_error_and_no_crash():
    with pytest.raises(KvmError, match=r"mmap.*ENOMEM.*--memory"):
        kvm.GuestMemory(1 << 60)


def test_it_is_known_by_trying_whether_ring_0_runs_on_the_processor(tmp_path: Path) -> None:
    """And said where it does not, before Linux hangs."""
    emulated = Path("/sys/module/kvm_pvm").exists()
    assert runs_kernels() == (not emulated)
    words = [sys.executable, "-m", "minivm"]
    found = json.loads(subprocess.run([*words, "doctor", "--format", "json"], capture_output=True, timeout=60, check=True).stdout)
    assert next(one for one in found if one["name"] == "ring 0")["ok"] == (not emulated)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(make_bzimage())
    (tmp_path / "root/bin").mkdir(parents=True)
    linux = [*words, "run", str(kernel), "--rootfs", str(tmp_path / "root"), "--timeout", "1"]
    done = subprocess.run(linux, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert ("it may hang without a word" in done.stderr) == emulated
    bare = subprocess.run([*words, "run"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert bare.stderr == "", "the guest in the tree needs no more than the emulator has"

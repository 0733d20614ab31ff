"""minivm where KVM is whole (ring 0 runs on the processor, real or emulated, and not in KVM's instruction emulator)."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from emulation import ask

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


IMAGE = Path(__file__).resolve().parents[1] / "native" / "multiboot.elf"


@pytest.mark.skipif(not IMAGE.exists(), reason="tests/native/multiboot.elf is not built: make test-lab does that")
def test_a_test_kernel_by_multiboot_starts_the_second_processor():
    command = [*COMMAND, str(IMAGE), "--cpus", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1 and done.stdout.endswith("PASS: mptable\nPASS: smp\nPASS: long mode\n"), (done.stdout, done.stderr)


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


# --- Linux: the lab's own kernel, Debian's cloud kernel, unmodified ---

KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
linux = pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot")


@pytest.fixture
def rootfs(tmp_path):
    """A root of busybox alone."""
    (tmp_path / "root" / "bin").mkdir(parents=True)
    busybox = tmp_path / "root" / "bin" / "busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    (tmp_path / "root" / "bin" / "sh").symlink_to("busybox")
    return tmp_path / "root"


def boot(*words: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(KERNELS[-1]), "--memory", "256m", "--cmdline", "quiet", *map(str, words)]
    done = subprocess.run(command, input=typed, capture_output=True, text=True, timeout=LIMIT, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.replace("\r", ""), done.stderr)


def typed_to(command: list[object], ready: bytes, line: bytes) -> subprocess.CompletedProcess[str]:
    """Run a guest to its end, to which a line is typed when it says that it is ready."""
    pipe = subprocess.PIPE
    with subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=pipe, stderr=pipe) as child:
        text = b""
        while ready not in text and (more := os.read(child.stdout.fileno(), 4096)):
            text += more
        rest, errors = child.communicate(line if ready in text else None, timeout=LIMIT)
        return subprocess.CompletedProcess(command, child.returncode, (text + rest).decode().replace("\r", ""), errors.decode())


@linux
def test_debians_kernel_runs_on_two_processors_with_old_devices(tmp_path, rootfs, tap):
    """By PVH, with the interface of before VIRTIO 1.0. It copies a secret from one sector of its disk to another, and to a
    connection, whose answer it writes to a third; the file on our side says whether."""
    secret, disk = secrets.token_hex(20), tmp_path / "disk"
    disk.write_bytes(secret.encode().ljust(512, b"\0") + bytes((1 << 20) - 512))
    (rootfs / "up").write_text(
        "echo processors $(nproc)\n"
        "for device in /sys/bus/virtio/devices/*; do echo later bits $(cut -c33- $device/features); done\n"
        "cat /proc/interrupts; cat /sys/class/misc/hw_random/rng_current\n"
        "echo random $(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c)\n"
        "dd if=/dev/vda of=/dev/vda bs=512 count=1 seek=9 conv=fsync 2>/dev/null\n"
        "busybox ip link set eth0 address 52:54:00:12:ab:42; busybox ip link set eth0 up\n"
        "busybox ip addr add 10.9.0.2/24 dev eth0\n"
        "dd if=/dev/vda bs=40 count=1 2>/dev/null | busybox nc 10.9.0.1 9 |"
        " dd of=/dev/vda bs=512 count=1 seek=19 conv=fsync,sync 2>/dev/null\n"
        "kb() { grep $1: /proc/meminfo | tr -dc 0-9; }\n"
        "until [ $(kb MemFree) -lt $(($(kb MemTotal) - 96 * 1024)) ]; do sleep 0.2; done\n"  # what the balloon holds is not free
        "echo ready; read line; echo typed $line; exit 41\n"
    )
    words = ["--virtio", "legacy", "--jail", "--boot", "pvh", "--cpus", "2", "--disk", disk, "--rng", "--console", "virtio"]
    words += ["--balloon", "96m", "--net", f"tap:{tap}", "--rootfs", rootfs, "--init", "sh /up"]
    command = [*COMMAND, KERNELS[-1], "--memory", "256m", "--cmdline", "quiet", *words]
    heard, neighbour = [], ""

    def answer(server: socket.socket) -> None:
        nonlocal neighbour
        with server.accept()[0] as end:
            heard.append(end.recv(64))
            neighbour = subprocess.run(["ip", "neigh", "show", "10.9.0.2"], capture_output=True, text=True, check=True).stdout
            end.sendall(heard[-1][::-1])

    def session() -> subprocess.CompletedProcess[str]:
        with socket.create_server(("10.9.0.1", 9)) as server:
            server.settimeout(LIMIT)
            threading.Thread(target=answer, args=(server,), daemon=True).start()
            return typed_to(command, b"ready", f"{secret[::-1]}\n".encode())

    done = ask(session)
    text = done.stdout
    assert done.returncode == 41, (text, done.stderr)
    assert re.findall(r"^later bits (.*)$", text, re.M) == [f"{0:032}"] * 5
    assert "processors 2\n" in text and "virtio_rng" in text and "random 64\n" in text and f"typed {secret[::-1]}\n" in text
    counts = re.findall(r"^ *LOC: +(\d+) +(\d+)", text, re.M)
    assert counts and all(int(n) > 0 for n in counts[0]), "both take timer interrupts"
    assert heard[-1] == secret.encode() and "52:54:00:12:ab:42" in neighbour
    sectors = [disk.read_bytes()[512 * at :][:40].decode() for at in (0, 9, 19)]
    assert sectors == [secret, secret, secret[::-1]] and disk.stat().st_size == 1 << 20


@linux
def test_debians_bzimage_unpacks_itself_and_switches_off_by_acpi(rootfs):
    word = secrets.token_hex(8)
    seed = "/sys/kernel/boot_params/setup_data/0"  # random bytes, which the kernel has taken and overwritten
    done = boot("--rootfs", rootfs, "--init", f"sh -c 'echo {word} | tac | rev; cat {seed}/type; poweroff -f'")
    assert f"{word[::-1]}\n" in done.stdout and "0x9\n" in done.stdout and done.returncode == 0, (done.stdout, done.stderr)


@linux
def test_debians_kernel_talks_tcp_over_a_tap_and_its_disk_is_an_overlay(tmp_path, rootfs, tap):
    """8 MiB go to the guest's disk and come back; then the disk's file is as before. The packets' checksums are left to the tap."""
    sent, disk = os.urandom(8 << 20), tmp_path / "disk"
    disk.write_bytes(bytes(16 << 20))
    (rootfs / "up").write_text(
        "busybox ip link set eth0 up; busybox ip addr add 10.9.0.2/24 dev eth0\n"
        "echo packed $(busybox cut -c35 /sys/bus/virtio/devices/virtio0/features)\n"
        "busybox nc -l -p 9 >/dev/vda & echo listening; wait; sync\n"
        "busybox dd if=/dev/vda bs=1M count=8 2>/dev/null | busybox nc 10.9.0.1 9; exit 43\n"
    )
    words = ["--cpus", "2", "--net", f"tap:{tap}", "--disk", f"{disk},overlay,queues=2", "--rootfs", rootfs, "--init", "sh /up"]
    command = [str(word) for word in (*COMMAND, KERNELS[-1], "--jail", "-m", "256m", "--cmdline", "quiet", *words)]
    got = b""

    def session() -> subprocess.CompletedProcess[str]:
        nonlocal got
        pipe = subprocess.PIPE
        with (
            socket.create_server(("10.9.0.1", 9)) as server,
            subprocess.Popen(command, stdout=pipe, stderr=pipe) as child,
        ):
            text = b""
            while b"listening" not in text and (more := os.read(child.stdout.fileno(), 4096)):
                text += more
            if b"listening" in text:
                time.sleep(0.5)
                with socket.create_connection(("10.9.0.2", 9)) as out:
                    out.sendall(sent)
                server.settimeout(LIMIT)
                with server.accept()[0] as back:
                    got = b"".join(iter(lambda: back.recv(1 << 16), b""))
            rest, errors = child.communicate(timeout=LIMIT)
            return subprocess.CompletedProcess(command, child.returncode, (text + rest).decode(), errors.decode())

    done = ask(session)
    assert done.returncode == 43 and "packed 1" in done.stdout, (done.stdout, done.stderr)
    assert got == sent
    assert disk.read_bytes() == bytes(16 << 20)


@linux
def test_a_guest_that_falls_silent_is_ended_by_the_watchdog(rootfs):
    """By Linux's wdat_wdt, which the ACPI table tells how; busybox's program resets it until it is killed."""
    (rootfs / "up").write_text(
        "busybox watchdog -F -T 4 -t 1 /dev/watchdog & busybox sleep 6; busybox cat /sys/class/watchdog/watchdog0/identity\n"
        "echo well; kill -9 $!; busybox sleep 100; exit 48\n"
    )
    done = boot("--watchdog", "--rootfs", rootfs, "--init", "sh /up")
    assert done.returncode == 134 and "the watchdog has run out: the guest did not reset it for 4 s" in done.stderr, done.stdout
    assert "wdat_wdt\n" in done.stdout and "well\n" in done.stdout


ECHO = Path(__file__).resolve().parents[1] / "native" / "vsock_echo.elf"


def reach(path: Path, line: bytes = b"") -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(LIMIT)
    end.connect(str(path))
    end.sendall(line)
    return end


def echo(end: socket.socket, size: int) -> bool:
    """Say whether what is sent comes back."""
    sent, got = os.urandom(size), b""
    thread = threading.Thread(target=lambda: (end.sendall(sent), end.shutdown(socket.SHUT_WR)))
    thread.start()
    while piece := end.recv(1 << 16):
        got += piece
    thread.join()
    return got == sent


@linux
@pytest.mark.skipif(not ECHO.exists(), reason="tests/native/vsock_echo.elf is not built: make test-lab does that")
@pytest.mark.parametrize("jail", [[], ["--jail"]], ids=["free", "jailed"])
def test_programs_of_debians_kernel_and_of_the_host_meet_on_ports_and_vsock(tmp_path, rootfs, jail):
    """A port of the console, and AF_VSOCK in both directions; a megabyte goes there and back again. Also where the machine's
    process is in a jail, and another connects to the host's program, which is for its owner alone."""
    (rootfs / "echo").write_bytes(ECHO.read_bytes())
    (rootfs / "echo").chmod(0o755)
    (rootfs / "up").write_text(
        "/echo listen 52\n"
        "/echo connect 53 && echo came back\n"
        "port=/dev/$(busybox ls /sys/class/virtio-ports | busybox grep p1)\n"  # by now the driver has heard of it
        "until read line <$port; do busybox sleep 0.2; done; echo heard $line >$port\n"
        "busybox cat /sys/class/virtio-ports/*p1/name; busybox sleep 1; exit 44\n"
    )
    words = ["--vsock", tmp_path / "v", "--port", f"org.x={tmp_path / 'p'}", "--rootfs", rootfs, "--init", "sh /up"]
    command = [str(word) for word in (*COMMAND, KERNELS[-1], "-m", "256m", "--cmdline", "quiet", *words, *jail)]
    with socket.socket(socket.AF_UNIX) as server, subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        server.bind(f"{tmp_path / 'v'}_53")
        os.chmod(f"{tmp_path / 'v'}_53", 0o600)
        server.listen()
        server.settimeout(LIMIT)
        text = b""
        while b"listening" not in text and (more := os.read(child.stdout.fileno(), 4096)):
            text += more
        with reach(tmp_path / "v", b"CONNECT 52\n") as end:
            assert end.recv(64).startswith(b"OK ") and echo(end, 1 << 20)
        with server.accept()[0] as end:
            assert echo(end, 1 << 20)
        with reach(tmp_path / "p", b"by a port\n") as end:
            assert end.recv(64) == b"heard by a port\n"
        text += child.stdout.read()
        assert child.wait(LIMIT) == 44 and b"org.x" in text and b"came back" in text, text

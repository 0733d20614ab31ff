"""`python -m bench.minivm_boot`: from exec of a hypervisor to the first line of init, beside QEMU and kvmtool.

The same kernel, initramfs (busybox alone), command line, memory and one processor for each; in turn, so that what else the
host does falls on all of them alike. Where KVM runs ring 0 on the processor, as in the lab:

    lab/run .venv/bin/python -m bench.minivm_boot            # --kernel VMLINUZ, --rounds N, --format json

Times are of that machine and that minute: compare the ratios. `beside` is the resident memory of the hypervisor's process
beside the guest's, as init speaks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minivm.boot import cpio, extract, formats

MEMORY = 256  # MiB
CMDLINE = "console=ttyS0 quiet panic=-1 reboot=t"
READY = b"bench: init speaks"
INIT = f"#!/bin/busybox sh\n/bin/busybox echo '{READY.decode()}'\n/bin/busybox sleep 1\n/bin/busybox poweroff -f\n"
LIMIT = 120  # seconds for one boot
QEMU = [
    "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", str(MEMORY), "-smp", "1", "-nodefaults", "-no-user-config",
    "-display", "none", "-serial", "stdio", "-no-reboot", "-append", CMDLINE,
]  # fmt: skip


def initramfs(path: Path) -> None:
    """Write an initramfs of busybox and an init that says one line."""
    archive = cpio.Archive()
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    archive.device("dev/console", 0o020000, 5, 1)
    archive.file("init", INIT.encode(), 0o755)
    path.write_bytes(archive.finish())


def commands(vmlinuz: str, vmlinux: str, initrd: str) -> dict[str, list[str]]:
    """Return the command line of each that is here."""
    ours = [sys.executable, "-m", "minivm", "run", "-m", f"{MEMORY}m", "--cmdline", CMDLINE, "--initrd", initrd]
    found = {"minivm, PVH": [*ours, vmlinux], "minivm, bzImage": [*ours, vmlinuz]}
    if shutil.which("qemu-system-x86_64"):
        microvm = [*QEMU, "-M", "microvm,acpi=on,pit=on,pic=on,rtc=on", "-initrd", initrd]
        found["qemu microvm, PVH"] = [*microvm, "-kernel", vmlinux]
        found["qemu microvm, bzImage"] = [*microvm, "-kernel", vmlinuz]
        found["qemu q35, PVH"] = [*QEMU, "-M", "q35", "-initrd", initrd, "-kernel", vmlinux]
    if shutil.which("lkvm"):
        words = ["lkvm", "run", "-c", "1", "-m", str(MEMORY), "--console", "serial", "-p", CMDLINE, "-i", initrd]
        found["kvmtool, bzImage"] = [*words, "-k", vmlinuz]
    return found


def boot(words: list[str]) -> tuple[float, int]:
    """Boot once. Returns the seconds until init spoke, and the KiB resident beside the guest's memory then."""
    begin = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        said = b""
        while READY not in said:
            data = os.read(child.stdout.fileno(), 4096)
            if not data:
                raise SystemExit(f"{' '.join(words)}:\n{said.decode(errors='replace')[-2000:]}")
            said += data
        took = time.perf_counter() - begin
        beside = resident_beside_guest(child.pid)
        child.stdout.read()
        child.wait(LIMIT)
    return took, beside


def resident_beside_guest(pid: int) -> int:
    """Return the KiB of a process's resident memory, but for the guest's (man 5 proc_pid_smaps).

    The guest's are the largest private anonymous mapping and what lies next to it without a gap, as a kernel's file that is
    mapped in the middle of it.
    """
    found: list[tuple[int, int, int]] = []  # begin, end, resident KiB
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            found.append((int(match[1], 16), int(match[2], 16), 0))
        elif match := re.match(r"Rss: +(\d+) kB", line):
            found[-1] = (*found[-1][:2], int(match[1]))
    begin, end, _ = max(found, key=lambda each: each[1] - each[0])
    while grown := [each for each in found if each[1] == begin or each[0] == end]:
        begin, end = min(begin, *(each[0] for each in grown)), max(end, *(each[1] for each in grown))
        if end - begin >= MEMORY << 20:
            break
    return sum(resident for first, last, resident in found if last <= begin or first >= end)


def main() -> int:
    """Measure and print. Returns 0."""
    words = argparse.ArgumentParser(prog="python -m bench.minivm_boot")
    words.add_argument("--kernel", help="a bzImage (default: the newest cloud kernel in /boot)")
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--format", choices=("text", "json"), default="text")
    options = words.parse_args()
    kernel = options.kernel or str(max(Path("/boot").glob("vmlinuz-*-cloud-amd64")))
    with tempfile.TemporaryDirectory(prefix="minivm-bench-") as directory:
        vmlinux, initrd = Path(directory) / "vmlinux", Path(directory) / "initrd"
        vmlinux.write_bytes(extract.extract(formats.read_kernel(kernel)))
        initramfs(initrd)
        found = commands(kernel, str(vmlinux), str(initrd))
        measured: dict[str, list[tuple[float, int]]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name, command in found.items():
                measured[name].append(boot(command))
    report(measured, options.format)
    return 0


def report(measured: dict[str, list[tuple[float, int]]], form: str) -> None:
    """Print the medians, and their ratio to the best peer's."""
    rows = {
        name: {
            "median": statistics.median(took for took, _ in runs),
            "minimum": min(took for took, _ in runs),
            "beside_kib": round(statistics.median(beside for _, beside in runs)),
        }
        for name, runs in measured.items()
    }
    peers = [row["median"] for name, row in rows.items() if not name.startswith("minivm")]
    if form == "json":
        print(json.dumps({"seconds": rows, "best_peer": min(peers, default=None)}))
        return
    print(f"{'exec to the first line of init, s':34}{'median':>8}{'minimum':>9}{'of the best peer':>18}{'beside, MB':>12}")
    for name, row in rows.items():
        ratio = f"{row['median'] / min(peers):.2f}" if peers else ""
        print(f"{name:34}{row['median']:8.2f}{row['minimum']:9.2f}{ratio:>18}{row['beside_kib'] / 1024:12.1f}")


if __name__ == "__main__":
    sys.exit(main())

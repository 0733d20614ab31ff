"""From exec of a hypervisor to the first line of init, beside QEMU and kvmtool.

The same kernel, initramfs (busybox alone), command line, memory and one processor for each; in turn, in an order drawn anew
each round, so that what else the host does falls on all of them alike. Where KVM runs ring 0 on the processor, as in the lab:

    lab/run --timeout 1500 .venv/bin/python -m bench.minivm_boot      # --kernel VMLINUZ, --rounds N, --format json

Times are of that machine and that minute: compare the ratios. Two parts make up the whole:

    before      from exec until the guest's clock begins: the hypervisor starts, loads, and what runs before the kernel proper
    kernel      from there to the first line of init, by the guest's own clock

`beside` is the resident memory of the hypervisor's process beside the guest's, as init speaks; `exits` are the guest's exits
to the host's kernel until then, by KVM's own count in debugfs, and `to user` those of them that went on to the process. The
last table is of one more boot: which of minivm's devices was asked how often, and how much of that its loop in C answered.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.beside import parser
from minivm.boot import cpio, extract, formats

MEMORY = 256  # MiB
CMDLINE = "console=ttyS0 quiet panic=-1 reboot=t"
READY = b"bench: init speaks"
CLOCK = b"bench: the clock says "
INIT = f"""#!/bin/busybox sh
echo '{READY.decode()}'
/bin/busybox mount -t proc proc /proc
read -r seconds rest </proc/uptime
echo "{CLOCK.decode()}$seconds"
/bin/busybox sleep 1
/bin/busybox poweroff -f
"""
KVM = Path("/sys/kernel/debug/kvm")
LIMIT = 120  # seconds for one boot
RESERVE = 256 << 20  # bytes of free memory that are not touched beforehand
QEMU = [
    "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", str(MEMORY), "-smp", "1", "-nodefaults", "-no-user-config",
    "-display", "none", "-serial", "stdio", "-no-reboot", "-append", CMDLINE,
]  # fmt: skip


class Boot(NamedTuple):
    """One boot, measured."""

    seconds: float  # from exec to the first line of init
    kernel: float  # of these, by the guest's clock
    beside: int  # KiB
    exits: int
    to_user: int


def initramfs(path: Path) -> None:
    """Write an initramfs of busybox and an init that says one line."""
    archive = cpio.Archive()
    archive.file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
    archive.device("dev/console", 0o020000, 5, 1)
    archive.directory("proc")
    archive.file("init", INIT.encode(), 0o755)
    path.write_bytes(archive.finish())


def commands(vmlinuz: str, vmlinux: str, initrd: str) -> dict[str, list[str]]:
    """Return the command line of each that is here."""
    ours = [str(Path(sys.executable).with_name("minivm")), "run", "-m", f"{MEMORY}m", "--cmdline", CMDLINE, "--initrd", initrd]
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


def boot(words: list[str]) -> Boot:
    """Boot once, to the end."""
    begin = time.perf_counter()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        said = b""
        while READY not in said:
            data = os.read(child.stdout.fileno(), 4096)
            if not data:
                raise SystemExit(f"{' '.join(words)}:\n{said.decode(errors='replace')[-2000:]}")
            said += data
        seconds = time.perf_counter() - begin
        counted = counts(child.pid)
        beside = resident_beside_guest(child.pid)
        said += child.stdout.read()
        child.wait(LIMIT)
    kernel = float(said.partition(CLOCK)[2].split()[0])
    return Boot(seconds, kernel, beside, counted("exits"), counted("io_exits") + counted("mmio_exits"))


def counts(pid: int) -> Callable[[str], int]:
    """Return a look-up in what KVM counts of a process's machine, by debugfs; 0 where that is not mounted.

    Documentation/virt/kvm/api.rst, "The kvm debugfs files": a directory a machine, called PID-FD.
    """
    found = {path.name: path.read_text() for place in KVM.glob(f"{pid}-*") for path in place.iterdir() if path.is_file()}
    return lambda name: int(found.get(name, 0))


def touch_memory() -> None:
    """Touch the memory that is free, once: in a lab that never used it, its first use is dear, and falls on whoever comes first."""
    free = int(re.findall(r"MemFree: +(\d+) kB", Path("/proc/meminfo").read_text())[0]) << 10
    length = max(free - RESERVE, mmap.PAGESIZE) // mmap.PAGESIZE * mmap.PAGESIZE
    mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def asked(words: list[str]) -> dict[str, dict[str, int]]:
    """Boot minivm once more, and return for each device how often it was asked, and how often C answered."""
    done = subprocess.run([*words, "--stats", "--format", "json"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False, timeout=LIMIT)  # fmt: skip
    devices: dict[str, dict[str, int]] = {}
    for row in json.loads(done.stderr.splitlines()[-1])["exits"]:
        device = devices.setdefault(row["device"] or row["reason"], {"exits": 0, "in_c": 0})
        device["exits"] += row["count"]
        device["in_c"] += row["in_c"]
    return devices


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
    words = parser("bench.minivm_boot", __doc__)
    words.add_argument("--kernel", help="a bzImage (default: the newest cloud kernel in /boot)")
    words.add_argument("--rounds", type=int, default=7)
    words.add_argument("--only", nargs="+", default=[""], help="only those whose name has one of these in it, as PVH")
    options = words.parse_args()
    kernel = options.kernel or str(max(Path("/boot").glob("vmlinuz-*-cloud-amd64")))
    with tempfile.TemporaryDirectory(prefix="minivm-bench-") as directory:
        vmlinux, initrd = Path(directory) / "vmlinux", Path(directory) / "initrd"
        vmlinux.write_bytes(extract.extract(formats.read_kernel(kernel)))
        initramfs(initrd)
        known = commands(kernel, str(vmlinux), str(initrd))
        found = {name: each for name, each in known.items() if any(word in name for word in options.only)}
        subprocess.run(["mount", "-t", "debugfs", "debugfs", KVM.parent], check=False, stderr=subprocess.DEVNULL)
        touch_memory()
        for command in found.values():  # once for nothing: files are read, Python's modules compiled
            boot(command)
        measured: dict[str, list[Boot]] = {name: [] for name in found}
        for _ in range(options.rounds):
            for name in random.sample(list(found), len(found)):
                measured[name].append(boot(found[name]))
                print(f"{name}: {measured[name][-1].seconds:.2f} s", file=sys.stderr)  # a long run shows that it lives
        devices = next((asked(command) for name, command in found.items() if name.startswith("minivm")), {})
    report(measured, devices, options.format)
    return 0


def report(measured: dict[str, list[Boot]], devices: dict[str, dict[str, int]], form: str) -> None:
    """Print the medians, and their ratio to the best peer's."""
    rows: dict[str, dict[str, Any]] = {
        name: {
            "median": statistics.median(run.seconds for run in runs),
            "minimum": min(run.seconds for run in runs),
            "before": statistics.median(run.seconds - run.kernel for run in runs),
            "kernel": statistics.median(run.kernel for run in runs),
            "beside_kib": round(statistics.median(run.beside for run in runs)),
            "exits": round(statistics.median(run.exits for run in runs)),
            "to_user": round(statistics.median(run.to_user for run in runs)),
        }
        for name, runs in measured.items()
    }
    peers = [row["median"] for name, row in rows.items() if not name.startswith("minivm")]
    best = min(peers, default=None)
    for row in rows.values():
        row["ratio"] = row["median"] / best if best else None
    if form == "json":
        print(json.dumps({"seconds": rows, "best_peer": best, "devices": devices, "load": os.getloadavg()[0]}))
        return
    heads = ("median", "minimum", "ratio", "before", "kernel")
    print(f"{'exec to the first line of init, s':34}" + "".join(f"{head:>9}" for head in heads) + "  beside, MB    exits  to user")
    for name, row in rows.items():
        times = "".join(f"{row[head]:9.2f}" if row[head] is not None else f"{'':9}" for head in heads)
        print(f"{name:34}{times}{row['beside_kib'] / 1024:12.1f}{row['exits']:9}{row['to_user']:9}")
    print(f"\n{'minivm asked, in one boot':34}{'exits':>9}{'in C':>9}")
    for name, device in sorted(devices.items(), key=lambda item: -item[1]["exits"]):
        print(f"{name:34}{device['exits']:9}{device['in_c']:9}")


if __name__ == "__main__":
    sys.exit(main())

"""minivm's virtio devices beside qemu's: the same kernel, initramfs, command line and backing files, in one run.

    .venv/bin/python -m bench.minivm_devices [--rounds 3] [--format json]

    read, write     virtio-blk, O_DIRECT: 1 MiB after another, and 4 KiB at random places
    to, from        virtio-net on a tap, iperf3 for some seconds, to the guest and from it
    print           virtio-console: megabytes a second from the guest to a pipe

Linux needs a KVM that runs its ring 0, so it runs in the lab. qemu is `-M microvm` with virtio-mmio, the page cache of the
host for its disk, and no vhost. Rounds take turns. "exits" are the guest's exits to the host's kernel for each megabyte (of
4k: for each operation), by KVM's own count in debugfs; "to user" those of them that went on to the process. The last line
says how many of minivm's went on to its interpreter, for each megabyte of all phases, without those of a boot alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.beside import ROOT, parser

PROGRAM = ROOT / "bench" / "guest_io.elf"
SECONDS = 2
LIMIT = 150  # seconds for one boot with all phases
DISK = 256 << 20
KVM = Path("/sys/kernel/debug/kvm")
PHASES = {
    "1M read": f"/io disk /dev/vda seq read 1048576 {SECONDS}",
    "1M write": f"/io disk /dev/vda seq write 1048576 {SECONDS}",
    "4k read": f"/io disk /dev/vda rand read 4096 {SECONDS}",
    "4k write": f"/io disk /dev/vda rand write 4096 {SECONDS}",
    "print": f"/io print {SECONDS}",
    "net to": "iperf3 -s -1",
    "net from": "iperf3 -s -1",
}
QEMU = ["qemu-system-x86_64", "-M", "microvm,accel=kvm,acpi=on", "-cpu", "host", "-m", "256", "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-chardev", "stdio,id=c,signal=off",
        "-device", "virtio-serial-device", "-device", "virtconsole,chardev=c"]  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    flags = parser("bench.minivm_devices", __doc__)
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--only", help="only phases whose name has this in it")
    flags.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = flags.parse_args(argv)
    names = [name for name in PHASES if not args.only or args.only in name]
    if args.inside:
        print(json.dumps(measure(args.rounds, names)))
        return 0
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-static", "-o", PROGRAM, PROGRAM.with_suffix(".c")], check=True)
    words = [ROOT / "lab" / "run", "--again", "2", "--timeout", "1500"]
    words += [".venv/bin/python", "-m", "bench.minivm_devices", "--inside"]
    words += ["--rounds", str(args.rounds), *(["--only", args.only] if args.only else [])]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    done = subprocess.run([str(word) for word in words], cwd=ROOT, check=True, **streams)
    results = json.loads(done.stdout)
    results["middle"] = {name: middle(row) for name, row in results["phases"].items()}
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def middle(row: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Return the medians of a phase's rounds, and how minivm's rate is to qemu's."""
    found: dict[str, Any] = {who: {key: statistics.median(values) for key, values in row[who].items()} for who in row}
    return found | {"ratio": found["minivm"]["rate"] / found["qemu"]["rate"]}


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'':10}{'minivm':>10}{'qemu':>10}       {'minivm/qemu':>11}{'exits':>10}{'qemu':>10}{'to user':>10}{'qemu':>10}")
    for name, row in results["middle"].items():
        ours, theirs = row["minivm"], row["qemu"]
        unit, scale = ("/s", 1) if name.startswith("4k") else ("kB/s", 1000) if name == "print" else ("MB/s", 1)
        rates = f"{ours['rate'] * scale:>10.1f}{theirs['rate'] * scale:>10.1f} {unit:6}{row['ratio']:>11.2f}"
        print(f"{name:10}{rates}" + "".join(f"{who[key]:>10.1f}" for key in ("exits", "user") for who in (ours, theirs)))
    print(f"Python is entered {max(0, results['python']):.2f} times a megabyte")  # below 0: a boot had more than another


def measure(rounds: int, names: list[str]) -> dict[str, Any]:
    """Inside the lab: boot both in turns."""
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["modprobe", "tun"], check=True)
    for words in ("tuntap add mvm0 mode tap vnet_hdr", "addr add 10.9.0.1/24 dev mvm0", "link set mvm0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    results: dict[str, Any] = {name: {who: {"rate": [], "exits": [], "user": []} for who in ("minivm", "qemu")} for name in names}
    python: list[float] = []
    with tempfile.TemporaryDirectory(prefix="minivm-bench-", dir="/var/tmp") as directory:
        place = Path(directory)
        prepare(place, [])
        alone, _ = boot("minivm", place, {})
        prepare(place, names)
        for number in range(rounds):
            entries, megabytes = boot("minivm", place, results)
            python.append((entries - alone) / megabytes)
            boot("qemu", place, results)
            said = {name: f"{row['minivm']['rate'][-1] / row['qemu']['rate'][-1]:.2f}" for name, row in results.items()}
            print(f"round {number + 1}, minivm/qemu: {said}", file=sys.stderr)  # a long run shows that it lives
    return {"phases": results, "python": statistics.median(python)}


def prepare(place: Path, names: list[str]) -> None:
    """Make kernel, initramfs, command line and disk: one for both."""
    from minivm.boot import formats
    from minivm.machine.config import Config, Rootfs
    from minivm.machine.devices import Net, parse_disk
    from minivm.machine.rootfs import make

    root, kernel = place / "root", sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))[-1]
    for directory in ("bin", "usr/bin", "tmp"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for link, target in ((root / "bin/sh", "busybox"), (place / "kernel", kernel)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    shutil.copy(PROGRAM, root / "io")
    with_libraries("/usr/bin/iperf3", root)
    lines = ["busybox ip link set lo up", "busybox ip link set eth0 up", "busybox ip addr add 10.9.0.2/24 dev eth0"]
    for name in names:
        to = "" if name == "print" else " >/tmp/out"
        lines += [f"echo BEGIN {name}", "read go", PHASES[name] + to, "echo; echo END $(busybox cat /tmp/out)", "read go"]
    (root / "go").write_text("\n".join([*lines, "echo BYE", "busybox poweroff -f", ""]))
    disk = place / "disk"
    disk.write_bytes(os.urandom(1 << 20) * (DISK >> 20))
    config = Config(str(kernel), cmdline="quiet", disks=[parse_disk(str(disk))], hvc=True, nets=[Net("mvm0")],
                    rootfs=Rootfs(str(root), command="sh /go"))  # fmt: skip
    initrd, cmdline = make(config, str(kernel), formats.read_kernel(str(kernel)))
    (place / "initrd").write_bytes(initrd)
    (place / "cmdline").write_text(cmdline)


def with_libraries(program: str, root: Path) -> None:
    """Copy a program and the libraries that it names."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in [program, *(word for word in said.split() if word.startswith("/"))]:
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])


def command(who: str, place: Path) -> list[str]:
    cmdline = (place / "cmdline").read_text()
    disk, kernel, initrd = (str(place / name) for name in ("disk", "kernel", "initrd"))
    if who == "minivm":
        words = [sys.executable, "-m", "minivm", "run", kernel, "--boot", "pvh", "--initrd", initrd, "--cmdline", cmdline]
        return [*words, "-m", "256m", "--disk", disk, "--net", "tap:mvm0", "--console", "virtio", "--stats", "--format", "json"]
    words = [*QEMU, "-kernel", kernel, "-initrd", initrd, "-append", cmdline]
    words += ["-drive", f"if=none,id=d,format=raw,cache=writeback,file={disk}", "-device", "virtio-blk-device,drive=d"]
    return [*words, "-netdev", "tap,id=n,ifname=mvm0,script=no,downscript=no", "-device", "virtio-net-device,netdev=n"]


def boot(who: str, place: Path, results: dict[str, Any]) -> tuple[int, float]:
    """Boot one and take it through the phases, a line of input at a time.

    Returns how often Python was entered, and the megabytes of all phases.
    """
    with subprocess.Popen(command(who, place), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin and child.stdout and child.stderr
        name, word, moved = "", "", 0.0
        watch = threading.Timer(LIMIT, child.kill)
        watch.start()
        printed = 0
        for line in child.stdout:
            printed += len(line)
            if os.environ.get("BENCH_DEBUG") and b"...." not in line:
                print(who, line[:200], file=sys.stderr, flush=True)
            word, _, rest = line.decode(errors="replace").strip().partition(" ")
            if word == "BEGIN" and rest in results:
                name, before, begin, printed = rest, exits(), time.monotonic(), 0
                go(child)
                if name.startswith("net"):
                    speed = iperf(child, name == "net from")
            elif word == "END" and name:
                took, count = time.monotonic() - begin, exits()
                if name == "print":
                    rate, amount = printed / 1e6 / took, printed / 1e6
                elif name.startswith("net"):
                    rate, amount = speed
                else:
                    megabytes, operations = map(float, rest.split())
                    rate, amount = (operations, operations * SECONDS) if name.startswith("4k") else (megabytes, megabytes * SECONDS)
                row = results[name][who]
                row["rate"].append(rate)
                row["exits"].append((count[0] - before[0]) / amount)
                moved += amount * (0.004096 if name.startswith("4k") else 1)
                row["user"].append((count[1] - before[1]) / amount)
                go(child)
            elif word == "BYE":
                break
        child.stdin.close()
        child.stdout.read()
        watch.cancel()
        problem = child.stderr.read().decode()
        if word != "BYE":
            raise SystemExit(f"{who} did not come to its end: {problem[-2000:]}")
    if who == "qemu":
        return 0, moved
    rows = json.loads(problem.splitlines()[-1])["exits"]
    return sum(row["count"] - row["in_c"] for row in rows), moved


def go(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin
    child.stdin.write(b"go\n")
    child.stdin.flush()


def exits() -> tuple[int, int]:
    """Return the exits of all guests so far, and how many of them went on to a process."""
    return int((KVM / "exits").read_text()), int((KVM / "mmio_exits").read_text()) + int((KVM / "io_exits").read_text())


def iperf(child: subprocess.Popen[bytes], reverse: bool) -> tuple[float, float]:
    """Return (MB/s, MB) of a transfer to the guest, or from it, while it lives."""
    words = ["timeout", str(LIMIT), "iperf3", "-c", "10.9.0.2", "--connect-timeout", "2000", "-t", str(SECONDS), "--json"]
    for _ in range(50):
        done = subprocess.run([*words, *(["-R"] if reverse else [])], capture_output=True, text=True, check=False)
        if child.poll() is not None:  # LIMIT is over
            break
        if done.returncode == 0:
            total = json.loads(done.stdout)["end"]["sum_received"]
            return total["bits_per_second"] / 8e6, max(total["bytes"] / 1e6, 0.001)  # on a busy machine nothing may arrive
        time.sleep(0.1)
    raise SystemExit(f"iperf3: {done.stdout[-500:]}")


if __name__ == "__main__":
    sys.exit(main())

"""The QEMU machine: its command line, and which accelerator it gets.

Two processors, 3 GiB, one disk whose writes go to an unlinked temporary file, four virtio-serial
ports, a terminal, no network. Started with the kernel's plain ELF file (PVH), which skips firmware
menus, boot loader and decompression.

The accelerator is the host's KVM only where that can nest: the lab is there to offer /dev/kvm.
Elsewhere QEMU emulates the whole machine (TCG), with `-cpu max` AMD's SVM too, so that KVM works
inside: 20 to 40 times slower than native, complete.
"""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.image import Image

__all__ = ["PORTS", "accelerators", "command", "remember_that_kvm_fails"]

PROCESSORS = 2
MEMORY = 3072  # MiB
# Sockets that the machine connects to, in the order of the ports that session.sh opens
PORTS = ("status", "stdin", "stdout", "stderr")
# What an emulator is slow at: a fifth level of page tables is one more look-up each miss; and where "rep stosb" is said to be
# fast (ERMS) Linux clears pages with it, byte by byte here: 2.3 ms for 2 MiB, and 0.3 by eight bytes.
CPU = {"tcg": "max,la57=off,erms=off", "kvm": "host"}
ENGINE = {"tcg": "tcg,thread=multi", "kvm": "kvm"}
KERNEL = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"


def accelerators(cache: Path) -> list[str]:
    """Return what to try, in this order: kvm where the host says that it nests, then tcg.

    That KVM is there says little (a host may offer one that cannot run this kernel), so session.py
    goes by whether the machine answers, and remembers it for this boot of the host. LAB_ACCEL=kvm
    tries it whatever the host says, LAB_ACCEL=tcg never does.
    """
    wish = os.environ.get("LAB_ACCEL")
    if wish == "tcg" or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["tcg"]
    if wish == "kvm" or (_nests() and not _failed(cache)):
        return ["kvm", "tcg"]
    return ["tcg"]


def remember_that_kvm_fails(cache: Path) -> None:
    """Note that the host's KVM did not start this machine, so that the next run need not wait for it."""
    (cache / "no-kvm").write_text(_boot_id())


def _failed(cache: Path) -> bool:
    note = cache / "no-kvm"
    return note.exists() and note.read_text() == _boot_id()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _nests() -> bool:
    for module in ("kvm_intel", "kvm_amd"):
        parameter = Path(f"/sys/module/{module}/parameters/nested")
        if parameter.exists() and parameter.read_text().strip() in ("1", "Y"):
            return True
    return False


def command(image: Image, directory: Path, accelerator: str, disks: Sequence[str] = ()) -> list[str]:
    """Return QEMU's command line.

    Args:
        image: disk and kernel.
        directory: where the sockets, the payload and the boot log of this run are.
        accelerator: "kvm" or "tcg".
        disks: files that are disks too, behind its own.
    """
    # setpriv: if this process is killed, so is the machine (man 2 PR_SET_PDEATHSIG)
    argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
    argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-machine", "q35,smm=off,vmport=off,sata=off,smbus=off"]
    argv += ["-accel", ENGINE[accelerator], "-cpu", CPU[accelerator]]
    argv += ["-smp", str(PROCESSORS), "-m", str(MEMORY)]
    argv += ["-kernel", str(image.kernel), "-append", KERNEL, "-initrd", str(directory / "payload.cpio")]
    # snapshot=on: the disk is opened read-only, writes go to a temporary file that has no name
    argv += ["-drive", f"if=none,id=disk,file={_escape(image.disk)},format=raw,snapshot=on,cache=unsafe"]
    argv += ["-device", "virtio-blk-pci,drive=disk"]
    for number, path in enumerate(disks):
        argv += ["-drive", f"if=none,id=disk{number},file={_escape(Path(path))},format=raw,snapshot=on,cache=unsafe"]
        argv += ["-device", f"virtio-blk-pci,drive=disk{number}"]
    argv += ["-chardev", f"file,id=log,path={_escape(directory / 'boot.log')}", "-serial", "chardev:log"]
    argv += ["-device", f"virtio-serial-pci,max_ports={len(PORTS) + 2}"]
    argv += ["-chardev", f"socket,id=tty,path={_escape(directory / 'tty')}"]
    argv += ["-device", "virtconsole,chardev=tty,nr=0"]
    for number, name in enumerate(PORTS, 1):
        argv += ["-chardev", f"socket,id={name},path={_escape(directory / name)}"]
        argv += ["-device", f"virtserialport,chardev={name},nr={number},name={name}"]
    return argv


def _escape(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's option syntax doubles a comma

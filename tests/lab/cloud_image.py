"""`python tests/lab/cloud_image.py`: a cloud image of Debian 12, on a disk for the test in the lab; prints the disk's path.

Made as Debian makes its genericcloud images, of the same packages and with their /etc as it is: GPT with the root first, then a
partition for a BIOS and one for EFI (numbers 14 and 15), as qcow2 whose disk is hardly larger than what is in it. What a machine
makes of itself (machine-id, ssh's host keys, its name) is not there yet. Only the boot loader is missing: minivm starts kernels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MIRROR = os.environ.get("LAB_MIRROR", "http://deb.debian.org/debian")  # apt verifies signatures
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = [
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd", "systemd-sysv", "libpam-systemd", "systemd-resolved", "dbus", "udev"),
    *("cloud-init", "cloud-guest-utils", "cloud-initramfs-growroot", "netplan.io", "openssh-server", "sudo", "locales"),
    *("e2fsprogs", "dosfstools", "fdisk", "iproute2", "ca-certificates"),
]
# A customize hook of mmdebstrap: $1 is the new root. As root, or as the root of a user namespace, so it mounts nothing.
BUILD = r"""
set -eu
root=$1 PATH=$PATH:/usr/sbin:/sbin
mkdir "$root/out"
uuid() { cat /proc/sys/kernel/random/uuid; }
part=$(uuid) efi=$(uuid)
printf 'PARTUUID=%s / ext4 rw,discard,errors=remount-ro,x-systemd.growfs 0 1\nPARTUUID=%s /boot/efi vfat defaults 0 0\n' \
    "$part" "$efi" >"$root/etc/fstab"
echo localhost >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
rm -f "$root"/etc/ssh/ssh_host_*_key* "$root"/var/lib/dbus/machine-id
: >"$root/etc/machine-id"
[ -L "$root/etc/resolv.conf" ] || ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
mkdir -p "$root/boot/efi"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log "$root"/usr/share/doc/* "$root"/usr/share/man/*

tree=$(mktemp -d "${TMPDIR:-/tmp}/cloud-tree.XXXXXX")
trap 'rm -rf "$tree"' EXIT
for entry in bin boot etc home initrd.img lib lib64 media mnt opt root sbin srv usr var vmlinuz; do
    [ ! -e "$root/$entry" ] && [ ! -L "$root/$entry" ] || cp -a "$root/$entry" "$tree/"
done
mkdir "$tree/dev" "$tree/proc" "$tree/run" "$tree/sys"
mkdir -m 1777 "$tree/tmp"
room=$(($(du -sm "$tree" | cut -f1) * 5 / 4 + 128))
mkfs.ext4 -q -F -E nodiscard -d "$tree" "$root/out/ext4" "${room}M" >&2
truncate -s 124M "$root/out/efi"
chroot "$root" mkfs.vfat /out/efi >&2

# MiB: a BIOS's partition at 1, EFI's at 4, the root at 128 up to the end, where the table's copy takes 1
disk=$root/out/disk.raw
truncate -s "$((128 + room + 1))M" "$disk"
chroot "$root" sfdisk -q /out/disk.raw >&2 <<END
label: gpt
1 : start=128MiB, size=${room}MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, uuid=$part
14 : start=1MiB, size=3MiB, type=21686148-6449-6E6F-744E-656564454649
15 : start=4MiB, size=124MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=$efi
END
dd if="$root/out/ext4" of="$disk" bs=1M seek=128 conv=notrunc,sparse status=none
dd if="$root/out/efi" of="$disk" bs=1M seek=4 conv=notrunc,sparse status=none
"""


def main() -> int:
    """Make the disk where it is not there, and print its path. Returns 0."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirt" / "lab-inputs"
    final = cache / f"cloud-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}.ext4"
    if not final.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            make(Path(directory)).rename(final)
    print(final)
    return 0


def make(directory: Path) -> Path:
    """Return a disk with one file in it, the image."""
    hook = directory / "build"
    hook.write_text(BUILD)
    files = directory / "files"
    files.mkdir()
    raw, disk = directory / "disk.raw", directory / "disk"
    run(
        "mmdebstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}",
        f'--customize-hook=sh {hook} "$1"', f"--customize-hook=download /out/disk.raw {raw}", "--format=null",
        "bookworm", "-", MIRROR,
    )  # fmt: skip
    run("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", raw, files / "stock.qcow2")
    raw.unlink()
    mke2fs = shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "mke2fs"
    room = (files / "stock.qcow2").stat().st_size * 9 // 8 >> 20
    run(mke2fs, "-q", "-t", "ext4", "-O", "^has_journal", "-d", files, disk, f"{room + 32}M")
    return disk


def run(*words: object) -> None:
    """Run a program, whose own words are not ours."""
    subprocess.run([str(word) for word in words], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

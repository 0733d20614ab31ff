"""A network in user mode: unmodified Linux behind passt, its machine's process in a jail; bytes both ways, by TCP and UDP."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

LIMIT = 150
SIZE = 4 << 20  # bytes each way
ADDRESS, ROUTER = "10.77.0.2", "10.77.0.1"
KERNELS = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.skipif(not KERNELS, reason="no Debian cloud kernel in /boot"),
    pytest.mark.timeout(LIMIT + 60),
]
# What udhcpc runs with what it was offered
DHCP = """\
#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig $interface $ip netmask $subnet
route add default gw $router
echo offered $ip by way of $router
"""
UP = """\
ifconfig eth0 up
udhcpc -i eth0 -n -q -t 20 -s /dhcp || exit 1
nc {router} {down} >/got && sha256sum /got
dd if=/dev/urandom of=/sent bs=4096 count={blocks} 2>/dev/null
sha256sum /sent
nc {router} {up} </sent
tftp -g -r {word} -l /turned {router} {datagrams} && cat /turned
exit 48
"""


@pytest.fixture
def uplink():
    """The host's way out, whose address passt gives to the guest: one end of a pair that leads nowhere."""
    for words in (
        "link add minivm-up type veth peer name minivm-end", f"addr add {ADDRESS}/24 dev minivm-up", "link set minivm-up up",
        "link set minivm-end up", f"route add default via {ROUTER}",
    ):  # fmt: skip
        subprocess.run(["ip", *words.split()], check=True)
    yield
    subprocess.run(["ip", "link", "del", "minivm-up"], check=True)


def listen(kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Return a socket at a free port of the host's own 127.0.0.1, which passt shows to the guest as its router's."""
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", 0))
    made.settimeout(LIMIT)
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


class Host(threading.Thread):
    """Gives `sent` to the first client of one port, takes all from that of another; then serves one file by TFTP (RFC 1350).

    What is in the file is its name, turned around.
    """

    def __init__(self, sent: bytes) -> None:
        super().__init__(daemon=True)
        self.down, self.up, self.datagrams = listen(), listen(), listen(socket.SOCK_DGRAM)
        self.sent, self.got, self.asked = sent, b"", b""

    def run(self) -> None:
        client, _ = self.down.accept()
        with client:
            client.sendall(self.sent)
        client, _ = self.up.accept()
        with client:
            while data := client.recv(1 << 16):
                self.got += data
        request, whose = self.datagrams.recvfrom(1000)
        self.asked = request.removeprefix(b"\0\1").partition(b"\0")[0]
        self.datagrams.sendto(b"\0\3\0\1" + self.asked[::-1] + b"\n", whose)

    def ports(self) -> dict[str, int]:
        return {name: getattr(self, name).getsockname()[1] for name in ("down", "up", "datagrams")}


def make_root(root: Path, up: str) -> None:
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    for name in ("sh", "udhcpc", "ifconfig", "route", "nc", "dd", "sha256sum", "tftp", "cat"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "up").write_text(up)
    (root / "dhcp").write_text(DHCP)
    (root / "dhcp").chmod(0o755)


def test_a_jailed_guest_has_an_address_and_carries_bytes_both_ways(tmp_path, uplink):
    word, host = secrets.token_hex(8), Host(os.urandom(SIZE))
    host.start()
    make_root(tmp_path / "root", UP.format(router=ROUTER, blocks=SIZE // 4096, word=word, **host.ports()))
    words = ["--jail", "--net", "user", "--rootfs", tmp_path / "root", "--init", "sh /up", "--cmdline", "quiet", "-m", "256m"]
    command = [sys.executable, "-m", "minivm", "run", KERNELS[-1], "--timeout", str(LIMIT), *words]
    done = subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT + 30)
    said = done.stdout.replace("\r", "").splitlines()
    assert done.returncode == 48, (done.stdout, done.stderr)
    assert f"offered {ADDRESS} by way of {ROUTER}" in said
    assert f"{hashlib.sha256(host.sent).hexdigest()}  /got" in said
    assert len(host.got) == SIZE and f"{hashlib.sha256(host.got).hexdigest()}  /sent" in said
    assert host.asked.decode() == word and word[::-1] in said

"""Stops and goes in any order, as no person would: the machine stands when told, and the guest does not notice."""

from __future__ import annotations

import os
import random
import re
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import minivm.boot
from minivm.inspect.gdb.packets import Reader, frame
from minivm.inspect.symbols import read_symbols

LIMIT = 120
GUEST = Path(minivm.boot.__file__).with_name("guest.elf")
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]


class Client:
    """gdb's side of the wire, as far as it takes."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(LIMIT)
        self.reader, self.waiting = Reader(), []
        assert self.ask(b"QStartNoAckMode") == b"OK"

    def send(self, packet: bytes) -> None:
        self.socket.sendall(frame(packet))

    def receive(self) -> bytes:
        while not self.waiting:
            data = self.socket.recv(4096)
            assert data, "the server has gone"
            self.waiting += [packet for packet in self.reader.feed(data) if packet is not None]
        return self.waiting.pop(0)

    def ask(self, packet: bytes) -> bytes:
        self.send(packet)
        return self.receive()

    def receive_or_interrupt(self, seconds: float) -> bytes:
        """Return the stop reply, after ctrl-C where none comes in time."""
        if not select.select([self.socket], [], [], seconds)[0]:
            self.socket.sendall(b"\x03")
        return self.receive()


def one_action(client: Client, chance: random.Random, places: list[int]) -> None:
    """Step one or both, run and interrupt, or run into a breakpoint or an interrupt, whichever comes first."""
    what = chance.choice(["step", "step", "step other", "run", "break", "watch", "look"])
    if what.startswith("step"):
        thread = b"1" if what == "step" else chance.choice([b"1", b"2"])
        client.send(b"vCont;s:%b;c" % thread)
    elif what == "look":
        assert len(client.ask(b"g")) > 1000 and client.ask(b"m100000,10") and client.ask(b"T1") == b"OK"
        return
    elif what == "run":
        client.send(b"vCont;c")
    else:
        place = b"%x" % chance.choice(places[:-1])
        kind = b"Z0,%b,1" % place if what == "break" else b"Z2,%x,8" % (places[-1])
        assert client.ask(kind) == b"OK"
        client.send(b"vCont;c")
        reply = client.receive_or_interrupt(chance.choice([0.02, 0.3]))
        assert reply[:3] in (b"T05", b"T02"), reply
        assert client.ask(kind.replace(b"Z", b"z", 1)) == b"OK"
        return
    reply = client.receive_or_interrupt(chance.choice([0.001, 0.01, 0.05]))
    assert reply[:3] in (b"T05", b"T02"), reply


@pytest.mark.parametrize("seed", range(3))
def test_the_guest_ends_as_if_nobody_had_looked(tmp_path, seed):
    path, chance, symbols = str(tmp_path / "gdb"), random.Random(seed), read_symbols(str(GUEST))
    places = [symbols.address(name) for name in ("task_tick", "syscall", "uart_put", "trap")] + [symbols.address("ticks")]
    command = [sys.executable, "-m", "minivm", "run", "--cpus", "2", "--gdb", path, "--timeout", str(LIMIT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as machine:
        while "listening" not in machine.stderr.readline():
            assert machine.poll() is None
        killer = threading.Timer(LIMIT - 30, machine.kill)  # only where the test fails
        killer.start()
        client = Client(path)
        assert client.ask(b"?").startswith(b"T05")
        for _ in range(60):
            one_action(client, chance, places)
        client.send(b"D")
        client.socket.close()
        stdout, stderr = machine.communicate("hello\nexit 23\n", timeout=LIMIT)
        killer.cancel()
    text = stdout.replace("\r", "")
    assert machine.returncode == 23, (text, stderr)
    assert [int(n) for n in re.findall(r"^task 1: step (\d+)", text, re.M)] == [1, 2, 3] and "backwards: olleh\n" in text, text

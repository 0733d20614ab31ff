"""The console's output, where the loop in C writes it."""

from __future__ import annotations

import os
import socket

from minivm.machine.output import burst


def test_only_what_can_take_bytes_surely_is_written_to_without_asking(tmp_path):
    read, write = os.pipe()
    with open(tmp_path / "file", "w") as file, open(os.devnull, "w") as null, socket.socket() as other:
        assert [burst(fd) for fd in (file.fileno(), null.fileno(), write, other.fileno(), 9999)] == [1 << 20, 1 << 20, 64, 0, 0]
    os.close(read)
    os.close(write)

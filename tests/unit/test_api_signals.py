"""The server's end: a signal may come at any moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("h11", reason="the extra `serve` is not installed")

# A server in a process of its own each time, with SIGTERM before one more of the lines that it runs until it waits.
SCRIPT = """
import os, select, signal, socket, sys, threading
from minirt.api import server

server.tidy = lambda: None
server.LOOK = 100.0  # s, before it does anything again
left = 0

def trace(frame, event, arg):
    global left
    if event == "line" and left:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGTERM)
    return trace

def begin(count):
    global left
    left = count
    sys.settrace(trace)
    server.serve([], print)

for count in range(1, 1000):
    pid = os.fork()
    if not pid:
        begin(count)
    child = os.pidfd_open(pid)
    if not select.select([child], [], [], 2)[0]:  # it waits, and no line is left
        os.kill(pid, signal.SIGTERM)
        if not select.select([child], [], [], 30)[0]:
            os.kill(pid, signal.SIGKILL)
            sys.exit(f"SIGTERM before line {count} did not end it")
        os.waitpid(pid, 0)
        break
    assert os.waitpid(pid, 0)[1] in (0, signal.SIGTERM)
    os.close(child)
print(count)
"""


def test_a_signal_ends_it_at_whatever_moment_it_comes() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10

"""Guests of two processors, where those are emulated.

A kernel rewrites branches of its own by way of an int3, at each boot. Under emulation another processor may run into one that
is gone (lab/keys.py says how), and the guest panics. So what such a guest was asked is asked again where it was reset;
whatever else it did counts, and so does a reset on real processors.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

__all__ = ["ask"]

Done = subprocess.CompletedProcess[str]
EMULATED = "QEMU TCG" in Path("/proc/cpuinfo").read_text()


def ask(guest: Callable[[], Done]) -> Done:
    """Run a guest to its end, three times at most, and return how it ended."""
    for _ in range(2):
        done = guest()
        if not EMULATED or "the machine was reset before its program ended" not in done.stderr:
            return done
        print("the guest was reset, as emulated processors may do to it; again:", done.stdout, done.stderr)
    return guest()

"""The data path in C under AddressSanitizer and UndefinedBehaviorSanitizer, driven by a guest that means harm.

The sanitisers end the program at the first byte read or written outside of the guest's memory, at an overflow of a signed
number, and at memory that is not given back; SIGALRM ends it where a path does not stop.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("ram", "queue", "packed", "path", "io", "bucket", "overlay", "blk", "net", "console")
FLAGS = ("-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "fuzz"
    sources = [ROOT / "tests/native/virtio_fuzz.c", *(ROOT / f"csrc/kvm/{name}.c" for name in SOURCES)]
    subprocess.run(["gcc", *FLAGS, f"-I{ROOT}/csrc/kvm", "-o", path, *sources, "-lpthread"], check=True)
    return path


def fuzz(program, seed, rounds):
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # which needs ptrace, and a container may forbid that
    words = [program, str(seed), str(rounds)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"seed {seed}: {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("seed", [1, 2, random.randrange(1 << 32)], ids=["1", "2", "random"])
def test_no_guest_gets_out_of_its_memory_or_hangs_a_device(program, seed):
    fuzz(program, seed, 1000)


@pytest.mark.long
def test_nor_do_many(program):
    for _ in range(5):
        fuzz(program, random.randrange(1 << 32), 5000)

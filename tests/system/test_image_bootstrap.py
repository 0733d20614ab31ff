"""A base image from Debian's archive: apt in it works, and the second time it comes from the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from command import Minirt
from debian_root import MIRROR

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="a Debian root has owners, which need root"),
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="mmdebstrap is not installed"),
]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_debian_comes_with_apt_that_installs(own_store: Minirt, tmp_path: Path) -> None:
    if subprocess.run(["curl", "-sfI", "-m", "10", f"{MIRROR}/dists/bookworm/InRelease"], capture_output=True).returncode:
        pytest.skip(f"{MIRROR} cannot be reached")
    words = [*own_store.program, "image", "bootstrap", "--mirror", MIRROR, "debian"]
    first = subprocess.run(words, env=own_store.env, capture_output=True, text=True, timeout=500)
    assert first.returncode == 0, first.stderr
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:bookworm\nRUN apt-get update -q && apt-get install -qy --no-install-recommends hello\nRUN hello > /said\n"
    )
    build = [*own_store.program, "build", "--network", "host", "-t", "app", tmp_path]
    built = subprocess.run(build, env=own_store.env, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert own_store("run", "--rm", "app", "cat", "/said").stdout == "Hello, world!\n"
    assert own_store("run", "--rm", "app", "sh", "-c", "ls /var/cache/apt/archives/*.deb").returncode != 0
    refused = own_store("run", "--rm", "app", "/usr/sbin/policy-rc.d").returncode
    assert refused == 101, "packages start no services (man 8 invoke-rc.d)"
    own_store("image", "rm", "debian:bookworm")
    again = subprocess.run(words, env={**own_store.env, "PATH": "/nowhere"}, capture_output=True, text=True, timeout=100)
    assert again.returncode == 0, again.stderr
    assert own_store("run", "--rm", "debian:bookworm", "cat", "/etc/debian_version").stdout.startswith("12.")


def test_what_is_no_suite_is_refused(own_store: Minirt) -> None:
    for words in (("--suite", "--help"), ("--include", "a b"), ("--variant", "x;y")):
        done = own_store("image", "bootstrap", f"{words[0]}={words[1]}", "debian")
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "is no name" in done.stderr


def test_what_mmdebstrap_says_is_told_in_one_line(own_store: Minirt, tmp_path: Path) -> None:
    fake = tmp_path / "mmdebstrap"
    fake.write_text("#!/bin/sh\necho 'E: the archive is gone' >&2; exit 25\n")
    fake.chmod(0o755)
    own_store.env["PATH"] = f"{tmp_path}:{own_store.env['PATH']}"
    own_store.env["MINIRT_ROOT"] = str(tmp_path / "root")  # whose cache has nothing yet
    done = own_store("image", "bootstrap", "debian")
    assert (done.returncode, done.stderr) == (1, "minirt: mmdebstrap failed (25): E: the archive is gone\n")
    assert not list((tmp_path / "root" / "cache" / "bootstrap").glob("*.tar*"))

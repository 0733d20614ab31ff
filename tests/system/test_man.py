"""Manual pages and completion: one for each command, made from the parsers, and without a word that man(1) warns of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from minirt.cli.main import COMMANDS

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")]


def test_each_command_has_a_page_that_groff_reads_without_a_warning(minirt, tmp_path: Path) -> None:
    done = minirt("man", "--dir", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in tmp_path.iterdir()}
    assert {f"minirt-{name}.1" for name in COMMANDS if name != "oci"} | {"minirt.1", "minirt-volume-create.1"} <= pages
    for path in sorted(tmp_path.iterdir()):
        words = ["groff", "-Kutf8", "-man", "-Tutf8", "-P-cbou", "-ww", path]
        read = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        serious = [line for line in read.stderr.splitlines() if "break" not in line and "adjust" not in line]
        assert not serious and "NAME" in read.stdout, (path.name, serious)


def test_a_page_has_each_flag_and_the_examples(minirt) -> None:
    source = minirt("man", "--roff", "run").stdout.replace("\\-", "-")
    for word in ("--volumes-from", "--security-opt", "minirt run --rm -v", ".SH EXAMPLES"):
        assert word in source
    assert minirt("man", "none").returncode == 125


def test_completion_knows_the_new_commands(minirt) -> None:
    done = minirt("completion", "bash")
    assert done.returncode == 0, done.stderr
    for word in ("--volumes-from", "compose", "volume", "--project-name", "--format"):
        assert word in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, timeout=60, check=False).returncode == 0

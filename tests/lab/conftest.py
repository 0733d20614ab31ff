"""These tests need what only the lab is sure to have: cgroup v2 with every controller, and a complete KVM.

`lab/run .venv/bin/python -m pytest tests/lab` runs them; elsewhere each is skipped, and says so.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "system"))  # a bundle and a runtime for a test are made there
IN_LAB = Path("/run/minirt-lab").is_dir()


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if not IN_LAB:
                item.add_marker(pytest.mark.skip(reason="not in the lab (no /run/minirt-lab): make test runs it there"))


@pytest.fixture
def tap():
    """A tap of this name is up and has an address; gone afterwards."""
    subprocess.run(["modprobe", "tun"], check=True)
    for words in ("tuntap add mvm0 mode tap vnet_hdr", "addr add 10.9.0.1/24 dev mvm0", "link set mvm0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    yield "mvm0"
    subprocess.run(["ip", "link", "del", "mvm0"], check=True)

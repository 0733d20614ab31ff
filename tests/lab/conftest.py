"""These tests need what only the lab is sure to have: cgroup v2 with every controller, and a complete KVM.

`lab/run .venv/bin/python -m pytest tests/lab` runs them; elsewhere each is skipped, and says so.
"""

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

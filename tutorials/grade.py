"""`make grade`: run each lesson's check.py on its exercise.py.

    .venv/bin/python -m tutorials.grade [--json] [LESSON...]      by default all; 01_by_hand, or a part of the name
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(words: list[str]) -> int:
    """Grade the lessons that are named. Exit status 0: all passed; 1: not all; 2: no such lesson."""
    wanted = [word for word in words if not word.startswith("-")] or [""]
    checks = [path for path in sorted(HERE.glob("*/*/check.py")) if any(word in path.parent.name for word in wanted)]
    results = {}
    for check in checks:
        run = subprocess.run([sys.executable, str(check)], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        results[str(check.parent.relative_to(HERE))] = {"passed": run.returncode == 0, "told": (run.stdout + run.stderr).strip()}
    if "--json" in words:
        print(json.dumps(results, indent=2))
    else:
        for result in results.values():
            print(result["told"])
        print(f"{sum(bool(result['passed']) for result in results.values())} of {len(results)} exercises pass")
    return 2 if not results else int(not all(result["passed"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

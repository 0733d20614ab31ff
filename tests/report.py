"""What a run of `make test-long` came to, in one dated file that is kept in the tree: tests/reports/test-long-DATE.txt.

    python tests/report.py LOG [DIRECTORY]

LOG is all that the run printed: of each pytest, on this machine and in the lab, a line `== where` before it, and of pytest the
list of the longest (--durations), of what was skipped and what failed (-ra), and the last line. Of reports that are there
before, none stays: the last one counts, and git has the others.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LONGEST = 20  # tests that are listed with their times

HEADING = re.compile(r"== (?P<where>[^=].*)")
LAST = re.compile(r"=+ (?P<counts>.*) in (?P<seconds>[\d.]+)s(?: \([\d:]+\))? =+")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed)")
DURATION = re.compile(r"(?P<seconds>[\d.]+)s (?:call|setup|teardown) +(?P<test>\S.*)")
SKIPPED = re.compile(r"SKIPPED \[(?P<count>\d+)\] (?P<file>[^:]+)(?::\d+)?: (?P<why>.*)")
BAD = re.compile(r"(?:FAILED|ERROR) (?P<test>tests/\S+)")


@dataclass
class Session:
    """One run of pytest."""

    where: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    whole: bool = False  # it came to its end


@dataclass
class Run:
    """What all of them came to."""

    sessions: list[Session] = field(default_factory=list)
    longest: list[tuple[float, str]] = field(default_factory=list)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)  # in which file, why
    bad: list[str] = field(default_factory=list)


def read(lines: Iterable[str]) -> Run:
    """Find in the output of a run what is told of it."""
    run, where = Run(), "on this machine"
    for line in map(str.strip, lines):
        if found := HEADING.fullmatch(line):
            where = found["where"]
        elif "test session starts" in line:
            run.sessions.append(Session(where))
        elif run.sessions and (found := LAST.fullmatch(line)):
            session = run.sessions[-1]
            session.counts.update({name.rstrip("s"): int(n) for n, name in COUNT.findall(found["counts"])})
            session.seconds, session.whole = float(found["seconds"]), True
        elif found := DURATION.fullmatch(line):
            run.longest.append((float(found["seconds"]), found["test"]))
        elif found := SKIPPED.fullmatch(line):
            run.skipped[found["file"], found["why"]] += int(found["count"])
        elif found := BAD.match(line):
            run.bad.append(found["test"])
    return run


def clock(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def told(counts: Counter[str]) -> str:
    """Return counts as pytest tells them."""
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing ran"


def machine() -> str:
    """Return what the run was made on, in a line."""
    system = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), re.M))["PRETTY_NAME"]
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    processors = f"{os.cpu_count()} x {model[1] if model else platform.machine()}"
    return f"{system}, Linux {platform.release()}, {processors}, {memory} MB, Python {platform.python_version()}"


def commit() -> str:
    """Return what was tested, in a line."""
    git = ["git", "-C", str(TOP)]
    last = subprocess.run([*git, "log", "-1", "--format=%h %s"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.splitlines()
    return f"{last or 'no commit'}{f', with {len(changed)} changed files' if changed else ''}"


def text(run: Run, began: float) -> str:
    """Return the report. Args: run; began, seconds since the epoch."""
    total: Counter[str] = Counter()
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(began))
    lines = [f"make test-long, {when} UTC", f"commit:  {commit()}", f"machine: {machine()}", ""]
    for session in run.sessions:
        total += session.counts
        lines.append(f"{clock(session.seconds)}  {session.where}: {told(session.counts) if session.whole else 'it broke off'}")
    lines.append(f"{clock(sum(session.seconds for session in run.sessions))}  together: {told(total)}")
    whole = bool(run.sessions) and all(session.whole for session in run.sessions)
    good = "Nothing failed." if whole else "Not all of it was run."
    lines += ["", "Failed:" if run.bad else good, *(f"    {test}" for test in sorted(run.bad))]
    lines += ["", "The longest, in seconds:"]
    lines += [f"{seconds:8.1f}  {test}" for seconds, test in sorted(run.longest, reverse=True)[:LONGEST]]
    lines += ["", "Skipped, and why:" if run.skipped else "Nothing was skipped."]
    lines += [f"{n:8}  {file}: {why}" for (file, why), n in sorted(run.skipped.items())]
    return "\n".join(lines) + "\n"


def main(log: str, directory: str = str(TOP / "tests" / "reports")) -> int:
    """Write the report of a run whose output is in a file; when it began is when that was made."""
    with open(log, encoding="utf-8", errors="replace") as file:
        run = read(file)
    began = time.time() - sum(session.seconds for session in run.sessions)
    place = Path(directory)
    place.mkdir(exist_ok=True)
    for old in place.glob("test-long-*.txt"):
        old.unlink()
    path = place / f"test-long-{time.strftime('%Y-%m-%d', time.gmtime(began))}.txt"
    path.write_text(text(run, began))
    print(f"the report is {os.path.relpath(path)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

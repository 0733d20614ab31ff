"""What a lesson's check.py observes with: containers and machines run with the learner's functions, seen from outside.

All that is learned here comes from the kernel (/proc/PID of the program: host.py, box.py) or from the program's own pipe, with a
secret that is drawn anew for each check.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tutorials.tutor.box import Box
from tutorials.tutor.exercise import splice
from tutorials.tutor.host import Host
from tutorials.tutor.lessons import IN_LAB, TOP
from tutorials.tutor.organs import RAISED
from tutorials.tutor.sandbox import BEGUN, ROOT, enclosed

__all__ = ["NotBorn", "Raised", "World"]

READY = 'echo; echo "$READY"; read -r _ || :'  # what a container's script ends with: whoever looks from outside has time


class NotBorn(Exception):
    """A container or a machine did not start; the text is what minirt said."""


class Raised(Exception):
    """The learner's function raised an exception; the text is what organs.py told."""


class World:
    """The place of one observation, with a directory that is there until the end of the `with` block.

    Args:
        answer: the learner's file; empty: the real functions stay.
        symbols: which functions of it count.
        seed: of the secrets.
        partial: the answer may lack some functions.
        sandbox: "": none; "root", "cgroup2", "kvm": the answer runs in a container (sandbox.py), which then is the host.
    """

    def __init__(self, answer: str, symbols: tuple[str, ...], seed: str, partial: bool = False, sandbox: str = "") -> None:
        self.answer, self.symbols, self.seed, self.partial, self.sandbox = answer, symbols, seed, partial, sandbox
        self.c_answer = ""  # C is put into a copy of the guest's source, and not into this project's Python
        if answer.endswith(".c"):
            self.answer, self.c_answer = "", answer
        self.patience = os.environ.get("TUTOR_PATIENCE", "60")  # seconds for a guest that may hang
        self.config = ""  # what is different in config.json, as JSON
        self.moved: dict[str, str] = {}
        self.host = Host(bool(sandbox))
        self.place = os.open("/var/tmp", os.O_PATH | os.O_DIRECTORY)
        self.directory = Path(tempfile.mkdtemp(prefix="tutor-", dir="/var/tmp"))
        self.directory.chmod(0o1777 if sandbox == "kvm" else 0o755)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        """Take its directory away, by a descriptor: after a wrong answer / may be another directory than at first."""
        shutil.rmtree(self.directory.name, ignore_errors=True, dir_fd=self.place)
        os.close(self.place)
        self.host.close()

    # -- secrets ---------------------------------------------------------------------------------------------

    def secret(self, name: str = "", length: int = 12) -> str:
        """Return a word that nobody could know before: letters and digits, the same for this seed and name."""
        return "s" + hashlib.sha256(f"{self.seed}/{name}".encode()).hexdigest()[: length - 1]

    def number(self, name: str, low: int, high: int) -> int:
        """Return such a number, low <= it < high."""
        return low + int(hashlib.sha256(f"{self.seed}/{name}".encode()).hexdigest()[:12], 16) % (high - low)

    def file(self, name: str, text: str) -> Path:
        """Make a file of the host, which disappears with the observation."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def move(self, name: str) -> None:
        """Let minirt keep its things below a new directory of this name from now on, images too."""
        root = f"/m/{name}" if self.sandbox else str(self.directory / name)
        self.moved = {"MINIRT_ROOT": root}

    # -- running ---------------------------------------------------------------------------------------------

    def words(self, *command: str) -> list[str]:
        """Return what runs `minirt ...` or `minivm ...` with the learner's functions in it."""
        partial = ["--partial"] if self.partial else []
        words = [sys.executable, "-m", "tutorials.tutor.organs", *partial, self.answer or "-", ",".join(self.symbols), *command]
        if not self.sandbox:
            return words
        return enclosed(self.sandbox, words, self.answer, self.directory, {"TUTOR_CONFIG": self.config, **self.moved})

    @property
    def env(self) -> dict[str, str]:
        """The environment for it."""
        return {**os.environ, "PYTHONPATH": str(TOP), "NO_COLOR": "1", "TUTOR_CONFIG": self.config, **self.moved}

    def run(self, *command: str, input: str = "", limit: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises: Raised where the learner's code raises; NotBorn where it does not end."""
        if self.sandbox:
            input = f"go\n{input}"
        pipe = subprocess.PIPE
        words = self.words(*command)
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace", env=self.env) as process:
            try:
                out, err = process.communicate(input, timeout=limit)
            except subprocess.TimeoutExpired:
                end(process)
                raise NotBorn(f"{command[0]} did not end in {limit:.0f} seconds") from None
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        if self.sandbox:
            done.stdout = done.stdout.removeprefix(f"{BEGUN}\n")
        raised(done.returncode, done.stderr)
        return done

    def guest(self, code: bytes, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a 16-bit program, entered at 0x7c00, in a machine.

        Returns its output, and its exit status. Raises: Raised; NotBorn where it does not come to its end.
        """
        program = self.directory / f"{hashlib.sha256(code).hexdigest()[:8]}.bin"
        program.write_bytes(code)
        done = self.run("minivm", "run", str(program), "--boot", "flat16", "--timeout", self.patience, *options)
        if done.returncode == 124:
            raise NotBorn("the guest does not come to its end")
        return done

    def kernel(self) -> Path:
        """Build the in-tree guest with the answer's C functions in it.

        Returns its ELF file. Raises: NotBorn if it does not compile.
        """
        if IN_LAB.is_dir():  # there is no compiler: the file comes with the answer
            built = Path(self.c_answer).with_suffix(".elf") if self.c_answer else TOP / "minivm/boot/guest.elf"
            return Path(shutil.copy(built, self.directory / "guest.elf"))  # which a sandbox is shown
        copy = self.directory / "guest"
        shutil.copytree(TOP / "csrc/guest", copy, ignore=shutil.ignore_patterns("build"))
        answer = Path(self.c_answer).read_text(encoding="utf-8") if self.c_answer else ""
        for symbol in self.symbols if answer else ():
            file = copy / Path(symbol.partition(":")[0]).name
            try:
                file.write_text(splice(symbol, answer, file.read_text(encoding="utf-8")), encoding="utf-8")
            except LookupError:
                continue  # a wrong answer has only what is wrong
        done = subprocess.run(["make", "-s", "-C", str(copy), "OUT=."], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            raise NotBorn(f"it does not compile: {(errors or done.stderr.splitlines() or ['make failed'])[0]}")
        return copy / "guest.elf"

    def script(self, path: Path, *words: str) -> str:
        """Run a script of the lesson's with the learner's functions; returns what it prints. Raises: Raised, NotBorn."""
        done = self.run("script", str(path), *words)
        if done.returncode:
            raise NotBorn((done.stderr.strip().splitlines() or ["it ended at once"])[-1])
        return done.stdout

    @contextmanager
    def box(
        self, *options: str, script: str = "", env: dict[str, str] | None = None, config: dict[str, Any] | None = None,
        image: str = "busybox",
    ) -> Iterator[Box]:  # fmt: skip
        """Start a container of busybox that runs a shell script, and is then looked at until the block ends.

        Args:
            options: of `minirt run`.
            script: what it does before it is looked at.
            env: variables for it.
            config: what is to be different in config.json.
            image: another image, with a shell in it.

        Raises: NotBorn, Raised.
        """
        ready = self.ready()
        given = [word for pair in {**(env or {}), "READY": ready}.items() for word in ("-e", "=".join(pair))]
        command = ["run", "-i", "--rm", *given, *options, image, "sh", "-c", f"{script}\n{READY}"]
        self.config = json.dumps(config) if config else ""
        with self.looked_at(ready, "minirt", *command) as box:
            yield box

    @contextmanager
    def bundle(self, config: dict[str, Any], script: str = "") -> Iterator[Box]:
        """Start the container of a bundle by `minirt oci run`, to be looked at as that of `box`.

        Args:
            config: its config.json; the root is busybox's, and the program a shell with the script.
            script: what it does before it is looked at.

        Raises: NotBorn, Raised.
        """
        place, ready = self.directory / "bundle", self.ready()
        if not place.exists():
            made = [sys.executable, "-m", "minirt", "run", "--as-oci", str(place), "busybox", "true"]
            subprocess.run(made, check=True, capture_output=True, env=self.env, timeout=60)
            if self.sandbox:
                subprocess.run(["chown", "-R", f"{ROOT}:{ROOT}", str(place)], check=True)
        process = {**config["process"], "args": ["sh", "-c", f"{script}\n{READY}"]}
        process["env"] = [*process["env"], f"READY={ready}"]
        whole = {**config, "root": {"path": "rootfs"}, "process": process}
        (place / "config.json").write_text(json.dumps(whole), encoding="utf-8")
        self.config = ""
        state = f"{'/m' if self.sandbox else self.directory}/oci"
        command = ["oci", "--root", state, "run", "--bundle", str(place), f"tutor-{ready}"]
        with self.looked_at(ready, "minirt", *command) as box:
            yield box

    @contextmanager
    def waiting(self, path: Path, *words: str) -> Iterator[Box]:
        """Run a script of the lesson's that is given a word first, says it when all is made, and then waits for a line."""
        self.config, ready = "", self.ready()
        with self.looked_at(ready, "script", str(path), ready, *words) as box:
            yield box

    def ready(self) -> str:
        """Return the word by which the next container says that it can be looked at."""
        return self.secret(f"ready {time.monotonic_ns()}")

    @contextmanager
    def looked_at(self, ready: str, *command: str) -> Iterator[Box]:
        """Run a command that says a word, or whose container does, and then waits for a line."""
        pipe = subprocess.PIPE
        words = self.words(*command)
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace", env=self.env) as process:
            assert process.stdout is not None
            box = Box(self.host, process)
            try:
                if self.sandbox:
                    self.begin(process)
                for line in process.stdout:
                    if line == f"{ready}\n":
                        break
                    box.lines.append(line.rstrip("\n"))
                else:
                    _, stderr = process.communicate()
                    raised(process.returncode, stderr)
                    raise NotBorn((stderr.strip().splitlines() or ["it ended at once"])[-1])
                box.find()
                self.host.compare()
                yield box
            finally:
                with_patience(process)
                self.host.compare()

    def begin(self, process: subprocess.Popen[str]) -> None:
        """Look at the sandbox before the answer runs in it, and then let it begin."""
        assert process.stdout is not None and process.stdin is not None
        if process.stdout.readline() != f"{BEGUN}\n":
            raise NotBorn(f"the sandbox did not start: {process.communicate()[1].strip()}")
        self.host.look_at(self.host.first_child(str(process.pid)))
        process.stdin.write("go\n")
        process.stdin.flush()


def raised(status: int, stderr: str) -> None:
    if status == RAISED and stderr.strip().endswith("}"):
        raise Raised(stderr.strip().splitlines()[-1])


def with_patience(process: subprocess.Popen[str]) -> None:
    """Let a container's script go on, and end what does not end."""
    if process.poll() is None:
        try:
            process.communicate("\n", timeout=20)
        except subprocess.TimeoutExpired:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process with all below it: the first process of a container takes the others along."""
    pids = [process.pid]
    for pid in pids:
        try:
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            pass
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()

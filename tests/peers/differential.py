"""Running one bundle under several runtimes, and their probes' answers in a form that can be compared.

The host's cgroups may be hybrid: crun then wants version 2 alone at /sys/fs/cgroup. So all runtimes are run in one mount
namespace, made for the test, where that is so (`Stage`).
"""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from fcntl import ioctl
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from configurations import CONFIGURATIONS, NAMESPACES, Configuration, Exec

__all__ = ["Difference", "Outcome", "Stage", "differences", "flat"]

LIMIT = 60
STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn")
READY = "echo ready; exec sleep 100000"
CGROUP2 = f"mount --make-rprivate /; umount -R -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && {READY}"


class Outcome(NamedTuple):
    """What came of one run."""

    status: int
    error: str  # what the runtime printed
    answers: dict[str, Any]  # the probe's; empty where it did not run
    left: list[str]  # what is in the bundle that was not
    groups: list[str]  # cgroups that are there still


class Stage:
    """A place to run bundles: a mount namespace with cgroup v2, a process whose namespaces can be joined, a tree to bind."""

    def __init__(self, place: Path, probe: Path) -> None:
        self.place, self.probe = place, probe
        self.bundle, self.tree = place / "bundle", place / "tree"
        self.mounts = self._start("unshare", "-m", "sh", "-c", CGROUP2)
        self.holder = self._start("unshare", "-n", "-i", "-u", "-C", "-p", "-f", "--kill-child", "sh", "-c", READY)
        self.holder_child = int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text())
        (self.tree / "below").mkdir(parents=True)
        (self.tree / "flat").mkdir()
        os.chmod(self.tree, 0o755)
        self.inside("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.tree / "below")
        self.namespaces = {name: os.readlink(f"/proc/{self.mounts.pid}/ns/{name}") for name in NAMESPACES}
        self.joined = {os.readlink(f"/proc/{self.holder_child}/ns/{name}") for name in NAMESPACES} - set(self.namespaces.values())

    def _start(self, *command: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n", command
        return process

    def close(self) -> None:
        """End the processes; mounts and namespaces end with them."""
        self.inside("umount", "-l", self.tree / "below")
        for process in (self.holder, self.mounts):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def command(self, *words: object) -> list[str]:
        """Return a command that runs in the mount namespace."""
        return ["nsenter", f"--mount=/proc/{self.mounts.pid}/ns/mnt", "--", *map(str, words)]

    def inside(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=LIMIT, check=False)

    def make(self, configuration: Configuration, device: str) -> dict[str, Any]:
        """Make the bundle, always at the same path and with the same files. Returns its config.json."""
        shutil.rmtree(self.bundle, ignore_errors=True)
        rootfs = self.bundle / "rootfs"
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            (rootfs / folder).mkdir(parents=True)
            os.chmod(rootfs / folder, 0o755)
        os.link(self.probe, rootfs / "probe")
        (rootfs / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        for folder, _, files in os.walk(rootfs):
            for name in (".", *files):
                if name != "probe":
                    os.chown(os.path.join(folder, name), configuration.owner, configuration.owner)
        for folder in (self.place, self.bundle, rootfs):
            os.chmod(folder, 0o755)
        config = configuration.config(
            bundle=str(self.bundle), rootfs=str(rootfs), tree=str(self.tree), holder=f"/proc/{self.holder_child}", device=device
        )
        (self.bundle / "config.json").write_text(json.dumps(config))
        return config

    def run(self, runtime: str, configuration: Configuration) -> Outcome:
        """Run a configuration under a runtime.

        Standard input is a pipe: of a device crun would change the owner, and it is the host's.
        """
        device = "mpeer0"
        if "device" in configuration.name:
            subprocess.run(
                ["ip", "link", "add", device, "type", "veth", "peer", "name", "mpeer1"], capture_output=True, check=False
            )
        if configuration.name.endswith("with-its-name"):
            subprocess.run(["ip", "link", "set", device, "name", "probe1"], capture_output=True, check=False)
            device = "probe1"
        config = self.make(configuration, device)
        before = tree(self.bundle)
        state = self.place / f"state-{Path(runtime).name}"
        command = self.command(runtime, "--root", state, "run", "--bundle", self.bundle, "probed")
        status, output, error = run_command(command, configuration, config["process"]["terminal"])
        answers = json.loads(output) if status == 0 else {}
        left = sorted(tree(self.bundle) - before)
        ran = self.bundle / "hooks"
        if answers and ran.exists():
            answers["hooks"] = ran.read_text()
        if status:
            self.inside(runtime, "--root", state, "delete", "--force", "probed")
        subprocess.run(["ip", "link", "del", device], capture_output=True, check=False)
        return Outcome(status, error.decode(errors="replace"), self.plain(answers), left, self.groups())

    def join(self, runtime: str, joining: Exec) -> Outcome:
        """Run a process in a container that runs already, and end that."""
        (container,) = (one for one in CONFIGURATIONS if one.name == joining.container)
        config = self.make(container, "none")
        config["process"]["args"] = ["/probe", "wait:"]
        (self.bundle / "config.json").write_text(json.dumps(config))
        (self.bundle / "process.json").write_text(json.dumps(joining.process))
        words = [runtime, "--root", self.place / f"state-{Path(runtime).name}"]
        with open(self.place / "log", "w+") as log:
            command = self.command(*words, "run", "--detach", "--bundle", self.bundle, "probed")
            started = subprocess.run(command, stdin=subprocess.PIPE, stdout=log, stderr=log, timeout=LIMIT, check=False)
            assert started.returncode == 0, (self.place / "log").read_text()
        done = run_command(self.command(*words, "exec", "--process", self.bundle / "process.json", "probed"), joining)
        self.inside(*words, "delete", "--force", "probed")
        answers = json.loads(done[1]) if done[0] == 0 else {}
        return Outcome(done[0], done[2].decode(errors="replace"), self.plain(answers), [], self.groups())

    def groups(self) -> list[str]:
        """Remove the cgroups that a container had, and return which there were still."""
        tree = Path(f"/proc/{self.mounts.pid}/root/sys/fs/cgroup")
        left = [name for name in ("probed", "minirt-probed", "minirt/probed") if (tree / name).exists()]
        for name in left:
            for group in sorted((tree / name).glob("**/"), reverse=True):
                group.rmdir()
        return left

    def plain(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Return answers without what differs from run to run: numbers of mounts, of namespaces, of processes."""
        if not answers:
            return {}
        answers = json.loads(json.dumps(answers).replace(str(self.bundle), "BUNDLE").replace(str(self.tree), "TREE"))
        for key in [key for key in answers if key.startswith("link:/proc/self/ns/")]:
            answers[key] = self.whose(answers[key])
        if "read:/proc/self/mountinfo" in answers:
            answers["mounts"] = mounts(answers.pop("read:/proc/self/mountinfo"))
        if "read:/proc/self/status" in answers:
            lines = answers.pop("read:/proc/self/status").splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            answers["status"] = {key: status.get(key) for key in STATUS}
        me = answers["self"]
        del me["args"][2:]
        me["session keyring"] = me["session keyring"] > 0
        me["pid"] = "first" if me["pid"] == 1 else "another"
        me["clocks"] = {key: shift(key, value) for key, value in me["clocks"].items()}
        for key in ("read:/proc/keys", "list:/dev/pts", "read:/proc/timer_list"):
            if isinstance(answers.get(key), str):
                answers[key] = bool(answers[key])
        return answers

    def whose(self, link: Any) -> Any:
        """Say whose namespace it is."""
        if not isinstance(link, str):
            return link
        return "host" if link in self.namespaces.values() else "joined" if link in self.joined else "new"


def shift(clock: str, seconds: int) -> str:
    """Return how much a clock is off this process's, in minutes."""
    here = time.clock_gettime(getattr(time, f"CLOCK_{clock.upper()}"))
    return f"{round((seconds - here) / 60):+d} min"


def tree(top: Path) -> set[str]:
    """Return what is in a directory: type, mode, owner, path."""
    found = set()
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            s = os.lstat(path)
            found.add(f"{os.path.relpath(path, top)} {s.st_mode:o} {s.st_uid}:{s.st_gid}")
    return found


def mounts(text: str) -> dict[str, Any]:
    """Return a mountinfo as point -> mount (man 5 proc_pid_mountinfo); of several at a point #2 lies on #1."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        words = line.split()
        at = words.index("-")
        point, n = words[4], 1
        while point in found:
            n += 1
            point = f"{words[4]}#{n}"
        found[point] = {
            "root": words[3], "options": sorted(words[5].split(",")),
            "spread": sorted({tag.partition(":")[0] for tag in words[6:at]}), "type": words[at + 1], "source": words[at + 2],
            "system": sorted(words[at + 3].split(",")),
        }  # fmt: skip
    return found


def run_command(command: list[str], what: Configuration | Exec, terminal: bool = False) -> tuple[int, bytes, bytes]:
    """Run a command, on a terminal if its process has one. Returns its status, its output, and its standard error."""
    if terminal or (isinstance(what, Exec) and what.process.get("terminal")):
        return on_terminal(command, what.size)
    done = subprocess.run(command, input=b"", capture_output=True, timeout=LIMIT, check=False)
    return done.returncode, done.stdout, done.stderr


def on_terminal(command: list[str], size: tuple[int, int]) -> tuple[int, bytes, bytes]:
    """Run a command on a terminal of its own. Returns its status, what the terminal showed, and its standard error."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, start_new_session=True)
    os.close(slave)
    shown = b""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and select.select([master], [], [], LIMIT)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:  # EIO: nobody has the other end
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.stderr is not None
    error = process.stderr.read()
    return process.wait(LIMIT), shown, error


class Difference(NamedTuple):
    """Where our container is not as a peer's."""

    peer: str
    configuration: str
    path: str
    ours: Any
    theirs: Any

    def is_of(self, entry: dict[str, Any]) -> bool:
        """Say whether an entry of differences.toml is about it."""
        return (
            self.peer in entry.get("peer", ["runc", "crun"])
            and any(fnmatch(self.configuration, pattern) for pattern in entry.get("where", ["*"]))
            and any(fnmatch(self.path, pattern) for pattern in entry["path"])
            and ("ours" not in entry or entry["ours"] == self.ours)
            and ("theirs" not in entry or entry["theirs"] == self.theirs)
        )


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return a tree of objects as path -> value; of names, whose order says nothing, each by itself."""
    if isinstance(value, list) and path.startswith(("mounts.", "list:")):
        return {f"{path}.{name}": True for name in value}
    if isinstance(value, dict) and value and set(value) != {"errno"} and set(value) != {"signal"}:
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}" if path else key).items()}
    return {path: value}


def differences(peer: str, configuration: str, ours: Outcome, theirs: Outcome) -> list[Difference]:
    """Return how two outcomes differ."""
    if bool(ours.status) != bool(theirs.status):
        pair = [one.error.strip().splitlines()[-1] if one.status and one.error.strip() else "ran" for one in (ours, theirs)]
        return [Difference(peer, configuration, "outcome", *pair)]
    if ours.status:
        return []
    a, b = flat({**ours.answers, "left": ours.left}), flat({**theirs.answers, "left": theirs.left})
    paths = [path for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]
    return [Difference(peer, configuration, path, a.get(path), b.get(path)) for path in paths]

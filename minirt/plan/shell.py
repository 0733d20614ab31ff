"""A plan as a shell script: what unshare(1), mount(8) and a static busybox can do of it (`minirt run --as-shell`).

Two things are otherwise than in the plan, and each says what a program of one's own is good for. All is mounted below the new
root before pivot_root, as the host's mount(8) cannot be run after it. And what no word of a shell's says (capabilities, the
filter of system calls) stands in the script as a comment.
"""

from __future__ import annotations

import shlex

from minirt.linux import constants as k
from minirt.plan.decode import call_text
from minirt.plan.record import Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.plan.builder import Plan
    from minirt.plan.record import Record

__all__ = ["script"]

UNSHARE = {
    "CLONE_NEWNS": "--mount", "CLONE_NEWUTS": "--uts", "CLONE_NEWIPC": "--ipc", "CLONE_NEWNET": "--net",
    "CLONE_NEWPID": "--pid --fork", "CLONE_NEWCGROUP": "--cgroup", "CLONE_NEWTIME": "--time",
}  # fmt: skip
OPTIONS = {
    "MS_RDONLY": "ro", "MS_NOSUID": "nosuid", "MS_NODEV": "nodev", "MS_NOEXEC": "noexec", "MS_STRICTATIME": "strictatime",
    "MS_RELATIME": "relatime", "MS_NOATIME": "noatime", "MS_NOSYMFOLLOW": "nosymfollow",
}  # fmt: skip
SILENT = {
    "rt_sigaction", "rt_sigprocmask", "newfstatat", "check", "read", "write", "close", "socket", "clone3", "exit_group", "setsid",
}  # fmt: skip


def script(plan: Plan, directories: list[str], words: str) -> Iterator[str]:
    """Yield the lines of the script.

    Args:
        plan: of a container.
        directories: to be made before (an overlay's parts).
        words: the command line that it does the work of, for its head.
    """
    namespaces = 0
    for record in plan.records:
        if record.call in ("clone3", "unshare"):
            flags = record.args[0]
            flags = flags.items[0] if isinstance(flags, Words) else flags
            namespaces |= flags if isinstance(flags, int) else 0
    kinds = " ".join(option for name, option in UNSHARE.items() if namespaces & getattr(k, name))
    yield from (
        "#!/bin/sh -eu", f"# {words}", "# Needs root, util-linux, iproute2 and a static busybox. Written by minirt run --as-shell.",
        'if [ "${1-}" != inside ]; then', *(f"    mkdir -p {shlex.quote(path)}" for path in directories),
        f'    exec unshare {kinds} -- sh -eu "$0" inside', "fi",
        "exec 9< /bin/busybox  # the one program that is still there when the host's root is gone",
        'b() { /dev/busybox "$@"; }',
    )  # fmt: skip
    yield from Translator(plan).lines()


class Translator:
    """Goes through the records; knows where the new root is."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = ""  # its path, once the plan has moved there
        self.here = ""  # the working directory in the container
        self.unsaid: dict[str, None] = {}  # calls that no shell has a word for

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        step = ""
        for record in self.plan.records:
            found = [line for line in self.line(record).split("\n") if line]
            if found and record.step != step:
                step = record.step
                why = self.plan.steps[step].why if step in self.plan.steps else ""
                yield f"# {step}: {why}"
            yield from found
            if record.call == "execve":
                return

    def line(self, record: Record) -> str:
        """Return a record in a shell's words; empty where it needs none there."""
        name = record.call
        if name in SILENT:
            return ""
        method = getattr(self, f"do_{name}", None)
        text: str = method(*record.args) if method is not None else ""
        if method is None:
            self.unsaid.setdefault(call_text(record))
            first = name not in {call.partition("(")[0] for call in list(self.unsaid)[:-1]}
            return f"# not in a shell's words: {call_text(record)[:100]}" if first else ""
        return f"{text} || true" if text and record.otherwise and " || " not in text else text

    def path(self, path: object) -> str:
        """Return a path of the plan's, quoted: below the new root, once the plan is inside."""
        text = str(path)
        return shlex.quote(f"{self.root}{text}" if self.root and text.startswith("/") else text)

    # -- one method a call, with the call's arguments ----------------------------------------------------------------

    def do_mount(self, source: object, target: object, kind: object, flags: int, data: object) -> str:
        if flags & (k.MS_PRIVATE | k.MS_SLAVE | k.MS_SHARED):
            word = "private" if flags & k.MS_PRIVATE else "slave" if flags & k.MS_SLAVE else "shared"
            return f"mount --make-{'r' if flags & k.MS_REC else ''}{word} {self.path(target)}"
        if flags & k.MS_BIND:
            return f"mount --{'r' if flags & k.MS_REC else ''}bind {self.path(source)} {self.path(target)} 2>/dev/null"
        named = [option for name, option in OPTIONS.items() if flags & getattr(k, name)]
        options = ",".join([*named, *([str(data)] if data else [])])
        more = f" -o {shlex.quote(options)}" if options else ""
        return f"mount -t {kind}{more} {source} {self.path(target)}{' 2>/dev/null' if self.root else ''}"

    def do_mount_setattr(self, dirfd: object, path: object, flags: object, attr: object, size: object) -> str:
        readonly = isinstance(attr, Words) and attr.items[0] == k.MOUNT_ATTR_RDONLY
        named = isinstance(path, str) and path
        return f"mount -o remount,bind,ro {self.path(path)} 2>/dev/null || true" if readonly and named else ""

    def do_mkdirat(self, dirfd: object, path: object, mode: int) -> str:
        return f"mkdir -p {self.path(path)}" if isinstance(path, str) else ""

    def do_mknodat(self, dirfd: object, path: object, mode: int, device: int) -> str:
        import os

        return f"mknod -m {mode & 0o777:o} {self.path(path)} c {os.major(device)} {os.minor(device)}"

    def do_symlinkat(self, target: object, dirfd: object, path: object) -> str:
        return f"ln -sfn {shlex.quote(str(target))} {self.path(path)}"

    def do_sethostname(self, name: object, size: object) -> str:
        return f"hostname {shlex.quote(str(name))}"

    def do_ioctl(self, fd: object, request: object, argument: object) -> str:
        return "ip link set lo up" if request == k.SIOCSIFFLAGS else ""

    def do_umask(self, mask: int) -> str:
        return f"umask {mask:03o}"

    def do_unshare(self, flags: object) -> str:
        return ""  # unshare(1) has made them all

    def do_chdir(self, path: object) -> str:
        self.here = str(path)
        return ""

    def do_pivot_root(self, new: object, old: object) -> str:
        self.root, self.here = self.here, "/"
        return ""  # at the end: see above

    def do_umount2(self, path: object, flags: object) -> str:
        return ""

    def do_fchdir(self, fd: Slot) -> str:
        self.here = fd.name
        return ""

    def do_openat2(self, *_: object) -> str:
        return ""

    def do_openat(self, *_: object) -> str:
        return ""

    def do_execve(self, path: object, argv: object, envp: object) -> str:
        words = [shlex.quote(str(word)) for word in (argv.items if isinstance(argv, Words) else argv)]  # type: ignore[attr-defined]
        variables = envp.items if isinstance(envp, Words) else envp
        env = [shlex.quote(item) for item in variables if isinstance(item, str)]  # type: ignore[attr-defined]
        return "\n".join((
            f"ln -s /proc/self/fd/9 {shlex.quote(self.root + '/dev/busybox')}",
            f"cd {shlex.quote(self.root)}", "pivot_root . .", "b umount -l .", f"cd {shlex.quote(self.here or '/')}",
            "names=$(b env | b sed 's/=.*//')", "b rm /dev/busybox", "unset $names names",
            f"export {' '.join([*env, 'HOME=/root'])}", f"exec {' '.join(words)} 9<&-",
        ))  # fmt: skip

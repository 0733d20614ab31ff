"""Why did that call fail? Each usual cause of its errno is tried on this machine, now, and told whether it holds.

`minirt run` keeps the last failure (`keep`); a trace has its own. What a cause needs is read back from the arguments as the
trace shows them. A cause that cannot be tried any more (its directory has gone with the container) says so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from errno import EACCES, EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOEXEC, ENOSPC, ENOTDIR, EPERM, errorcode

from minirt.linux import capabilities, mountinfo
from minirt.linux.userns import in_initial
from minirt.paths import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Answer = tuple[bool | None, str]  # whether it holds (None: it cannot be told), and what was seen

__all__ = ["Cause", "Failed", "causes", "keep", "kept"]


class Failed:
    """A call that failed.

    Args:
        call: its name.
        args: as a trace shows them.
        errno: with what.
        step: in which step of the birth.
        injected: whether --fail made it fail.
    """

    def __init__(self, call: str, args: tuple[str, ...], errno: int, step: str = "", injected: bool = False) -> None:
        self.call, self.args, self.errno, self.step, self.injected = call, args, errno, step, injected

    def text(self, number: int) -> str:
        """Return an argument that is text; empty where it is none."""
        if number >= len(self.args) or not self.args[number].startswith('"'):
            return ""
        try:
            return str(json.loads(self.args[number]))
        except ValueError:
            return self.args[number].strip('"')

    def __str__(self) -> str:
        return f"{self.call}({', '.join(self.args)}): {errorcode.get(self.errno, self.errno)} ({os.strerror(self.errno)})"


class Cause:
    """One usual cause, tried.

    Attributes: what, in words; holds: True, False, or None where it cannot be told now; seen: what was looked at.
    """

    __slots__ = ("holds", "seen", "what")

    def __init__(self, what: str, holds: bool | None, seen: str) -> None:
        self.what, self.holds, self.seen = what, holds, seen

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def path() -> str:
    """Return the file in which the last failure is kept."""
    return os.path.join(state_root(), "failure.json")


def keep(failed: Failed) -> None:
    """Keep a failure for `minirt why`; where that cannot be written, nobody will ask."""
    try:
        os.makedirs(state_root(), exist_ok=True)
        with open(f"{path()}.new", "w", encoding="utf-8") as file:
            json.dump({**vars(failed), "args": list(failed.args)}, file)
        os.rename(f"{path()}.new", path())
    except OSError:
        pass


def kept() -> Failed | None:
    """Return the failure that was kept, or None."""
    try:
        with open(path(), encoding="utf-8") as file:
            fields = json.load(file)
        return Failed(fields["call"], tuple(fields["args"]), fields["errno"], fields["step"], fields["injected"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def causes(failed: Failed) -> Iterator[Cause]:
    """Yield each usual cause of a failure, tried now."""
    if failed.injected:
        yield Cause("it was told to fail, by --fail, and never made", True, "the plan says so")
        return
    for what, test in TESTS.get((failed.call, failed.errno), ()):
        try:
            holds, seen = test(failed)
        except OSError as error:
            holds, seen = None, f"{error.filename or ''}: {error.strerror}".strip(": ")
        yield Cause(what, holds, seen)


# -- what is tried -------------------------------------------------------------------------------------------


def capability(name: str) -> Callable[[Failed], Answer]:
    """Return a test: this process lacks a capability (man 7 capabilities)."""

    def test(failed: Failed) -> Answer:
        mask = capabilities.of_process()["effective"]
        held = mask >> capabilities.number(name) & 1
        return not held, f"CapEff is {mask:016x}: {name} is {'there' if held else 'missing'}"

    return test


def setting(name: str, bad: str) -> Callable[[Failed], Answer]:
    """Return a test: a file of /proc/sys has a value that forbids it."""

    def test(failed: Failed) -> Answer:
        try:
            with open(f"/proc/sys/{name}", encoding="utf-8") as file:
                value = file.read().strip()
        except FileNotFoundError:
            return False, f"this kernel has no {name.replace('/', '.')}"
        return value == bad, f"{name.replace('/', '.')} = {value}"

    return test


def in_user_namespace(failed: Failed) -> Answer:
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        words = file.read().split()
    return not in_initial(), f"uid_map of this process: {' '.join(words)}"


def missing(number: int) -> Callable[[Failed], Answer]:
    """Return a test: the path that is an argument does not exist."""

    def test(failed: Failed) -> Answer:
        name = failed.text(number)
        if not name.startswith("/"):
            return None, f"{name or 'no path'}: not the host's path"
        return not os.path.lexists(name), f"{name} is {'there' if os.path.lexists(name) else 'not there'}"

    return test


def options(failed: Failed) -> dict[str, list[str]]:
    """Return the directories in an overlay's options."""
    found = {}
    for word in re.split(r"(?<!\\),", failed.text(4)):
        name, _, value = word.partition("=")
        found[name] = [re.sub(r"\\(.)", r"\1", one) for one in re.split(r"(?<!\\):", value)]
    return found


def layer_missing(failed: Failed) -> Answer:
    wanted = [one for name in ("lowerdir", "upperdir", "workdir") for one in options(failed).get(name, ()) if one.startswith("/")]
    if not wanted:
        return None, "no directories are named"
    gone = [one for one in wanted if not os.path.isdir(one)]
    return bool(gone), f"not there: {', '.join(gone)}" if gone else f"all {len(wanted)} directories are there"


def upper(failed: Failed) -> str:
    return (options(failed).get("upperdir") or [""])[0]


def nearest(name: str) -> str:
    """Return the path, or the directory above it that is still there."""
    while name not in ("", "/") and not os.path.isdir(name):
        name = os.path.dirname(name)
    return name or "/"


def upper_on_overlay(failed: Failed) -> Answer:
    if not upper(failed):
        return None, "there is no upper directory"
    where = nearest(upper(failed))
    kind = filesystem(where)
    return kind == "overlay", f"{where} is on {kind}"


def filesystem(name: str) -> str:
    """Return the type of the file system that a directory is on."""
    mount = mountinfo.holding(name)
    return mount.kind if mount is not None else "an unknown file system"


def upper_and_work_apart(failed: Failed) -> Answer:
    work = (options(failed).get("workdir") or [""])[0]
    if not (upper(failed) and work):
        return None, "there is no upper directory"
    one, other = nearest(upper(failed)), nearest(work)
    return os.stat(one).st_dev != os.stat(other).st_dev, f"{one} is on {filesystem(one)}, {other} on {filesystem(other)}"


def no_attributes(failed: Failed) -> Answer:
    """Try to set an attribute as overlayfs does."""
    where = nearest(upper(failed))
    name = "user.minirt.why" if "userxattr" in failed.text(4) else "trusted.minirt.why"
    probe = os.path.join(where, f".why-{os.getpid()}")
    os.mkdir(probe)
    try:
        os.setxattr(probe, name, b"x")
    except OSError as error:
        return True, f"setxattr({name}) in {where}: {errorcode.get(error.errno or 0, '')}"
    finally:
        os.rmdir(probe)
    return False, f"{where} takes {name.split('.')[0]} attributes"


def in_use(failed: Failed) -> Answer:
    if not upper(failed):
        return None, "there is no upper directory"
    users = [mount.point for mount in mountinfo.read() if f"upperdir={upper(failed)}" in mount.superblock]
    return bool(users), f"mounted at {', '.join(users)}" if users else "no overlay of this namespace has this upper directory"


def two_kinds(failed: Failed) -> Answer:
    named = [flag for flag in ("MS_SHARED", "MS_SLAVE", "MS_PRIVATE", "MS_UNBINDABLE") if flag in (failed.args[3:4] or ("",))[0]]
    others = [flag for flag in (failed.args[3:4] or ("",))[0].split("|") if flag not in (*named, "MS_REC", "MS_SILENT", "0")]
    return bool(named) and (len(named) > 1 or bool(others)), f"flags: {(failed.args[3:4] or ('',))[0]}"


def no_mount_point(failed: Failed) -> Answer:
    name = failed.text(0)
    if not name.startswith("/"):
        return None, f"{name!r} was the container's; without chdir it is where minirt stands"
    return not os.path.ismount(name), f"{name} is {'a' if os.path.ismount(name) else 'no'} mount point"


def root_is_initramfs(failed: Failed) -> Answer:
    kind = filesystem("/")
    return kind in ("rootfs", "ramfs"), f"/ is on {kind}"


def root_is_shared(failed: Failed) -> Answer:
    root = mountinfo.holding("/")
    shared = root is not None and any(tag.startswith("shared:") for tag in root.tags)
    return shared or None, "the host's / is shared; step propagation must come before" if shared else "the host's / is not shared"


def namespaces_used_up(failed: Failed) -> Answer:
    low = []
    for kind in ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup"):
        with open(f"/proc/sys/user/max_{kind}_namespaces", encoding="utf-8") as file:
            value = int(file.read())
        if value < 8:
            low.append(f"user.max_{kind}_namespaces = {value}")
    return bool(low), ", ".join(low) or "each of user.max_*_namespaces is 8 or more"


def not_mapped(failed: Failed) -> Answer:
    return (True if failed.args and failed.args[0].split()[0] not in ("0", "4294967295") else None), f"id {failed.args[0]}"


def host_program(failed: Failed) -> Answer:
    name = os.path.basename(failed.text(0) or "")
    found = shutil.which(name) if name else None
    return (bool(found) or None), f"the host has {found}, but that is another root" if found else "nor does the host have it"


def no_such_filesystem(failed: Failed) -> Answer:
    kind = failed.text(2)
    with open("/proc/filesystems", encoding="utf-8") as file:
        have = any(line.split()[-1] == kind for line in file)
    return not have, f"/proc/filesystems has {'' if have else 'no '}{kind}"


Test = tuple[str, "Callable[[Failed], Answer]"]
WITHOUT_ADMIN = "this process lacks CAP_SYS_ADMIN: run it as root, or with a user namespace"
ADMIN: Test = (WITHOUT_ADMIN, capability("CAP_SYS_ADMIN"))
RESTRICTED: list[Test] = [
    ("user namespaces are forbidden for all", setting("user/max_user_namespaces", "0")),
    ("AppArmor allows them to some programs only", setting("kernel/apparmor_restrict_unprivileged_userns", "1")),
    ("Debian's switch forbids them to users", setting("kernel/unprivileged_userns_clone", "0")),
]
NESTED: Test = ("this process is in a user namespace, where the kernel allows less", in_user_namespace)
OVERLAID: list[Test] = [
    ("a layer, or the upper or work directory, does not exist", layer_missing),
    ("the upper directory is on an overlay itself", upper_on_overlay),
    ("upper and work directory are on two file systems", upper_and_work_apart),
    ("the upper directory's file system has no extended attributes", no_attributes),
    ("flags that change the propagation stand beside others", two_kinds),
]
TESTS: dict[tuple[str, int], list[Test]] = {
    ("mount", EPERM): [ADMIN, NESTED],
    ("mount", EINVAL): OVERLAID,
    ("mount", ENOENT): [("the source does not exist", missing(0)), ("the target does not exist", missing(1)), OVERLAID[0]],
    ("mount", ENOTDIR): [("the target does not exist", missing(1))],
    ("mount", EBUSY): [("another overlay has this upper directory", in_use)],
    ("mount", ENODEV): [("the kernel does not have this file system", no_such_filesystem)],
    ("pivot_root", EINVAL): [
        ("the new root is no mount point", no_mount_point),
        ("the root is the initramfs: minirt oci run --no-pivot", root_is_initramfs),
        ("the mounts are shared with the host", root_is_shared),
    ],
    ("pivot_root", EPERM): [ADMIN],
    ("pivot_root", EBUSY): [("the new root is the root already, or . was not changed to it", no_mount_point)],
    ("clone3", EPERM): [ADMIN, *RESTRICTED, NESTED],
    ("clone3", ENOSPC): [("a limit of namespaces is reached", namespaces_used_up)],
    ("unshare", EPERM): [ADMIN, *RESTRICTED],
    ("sethostname", EPERM): [ADMIN, NESTED],
    ("mknodat", EPERM): [NESTED, ("this process lacks CAP_MKNOD", capability("CAP_MKNOD"))],
    ("mknodat", EEXIST): [("another file is there already", missing(1))],
    ("prlimit64", EPERM): [("this process lacks CAP_SYS_RESOURCE", capability("CAP_SYS_RESOURCE")), NESTED],
    ("setgroups", EPERM): [NESTED, ("this process lacks CAP_SETGID", capability("CAP_SETGID"))],
    ("setresuid", EINVAL): [("the user is not in the namespace's map", not_mapped)],
    ("setresgid", EINVAL): [("the group is not in the namespace's map", not_mapped)],
    ("execve", ENOENT): [("a program of this name is on the host, and not in the image", host_program)],
    ("execve", EACCES): [("a program of this name is on the host, and another in the image", host_program)],
    ("execve", ENOEXEC): [("it is a script without #!, or of another machine", host_program)],
}

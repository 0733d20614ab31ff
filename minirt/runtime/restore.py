"""restore: a container whose processes are those of a checkpoint (man 8 runc-restore).

    minirt      the container's directory and cgroup ─▶ starts CRIU's service in that cgroup ─▶ asks it to restore
    CRIU        namespaces, mounts, processes as they were, the first of them a child of minirt's ─▶ ends

CRIU wants the root to be a mount point. So it is started in a mount namespace of its own, where the root is mounted once
more; that ends with CRIU, and the host's mounts never change, whenever this process may be killed.
"""

from __future__ import annotations

import os

from minirt.documents import load_file
from minirt.errors import KernelError, MinirtError
from minirt.linux import constants as k
from minirt.linux.criu import RESTORE, Criu, CriuError
from minirt.linux.direct import syscall
from minirt.linux.files import make_in_root, open_in_root
from minirt.oci.options import read_mounts
from minirt.runtime import hooks, saved
from minirt.runtime.birth import write_pid
from minirt.runtime.console import check_terminal, send_fd, stay
from minirt.runtime.container import RuntimeFailure, start_time
from minirt.runtime.create import Making
from minirt.runtime.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["FLAGS", "restore"]

FLAGS = (
    *saved.BOTH,
    Flag("bundle b", "DIR the bundle's directory; by default this one", ""),
    Flag("console-socket", "PATH of a unix socket that the terminal's master is sent to", ""),
    Flag("detach d", "do not wait for its end"),
    Flag("pid-file", "FILE to write the first process's pid to", ""),
    Flag("no-subreaper", "(ignored: minirt is none)"),
    Flag("no-pivot", "(ignored: CRIU enters the root)"),
    Flag("lsm-profile", "PROFILE of a security module to restore with, as apparmor:NAME", ""),
    Flag("lsm-mount-context", "CONTEXT of SELinux that mounts are restored with", ""),
)
LOG = "restore.log"
KERNELS = ("proc", "sysfs", "cgroup", "cgroup2", "tmpfs", "devpts", "mqueue")  # nothing is to be made in these


def restore(root: str, id: str, values: dict[str, Any], warn: Callable[[str], None]) -> int:
    """Bring a container back; without --detach stay until its end and delete it. Returns its exit status.

    Raises: MinirtError, and then nothing is left.
    """
    making = Making(root, id, {**values, "pidfd_socket": "", "preserve_fds": 0, "no_new_keyring": False}, warn)
    check_terminal(bool(making.process.get("terminal")), values["detach"], values["console_socket"])
    with making.undo:
        back = Back(making)
        back.prepare()
        signals = None
        if not values["detach"]:
            from minirt.terminal.wait import Signals

            signals = Signals().__enter__()
            making.undo.call(signals.__exit__)
        back.ask()
        making.container.save(status="running", pid=back.pid, started=start_time(back.pid))
        if values["pid_file"]:
            write_pid(values["pid_file"], back.pid)
        if values["detach"]:
            making.undo.keep()
            return 0
        making.container.unlock()
        return stay(back.pidfd, back.master, signals)


class Back:
    """A container that is coming back."""

    def __init__(self, making: Making) -> None:
        self.making = making
        self.container = making.container
        self.values = making.values
        self.path = os.path.abspath(self.values["image_path"] or "checkpoint")
        self.options = saved.common(self.values, LOG)
        self.more: list[int] = []  # descriptors for CRIU, from 4 on
        self.pid = 0
        self.pidfd = -1
        self.master = -1

    def prepare(self) -> None:
        """Find the image, make the container's directory and its cgroup, and what mounts are to be put on."""
        pipes = list(self.pipes())
        self.making.prepare()
        self.making.filter_devices()
        self.options.update(evasive_devices=True, rst_sibling=True)
        for key in ("lsm_profile", "lsm_mount_context"):
            if self.values[key]:
                self.options[key] = self.values[key]
        if path := saved.settings(self.making.config):
            self.options["config_file"] = path
        self.options["ext_mnt"] = self.outside()
        self.options["inherit_fd"] = [*pipes, *self.namespaces()]

    def outside(self) -> list[list[tuple[int, str]]]:
        """Return ext_mount_map entries: the names of the checkpoint, and what is now to be mounted for each."""
        entries = saved.bound(self.making.config) + [(path, path) for path in saved.devices(self.making.config)]
        return [[(1, target), (2, source)] for target, source in entries]

    def pipes(self) -> Iterator[list[tuple[int, Any]]]:
        """Yield inherit_fd entries: where 0, 1, 2 were pipes, or files of the host, ours take their place."""
        try:
            names = load_file(os.path.join(self.path, saved.DESCRIPTORS))
        except OSError as error:
            raise RuntimeFailure(f"--image-path {self.path}: {saved.DESCRIPTORS}: {error.strerror}: no checkpoint") from None
        for fd, name in enumerate(names[:3]):
            if name.startswith(("pipe:", "file[")):
                yield [(1, name), (2, fd)]

    def namespaces(self) -> Iterator[list[tuple[int, Any]]]:
        """Yield inherit_fd entries for namespaces that are joined; note the others, which CRIU enters by their path."""
        join = []
        for namespace in (self.making.config.get("linux") or {}).get("namespaces") or ():
            kind, path = namespace["type"], namespace.get("path")
            if not path:
                continue
            if kind not in saved.JOINED:
                join.append([(1, {"mount": "mnt"}.get(kind, kind)), (2, path)])
                continue
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.making.undo.call(os.close, fd)
            yield [(1, saved.JOINED[kind][1]), (2, 4 + len(self.more))]
            self.more.append(fd)
        if join:
            self.options["join_ns"] = join

    # -- CRIU ------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Let CRIU do it. Raises: MinirtError; what it restored is killed then."""
        self.making.undo.call(self.end)
        with MountNamespace():
            make_targets(self.making)
        with MountNamespace():
            self.open_directories()
            self.options["root"] = root_to_mount(self.making)
            criu = Criu(more=self.more)
        try:
            with criu:
                self.enter_cgroup(criu.pid)
                criu.ask(RESTORE, self.options, self.at)
        except CriuError as error:
            raise saved.explain(error, self.values["work_path"] or self.path, LOG) from None

    def open_directories(self) -> None:
        """Open the image and the work directory, in the mount namespace of CRIU's: it mounts something there."""
        for key, path, flag in (("images_dir_fd", self.path, "--image-path"),
                                ("work_dir_fd", self.values["work_path"] or self.path, "--work-path")):  # fmt: skip
            self.options[key] = fd = saved.open_directory(path, flag, make=key == "work_dir_fd")
            self.making.undo.call(os.close, fd)

    def enter_cgroup(self, pid: int) -> None:
        """Move the service, which waits, into the container's cgroup: what it makes is born there."""
        scope, group = self.making.scope, self.making.cgroup
        if scope is not None:
            self.making.undo.call(scope.remove)
            group = scope.enter(pid)
        if group:
            from minirt.linux.cgroup_group import Cgroup

            if scope is None:
                Cgroup.open(group).write("cgroup.procs", str(pid), "what CRIU makes is born here")
            with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
                own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
            self.options["cg_root"] = [[(1, ""), (2, own)]]

    def at(self, stage: str, pid: int, fd: int) -> None:
        """Do what is to be done at a stage of CRIU's."""
        config, container = self.making.config, self.container
        if stage == "setup-namespaces":
            state = {**container.oci_state("creating"), "pid": pid}
            for kind in ("prestart", "createRuntime"):
                hooks.run_outside(kind, hooks.of(config, kind), state)
        elif stage == "orphan-pts-master" and fd >= 0:
            if self.values["console_socket"]:
                try:
                    send_fd(self.values["console_socket"], b"/dev/ptmx", fd)
                finally:
                    os.close(fd)
            else:
                self.master, fd = fd, -1
        elif stage == "post-restore":
            self.pid = pid
            self.pidfd = os.pidfd_open(pid)
            container.save(pid=pid, started=start_time(pid))  # for `delete --force`, should we be killed from here on

    def end(self) -> None:
        """Kill what came back, if it is still there, and let go of it."""
        if self.pidfd >= 0:
            syscall(k.SYS_pidfd_send_signal, self.pidfd, k.SIGKILL)
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass  # waited for already
            os.close(self.pidfd)
            self.pidfd = -1
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


# -- mounts ------------------------------------------------------------------------------------------------


class MountNamespace:
    """While entered, mounts are this process's alone; at the end it is back, and they go unless a child has them."""

    def __enter__(self) -> None:
        self.before = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # setns(2) goes to the root
        must("unshare(CLONE_NEWNS)", k.SYS_unshare, k.CLONE_NEWNS)
        mount("", "/", k.MS_REC | k.MS_SLAVE)

    def __exit__(self, *_: object) -> None:
        must("setns(CLONE_NEWNS)", k.SYS_setns, self.before, k.CLONE_NEWNS)
        os.fchdir(self.directory)
        os.close(self.before)
        os.close(self.directory)


def mount(source: str, target: str, flags: int, kind: str = "") -> None:
    """man 2 mount. Raises: KernelError."""
    must(f"mount({source!r}, {target!r})", k.SYS_mount, *map(os.fsencode, (source, target, kind)), flags)


def must(call: str, number: int, *args: int | bytes) -> None:
    """Make a system call. Raises: KernelError."""
    result = syscall(number, *args)
    if result < 0:
        raise KernelError(-result, f"{call}: {os.strerror(-result)}")


def root_to_mount(making: Making) -> str:
    """Mount the root where nothing is mounted over it, and return that place: in the container's directory."""
    path = making.container.path
    mount("tmpfs", path, k.MS_NOSUID | k.MS_NODEV, "tmpfs")
    os.mkdir(f"{path}/root", 0o755)
    mount(making.container.state["rootfs"], f"{path}/root", k.MS_BIND | k.MS_REC)
    return os.path.realpath(f"{path}/root")


def make_targets(making: Making) -> None:
    """Make what config.json's mounts are put on, where the root lacks it, as a start does.

    Bind mounts are mounted for that, as others may be put into them; not those that CRIU fills again itself.
    """
    filled: list[str] = []
    root = os.open(making.container.state["rootfs"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for entry in read_mounts(making.config):
            if any(f"{entry.target}/".startswith(f"{path}/") for path in filled):
                continue
            if not entry.bind and entry.kind in KERNELS:
                filled.append(entry.target)
            make_in_root(root, entry.target, not entry.bind or os.path.isdir(entry.source))
            if entry.bind:
                fd = open_in_root(root, entry.target, os.O_PATH)
                try:
                    mount(entry.source, f"/proc/self/fd/{fd}", k.MS_BIND | k.MS_REC)
                finally:
                    os.close(fd)
    except OSError as error:
        raise MinirtError(f"config.json: mounts: {error.filename or ''}: {error.strerror}") from None
    finally:
        os.close(root)

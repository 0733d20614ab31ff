"""What a step is written with: its name, what must stand before it, and what it knows of the container."""

from __future__ import annotations

from minirt.plan import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from minirt.oci.options import Mount

__all__ = ["Context", "Overlay", "always", "namespace_types", "step"]


class Overlay:
    """A root file system made of layers (Documentation/filesystems/overlayfs.rst).

    Args:
        lower: directories, the top layer first; they are only read.
        upper: directory that all changes go to.
        work: empty directory on the same file system as upper.
        target: directory to mount it on.
        short: directory in which the lower ones have the names 0, 1, 2 ...: for mount options that would be too long.

    Attributes: whole, whether what is changed is to lie in upper with all its content, so that it can become a layer.
    """

    __slots__ = ("lower", "short", "target", "upper", "whole", "work")

    def __init__(self, lower: list[str], upper: str, work: str, target: str, short: str = "") -> None:
        self.lower = lower
        self.upper = upper
        self.work = work
        self.target = target
        self.short = short
        self.whole = False


class Context:
    """What the steps read: config.json, and what the engine knows that has no place in it.

    Args:
        config: the OCI configuration (runtime-spec config.md).
        bundle: its directory, absolute.
        overlay: layers to make the root of; by default config's root.path is the root.
        user: `--user` as typed, to be resolved in the image at the barrier; by default config's numbers count.
        cgroup: directory of the cgroup that the container is born into; by default its parent's.
        seccomp: the filter, compiled, and the flags to load it with.
        rootless: whether this process may not map other users than itself.
        init: path in the container of a program that is pid 1 there and starts the command; by default none.
        no_pivot: enter the root by MS_MOVE and chroot, as where / is the initramfs (runc's --no-pivot).
        null_fds: those of 0, 1, 2 that are the host's /dev/null; they become the container's.
        resolve: look for the command in the finished root in any case, so that what cannot be run is known before.
        created: stand at a barrier when all is done but the start.
        start_fifo: path of the FIFO at which a created container then waits for a byte; by default it does not wait.
        hooks: whether the parent wants to run hooks when all is mounted and the host's files can still be seen.
        join: pid of a process whose namespaces to enter instead of making new ones; by default none.
        network: whether the parent leads a network into it.
        new_keyring: give it a session keyring of its own.
        scope: stand at a barrier before the process is made, for who moves its maker into a cgroup (systemd).
    """

    __slots__ = (
        "bundle",
        "cgroup",
        "config",
        "created",
        "fresh",
        "ground",
        "hooks",
        "init",
        "initial",
        "join",
        "made",
        "network",
        "new_keyring",
        "no_pivot",
        "null_fds",
        "overlay",
        "process",
        "read",
        "resolve",
        "rootless",
        "scope",
        "seccomp",
        "slots",
        "start_fifo",
        "user",
    )

    def __init__(
        self,
        config: dict[str, Any],
        bundle: str,
        overlay: Overlay | None = None,
        user: str | None = None,
        cgroup: str = "",
        seccomp: tuple[bytes, int] | None = None,
        rootless: bool = False,
        init: str = "",
        no_pivot: bool = False,
        null_fds: tuple[int, ...] = (),
        resolve: bool = False,
        created: bool = False,
        start_fifo: str = "",
        hooks: bool = False,
        join: int = 0,
        network: bool = False,
        new_keyring: bool = True,
        scope: bool = False,
    ) -> None:
        self.config = config
        self.bundle = bundle
        self.overlay = overlay
        self.user = user
        self.cgroup = cgroup
        self.seccomp = seccomp
        self.rootless = rootless
        self.init = init
        self.no_pivot = no_pivot
        self.null_fds = null_fds
        self.resolve = resolve
        self.created = created
        self.start_fifo = start_fifo
        self.hooks = hooks
        self.join = join
        self.network = network
        self.new_keyring = new_keyring
        self.scope = scope
        self.process: dict[str, Any] = config.get("process") or {}
        self.fresh = namespace_types(config) if not join else set()
        self.slots: dict[str, Any] = {}  # where one step leaves a descriptor for a later one
        self.read: list[Mount] | None = None
        self.initial: bool | None = None  # is the caller in the initial user namespace? Asked once for a birth
        self.made: set[str] = {"/"}  # directories that need not be made again
        self.ground: dict[str, bool] = {}  # mount points so far: may paths below be followed as they are (targets.py)?

    @property
    def linux(self) -> dict[str, Any]:
        """The `linux` object of config.json."""
        linux: dict[str, Any] = self.config.get("linux") or {}
        return linux

    @property
    def mounts(self) -> list[Mount]:
        """The entries of config.json's mounts, read at first use, as until then some may be added."""
        if self.read is None:
            from minirt.oci.options import read_mounts

            self.read = read_mounts(self.config, alone=self.userns)
        return self.read

    @property
    def userns(self) -> bool:
        """Whether the container is in a user namespace other than the initial one: its own, another's, or the caller's.

        There no device node can be made, and what the host's mounts forbid cannot be allowed (man 7 user_namespaces).
        """
        if any(ns["type"] == "user" for ns in self.linux.get("namespaces") or ()):
            return True
        if self.initial is None:
            from minirt.linux.userns import in_initial

            self.initial = in_initial()
        return not self.initial

    @property
    def shared_root(self) -> bool:
        """Whether somebody else may have the root's directory too, and rename what is in it while we work: a bundle's.

        What is mounted in it goes along with its directory, so then a path is not where it was a moment ago. Layers' upper
        directory is ours alone.
        """
        return self.overlay is None

    @property
    def root(self) -> str:
        """The directory that becomes the container's root, on the host."""
        if self.overlay is not None:
            return self.overlay.target
        path: str = self.config["root"]["path"]
        return path if path.startswith("/") else f"{self.bundle}/{path}"


def namespace_types(config: dict[str, Any]) -> set[str]:
    """Return the types of namespace that are made new (those with a path are joined)."""
    namespaces = (config.get("linux") or {}).get("namespaces") or ()
    return {ns["type"] for ns in namespaces if not ns.get("path")}


def always(c: Context) -> Hashable:
    """Say that a step's records depend on nothing: they are the same in every plan that has it."""
    return ()


def step(
    name: str, *needs: str, why: str, common: Callable[[Context], Hashable] | None = None
) -> Callable[[Callable[[Plan, Context], None]], Callable[[Plan, Context], None]]:
    """Make a function a step: what it appends to the plan belongs to this name.

    Args:
        name: what `--upto` and `--without` call it.
        needs: steps that must stand before it; cutting one of them cuts this one too.
        why: what it is for, one sentence.
        common: returns all that its records depend on, where many containers have that alike, so that they are made once for
            all of them (`Plan.common`); None where they depend on more. By default they do.
    """
    made = Step(name, needs, why)

    def decorate(function: Callable[[Plan, Context], None]) -> Callable[[Plan, Context], None]:
        def append(plan: Plan, context: Context) -> None:
            plan.current = name
            if name not in plan.steps:
                plan.steps[name] = made
            key = common(context) if common is not None else None
            if key is None:
                function(plan, context)
            else:
                plan.common((function, key), lambda: function(plan, context))

        append.__doc__ = function.__doc__
        append.__name__ = function.__name__
        append.__wrapped__ = function  # type: ignore[attr-defined]
        return append

    return decorate

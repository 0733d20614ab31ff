"""The probes of `minirt doctor`. A feature is found by trying it, never by a version number."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Finding", "probes"]


class Finding:
    """What one probe found."""

    __slots__ = ("advice", "found", "good", "name", "needed")

    def __init__(self, name: str, good: bool, found: str, advice: str = "", needed: bool = True) -> None:
        self.name = name
        self.good = good
        self.found = found
        self.advice = advice  # what to do where it is missing
        self.needed = needed  # no container runs without it

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def probes() -> tuple[Callable[[], Finding], ...]:
    """Return the probes, in the order of a container's birth."""
    return (user, executor, namespaces, user_namespace, overlay, idmapped, seccomp, cgroups, networks, image, kvm, lab)


def user() -> Finding:
    """Whether we are root, or need a user namespace for everything."""
    missing = []
    if os.geteuid() == 0:
        from minirt.linux import capabilities

        have = capabilities.of_process()["effective"]
        missing = capabilities.names(((1 << capabilities.last_cap() + 1) - 1) & ~have)
        text = f"root without {', '.join(missing)}" if missing else "root with all capabilities"
        return Finding("user", True, text)
    return Finding("user", True, f"uid {os.geteuid()}: containers get a user namespace in which they are root")


def attempt(name: str, build: Callable[[Any], Any], good: str, advice: str, needed: bool = True) -> Finding:
    """Run a plan of a few calls in a throw-away process and say whether they worked."""
    from minirt.errors import MinirtError
    from minirt.plan import Plan

    try:
        plan = build(Plan())
        plan.exit_group(0).run()
    except (MinirtError, ValueError) as error:
        return Finding(name, False, str(error), advice, needed)
    return Finding(name, True, good)


def executor() -> Finding:
    """Whether the freestanding program runs."""
    return attempt("executor", lambda p: p.umask(0), "runs", "build it: make")


def with_user(flags: int) -> int:
    """Add a user namespace where there is no other way to the rest."""
    from minirt.linux import constants as k

    return flags if os.geteuid() == 0 else flags | k.CLONE_NEWUSER


def map_ids(p: Any) -> Any:
    """Append what makes us root in the user namespace that was just made (man 7 user_namespaces); as root, nothing.

    Without a map nobody in it may look into a directory that is its owner's alone.
    """
    from minirt.linux import constants as k
    from minirt.plan import Slot

    if os.geteuid() != 0:
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {os.geteuid()} 1"), ("gid_map", f"0 {os.getegid()} 1")):
            fd = Slot(file)
            p.openat(k.AT_FDCWD, f"/proc/self/{file}", k.O_WRONLY | k.O_CLOEXEC, store=fd)
            p.write(fd, text.encode(), len(text))
    return p


def namespaces() -> Finding:
    """Whether new namespaces can be made."""
    from minirt.linux import constants as k

    flags = k.CLONE_NEWNS | k.CLONE_NEWUTS | k.CLONE_NEWIPC | k.CLONE_NEWPID | k.CLONE_NEWNET | k.CLONE_NEWCGROUP
    advice = "run as root, or let users make user namespaces (sysctl user.max_user_namespaces)"
    kinds = "mount, uts, ipc, pid, network, cgroup"
    return attempt("namespaces", lambda p: p.unshare(with_user(flags)), kinds, advice)


def user_namespace() -> Finding:
    """Whether --userns works."""
    from minirt.linux import constants as k

    advice = "sysctl user.max_user_namespaces=10000 (on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0)"
    return attempt("user namespace", lambda p: p.unshare(k.CLONE_NEWUSER), "can be made", advice, os.geteuid() != 0)


def overlay() -> Finding:
    """Whether an overlay can be mounted where containers are kept."""
    import shutil
    import tempfile

    from minirt.linux import constants as k
    from minirt.paths import data_root

    place = data_root()
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK):
        return Finding("overlay", False, f"{place} is not writable", "set MINIRT_ROOT to a directory of yours")
    directory = tempfile.mkdtemp(dir=place)
    try:
        for part in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{directory}/{part}")
        data = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
        if os.geteuid() != 0:
            data += ",userxattr"

        def build(p: Any) -> Any:
            map_ids(p.unshare(with_user(k.CLONE_NEWNS))).mount(None, "/", None, k.MS_REC | k.MS_PRIVATE)
            return p.mount("overlay", f"{directory}/merged", "overlay", 0, data)

        advice = f"the file system of {place} must not be an overlay itself: set MINIRT_ROOT to another one"
        return attempt("overlay", build, f"can be mounted below {place}", advice)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def networks() -> Finding:
    """Whether containers can have a network: a bridge for root, pasta for others."""
    import shutil
    from importlib.util import find_spec

    from minirt.errors import MinirtError

    if os.geteuid() != 0:
        if shutil.which("pasta") is None:
            return Finding("networks", False, "no pasta", "apt-get install passt", False)
        tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
        advice = "chmod 666 /dev/net/tun" if os.path.exists("/dev/net/tun") else "modprobe tun"
        return Finding("networks", tun, "by pasta" if tun else "pasta, but /dev/net/tun may not be opened", advice, False)
    missing = [name for name in ("pyroute2", "dnslib") if find_spec(name) is None]
    if missing:
        return Finding("networks", False, f"no {' and no '.join(missing)}", "pip install 'minirt[network]'", False)
    if shutil.which("nft") is None:
        return Finding("networks", False, "no nft", "apt-get install nftables", False)
    from minirt.network.firewall import comment_of

    try:
        comment_of("minirt")
    except MinirtError as error:
        return Finding("networks", False, str(error), "a kernel with CONFIG_NF_TABLES_INET (modprobe nf_tables)", False)
    return Finding("networks", True, "bridges, names, nftables")


def idmapped() -> Finding:
    """Whether layers can be shown through an id map (root with --userns)."""
    from minirt.errors import KernelError
    from minirt.linux.mounts import idmapped_copy
    from minirt.paths import data_root

    name = "id-mapped mounts"
    if os.geteuid() != 0:
        return Finding(name, False, "need root", "not needed without it", needed=False)
    place = data_root() if os.path.isdir(data_root()) else "/"
    fd = os.open("/proc/self/ns/user", os.O_RDONLY)
    try:
        os.close(idmapped_copy(place, fd))
        return Finding(name, True, f"work on {place}")
    except KernelError as error:
        # EPERM is the kernel's answer to the initial user namespace, and comes after all that could be unsupported.
        if error.errno == 1:
            return Finding(name, True, f"work on {place}")
        return Finding(name, False, str(error), "--userns needs a file system with id-mapped mounts", needed=False)
    finally:
        os.close(fd)


def seccomp() -> Finding:
    """Whether the kernel takes the default filter."""
    from minirt.linux import constants as k
    from minirt.linux import seccomp as compiler
    from minirt.plan import Memory, Words

    made = compiler.compile_default(())

    def build(p: Any) -> Any:
        p.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
        return p.seccomp(k.SECCOMP_SET_MODE_FILTER, made.flags, Words(made.instructions, Memory(made.program)))

    text = f"takes the default filter ({made.instructions} instructions)"
    return attempt(
        "seccomp", build, text, "the kernel needs CONFIG_SECCOMP_FILTER; else --security-opt seccomp=unconfined"
    )


def cgroups() -> Finding:
    """Which controllers of cgroup v2 there are."""
    from minirt.linux import cgroup2

    wanted = ("cpu", "cpuset", "io", "memory", "pids")
    try:
        mount = cgroup2.find_mount()
        have = cgroup2.controllers(mount) if mount else []
    except OSError as error:
        mount, have = "", [error.strerror or ""]
    lacking = [c for c in wanted if c not in have]
    if not mount:
        return Finding("cgroup v2", False, "not mounted", "containers run without limits; with limits: lab/run", False)
    if lacking:
        text = f"{mount} has no {', '.join(lacking)} (it has: {' '.join(have) or 'none'})"
        advice = "limits on these are refused here; use a kernel with systemd.unified_cgroup_hierarchy=1, or lab/run"
        return Finding("cgroup v2", False, text, advice, needed=False)
    return Finding("cgroup v2", True, f"{mount} with {' '.join(have)}")


def image() -> Finding:
    """Whether the default image is there or can be made."""
    found = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), "")
    return Finding("default image", bool(found), f"made from {found}" if found else "no busybox",
                   "apt-get install busybox-static", needed=False)  # fmt: skip


def kvm() -> Finding:
    """Whether machines can run."""
    if not os.path.exists("/dev/kvm"):
        advice = "modprobe kvm_intel or kvm_amd, with virtualisation enabled in the firmware; or lab/run minivm run"
        return Finding("/dev/kvm", False, "does not exist", advice, needed=False)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Finding("/dev/kvm", False, "not ours to open", "adduser $USER kvm, and log in again", needed=False)
    return Finding("/dev/kvm", True, "can be opened (minivm doctor tells more)")


def lab() -> Finding:
    """Whether the lab can be started."""
    path = os.environ.get("PATH", "").split(":")
    found = next((p for p in path if os.path.exists(f"{p}/qemu-system-x86_64")), "")
    return Finding("lab", bool(found), "qemu is there" if found else "no qemu-system-x86_64",
                   "apt-get install qemu-system-x86 mmdebstrap", needed=False)  # fmt: skip

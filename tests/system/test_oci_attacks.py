"""Images and volumes that lead out: each attack with the guard, and without it, so that it is seen to be one.

Nothing here can harm the host: what an attack reaches is a directory of the test's own, or a setting of the container's
own namespaces.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from oci_bundle import Bundle, mount, mountinfo

from minirt.errors import MinirtError
from minirt.linux import cgroup2
from minirt.linux import constants as k
from minirt.oci import devices, hidden, mounts, procfs
from minirt.plan import Plan, Slot
from minirt.plan.birth import Birth, PlanFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container needs CAP_SYS_ADMIN"),
]


@pytest.fixture(params=["plain", "hooked"])
def bundle(request: pytest.FixtureRequest) -> Iterator[Bundle]:
    """A bundle; with hooks the steps have another order, and the host's root is there longer (minirt/oci/compile.py, HOOKED)."""
    path = Path(tempfile.mkdtemp(prefix="minirt-oci-", dir="/var/tmp"))
    path.chmod(0o755)
    (path / "victim").mkdir()
    made = Bundle(path)
    if request.param == "hooked":
        made.config["hooks"] = {"createContainer": [{"path": "/bin/true"}]}
    yield made
    for line in reversed(mountinfo(Path("/proc/self/mountinfo").read_text())):
        if line.target.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", line.target], timeout=20)
    shutil.rmtree(path)


Remove = Callable[..., None]


@pytest.fixture(params=[True, False], ids=["guarded", "unguarded"])
def guarded(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def without(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> Remove:
    """Take a guard away, in the half of the runs that is to show what it is for."""

    def remove(owner: object, name: str, replacement: object) -> None:
        if not guarded:
            monkeypatch.setattr(owner, name, replacement)

    return remove


def attempt(bundle: Bundle, error: str, guarded: bool, script: str = "true", **more: object) -> str:
    """Run a container that the guard must stop with an error, and that runs without it."""
    if guarded:
        with pytest.raises(PlanFailed, match=error):
            bundle.run(script, **more)
        return ""
    return bundle.run(script, **more)


# -- links in paths ------------------------------------------------------------------------------------------


def lead_out(bundle: Bundle, name: str) -> Path:
    """Make a path of the image lead to the host, by way of a process there; return the directory that it leads to."""
    bundle.share("pid")
    victim = bundle.path / "victim"
    (bundle.rootfs / name).symlink_to(f"/proc/{os.getpid()}/root{victim}")
    return victim


@pytest.mark.parametrize("kind", ["directory", "file", "tmpfs", "device"])
def test_a_magic_link_in_a_target_makes_nothing_on_the_host(bundle: Bundle, guarded: bool, without: Remove, kind: str) -> None:
    without(k, "RESOLVE_NO_MAGICLINKS", 0)
    victim = lead_out(bundle, "data")
    (bundle.path / "file").write_text("")
    if kind == "device":
        bundle.linux["devices"] = [{"path": "/data/new", "type": "c", "major": 1, "minor": 3}]
    elif kind == "tmpfs":
        bundle.mount("/data/new", "tmpfs", type="tmpfs")
    else:
        bundle.mount("/data/new", bundle.path / ("file" if kind == "file" else "victim"), "bind")
    with pytest.raises(PlanFailed) if guarded or kind != "device" else nullcontext() as failure:
        bundle.run("true")
    if guarded:
        assert "ELOOP" in str(failure.value)
    assert os.listdir(victim) == ([] if guarded else ["new"])


def test_a_descriptor_of_another_volume_is_no_target(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """/data -> /proc/self/fd/N, where the copy of another mount waits: read-only for the container, but not yet."""
    without(k, "RESOLVE_NO_MAGICLINKS", 0)
    victim = bundle.path / "victim"
    for n in range(4, 9):
        (bundle.rootfs / f"data{n}").symlink_to(f"/proc/self/fd/{n + 1}")
        bundle.mount(f"/data{n}/new{n}", victim, "bind", "ro")
    with pytest.raises(PlanFailed):
        bundle.run("true")
    assert bool(os.listdir(victim)) is not guarded


def test_a_link_that_is_exchanged_meanwhile_makes_nothing_on_the_host(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """CVE-2021-30465: somebody else writes to the volume while a mount is made in it."""
    without(k, "RESOLVE_NO_MAGICLINKS", 0)
    bundle.share("pid")
    victim, volume = bundle.path / "victim", bundle.path / "volume"
    (volume / "swap").mkdir(parents=True)
    (volume / "other").symlink_to(f"/proc/{os.getpid()}/root{victim}")
    bundle.mount("/volume", volume, "bind")
    bundle.mount("/volume/swap/new", bundle.path, "bind")
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    ended = threading.Event()

    def exchange() -> None:
        libc = ctypes.CDLL(None)
        while not ended.is_set():
            libc.renameat2(-100, os.fsencode(volume / "swap"), -100, os.fsencode(volume / "other"), 2)  # RENAME_EXCHANGE

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(40):
            try:
                bundle.run("true")
            except (PlanFailed, MinirtError):
                pass
            if os.listdir(victim):
                break
    finally:
        ended.set()
        thread.join()
    assert bool(os.listdir(victim)) is not guarded


def test_what_is_hidden_or_read_only_is_not_found_through_a_magic_link(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """The copy of a volume that waits to be attached is none of what the container sees."""
    without(k, "RESOLVE_NO_MAGICLINKS", 0)
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "link").symlink_to("/proc/self/root/data")
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
        bundle.linux[name] = ["/link"]
        attempt(bundle, "ELOOP", guarded)


@pytest.mark.parametrize("link", ["../../../../../../../..{}", "{}", "/proc/self/root/../../../..{}", "/proc/self/cwd/../../..{}"])
@pytest.mark.parametrize("below", ["", "/new"])
def test_links_upward_and_absolute_ones_end_inside(bundle: Bundle, link: str, below: str) -> None:
    victim = bundle.path / "victim"
    inside = bundle.rootfs / str(victim).lstrip("/")
    inside.mkdir(parents=True)
    (bundle.rootfs / "data").symlink_to(link.format(victim))
    (bundle.path / "file").write_text("")
    bundle.mount(f"/data{below}", bundle.path, "bind")
    bundle.mount("/data/x/y", bundle.path / "file", "bind")
    bundle.mount("/data/z", "tmpfs", type="tmpfs")
    bundle.linux["devices"] = [{"path": "/data/device", "type": "p"}]
    try:
        bundle.run("true")
    except PlanFailed as failure:
        assert "ELOOP" in str(failure) and "/proc/self" in link
    assert os.listdir(victim) == []


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_the_kernel_s_directories_are_no_links(bundle: Bundle, guarded: bool, without: Remove, name: str) -> None:
    def any_directory(p: Plan, c: object, target: str) -> Slot:
        return mounts.open_directory(p, c, target)  # type: ignore[arg-type]

    without(mounts, "ordinary_directory", any_directory)
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []  # which look at it again
    (bundle.rootfs / "elsewhere").mkdir()
    (bundle.rootfs / name).symlink_to("elsewhere")
    text = attempt(bundle, "ENOTDIR.*an ordinary directory is wanted here", guarded, "cat /proc/self/mountinfo")
    assert guarded or "/elsewhere" in [line.target for line in mountinfo(text)]


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup to be born into: the child has its directory open until execve."""
    root = cgroup2.find_mount()
    if not root:
        pytest.skip("no cgroup v2 tree is mounted")
    path = Path(root) / f"minirt-test-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def test_the_working_directory_is_in_the_container(bundle: Bundle, group: Path, guarded: bool, without: Remove) -> None:
    """CVE-2024-21626: /proc/self/fd/4 is the host's directory of the cgroup."""
    without(k, "RESOLVE_NO_MAGICLINKS", 0)
    bundle.config["process"]["cwd"] = "/proc/self/fd/4"
    text = attempt(bundle, "step workdir: openat2.*ELOOP", guarded, "ls; ls ..", cgroup=str(group))
    assert guarded or (group.name in text.split() and "cgroup.procs" in text.split())


# -- /proc ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "kind"), [("/proc", "tmpfs"), ("/proc/sys", "tmpfs"), ("/proc/self/attr", "none"), ("/proc/1", "bind")]
)
def test_nothing_is_mounted_over_proc_by_name(bundle: Bundle, guarded: bool, without: Remove, target: str, kind: str) -> None:
    without(mounts, "refuse_over_proc", lambda mount: None)
    bundle.mount(target, "tmpfs" if kind == "tmpfs" else bundle.path, *(["bind"] if kind != "tmpfs" else []), type=kind)
    if guarded:
        with pytest.raises(MinirtError, match=r"config\.json: mounts: .*/proc"):
            bundle.run("true")
        return
    try:
        text = bundle.run("cat /proc/self/mountinfo 2>/dev/null || ls /proc")
    except PlanFailed:
        return  # the steps after it could not work
    assert text == "" or target in [line.target for line in mountinfo(text)] or target == "/proc/self/attr"


def test_a_bind_mount_over_proc_is_of_procfs(bundle: Bundle, guarded: bool, without: Remove) -> None:
    without(mounts, "check_type", lambda *_: None)
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.drop("/proc")
    bundle.mount("/proc", bundle.path, "bind")
    attempt(bundle, "/proc must be proc|EINVAL", guarded)


@pytest.fixture
def fake(bundle: Bundle) -> Path:
    """A volume with a file that looks like a setting, and the wish to set it."""
    setting = bundle.path / "volume" / "sys" / "kernel" / "domainname"
    setting.parent.mkdir(parents=True)
    setting.write_text("")
    bundle.linux["sysctl"] = {"kernel.domainname": "set"}
    return setting


def test_a_setting_is_not_written_to_a_false_proc(bundle: Bundle, fake: Path, guarded: bool, without: Remove) -> None:
    def trusting(p: Plan, c: object) -> Slot:
        proc = Slot("/proc")
        p.openat(k.AT_FDCWD, "/proc", k.O_PATH | k.O_CLOEXEC, store=proc)
        return proc

    without(procfs, "open_proc", trusting)
    (bundle.rootfs / "link").symlink_to("/proc")
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.mount("/link", bundle.path / "volume", "bind")
    attempt(bundle, "this is not procfs", guarded)
    assert fake.read_text() == ("" if guarded else "set")


def test_a_setting_is_not_written_to_what_covers_it(bundle: Bundle, fake: Path, guarded: bool, without: Remove) -> None:
    """CVE-2025-52881: a link in a volume leads to a file of /proc, and something else is mounted there."""
    without(k, "RESOLVE_NO_XDEV", 0)
    (bundle.rootfs / "link").symlink_to("/proc/sys/kernel")
    bundle.mount("/link/domainname", fake, "bind")
    attempt(bundle, "openat2.*EXDEV.*something else is mounted over", guarded)
    assert fake.read_text() == ("" if guarded else "set")


def test_a_directory_of_proc_is_no_proc(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """A bind mount of a directory in /proc is on procfs, too: the inode tells."""

    def on_procfs(p: Plan, c: object) -> Slot:
        proc = Slot("/proc")
        p.openat(k.AT_FDCWD, "/proc", k.O_PATH | k.O_CLOEXEC, store=proc)
        return proc

    without(procfs, "open_proc", on_procfs)
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.drop("/proc")
    bundle.mount("/proc", "/proc/sys", "bind")
    bundle.linux["sysctl"] = {"kernel.domainname": "set"}
    with pytest.raises(PlanFailed, match="this is not procfs" if guarded else "openat2.*ENOENT"):
        bundle.run("true")


# -- /dev ----------------------------------------------------------------------------------------------------


def own_dev(bundle: Bundle) -> Path:
    """Leave /dev to the image; return the image's."""
    bundle.drop("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    dev = bundle.rootfs / "dev"
    dev.mkdir()
    return dev


SETTING = "/proc/sys/kernel/domainname"  # of the container's own UTS namespace


def test_a_null_device_that_is_a_link_hides_nothing(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """CVE-2025-31133: what covers a masked path is /dev/null's target, from before /proc/sys became read-only."""
    without(hidden, "check_node", lambda *_: None)
    without(hidden, "may_name", lambda *_: True)
    (own_dev(bundle) / "null").symlink_to(SETTING)
    bundle.linux["maskedPaths"] = ["/proc/interrupts"]
    script = f"! echo direct >{SETTING}; echo escaped >/proc/interrupts; cat {SETTING}"
    text = attempt(bundle, "step masked: .*ENODEV.*is not the null device", guarded, script)
    assert guarded or text.endswith("escaped\n")


@pytest.mark.parametrize("there", ["file", "zero", "nothing"])
def test_another_null_device_hides_nothing(bundle: Bundle, guarded: bool, without: Remove, there: str) -> None:
    """A volume as /dev: nothing is made in it, so what it has as null is what there is."""
    without(hidden, "check_node", lambda *_: None)
    without(hidden, "may_name", lambda *_: True)
    bundle.drop("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    volume = bundle.path / "volume"
    volume.mkdir()
    if there == "file":
        (volume / "null").write_text("of the attacker")
    elif there == "zero":
        os.mknod(volume / "null", 0o020666, os.makedev(1, 5))
    bundle.config["mounts"].insert(0, {"destination": "/dev", "type": "bind", "source": str(volume), "options": ["bind"]})
    bundle.linux["maskedPaths"] = ["/proc/version"]
    text = attempt(bundle, "step masked: .*(ENODEV|ENOENT)", guarded, "head -c 6 /proc/version | cat -v")
    assert guarded or text == {"file": "of the", "zero": "^@" * 6, "nothing": "Linux "}[there]


def test_what_was_looked_at_is_what_hides(bundle: Bundle) -> None:
    """With a /dev that others can write to, the null device is a descriptor: an exchange after the look changes nothing."""
    bundle.drop("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    volume = bundle.path / "volume"
    volume.mkdir()
    os.mknod(volume / "null", 0o020666, os.makedev(1, 3))
    (volume / "evil").write_text("of the attacker")
    bundle.config["mounts"].insert(0, {"destination": "/dev", "type": "bind", "source": str(volume), "options": ["bind"]})
    for name in ("one", "two"):
        (bundle.rootfs / name).write_text("secret")
    bundle.linux["maskedPaths"] = ["/one", "/two"]
    checked = hidden.check_node

    def exchange(p: Plan, *args: object) -> None:
        checked(p, *args)  # type: ignore[arg-type]
        p.barrier("now")

    def at(name: str, birth: Birth) -> None:
        if name == "now":
            os.rename(volume / "null", volume / "moved")
            os.rename(volume / "evil", volume / "null")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hidden, "check_node", exchange)
        text = bundle.run("cat /one /two", at=at)
    assert text == ""


def test_what_is_hidden_is_so_though_proc_is_renamed_meanwhile(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """By another container with the same root: what is mounted on a directory goes along with it when it is renamed there."""
    without(hidden, "by_root", lambda c, paths: [("", list(paths))])
    (bundle.rootfs / "copied").mkdir()
    bundle.mount("/copied", "tmpfs", "tmpcopyup", type="tmpfs")  # for its barrier
    (bundle.path / "facts").write_text("")
    bundle.mount("/facts", bundle.path / "facts", "bind")
    bundle.config["process"]["terminal"] = True
    bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"] = ["/proc/version"], ["/proc/sys"]
    proc, aside = bundle.rootfs / "proc", bundle.rootfs / "aside"

    def at(name: str, birth: Birth) -> None:
        if name == "copy_up":
            proc.rename(aside)
            (proc / "sys").mkdir(parents=True)
            (proc / "version").touch()
        elif name == "console":
            take(name, birth)
            shutil.rmtree(proc)
            aside.rename(proc)

    script = f"exec >/facts; head -c 5 /proc/version; echo escaped >{SETTING} || true; cat {SETTING}"
    attempt(bundle, "step masked: .*this is not procfs", guarded, script, at=at)
    assert guarded or (bundle.path / "facts").read_text() == "Linuxescaped\n"


def take(name: str, birth: Birth) -> None:
    if name == "console":
        os.close(birth.received)
        birth.received = -1


def test_a_console_that_is_a_link_gets_no_terminal(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """CVE-2025-52565: the terminal was bound over what the link points to, before that was hidden or read-only."""
    without(k, "RESOLVE_NO_SYMLINKS", 0)
    (own_dev(bundle) / "console").symlink_to(SETTING)
    bundle.mount("/dev/pts", "devpts", "newinstance", type="devpts")
    bundle.config["process"]["terminal"] = True
    seen: list[str] = []

    def at(name: str, birth: Birth) -> None:
        take(name, birth)

    if guarded:
        with pytest.raises(PlanFailed, match="ELOOP"):
            bundle.run("true", at=at)
        return
    (bundle.path / "facts").write_text("")
    bundle.mount("/facts", bundle.path / "facts", "bind")
    bundle.run("cat /proc/self/mountinfo >/facts", at=at)
    seen += [line.target for line in mountinfo((bundle.path / "facts").read_text())]
    assert SETTING in seen


def test_a_false_ptmx_gets_no_terminal(bundle: Bundle) -> None:
    dev = own_dev(bundle)
    (dev / "pts").mkdir()
    bundle.config["process"]["terminal"] = True
    for make in (lambda path: path.symlink_to("/proc/self/fd/0"), lambda path: path.write_text("")):
        make(dev / "pts" / "ptmx")
        with pytest.raises(PlanFailed, match=r"step console: (openat.*ELOOP|check.*EINVAL)"):
            bundle.run("true", at=take)
        os.remove(dev / "pts" / "ptmx")


def test_the_host_s_null_device_is_out_of_reach(bundle: Bundle, guarded: bool) -> None:
    """A descriptor is as good as the file: root in the container could take the device from everybody on the host."""
    of_host = bundle.path / "null"
    os.mknod(of_host, 0o020666, os.makedev(1, 3))
    os.chmod(of_host, 0o666)
    bundle.run("chmod 0 /proc/self/fd/0", stdin=of_host, null_fds=(0,) if guarded else ())
    assert os.stat(of_host).st_mode & 0o777 == (0o666 if guarded else 0)


def test_a_device_is_not_made_through_a_link(bundle: Bundle, guarded: bool, without: Remove) -> None:
    """A configured device and another file in its place: the container must not take the one for the other."""
    without(devices, "check_node", lambda *_: None)
    (own_dev(bundle) / "mine").symlink_to("/etc-shadow")
    (bundle.rootfs / "etc-shadow").write_text("")
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "uid": 5}]
    bundle.linux["maskedPaths"] = []
    attempt(bundle, "another file is at the device's path", guarded)
    assert os.stat(bundle.rootfs / "etc-shadow").st_uid == 0


# -- user namespaces -----------------------------------------------------------------------------------------


def test_what_the_host_mounts_read_only_stays_so_for_root_of_a_user_namespace(
    bundle: Bundle, guarded: bool, without: Remove
) -> None:
    """A copy made in the host's own mount namespace has no locks; one made in the child's has them."""
    secret = bundle.path / "secret"
    (secret / "data").mkdir(parents=True)
    mount("-t", "tmpfs", "tmpfs", secret / "data")
    (secret / "data" / "victim").write_text("")
    os.chmod(secret / "data" / "victim", 0o666)
    mount("-o", "remount,bind,ro", secret / "data")
    secret.chmod(0o700)
    bundle.user_namespace()
    bundle.config["process"]["capabilities"] = {s: ["CAP_SYS_ADMIN"] for s in ("bounding", "effective", "permitted")}
    bundle.mount("/data", secret / "data", "bind")
    without(Plan, "setns", lambda self, *_, **__: self)
    bundle.run("mount -o remount,bind,rw /data && echo escaped >/data/victim || true")
    assert (secret / "data" / "victim").read_text() == ("" if guarded else "escaped\n")

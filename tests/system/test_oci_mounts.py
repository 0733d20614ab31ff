"""config.json's mounts, root and paths, by what the kernel says inside: mountinfo, stat, what can be written."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_bundle import Bundle, mount, mounted, mountinfo, stacked

from minirt.errors import MinirtError
from minirt.oci import parent
from minirt.plan.birth import PlanFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's mounts needs CAP_SYS_ADMIN"),
]


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    path = Path(tempfile.mkdtemp(prefix="minirt-oci-", dir="/var/tmp"))
    path.chmod(0o755)
    yield Bundle(path)
    for line in reversed(mountinfo(Path("/proc/self/mountinfo").read_text())):
        if line.target.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", line.target], timeout=20)
    shutil.rmtree(path)


@pytest.fixture
def source(bundle: Bundle) -> Path:
    """A mount of the host's that forbids four things, with another below it."""
    top = bundle.path / "source"
    top.mkdir()
    mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec,noatime,ro", "tmpfs", top)
    mount("-o", "remount,rw", top)
    (top / "below").mkdir()
    (top / "file").write_text("of the host")
    mount("-t", "tmpfs", "-o", "nosuid,nodev,noexec", "tmpfs", top / "below")
    mount("-o", "remount,bind,ro,nosuid,nodev,noexec,noatime", top)
    return top


# -- options -------------------------------------------------------------------------------------------------

FORBIDDEN = {"ro", "nosuid", "nodev", "noexec", "noatime"}
BIND_OPTIONS = {  # options -> flags of the mount's top
    (): FORBIDDEN,
    ("rw",): {"rw", "noatime"},
    ("suid",): {"rw", "noatime"},
    ("ro", "dev"): {"ro", "noatime"},
    ("nosuid", "nodev", "exec"): {"rw", "nosuid", "nodev", "noatime"},
    ("noexec", "exec", "noexec"): {"rw", "noexec", "noatime"},
    ("ro", "rw"): {"rw", "noatime"},
    ("nosymfollow",): {"rw", "noatime", "nosymfollow"},
    ("nosymfollow", "symfollow"): {"rw", "noatime"},
    ("relatime",): {"rw", "relatime"},
    ("strictatime",): {"rw"},
    ("atime",): {"rw", "relatime"},
    ("noatime", "nodiratime"): {"rw", "noatime", "nodiratime"},
    ("nodiratime", "diratime", "relatime"): {"rw", "relatime"},
    ("defaults",): FORBIDDEN,
    ("sync", "dirsync", "mand", "silent", "lazytime", "iversion", "acl"): FORBIDDEN,
    ("async", "nomand", "loud", "nolazytime", "noiversion", "noacl"): FORBIDDEN,
    ("an-option-that-nobody-knows",): FORBIDDEN,
}


@pytest.mark.parametrize("options", BIND_OPTIONS, ids=",".join)
def test_options_of_a_bind_mount_are_the_kernel_s(bundle: Bundle, source: Path, options: tuple[str, ...]) -> None:
    bundle.mount("/data", source, "bind", *options)
    assert mounted(bundle.mountinfo(), "/data").options == BIND_OPTIONS[options]


RECURSIVE = {  # option -> flags of the top and of what is mounted below it
    "rro": (FORBIDDEN, {"ro", "nosuid", "nodev", "noexec", "relatime"}),
    "rrw": (FORBIDDEN - {"ro"} | {"rw"}, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rsuid": (FORBIDDEN - {"nosuid"}, {"rw", "nodev", "noexec", "relatime"}),
    "rdev": (FORBIDDEN - {"nodev"}, {"rw", "nosuid", "noexec", "relatime"}),
    "rexec": (FORBIDDEN - {"noexec"}, {"rw", "nosuid", "nodev", "relatime"}),
    "rnosymfollow": (FORBIDDEN | {"nosymfollow"}, {"rw", "nosuid", "nodev", "noexec", "relatime", "nosymfollow"}),
    "rsymfollow": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnodiratime": (FORBIDDEN | {"nodiratime"}, {"rw", "nosuid", "nodev", "noexec", "relatime", "nodiratime"}),
    "rdiratime": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnoatime": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "noatime"}),
    "rrelatime": (FORBIDDEN - {"noatime"} | {"relatime"}, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rstrictatime": (FORBIDDEN - {"noatime"}, {"rw", "nosuid", "nodev", "noexec"}),
    "ratime": (FORBIDDEN - {"noatime"} | {"relatime"}, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnorelatime": (FORBIDDEN - {"noatime"} | {"relatime"}, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnostrictatime": (FORBIDDEN - {"noatime"} | {"relatime"}, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnosuid": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnodev": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "rnoexec": (FORBIDDEN, {"rw", "nosuid", "nodev", "noexec", "relatime"}),
}


@pytest.mark.parametrize("option", RECURSIVE)
def test_recursive_options_reach_what_is_mounted_below(bundle: Bundle, source: Path, option: str) -> None:
    bundle.mount("/data", source, "rbind", option)
    text = bundle.mountinfo()
    assert (mounted(text, "/data").options, mounted(text, "/data/below").options) == RECURSIVE[option]


def test_bind_without_r_leaves_what_is_mounted_below(bundle: Bundle, source: Path) -> None:
    bundle.mount("/data", source, "bind")
    assert not [line for line in mountinfo(bundle.mountinfo()) if line.target == "/data/below"]


@pytest.mark.parametrize("option", ["rnosuid", "rro"])
def test_recursive_options_of_a_new_file_system(bundle: Bundle, option: str) -> None:
    bundle.mount("/data", "tmpfs", option, type="tmpfs")
    assert option.lstrip("r") in {o.lstrip("r") for o in mounted(bundle.mountinfo(), "/data").options}


NEW_OPTIONS = {
    ("nosuid", "noatime"): ({"rw", "nosuid", "noatime"}, set()),
    ("ro", "nodiratime"): ({"ro", "nodiratime", "relatime"}, {"rw"}),
    ("strictatime", "size=4k", "mode=1730"): ({"rw"}, {"size=4k", "mode=1730"}),
    ("nosymfollow", "noexec", "exec"): ({"rw", "nosymfollow", "relatime"}, set()),
    ("sync", "dirsync", "lazytime", "silent", "uid=7"): ({"rw", "relatime"}, {"sync", "dirsync", "uid=7", "lazytime"}),
}


@pytest.mark.parametrize("options", NEW_OPTIONS, ids=",".join)
def test_options_of_a_new_file_system_and_its_own_data(bundle: Bundle, options: tuple[str, ...]) -> None:
    bundle.mount("/data", "tmpfs", *options, type="tmpfs")
    line = mounted(bundle.mountinfo(), "/data")
    wanted, system = NEW_OPTIONS[options]
    assert line.options == wanted and system <= line.system


SPREAD = {
    "shared": "shared:", "rshared": "shared:", "slave": "", "rslave": "", "private": "", "rprivate": "",
    "unbindable": "unbindable", "runbindable": "unbindable",
}  # fmt: skip


@pytest.mark.parametrize("option", SPREAD)
def test_propagation_of_a_mount(bundle: Bundle, source: Path, option: str) -> None:
    bundle.mount("/data", source, "rbind", option)
    text = bundle.mountinfo()
    assert mounted(text, "/data").spread.rstrip("0123456789") == SPREAD[option]
    below = SPREAD[option] if option.startswith("r") else ""
    assert mounted(text, "/data/below").spread.rstrip("0123456789") == below


def test_of_two_propagation_options_both_are_applied_in_order(bundle: Bundle, source: Path) -> None:
    bundle.mount("/data", source, "rbind", "rshared", "slave")
    text = bundle.mountinfo()
    assert mounted(text, "/data").spread == ""
    assert mounted(text, "/data/below").spread.startswith("shared:")


def test_propagation_of_a_new_file_system(bundle: Bundle) -> None:
    bundle.mount("/data", "tmpfs", "shared", type="tmpfs")
    assert mounted(bundle.mountinfo(), "/data").spread.startswith("shared:")


# -- what is mounted on what ---------------------------------------------------------------------------------


def test_a_file_a_socket_a_fifo_and_a_device_are_bound_on_files(bundle: Bundle) -> None:
    here = bundle.path
    (here / "file").write_text("text")
    os.mkfifo(here / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(here / "socket"))
        for name in ("file", "fifo", "socket"):
            bundle.mount(f"/a/b/{name}", here / name, "bind")
        bundle.mount("/dev/device", "/dev/zero", "bind")
        text = bundle.run("cd /a/b; cat file; for f in file fifo socket /dev/device; do stat -c '%F' $f; done")
    assert text.split("\n")[:4] == ["textregular file", "fifo", "socket", "character special file"]


def test_what_is_made_to_be_mounted_on_has_runc_s_modes(bundle: Bundle) -> None:
    (bundle.path / "file").write_text("")
    bundle.mount("/a/b/file", bundle.path / "file", "bind")
    bundle.mount("/c/d", bundle.path, "bind")
    bundle.run("true")
    modes = {name: (bundle.rootfs / name).stat().st_mode & 0o7777 for name in ("a", "a/b", "a/b/file", "c", "c/d")}
    assert modes == {"a": 0o755, "a/b": 0o755, "a/b/file": 0o644, "c": 0o755, "c/d": 0o755}


LINKED = {  # what the image has -> where the mount comes to lie
    "/etc/resolv.conf": ("../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf"),
    "/var/run": ("/run/deep", "/run/deep"),
    "/up": ("../../../../made", "/made"),
    "/chain": ("/chain2/x", "/end/x"),
}


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("userns", [True, False])
def test_a_link_to_what_is_missing_is_followed_inside_and_that_is_made(bundle: Bundle, file: bool, userns: bool) -> None:
    (bundle.path / "file").write_text("here")
    (bundle.rootfs / "chain2").symlink_to("end")
    for path, (link, _) in LINKED.items():
        place = bundle.rootfs / path.lstrip("/")
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(link)
        bundle.mount(path, bundle.path / "file" if file else bundle.path, "bind")
    if userns:
        bundle.user_namespace()
    targets = [line.target for line in mountinfo(bundle.mountinfo())]
    for _, where in LINKED.values():
        assert where in targets
        made = (bundle.rootfs / where.lstrip("/")).stat()
        assert made.st_mode == (0o100644 if file else 0o040755) and made.st_uid == (100000 if userns else 0)


def test_a_relative_destination_counts_from_the_root(bundle: Bundle) -> None:
    bundle.mount("x/../data", "tmpfs", type="tmpfs")
    assert mounted(bundle.mountinfo(), "/data").kind == "tmpfs"


def test_a_relative_source_counts_from_the_bundle(bundle: Bundle) -> None:
    (bundle.path / "here").mkdir()
    (bundle.path / "here" / "it").write_text("is")
    bundle.mount("/data", "here", "bind")
    assert bundle.run("cat /data/it") == "is"


def test_several_mounts_at_one_target_lie_one_over_the_other(bundle: Bundle, source: Path) -> None:
    bundle.mount("/data", "one", "mode=700", type="tmpfs")
    bundle.mount("/data", source, "bind")
    bundle.mount("/data", "three", "mode=711", type="tmpfs")
    assert [line.source for line in stacked(bundle.mountinfo(), "/data")] == ["one", "tmpfs", "three"]
    assert bundle.run("stat -c %a /data") == "711\n"


def test_mounts_are_made_in_the_order_that_is_written(bundle: Bundle) -> None:
    (bundle.path / "under").mkdir()
    bundle.mount("/data/under", bundle.path / "under", "bind")
    bundle.mount("/data", "tmpfs", type="tmpfs")
    assert bundle.run("ls /data") == ""


def test_a_remount_changes_what_it_names_and_nothing_else(bundle: Bundle, source: Path) -> None:
    bundle.mount("/data", source, "bind")
    bundle.mount("/data", "", "bind", "remount", "exec", "nosymfollow")
    assert mounted(bundle.mountinfo(), "/data").options == FORBIDDEN - {"noexec"} | {"nosymfollow"}


def test_a_remount_of_a_file_system_changes_its_own_options(bundle: Bundle) -> None:
    bundle.mount("/data", "tmpfs", "size=8k", type="tmpfs")
    bundle.mount("/data", "tmpfs", "remount", "size=16k", "nosuid", type="tmpfs")
    line = mounted(bundle.mountinfo(), "/data")
    assert "size=16k" in line.system and "nosuid" in line.options


def test_a_source_that_is_not_there_is_an_error(bundle: Bundle) -> None:
    bundle.mount("/data", bundle.path / "nothing", "bind")
    with pytest.raises(PlanFailed, match="ENOENT"):
        bundle.run("true")


def test_a_read_only_tmpfs_and_dev_can_be_furnished_first(bundle: Bundle, source: Path) -> None:
    bundle.drop("/dev")
    bundle.config["mounts"].insert(0, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"]})
    bundle.mount("/run", "tmpfs", "ro", "size=64k", type="tmpfs")
    bundle.mount("/run/data", source, "rbind")
    text = bundle.run("cat /proc/self/mountinfo; ls -l /dev/null; ! touch /run/x; ! touch /dev/x; cat /run/data/file")
    assert "ro" in mounted(text, "/dev").options and "ro" in mounted(text, "/run").options
    assert "size=64k" in mounted(text, "/run").system
    assert "of the host" in text and text.count("Read-only file system") == 2


# -- tmpfs ---------------------------------------------------------------------------------------------------


def test_a_tmpfs_without_mode_has_the_mode_of_the_directory_below(bundle: Bundle) -> None:
    (bundle.rootfs / "old").mkdir()
    (bundle.rootfs / "old").chmod(0o2751)
    for target in ("/old", "/new"):
        bundle.mount(target, "tmpfs", type="tmpfs")
    assert bundle.run("stat -c %a /old /new").split() == ["2751", "1777"]


def test_tmpcopyup_begins_with_what_the_image_has(bundle: Bundle) -> None:
    old = bundle.rootfs / "etc"
    (old / "deep").mkdir(parents=True)
    (old / "deep" / "file").write_text("kept" * 5000)
    (old / "deep" / "file").chmod(0o640)
    os.chown(old / "deep" / "file", 12, 34)
    os.utime(old / "deep" / "file", (1000, 1000))
    (old / "link").symlink_to("/nowhere")
    os.mkfifo(old / "fifo", 0o604)
    os.mknod(old / "device", 0o020600, os.makedev(1, 5))
    bundle.mount("/etc", "tmpfs", "tmpcopyup", "mode=0750", "ro", type="tmpfs")
    text = bundle.run(
        "cd /etc; stat -c '%a %u %g %s %Y' deep/file; readlink link; stat -c '%F %a' fifo device; ! touch x; stat -c %a ."
    )
    assert text.splitlines()[:4] == ["640 12 34 20000 1000", "/nowhere", "fifo 604", "character special file 600"]
    assert text.endswith("750\n")
    assert sorted(os.listdir(old)) == ["deep", "device", "fifo", "link"]


def test_tmpcopyup_follows_no_link_to_the_host(bundle: Bundle) -> None:
    (bundle.path / "secret").mkdir()
    (bundle.path / "secret" / "of-the-host").write_text("")
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data" / "link").symlink_to(bundle.path / "secret")
    bundle.mount("/data", "tmpfs", "tmpcopyup", type="tmpfs")
    assert "of-the-host" not in bundle.run("ls /data; ls /data/link/ 2>&1 || true")


# -- owners --------------------------------------------------------------------------------------------------


@pytest.fixture
def owned(bundle: Bundle) -> Path:
    """A directory with a file of user 1000's, and a mount below with one of user 1001's."""
    top = bundle.path / "owned"
    (top / "below").mkdir(parents=True)
    mount("-t", "tmpfs", "tmpfs", top / "below")
    for name, owner in (("file", 1000), ("below/file", 1001)):
        (top / name).write_text("")
        os.chown(top / name, owner, owner)
    return top


def maps(inside: int, outside: int, size: int = 10) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": outside, "size": size}]


OWNERS = "stat -c '%u %g' /data/file /data/below/file"


@pytest.mark.parametrize(("option", "below"), [("idmap", "1001 1001"), ("ridmap", "51 61"), ("", "1001 1001")])
def test_a_mount_s_own_maps_show_other_owners(bundle: Bundle, owned: Path, option: str, below: str) -> None:
    # of an id-mapped mount the map reads: on the file system -> as shown
    bundle.mount("/data", owned, "rbind", *([option] if option else []), uidMappings=maps(1000, 50), gidMappings=maps(1000, 60))
    assert bundle.run(OWNERS).splitlines() == ["50 60", below]


def test_idmap_without_maps_takes_the_container_s(bundle: Bundle, owned: Path) -> None:
    bundle.user_namespace()
    bundle.mount("/data", owned, "rbind", "ridmap")
    bundle.mount("/plain", owned, "rbind")
    text = bundle.run(f"{OWNERS}; stat -c '%u %g' /plain/file; grep /data /proc/self/mountinfo")
    assert text.splitlines()[:3] == ["1000 1000", "1001 1001", "65534 65534"]
    assert "idmapped" in mounted(text, "/data").options


def test_idmap_without_maps_or_user_namespace_is_an_error(bundle: Bundle, owned: Path) -> None:
    bundle.mount("/data", owned, "rbind", "idmap")
    with pytest.raises(MinirtError, match=r"mounts\[7\]: idmap without uidMappings needs a user namespace"):
        bundle.run("true")


# -- user namespaces -----------------------------------------------------------------------------------------


def test_in_a_user_namespace_what_the_host_forbids_stays_forbidden(bundle: Bundle, source: Path) -> None:
    bundle.user_namespace()
    bundle.mount("/data", source, "rbind", "nosymfollow")
    text = bundle.run("cat /proc/self/mountinfo; ! mount -o remount,bind,rw,exec,suid,dev /data")
    assert mounted(text, "/data").options == FORBIDDEN | {"nosymfollow"}


def test_in_a_user_namespace_an_option_that_would_allow_it_is_an_error(bundle: Bundle, source: Path) -> None:
    bundle.user_namespace()
    bundle.mount("/data", source, "rbind", "exec")
    with pytest.raises(PlanFailed, match=r"mount_setattr.*EPERM"):
        bundle.run("true")


def test_a_source_that_only_the_host_s_root_may_reach_is_bound_with_its_locks(bundle: Bundle, source: Path) -> None:
    bundle.user_namespace()
    secret = bundle.path / "secret"
    (secret / "data").mkdir(parents=True)
    (secret / "file").write_text("reached")
    mount("--rbind", source, secret / "data")
    secret.chmod(0o700)
    bundle.mount("/data", secret / "data", "rbind")
    bundle.mount("/file", secret / "file", "bind")
    text = bundle.run("cat /proc/self/mountinfo /file; ! mount -o remount,bind,rw,nosuid,nodev,noexec /data; ! touch /data/x")
    assert "reached" in text and mounted(text, "/data").options == FORBIDDEN
    assert "Read-only file system" in text or "Permission denied" in text


def test_what_is_new_in_a_user_namespace_belongs_to_its_root(bundle: Bundle) -> None:
    bundle.user_namespace()
    text = bundle.run("stat -c '%n %u %g' /dev /dev/mqueue /dev/shm /dev/pts; cat /proc/self/mountinfo")
    assert text.splitlines()[:4] == ["/dev 0 0", "/dev/mqueue 0 0", "/dev/shm 0 0", "/dev/pts 0 0"]
    assert "ro" in mounted(text, "/sys").system


@pytest.fixture
def other_user_namespace() -> Iterator[int]:
    """The process id of somebody in a user namespace with the same maps."""
    from oci_bundle import MAPS

    with parent.namespace_with_maps(MAPS, MAPS) as run:
        yield run.pid


def test_a_user_namespace_that_is_joined_is_one(bundle: Bundle, other_user_namespace: int) -> None:
    bundle.user_namespace()
    bundle.share("user")
    bundle.linux["namespaces"].append({"type": "user", "path": f"/proc/{other_user_namespace}/ns/user"})
    secret = bundle.path / "secret"
    secret.mkdir()
    (secret / "file").write_text("reached")
    secret.chmod(0o700)
    bundle.mount("/file", secret / "file", "bind")
    text = bundle.run("readlink /proc/self/ns/user; cat /file; echo; stat -c %t:%T /dev/zero; cat /proc/self/mountinfo")
    there = os.readlink(f"/proc/{other_user_namespace}/ns/user")
    assert text.splitlines()[:3] == [there, "reached", "1:5"]
    assert mounted(text, "/dev/zero").kind == "devtmpfs"


def test_proc_has_its_own_options_and_source_there_too(bundle: Bundle) -> None:
    bundle.user_namespace()
    bundle.drop("/proc")
    bundle.config["mounts"].insert(0, {"destination": "/proc", "type": "proc", "source": "mine", "options": ["hidepid=2", "nodev"]})
    line = mounted(bundle.mountinfo(), "/proc")
    assert line.source == "mine" and line.system & {"hidepid=2", "hidepid=invisible"} and "nodev" in line.options


ROOTLESS = """
import os, sys, json
from pathlib import Path
sys.path[:0] = json.loads(sys.argv[1])
from oci_bundle import Bundle
bundle = Bundle(Path(sys.argv[2]))
bundle.linux["namespaces"].append({"type": "user"})
bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": os.getuid(), "size": 1}]
bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": os.getgid(), "size": 1}]
for mount in bundle.config["mounts"]:
    mount["options"] = [option for option in mount["options"] if not option.startswith("gid=")]
volume = bundle.path / "volume"
volume.mkdir()
(volume / "file").write_text("reached")
(bundle.rootfs / "run").mkdir()
(bundle.rootfs / "run" / "file").write_text("copied")
bundle.mount("/data", volume, "bind", "ro")
bundle.mount("/run", "tmpfs", "tmpcopyup", type="tmpfs")
script = "id -u; cat /data/file; echo; cat /run/file; echo; stat -c %t:%T /dev/null; cat /proc/self/mountinfo"
print(bundle.run(script, rootless=True))
"""


def test_a_user_without_privilege_makes_the_same(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="minirt-oci-", dir="/var/tmp"))
    os.chown(place, 54321, 54321)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2]), *sys.path]
    try:
        command = [sys.executable, "-c", ROOTLESS, json.dumps(paths), str(place)]
        try:
            done = subprocess.run(
                command, user=54321, group=54321, extra_groups=[], capture_output=True, text=True, timeout=60, cwd="/"
            )
        except PermissionError:
            pytest.skip(f"an unprivileged user may not execute {sys.executable}")
        if "No module named" in done.stderr:
            pytest.skip("an unprivileged user may not read this tree")
        if "clone3" in done.stderr:
            pytest.skip(f"this system lets no user make a user namespace: {done.stderr.splitlines()[-1]}")
    finally:
        shutil.rmtree(place)
    assert done.stdout.splitlines()[:4] == ["0", "reached", "copied", "1:3"], done.stderr
    assert "ro" in mounted(done.stdout, "/data").options and mounted(done.stdout, "/dev/null").kind == "devtmpfs"


def test_sysfs_of_the_host_s_network_is_bound_read_only(bundle: Bundle) -> None:
    bundle.user_namespace()
    bundle.share("network")
    text = bundle.run("cat /proc/self/mountinfo; ls /sys/class/net")
    assert "ro" in mounted(text, "/sys").options and mounted(text, "/sys").kind == "sysfs"
    assert "eth0" in text.split() or set(os.listdir("/sys/class/net")) <= set(text.split())


def test_proc_of_the_host_s_processes_is_bound(bundle: Bundle) -> None:
    bundle.user_namespace()
    bundle.share("pid")
    text = bundle.run(f"cat /proc/{os.getpid()}/comm; readlink /proc/self")
    assert text.splitlines()[0] == Path("/proc/self/comm").read_text().strip()


# -- /proc, /sys, /dev ---------------------------------------------------------------------------------------


def test_dev_bound_from_the_host_is_left_as_it_is(bundle: Bundle) -> None:
    own = bundle.path / "dev"
    own.mkdir()
    os.mknod(own / "null", 0o020666, os.makedev(1, 3))
    bundle.drop("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    bundle.config["mounts"].insert(0, {"destination": "/dev", "type": "bind", "source": str(own), "options": ["rbind"]})
    assert bundle.run("ls /dev") == "null\n"
    assert os.listdir(own) == ["null"]


def test_proc_and_sys_of_shared_namespaces_are_the_host_s(bundle: Bundle) -> None:
    bundle.share("pid", "network")
    text = bundle.run("readlink /proc/self; ls /sys/class/net")
    assert int(text.split()[0]) > 1 and set(os.listdir("/sys/class/net")) <= set(text.split()[1:])


@pytest.mark.parametrize("own", [True, False])
def test_cgroup_shows_the_container_s_own_group(bundle: Bundle, own: bool) -> None:
    from minirt.linux import cgroup2

    root = cgroup2.find_mount()
    if not root:
        pytest.skip("no cgroup v2 tree is mounted")
    group = Path(root) / f"minirt-test-{os.getpid()}"
    group.mkdir()
    try:
        if not own:
            bundle.share("cgroup")
        text = bundle.run("cat /sys/fs/cgroup/cgroup.procs; grep ' /sys/fs/cgroup ' /proc/self/mountinfo", cgroup=str(group))
        numbers = [line for line in text.splitlines() if line.isdigit()]
        assert 1 <= len(numbers) <= 2  # sh, cat: nobody else
        line = mounted(text, "/sys/fs/cgroup")
        assert line.kind == "cgroup2" and {"ro", "nosuid", "nodev", "noexec"} <= line.options
    finally:
        group.rmdir()


def test_a_mount_label_is_ignored_where_there_is_no_selinux(bundle: Bundle) -> None:
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("this kernel runs SELinux, where the label is applied")
    bundle.linux["mountLabel"] = "system_u:object_r:container_file_t:s0:c715,c811"
    bundle.mount("/data", "tmpfs", type="tmpfs")
    assert mounted(bundle.mountinfo(), "/data").kind == "tmpfs"


# -- the root ------------------------------------------------------------------------------------------------

ROOT = {"private": "", "rprivate": "", "slave": "", "rslave": "", "shared": "shared:", "rshared": "shared:",
        "unbindable": "unbindable", "runbindable": "unbindable"}  # fmt: skip


@pytest.mark.parametrize("wanted", ROOT)
def test_rootfs_propagation(bundle: Bundle, wanted: str) -> None:
    bundle.linux["rootfsPropagation"] = wanted
    # A slave has a master where the host's mount that the root comes from is shared; else it is private.
    on_host = [line for line in mountinfo(Path("/proc/self/mountinfo").read_text()) if str(bundle.path).startswith(line.target)]
    master = "shared" in max(on_host, key=lambda line: len(line.target)).spread
    expected = "master:" if master and wanted in ("slave", "rslave") else ROOT[wanted]
    assert mounted(bundle.mountinfo(), "/").spread.rstrip("0123456789") == expected


@pytest.mark.parametrize(
    ("wanted", "below"), [("shared", ""), ("rshared", "shared:"), ("runbindable", "unbindable"), ("unbindable", "")]
)
def test_rootfs_propagation_reaches_below_with_r_alone(bundle: Bundle, wanted: str, below: str) -> None:
    bundle.linux["rootfsPropagation"] = wanted
    bundle.linux["readonlyPaths"].append("/bin")
    text = bundle.mountinfo()
    for target in ("/dev", "/dev/pts", "/bin"):
        assert mounted(text, target).spread.rstrip("0123456789") == below


@pytest.fixture
def peers(bundle: Bundle) -> Path:
    """A shared mount of the host's."""
    path = bundle.path / "peers"
    path.mkdir()
    mount("-t", "tmpfs", "tmpfs", path)
    (path / "point").mkdir()
    mount("--make-shared", path)
    return path


@pytest.mark.parametrize(("wanted", "option", "kind"), [
    ("rshared", "rshared", "shared:"), ("rslave", "rslave", "master:"), ("rprivate", "rprivate", ""),
])  # fmt: skip
def test_who_hears_of_a_mount_in_a_volume(bundle: Bundle, peers: Path, wanted: str, option: str, kind: str) -> None:
    bundle.linux["rootfsPropagation"] = wanted
    bundle.mount("/data", peers, "rbind", option)
    bundle.config["process"]["capabilities"] = {s: ["CAP_SYS_ADMIN"] for s in ("bounding", "effective", "permitted")}
    text = bundle.run("mount -t tmpfs told /data/point; cat /proc/self/mountinfo", at=lambda *_: None)
    assert mounted(text, "/data").spread.rstrip("0123456789") == kind
    on_host = [line for line in mountinfo(Path("/proc/self/mountinfo").read_text()) if line.source == "told"]
    for line in on_host:
        subprocess.run(["umount", line.target], timeout=20)
    assert bool(on_host) == (wanted == "rshared")


def test_a_root_on_a_shared_mount_tells_the_host_nothing(bundle: Bundle, peers: Path) -> None:
    shutil.copytree(bundle.rootfs, peers / "rootfs", symlinks=True)
    bundle.config["root"]["path"] = str(peers / "rootfs")
    for wanted in ("rprivate", "rslave", "rshared"):
        bundle.linux["rootfsPropagation"] = wanted
        assert "tmpfs" in bundle.mountinfo()
        assert f"{peers}/rootfs" not in Path("/proc/self/mountinfo").read_text()


def test_a_read_only_root_leaves_what_is_mounted_in_it(bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    bundle.mount("/data", "tmpfs", type="tmpfs")
    text = bundle.run("touch /data/x; ! touch /x; cat /proc/self/mountinfo")
    assert "/x: Read-only file system" in text
    assert "ro" in mounted(text, "/").options


def test_without_pivot_root_the_host_is_covered(bundle: Bundle) -> None:
    text = bundle.run("ls /; cat /proc/self/mountinfo", no_pivot=True)
    assert set(text.split("\n")[:5]) == {"bin", "dev", "proc", "sys", text.split("\n")[4]}
    assert mounted(text, "/").root.endswith("/rootfs")


def test_the_host_s_root_is_no_container_s(bundle: Bundle) -> None:
    for path in ("/", "/..", "//"):
        bundle.config["root"]["path"] = path
        with pytest.raises(MinirtError, match="is the host's root"):
            bundle.run("true")


def test_without_a_mount_namespace_nothing_is_mounted(bundle: Bundle) -> None:
    bundle.share("mount")
    with pytest.raises(MinirtError, match="a mount namespace is needed"):
        bundle.run("true")

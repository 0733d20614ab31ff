"""systemd as pid 1 of a container of minirt's own, in the lab: what runs in the box finds systemd where it expects it.

The box has the machine's disk, the repository at its path, all devices, and its cgroup as a writable tree. So nothing of
the machine's own tree is systemd's, and the same machine goes on without it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minirt.linux.capabilities import NAMES
from minirt.oci.spec import default_spec

__all__ = ["MOUNT", "REPOSITORY", "Box", "box"]

REPOSITORY = Path(__file__).resolve().parents[2]
MOUNT = Path("/sys/fs/cgroup")
LIMIT = 300  # s, for what takes seconds on a machine that has nothing else to do
# Units that the machine's own mounts make superfluous, or that take seconds under emulation.
MASKED = """dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
    sys-fs-fuse-connections.mount tmp.mount run-lock.mount kmod-static-nodes.service ldconfig.service getty.target
    systemd-journal-catalog-update.service systemd-update-done.service systemd-sysusers.service systemd-modules-load.service
    modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service
    modprobe@loop.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service
    systemd-remount-fs.service systemd-sysctl.service systemd-random-seed.service apt-daily.timer apt-daily-upgrade.timer
    dpkg-db-backup.timer systemd-ask-password-wall.path systemd-ask-password-console.path systemd-networkd.service
    systemd-hwdb-update.service systemd-boot-update.service systemd-journal-flush.service"""


def config() -> dict[str, Any]:
    """Return what the box is made from."""
    made = default_spec()
    held = int(Path("/proc/self/status").read_text().partition("CapPrm:")[2].split()[0], 16)
    mine = [name for number, name in enumerate(NAMES) if held >> number & 1]
    made["process"] = {
        "args": ["/lib/systemd/systemd", "--log-target=console"], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
        "cwd": "/", "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), mine),
    }  # fmt: skip
    made["root"] = {"path": "root"}
    made["mounts"] = [mount for mount in made["mounts"] if not mount["destination"].startswith("/sys")] + [
        {"destination": "/sys", "type": "sysfs", "source": "sys"},
        {"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2"},
        {"destination": "/run", "type": "tmpfs", "source": "run", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "bind", "source": "/tmp", "options": ["rbind"]},
        {"destination": str(REPOSITORY), "type": "bind", "source": str(REPOSITORY), "options": ["rbind"]},
    ]  # fmt: skip
    made["linux"] = {"namespaces": [{"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")],
                     "cgroupsPath": "/box", "resources": {"devices": [{"allow": True, "access": "rwm"}]}}  # fmt: skip
    return made


class Box:
    """The container with systemd in it."""

    group = MOUNT / "box"

    def __init__(self) -> None:
        bundle = Path("/run/box")
        (bundle / "root").mkdir(parents=True)
        for unit in MASKED.split():
            path = Path("/etc/systemd/system", unit)
            if not path.is_symlink():
                path.symlink_to("/dev/null")
        subprocess.run(["mount", "--bind", "/", bundle / "root"], check=True)  # without what is mounted below
        subprocess.run(["mount", "--make-private", bundle / "root"], check=True)
        (bundle / "config.json").write_text(json.dumps(config()))
        self.log = Path("/run/box/log")
        with self.log.open("w") as log:
            command = [*self.oci, "run", "--detach", "-b", bundle, "box"]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, timeout=LIMIT)
        state = subprocess.run([*self.oci, "state", "box"], capture_output=True, check=True, timeout=LIMIT)
        self.pid = json.loads(state.stdout)["pid"]

    @property
    def oci(self) -> list[str]:
        return [sys.executable, "-m", "minirt", "oci", "--root", "/run/minirt-boxes"]

    def __call__(self, *words: object, user: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the box, in the group of its pid 1. nsenter and not exec: an interpreter takes long to start here."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", **environment}
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        enter = f"echo $$ > {self.group}/init.scope/cgroup.procs; exec nsenter -a -t {self.pid} --wd={REPOSITORY} " + shlex.join(
            ["env", "-i", *(f"{key}={value}" for key, value in variables.items()), *become, *map(str, words)])  # fmt: skip
        files = [Path("/tmp/box-out"), Path("/tmp/box-err")]  # a container that goes on would hold a pipe of ours
        with files[0].open("w") as out, files[1].open("w") as err:
            done = subprocess.run(["sh", "-c", enter], stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=LIMIT, check=False)
        return subprocess.CompletedProcess(words, done.returncode, files[0].read_text(), files[1].read_text())

    def good(self, *words: object, **more: Any) -> str:
        done = self(*words, **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def wait(self) -> None:
        """Wait until systemd has started what it is to start."""
        end = time.monotonic() + LIMIT
        while not (self.group / "init.scope").is_dir() or self("systemctl", "is-active", "multi-user.target").returncode:
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def remove(self) -> None:
        subprocess.run([*self.oci, "delete", "--force", "box"], check=True, timeout=LIMIT)
        subprocess.run(["umount", "/run/box/root"], check=True)
        shutil.rmtree("/run/box")
        for unit in MASKED.split():
            Path("/etc/systemd/system", unit).unlink()


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    assert os.geteuid() == 0
    made = Box()
    try:
        made.wait()
        yield made
    finally:
        made.remove()

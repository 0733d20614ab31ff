"""`make demo` where the machine lacks something: what is missing is said in a line with what to do, the rest runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt

from lab import doctor as lab_doctor

TOP = Path(__file__).resolve().parents[2]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
DEMO = ["make", "-s", "-o", ".venv/installed-run", "demo"]  # -o: as it is installed now, whatever was edited since

# A /dev as this one but for kvm, and a machine without cgroup2; both in a mount namespace that ends with the command.
NO_KVM = """
mount -t tmpfs tmpfs /mnt && mkdir /mnt/dev && mount --rbind /dev /mnt/dev && mount -t tmpfs tmpfs /dev && cd /mnt/dev
for name in null zero full random urandom tty; do : >/dev/$name; mount --bind $name /dev/$name; done
cd /dev && mkdir pts shm && ln -s /proc/self/fd fd && cd "$OLDPWD" && mount --rbind pts /dev/pts && cd "$HERE" && exec "$@"
"""
NO_CGROUP2 = """
awk '$3 == "cgroup2" {print $2}' /proc/mounts | while read -r at; do umount -l "$at"; done; exec "$@"
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="taking something away from a machine takes root")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that belongs to nobody, which nobody can reach."""
    path = Path(tempfile.mkdtemp(prefix="minirt-nobody-", dir="/var/tmp"))
    os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path)


def outside_make(env: dict[str, str]) -> dict[str, str]:
    """Return an environment as outside of `make test`, which makes each make below it tell its directory."""
    return {name: value for name, value in env.items() if not name.startswith(("MAKE", "MFLAGS"))}


def without(script: str, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", *command]
    return subprocess.run(words, cwd=TOP, env={**outside_make(env), "HERE": str(TOP)}, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100, check=False)  # fmt: skip


def as_nobody(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    if subprocess.run([*NOBODY, "test", "-x", f"{TOP}/.venv/bin/python"], env=env, cwd="/", check=False).returncode:
        pytest.skip(f"{TOP} is below a directory that only root may enter")
    return subprocess.run([*NOBODY, *command], cwd=TOP, env=env, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=100, check=False)  # fmt: skip


@needs_root
def test_the_demo_without_kvm_shows_containers_and_says_what_is_missing(minirt: Minirt) -> None:
    done = without(NO_KVM, DEMO, minirt.env)
    assert done.returncode == 0 and done.stdout.count("\nhello from a container\n") == 2, done.stdout + done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("minivm: ")]
    assert len(told) == 1 and "/dev/kvm" in told[0] and "lab/run" in told[0]
    assert re.search(r"^without +/dev/kvm: does not exist -> .*lab/run", done.stdout, re.M)
    assert "Traceback" not in done.stderr


@needs_root
def test_the_demo_without_cgroup2_shows_containers(minirt: Minirt) -> None:
    done = without(NO_CGROUP2, DEMO, minirt.env)
    assert done.returncode == 0 and done.stdout.count("\nhello from a container\n") == 2, done.stdout + done.stderr
    assert re.search(r"^without +cgroup v2: not mounted -> .*lab/run", done.stdout, re.M)
    assert "Traceback" not in done.stderr


@needs_root
def test_a_limit_without_cgroup2_is_refused_in_a_line(minirt: Minirt) -> None:
    done = without(NO_CGROUP2, [*minirt.program, "run", "--memory", "64m", "busybox", "true"], minirt.env)
    assert done.returncode == 125 and done.stderr.count("\n") == 1 and "lab/run" in done.stderr, done.stderr
    assert minirt.containers == []


@needs_root
def test_the_demo_without_root_runs_in_a_user_namespace(home: Path) -> None:
    limit = int(Path("/proc/sys/user/max_user_namespaces").read_text())
    if limit == 0:
        pytest.skip("user.max_user_namespaces is 0: no containers without root here")
    done = as_nobody(DEMO, home)
    assert done.returncode == 0 and done.stdout.count("\nhello from a container\n") == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search(r"^missing ", done.stdout, re.M), "what just ran cannot be missing"


@needs_root
def test_doctor_without_root_finds_what_a_run_would(home: Path) -> None:
    done = as_nobody([".venv/bin/minirt", "doctor"], home)
    run = as_nobody([".venv/bin/minirt", "run", "--rm", "busybox", "true"], home)
    assert (done.returncode == 0) == (run.returncode == 0), done.stdout + run.stderr


@pytest.mark.parametrize("sudo", ["", "/bin/false"])
def test_a_package_that_cannot_be_installed_is_told_in_a_line(sudo: str, home: Path) -> None:
    rule = "include Makefile\nprobe:\n\t@$(call install,minirt-no-such-package bash)\n\t@echo the rest\n"
    file = home / "Makefile"
    file.write_text(rule)
    words = ["make", "-s", "-f", str(file), "probe", f"SUDO={sudo}"]
    done = as_nobody(words, home) if os.geteuid() == 0 else subprocess.run(
        words, cwd=TOP, env=outside_make({**os.environ}), capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert lines[-1] == "the rest"
    assert [line for line in lines if "apt-get install minirt-no-such-package" in line] and len(lines) <= 3


def test_the_lab_asks_for_packages_that_the_makefile_installs() -> None:
    listed = re.findall(r"^PACKAGES_LAB := (.*)$", (TOP / "Makefile").read_text(), re.M)[0].split()
    essential = {"util-linux"}
    assert {*lab_doctor.TO_RUN.values(), *lab_doctor.TO_BUILD.values()} - essential <= set(listed)


@needs_root
@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64 to take away")
@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 2)])
def test_without_the_lab_its_tests_are_left_out_in_a_line_but_not_in_ci(ci: str, status: int) -> None:
    hide = 'mount --bind /dev/null "$(command -v qemu-system-x86_64)"; exec "$@"'  # a file that nobody may execute
    done = without(hide, ["make", "-s", "-o", ".venv/installed-test", "test-lab", f"CI={ci}"], {**os.environ})
    assert done.returncode == status, done.stdout + done.stderr
    assert "apt-get install --no-install-recommends qemu-system-x86" in done.stdout and done.stdout.count("\n") == 1


@needs_root
def test_the_lab_says_that_nobody_has_no_subordinate_ids(home: Path) -> None:
    if re.search(r"^(nobody|65534):", Path("/etc/subuid").read_text(), re.M):
        pytest.skip("nobody has subordinate ids here")
    done = as_nobody(["lab/run", "true"], home)
    assert done.returncode == 125 and "usermod --add-subuids" in done.stderr, done.stderr


@pytest.mark.long
@needs_root
def test_every_package_has_the_same_name_in_debian_13(tmp_path: Path) -> None:
    """apt with a root of its own, so that the machine's lists stay as they are (man 5 apt.conf, Dir)."""
    for name in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial",
                 "var/cache/apt/archives/partial", "var/lib/dpkg"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").touch()
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (tmp_path / "etc/apt/sources.list").write_text(f"deb [signed-by={key}] http://deb.debian.org/debian trixie main\n")
    (tmp_path / "conf").write_text(f'Dir "{tmp_path}";\nDir::State::status "{tmp_path}/var/lib/dpkg/status";\n'
                                   'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n')  # fmt: skip
    env = {**os.environ, "APT_CONFIG": str(tmp_path / "conf")}
    update = subprocess.run(["apt-get", "update"], env=env, capture_output=True, text=True, timeout=100, check=False)
    if update.returncode:
        pytest.skip(f"no package lists of Debian 13 to be had here: {update.stderr.strip()[:200]}")
    show = "include Makefile\nprobe:\n\t@echo $(PACKAGES_TEST)\n"
    words = subprocess.run(["make", "-s", "-f", "-", "probe"], input=show, cwd=TOP, capture_output=True, text=True, check=True,
                           env=outside_make({**os.environ}))  # fmt: skip
    policy = subprocess.run(["apt-get", "install", "--simulate", "--no-install-recommends", *words.stdout.split()], env=env,
                            capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert policy.returncode == 0, policy.stderr



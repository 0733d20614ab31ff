"""podman runs its containers with minirt-oci; it is podman, conmon and the kernel that are asked what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import RUNTIME, Engine, need, place, rootfs  # noqa: F401

pytestmark = pytest.mark.root
# The host's cgroup v2 tree has no pids controller; it lacks CAP_SYS_RESOURCE for podman's default limits.
OPTIONS = ("--network", "none", "--pids-limit=0", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


@pytest.fixture(scope="module")
def podman(place: Path, rootfs: Path) -> Iterator[Engine]:
    need("podman", "conmon")
    storage = place / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n')
    command = ("podman", "--runtime", str(RUNTIME), "--cgroup-manager", "cgroupfs", "--events-backend", "file",
               "--tmpdir", f"{place}/tmp")  # fmt: skip
    engine = Engine(*command, env={"CONTAINERS_STORAGE_CONF": str(storage)})
    engine.good("import", rootfs, "bb")
    yield engine
    engine("rm", "-fa")
    engine("rmi", "-fa")


def run(podman: Engine, *words: object) -> str:
    return podman.good("run", "--rm", *OPTIONS, *words)


def test_output_and_exit_status(podman: Engine) -> None:
    assert run(podman, "bb", "echo", "hello") == "hello"
    assert podman("run", "--rm", *OPTIONS, "bb", "sh", "-c", "exit 42").returncode == 42


def test_what_cannot_be_run_is_126_and_127(podman: Engine) -> None:
    assert podman("run", "--rm", *OPTIONS, "bb", "nothing").returncode == 127
    assert podman("run", "--rm", *OPTIONS, "bb", "/etc").returncode == 126


def test_user_environment_directory_and_volume(podman: Engine, place: Path) -> None:
    (place / "volume").mkdir(exist_ok=True)
    script = "id -u; pwd; echo $A; echo made > /v/file"
    (place / "volume").chmod(0o777)
    out = run(podman, "-u", "12:34", "-w", "/dev", "-e", "A=b c", "-v", f"{place}/volume:/v", "bb", "sh", "-c", script)
    assert out.splitlines() == ["12", "/dev", "b c"]
    assert (place / "volume" / "file").stat().st_uid == 12


def test_a_terminal(podman: Engine) -> None:
    assert run(podman, "-t", "bb", "tty").strip() == "/dev/pts/0"


def test_a_user_namespace(podman: Engine) -> None:
    out = run(podman, "--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000", "bb", "cat", "/proc/self/uid_map")
    assert out.split() == ["0", "100000", "1000"]


def test_a_container_s_life(podman: Engine) -> None:
    script = "echo up; trap 'exit 9' TERM; while :; do sleep 0.1; done"
    podman.good("run", "-d", "--name", "life", *OPTIONS, "bb", "sh", "-c", script)
    pid = int(podman.good("inspect", "--format", "{{.State.Pid}}", "life"))
    assert podman.good("exec", "life", "cat", "/proc/1/cmdline").startswith("sh\0")
    assert podman("exec", "life", "sh", "-c", "exit 5").returncode == 5
    assert run_state(podman) == "running" and "State:\tT" not in Path(f"/proc/{pid}/status").read_text()
    podman.good("pause", "life")
    assert run_state(podman) == "paused"
    podman.good("unpause", "life")
    assert podman.good("logs", "life") == "up"
    assert str(pid) in podman.good("top", "life", "hpid")
    podman.good("stop", "-t", "10", "life")
    assert podman.good("inspect", "--format", "{{.State.ExitCode}}", "life") == "9"
    podman.good("start", "life")
    podman.good("kill", "--signal", "KILL", "life")
    assert podman.good("wait", "life") == "137"
    podman.good("rm", "life")
    assert not Path(f"/proc/{pid}").exists()


def run_state(podman: Engine) -> str:
    return podman.good("inspect", "--format", "{{.State.Status}}", "life")


def test_a_health_check(podman: Engine) -> None:
    podman.good("run", "-d", "--name", "well", "--health-cmd", "test -e /tmp/well || exit 1", *OPTIONS, "bb", "sleep", "100")
    assert podman("healthcheck", "run", "well").returncode == 1
    podman.good("exec", "well", "sh", "-c", "mkdir -p /tmp; touch /tmp/well")
    assert podman("healthcheck", "run", "well").returncode == 0
    podman.good("rm", "-f", "-t", "0", "well")


def test_the_same_bundle_looks_the_same_with_runc(podman: Engine) -> None:
    """Capabilities, filter, limits and mounts that podman asks for are there, as with runc."""
    need("runc")
    script = "busybox grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/self/status; cat /proc/self/limits; mount; ls -l /dev"
    theirs = Engine(*("runc" if word == str(RUNTIME) else word for word in podman.command), env=podman.env)
    assert comparable(run(podman, "bb", "sh", "-c", script)) == comparable(run(theirs, "bb", "sh", "-c", script))


def comparable(text: str) -> list[str]:
    """Lines without what is another with each container: overlay's directories, times."""
    lines = []
    for line in text.splitlines():
        words = line.replace(",size=0k,mode=755)", ")").split()  # ours is the mask of crun; runc's has no options
        if line.startswith("overlay on / ") or "cgroup" in line:
            continue
        listed = len(words[0]) == 10 and words[0][0] in "bcdl-"  # a line of ls -l, with its time
        lines.append(" ".join(word for i, word in enumerate(words) if not (listed and i in (5, 6, 7))))
    return sorted(lines)  # podman puts mounts in another order each time


def test_update_changes_what_the_host_can_hold(podman: Engine) -> None:
    podman.good("run", "-d", "--name", "limits", *OPTIONS, "bb", "sleep", "100")
    done = podman("update", "--memory", "64m", "limits")
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if controllers.exists() and "memory" in controllers.read_text():
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0 and "memory" in done.stderr
    podman.good("rm", "-f", "-t", "0", "limits")


def test_inspect_names_our_runtime(podman: Engine) -> None:
    info = json.loads(podman.good("info", "--format", "json"))
    assert info["host"]["ociRuntime"]["path"] == str(RUNTIME)
    assert "spec: 1." in info["host"]["ociRuntime"]["version"]


def test_several_at_once(podman: Engine) -> None:
    for i in range(5):
        podman.good("run", "-d", "--name", f"many{i}", *OPTIONS, "bb", "sleep", "100")
    time.sleep(0.1)
    assert podman.good("ps", "--filter", "name=many", "-q").count("\n") == 4
    podman.good("rm", "-f", "-t", "0", *(f"many{i}" for i in range(5)))

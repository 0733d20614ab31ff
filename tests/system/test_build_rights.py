"""What a RUN gets only when who builds gives it: an agent's keys, the host's network, all rights of root."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from test_build import Project

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="RUN is a container with owners of its own, which needs root"),
]
SOURCE = Path(__file__).parent.parent / "native" / "ssh_identities.c"
ASK = "RUN --mount=type=ssh{more} ask > /said\n"


@pytest.fixture
def project(own_store: Minirt, tmp_path: Path) -> Project:
    """A project whose containers can ask an agent which keys it has."""
    made = Project(own_store, tmp_path / "project")
    made.path.mkdir()
    subprocess.run(["gcc", "-static", "-O1", "-o", made.path / "ask", SOURCE], check=True, timeout=60)
    return made


def asking(more: str = "", user: str = "0") -> str:
    return f"FROM busybox\nCOPY ask /bin/\nRUN chmod 777 /\nUSER {user}\n" + ASK.format(more=more)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-agent") is None:
        pytest.skip("openssh-client is not installed")
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "key of the test", "-f", tmp_path / "key"]
    subprocess.run(words, check=True, timeout=60)
    return tmp_path / "key"


@pytest.fixture
def agent(key: Path, tmp_path: Path) -> Iterator[Path]:
    """An agent that has the key."""
    path = tmp_path / "a"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        while not path.exists():
            time.sleep(0.01)
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True, timeout=60)
        yield path
        process.terminate()


def agents() -> set[str]:
    found = subprocess.run(["pgrep", "-x", "ssh-agent"], capture_output=True, text=True).stdout
    return set(found.split())


def test_a_step_asks_the_users_agent(project: Project, agent: Path) -> None:
    project.write(asking())
    project.minirt.env["SSH_AUTH_SOCK"] = str(agent)
    project.good("--ssh", "default")
    assert "key of the test" in project.read("/said")
    project.minirt.env.pop("SSH_AUTH_SOCK")
    project.good("--no-cache", "--ssh", f"default={agent}")
    assert "key of the test" in project.read("/said")


def test_another_user_asks_it_too_if_the_mount_says_so(project: Project, agent: Path) -> None:
    """The agent itself refuses whoever is not its own user."""
    project.write(asking(",uid=1234", "1234"))
    project.good("--ssh", f"default={agent}")
    assert "key of the test" in project.read("/said")
    project.write(asking("", "1234"))
    assert "the command ended with status 1" in project.fails("--ssh", f"default={agent}")


def test_keys_get_an_agent_that_ends_with_the_build(project: Project, key: Path) -> None:
    before = agents()
    project.write(asking(",id=deploy,target=/run/here,required"))
    project.good("--ssh", f"deploy={key}")
    assert "key of the test" in project.read("/said")
    end = time.monotonic() + 60
    while agents() - before:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_agent_leaves_no_trace_in_the_image(project: Project, agent: Path) -> None:
    project.write("FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\n")
    project.good("--ssh", f"default={agent}")
    image = project.store.resolve("made")
    assert image.manifest["layers"][-1]["size"] == 1024, "an archive of nothing"
    assert "SSH_AUTH_SOCK" not in str(image.config["config"])


def test_without_an_agent_a_step_has_none_unless_it_requires_one(project: Project) -> None:
    project.write("FROM busybox\nRUN --mount=type=ssh test -z $SSH_AUTH_SOCK\n")
    project.good()
    project.write(asking(",required"))
    assert "the ssh agent 'default' is required" in project.fails()


NO_AGENTS = [("default", "SSH_AUTH_SOCK is not set"), ("a=/nosuch", "no such file"), ("=x", "it is written")]


@pytest.mark.parametrize(("value", "word"), NO_AGENTS)
def test_what_is_no_agent_is_told_in_a_line(project: Project, value: str, word: str) -> None:
    project.minirt.env.pop("SSH_AUTH_SOCK", None)
    project.write(asking())
    assert word in project.fails("--ssh", value)


def test_a_file_that_is_no_key_is_told_in_a_line(project: Project, key: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no key")
    project.write(asking())
    assert "--ssh: " in project.fails("--ssh", f"default={tmp_path}/text")


def test_a_step_has_all_rights_only_where_both_say_so(project: Project) -> None:
    look = "grep -E '^(CapEff|Seccomp):' /proc/self/status"
    project.write(f"FROM busybox\nRUN {look} > /usual\nRUN --security=insecure {look} > /all && mount -t tmpfs none /mnt\n")
    assert "--allow security.insecure" in project.fails()
    project.good("--allow", "security.insecure")
    whole = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    assert project.read("/all").split() == ["CapEff:", whole, "Seccomp:", "0"]
    assert project.read("/usual").split()[1] != whole and project.read("/usual").split()[3] == "2"
    project.write("FROM busybox\nRUN --security=none true\n")
    assert "there are sandbox and insecure" in project.fails()

"""The plan as something else: the difference of two, and a shell script, whose container the kernel sees as it sees ours."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from command import Minirt
from hypothesis import given
from hypothesis import strategies as st

from minirt.plan.compare import compare

RECORDS = st.lists(st.builds(
    lambda call, arg, step: {"call": call, "args": [str(arg)], "step": step, "side": "container", "why": ""},
    st.sampled_from(["mount", "chdir"]), st.integers(0, 3), st.sampled_from("ab")), max_size=12)  # fmt: skip


@given(RECORDS, RECORDS)
def test_the_changes_lead_from_one_plan_to_the_other(one: list, other: list) -> None:  # type: ignore[type-arg]
    changes = list(compare({"records": one}, {"records": other}))
    texts = [[f"{r['call']}({', '.join(r['args'])})" for r in records] for records in (one, other)]
    gone, come = [sorted(c.call for c in changes if c.added is added) for added in (False, True)]
    assert sorted(texts[0] + come) == sorted(texts[1] + gone)
    assert bool(changes) is (one != other)


def test_a_read_only_root_is_one_call_more(minirt: Minirt) -> None:
    done = minirt("plan", "diff", "--format", "json", "busybox true", "--read-only busybox true")
    (change,) = json.loads(done.stdout)
    assert done.returncode == 1 and change["added"] and change["call"].startswith("mount_setattr(")
    assert minirt("plan", "diff", "busybox true", "busybox true").returncode == 0


def test_a_plan_in_a_file_is_one_side(minirt: Minirt, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text(minirt("run", "--plan", "--format", "json", "busybox", "true").stdout)
    assert minirt("plan", "diff", str(file), "busybox true").stdout == ""


@pytest.mark.parametrize(("words", "said"), [(("plan", "diff", "busybox", "--nonsense busybox"), "no option --nonsense"),
                                             (("plan", "diff", "busybox 'x", "busybox"), "quotation"),
                                             (("plan", "diff", "/etc/passwd", "busybox"), "not a plan")])  # fmt: skip
def test_bad_input_is_one_line(minirt: Minirt, words: tuple[str, ...], said: str) -> None:
    done = minirt(*words)
    assert done.returncode == 125 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


LOOK = """hostname; ls /; ls /dev | grep -v -e core -e initctl; ps -o comm; echo $$; id
while read source path kind options rest; do echo "$path $kind ${options%%,*}"; done < /proc/mounts > /tmp/seen
grep -v -e overlay -e ^/etc/ /tmp/seen | sort; rm /tmp/seen"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="namespaces without a user namespace take root")
def test_the_script_makes_the_same_container(minirt: Minirt, tmp_path: Path) -> None:
    """What a program sees of root, mounts, devices, processes, host name is the same; rights are not in a shell's words."""
    words = ["--hostname", "box", "busybox", "sh", "-c", LOOK]
    script = tmp_path / "container.sh"
    done = minirt("run", "--as-shell", *words)
    assert done.returncode == 0 and "capset" in done.stdout, done.stderr
    script.write_text(done.stdout)
    by_shell = subprocess.run(["sh", script], capture_output=True, text=True, timeout=60)
    ours = minirt("run", "--rm", *words)
    assert by_shell.returncode == ours.returncode == 0, by_shell.stderr + ours.stderr
    assert by_shell.stdout == ours.stdout, shlex.join(words)


FACTS = """hostname; id; pwd; echo $HOME $A; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n
ls /dev | grep -v core; mkdir /x 2>&1
while read source path kind options rest; do echo "$path $kind ${options%%,*}"; done < /proc/mounts > /tmp/seen
grep -v -e ^/etc/ -e '^/ ' /tmp/seen | sort; rm /tmp/seen"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("runc"), reason="root and runc")
def test_the_bundle_makes_the_same_container_under_minirt_oci_and_runc(minirt: Minirt, tmp_path: Path) -> None:
    words = ["--hostname", "box", "-e", "A=1", "-u", "7:8", "-w", "/tmp", "--ulimit", "nofile=99", "--tmpfs", "/run"]
    words += ["busybox", "sh", "-c", FACTS]
    done = minirt("run", "--as-oci", tmp_path / "bundle", *words)
    assert done.returncode == 0, done.stderr
    ours = minirt("run", "--rm", *words)
    assert ours.returncode == 0, ours.stderr
    alone = "mount --make-rprivate /; umount -R -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec \"$@\""
    for runtime in ([*minirt.program, "oci"], ["runc"]):
        command = [*runtime, "--root", tmp_path / "state", "run", "--bundle", tmp_path / "bundle", "b"]
        seen = subprocess.run(["unshare", "-m", "sh", "-c", alone, "sh", *command], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        assert seen.returncode == 0, seen.stderr
        assert seen.stdout == ours.stdout, runtime


def test_a_bundle_is_not_written_over_what_is_there(minirt: Minirt, tmp_path: Path) -> None:
    done = minirt("run", "--as-oci", tmp_path, "busybox", "true")
    assert done.returncode == 125 and "File exists" in done.stderr and done.stderr.count("\n") == 1
    done = minirt("run", "--as-oci", tmp_path / "new", "-u", "nobody-knows", "busybox", "true")
    assert done.returncode != 0 and not (tmp_path / "new").exists()

"""exec into a container's cgroup, where the tree is delegated by namespace (cgroup2's nsdelegate, as systemd mounts it)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from test_oci_runtime import Runtime, oci  # noqa: F401


def test_exec_is_born_in_the_cgroup_of_a_container_that_has_a_cgroup_namespace(oci: Runtime) -> None:  # noqa: F811
    # The option is the whole machine's, and gone as soon as somebody mounts cgroup2 without it, as CRIU does.
    subprocess.run(["mount", "-o", "remount,nsdelegate", "/sys/fs/cgroup"], check=True)
    assert "nsdelegate" in next(line for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("cgroup2 "))
    assert {"type": "cgroup"} in oci.bundle.linux["namespaces"]
    oci.config["process"]["args"] = ["sleep", "1000"]
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "box", capture_output=False)
    own = Path(f"/proc/{oci.pid}/cgroup").read_text()
    assert own == f"0::/{oci.group}\n"
    assert oci.good("exec", "box", "cat", "/proc/self/cgroup") == "0::/\n"
    oci.good("exec", "--detach", "box", "sleep", "500", capture_output=False)
    pids = (Path("/sys/fs/cgroup") / own.strip()[4:] / "cgroup.procs").read_text().split()
    assert len(pids) == 2 and str(oci.pid) in pids

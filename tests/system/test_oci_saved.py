"""checkpoint and restore where there is no CRIU, or words that cannot be: one line, and nothing has changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
from test_oci_runtime import Runtime, oci  # noqa: F401

from minirt.runtime import checkpoint, restore
from minirt.runtime.flags import Flag

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]
NOWHERE = {"env": {**os.environ, "PATH": "/nowhere"}}


def refused(oci: Runtime, *words: object, **more: Any) -> str:  # noqa: F811
    done = oci(*words, **more)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    return done.stderr


def test_without_criu_both_say_what_to_install(oci: Runtime) -> None:  # noqa: F811
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "box", capture_output=False)
    image = oci.path / "image"
    assert "apt-get install criu" in refused(oci, "checkpoint", "--image-path", image, "box", **NOWHERE)
    assert oci.state()["status"] == "running"
    oci.good("delete", "--force", "box")
    assert "apt-get install criu" in refused(oci, "restore", "--image-path", image, "--bundle", oci.bundle.path, "box", **NOWHERE)
    assert oci.left() == []


def test_what_cannot_be_is_refused_before_anything_is_done(oci: Runtime) -> None:  # noqa: F811
    assert "does not exist" in refused(oci, "checkpoint", "box")
    assert "no checkpoint" in refused(oci, "restore", "--image-path", oci.path / "none", "--bundle", oci.bundle.path, "box")
    oci.create()
    assert "in created state" in refused(oci, "checkpoint", "box")
    oci.good("start", "box")
    for flags, text in (
        (("--lazy-pages",), "--lazy-pages: is not supported"), (("--page-server", "1.2.3.4:5"), "--page-server: is not supported"),
        (("--manage-cgroups-mode", "hard"), "soft, full, strict"), (("--empty-ns", "mount"), "--empty-ns mount"),
        (("--parent-path", "/tmp"), "--parent-path /tmp"), (("--parent-path", "../none"), "--parent-path ../none"),
        (("--image-path", "/dev/null/x"), "--image-path /dev/null/x"), (("--status-fd", "x"), "--status-fd: is not supported"),
    ):  # fmt: skip
        assert text in refused(oci, "checkpoint", *flags, "box")
    assert oci.state()["status"] == "running"


@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed (the Makefile's PACKAGES_PEERS)")
@pytest.mark.parametrize(("command", "flags"), [("checkpoint", checkpoint.FLAGS), ("restore", restore.FLAGS)])
def test_each_of_runc_s_flags_is_known(command: str, flags: tuple[Flag, ...]) -> None:
    text = subprocess.run(["runc", command, "--help"], capture_output=True, text=True, check=True, timeout=20).stdout
    theirs = set(re.findall(r"^ +--([a-z-]+)", text, re.M)) - {"help"}
    assert len(theirs) > 10 and theirs <= {name for flag in flags for name in flag.names}

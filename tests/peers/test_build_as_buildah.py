"""`minirt build` and `buildah bud` of the same Dockerfiles: the same files with all their attributes, the same configuration.

buildah runs its steps in a chroot here (--isolation chroot: its other way wants a cgroup manager). Nothing is fetched: the base
image is minirt's own, given to buildah as an OCI layout.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Minirt
from dockerfile_cases import CASES
from engines import RUNTIME, Engine, need

from minirt.image.store import Store
from minirt.image.view import View

pytestmark = pytest.mark.root

FIELDS = ("Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Labels", "ExposedPorts", "Volumes", "StopSignal", "Healthcheck",
          "OnBuild", "Shell")  # fmt: skip
SERVED = {"/sub/file.txt": b"from the server\n", "/a.tar": b"no archive to ADD of a URL"}
SHOW = Path(__file__).parent / "tree.py"
# As in test_podman.py: what this host cannot give podman.
PODMAN_RUN = ("--network", "none", "--pids-limit=0", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
BEGAN = time.time_ns()


class Site(http.server.BaseHTTPRequestHandler):
    """What ADD fetches, on loopback."""

    def do_GET(self) -> None:
        data = SERVED.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def pair(image_store: Path) -> Iterator[tuple[Minirt, Engine]]:
    """A minirt and a buildah, with stores of their own that have the same base image."""
    need("buildah", "skopeo", "podman")
    place = Path(tempfile.mkdtemp(prefix="mb-", dir="/var/tmp"))
    (place / "lib").mkdir()
    subprocess.run(["cp", "-a", "--reflink=auto", image_store / "lib" / "image", place / "lib" / "image"], check=True)
    storage = place / "storage.conf"
    storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n')
    buildah = Engine("buildah", env={"CONTAINERS_STORAGE_CONF": str(storage)})
    skopeo = Engine("skopeo", env=buildah.env)
    skopeo.good("copy", "-q", f"oci:{place}/lib/image:busybox:latest", "containers-storage:localhost/busybox:latest")
    yield Minirt(place), buildah
    buildah("rm", "-a")
    subprocess.run(["umount", f"{place}/graph/overlay"], capture_output=True)
    shutil.rmtree(place)


def write(name: str, place: Path, site: str) -> list[str]:
    """Make a case's context, and return its flags."""
    sha256 = hashlib.sha256(SERVED["/sub/file.txt"]).hexdigest()
    return CASES[name].write(name, place / "context", url=site, sha256=sha256)


def ours(minirt: Minirt, place: Path, flags: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build, and return the files and the configuration."""
    done = minirt("build", "--network", "none", "-t", "case", *flags, place / "context")
    assert done.returncode == 0, done.stderr
    image = Store(str(minirt.root / "lib" / "image")).resolve("case")
    view = View(image.layers())
    from tree import describe

    tree = {os.fsdecode(path): describe(os.fsdecode(found.path)) for path, found in view.walk(b"")}
    return tree, image.config.get("config") or {}


def theirs(buildah: Engine, place: Path, flags: list[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The same by buildah; None where it refuses the file."""
    words = ["bud", "--layers", "--isolation", "chroot", "--pull=never", "--format", "docker", "-t", "case", *flags]
    done = buildah(*words, place / "context")
    if done.returncode:
        return None
    script = f'm=$(podman image mount localhost/case); {sys.executable} {SHOW} "$m"; podman image umount localhost/case >&2'
    shown = subprocess.run(["unshare", "-m", "sh", "-ec", script], env=buildah.env, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(buildah.good("inspect", "--type", "image", "localhost/case"))
    return json.loads(shown.stdout), document["Docker"]["config"]


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the attributes that differ.

    Two times of this test run are both just now; buildah copies times in whole seconds. A directory in which buildah put
    something has the time of that; in our layers it keeps its own, so that a layer is the same whenever it is made.
    """
    mine, other = ours["mtime"], theirs["mtime"]
    if other % 10**9 == 0:
        mine -= mine % 10**9
    is_new = other >= BEGAN - 10**9
    same_time = mine == other or (is_new and (mine >= BEGAN - 10**9 or ours["mode"].startswith("0o4")))
    return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key] and not (key == "mtime" and same_time)}


def configured(config: dict[str, Any]) -> dict[str, Any]:
    found = {field: config.get(field) or None for field in FIELDS}
    labels = {name: value for name, value in (found["Labels"] or {}).items() if name != "io.buildah.version"}
    found["Labels"] = labels
    return found


QUICK = ("run changes", "run changes", "copy directories", "args")  # the others take buildah minutes


SHARED = [name for name, case in CASES.items() if case.docker is None]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in SHARED])
def test_files_and_configuration_are_buildahs(name: str, pair: tuple[Minirt, Engine], site: str, tmp_path: Path) -> None:
    minirt, buildah = pair
    flags = write(name, tmp_path, site)
    their_result = theirs(buildah, tmp_path, flags)
    assert their_result is not None, "buildah refuses it: what does docker's documentation say?"
    their_tree, their_config = their_result
    our_tree, our_config = ours(minirt, tmp_path, flags)
    but = CASES[name].but
    assert {*our_tree} ^ {*their_tree} == {name for name in but if not (name in our_tree and name in their_tree)}
    both = our_tree.keys() & their_tree.keys() - but.keys()
    differ = {name: found for name in both if (found := compare(our_tree[name], their_tree[name]))}
    assert differ == {}
    assert configured(our_config) == configured(their_config)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.docker is not None])
def test_where_buildah_refuses_a_file_dockers_documentation_counts(
    name: str, pair: tuple[Minirt, Engine], site: str, tmp_path: Path
) -> None:
    minirt, _ = pair
    case = CASES[name]
    assert case.docker is not None
    wanted, _source = case.docker
    flags = write(name, tmp_path, site)
    assert minirt("build", "--network", "none", "-t", "case", *flags, tmp_path / "context").returncode == 0
    image = Store(str(minirt.root / "lib" / "image")).resolve("case")
    view, config = View(image.layers()), image.config["config"]
    for key, value in wanted.items():
        if isinstance(value, list) and not key.startswith("/"):
            assert config[key][-len(value) :] == value
        elif not key.startswith("/"):
            assert config[key] == value
        elif value is None:
            assert view.find(view.resolve(key.encode())) is None
        else:
            assert view.read(key) == value


APP = """FROM busybox
RUN echo hello > /greeting && chown www-data /greeting && chmod 400 /greeting
USER www-data
WORKDIR /home/app
ENV WHO=world
ENTRYPOINT ["sh", "-c", "echo $(cat /greeting) $WHO $(id -un) $(pwd)"]
"""
SAID = "hello world www-data /home/app"


def test_an_image_built_here_runs_under_podman(pair: tuple[Minirt, Engine], tmp_path: Path) -> None:
    minirt, buildah = pair
    (tmp_path / "Dockerfile").write_text(APP)
    done = minirt("build", "--network", "none", "-t", "app", "-o", f"type=oci,dest={tmp_path}/layout", tmp_path)
    assert done.returncode == 0, done.stderr
    Engine("skopeo", env=buildah.env).good("copy", "-q", f"oci:{tmp_path}/layout:latest", "containers-storage:localhost/app")
    quiet = ("--cgroup-manager", "cgroupfs", "--events-backend", "file")
    podman = Engine("podman", "--runtime", str(RUNTIME), *quiet, env=buildah.env)
    assert podman.good("run", "--rm", *PODMAN_RUN, "localhost/app") == SAID


def test_an_image_built_by_buildah_runs_here(pair: tuple[Minirt, Engine], tmp_path: Path) -> None:
    minirt, buildah = pair
    (tmp_path / "Dockerfile").write_text(APP)
    buildah.good("bud", "--isolation", "chroot", "--pull=never", "-t", "theirs", tmp_path)
    buildah.good("push", "-q", "localhost/theirs", f"oci-archive:{tmp_path}/theirs.tar:theirs:latest")
    assert minirt("load", "-i", tmp_path / "theirs.tar").returncode == 0
    done = minirt("run", "--rm", "theirs")
    assert (done.returncode, done.stdout.strip()) == (0, SAID), done.stderr

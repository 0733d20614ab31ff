"""The docker command line drives minirt, by `minirt serve`: each command, and what the kernel or a file says of it then."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from api_server import Api, api, emptied, until  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
QUICK = ("--network", "none")


# -- the server


def test_version_tells_both_sides(api: Api) -> None:
    fields = ("Client.APIVersion", "Server.MinAPIVersion", "Server.APIVersion", "Server.KernelVersion")
    text = api.good("version", "--format", " ".join(f"{{{{.{field}}}}}" for field in fields))
    client, oldest, newest, kernel = text.split()
    assert (oldest, newest) == ("1.40", "1.50") and kernel == os.uname().release
    assert tuple(map(int, client.split("."))) <= (1, 50)


@pytest.mark.parametrize("version, status", [("1.39", 400), ("1.40", 200), ("1.50", 200), ("1.51", 400)])
def test_versions_beyond_what_is_announced_are_refused(api: Api, version: str, status: int) -> None:
    found, said = api.ask("GET", f"/v{version}/version")
    assert found == status and ("message" in said) == (status == 400)


def test_what_is_not_there_is_told_as_docker_does(api: Api) -> None:
    assert api.ask("GET", "/containers/nobody/json") == (404, {"message": "No such container: nobody"})
    assert api.ask("GET", "/no/such/thing") == (404, {"message": "page not found"})
    assert api.ask("PUT", "/version")[0] == 405
    assert api.ask("POST", "/containers/create", b"{")[0] == 400


# -- run


def test_run_passes_output_errors_input_and_exit_code(api: Api) -> None:
    script = "cat; echo wrong >&2; exit 7"
    done = api.docker("run", "--rm", "-i", *QUICK, "busybox", "sh", "-c", script, input="typed\n")
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "wrong\n", 7)
    assert api.minirt.containers == []


def test_run_tells_a_command_that_is_not_there_and_one_that_cannot_be(api: Api) -> None:
    assert api.docker("run", "--rm", *QUICK, "busybox", "nowhere").returncode == 127
    assert api.docker("run", "--rm", *QUICK, "busybox", "/etc/passwd").returncode == 126
    assert api.minirt.containers == []


def test_megabytes_go_through_a_container_and_come_back(api: Api, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    command = ["docker", "run", "--rm", "-i", *QUICK, "busybox", "cat"]
    assert subprocess.run(command, input=data, capture_output=True, env=api.env, timeout=100).stdout == data

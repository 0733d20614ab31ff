"""ps, inspect, images, system, version, info: docker's columns, fields, filters and templates, of real containers."""

from __future__ import annotations

import json
import os
import re

import pytest

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def good(minirt, *words: object, **more: object) -> str:
    done = minirt(*words, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def two(minirt):
    """A container that runs, and one that has ended."""
    good(
        minirt,
        "run",
        "-d",
        "--name",
        "up",
        "-l",
        "team=blue",
        "-v",
        "data:/data",
        "busybox",
        "sh",
        "-c",
        "echo hi > /x; sleep 1000",
    )
    good(minirt, "run", "-d", "--name", "down", "-l", "team=red", "busybox", "sh", "-c", "exit 3")
    good(minirt, "wait", "down")
    yield minirt
    good(minirt, "rm", "-f", "-v", "up")


def test_the_table_of_ps_has_dockers_columns(two) -> None:
    head, line = good(two, "ps").splitlines()
    assert re.split(r"\s{2,}", head) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.match(r'[0-9a-f]{12} +busybox\S* +"sh -c \'?echo hi.*" +.* ago +Up .*up$', line)
    assert len(good(two, "ps", "-a").splitlines()) == 3 and good(two, "ps", "-ql") == good(
        two, "inspect", "-f", "{{slice .Id 0 12}}", "down"
    )


def test_templates_and_json_of_ps(two) -> None:
    assert good(two, "ps", "-a", "--format", '{{.Names}} {{.State}} {{.Label "team"}}').splitlines() == [
        "down exited red",
        "up running blue",
    ]
    rows = [json.loads(line) for line in good(two, "ps", "-a", "--no-trunc", "--format", "json").splitlines()]
    assert [row["Names"] for row in rows] == ["down", "up"] and len(rows[0]["ID"]) == 64
    assert rows[0]["Status"].startswith("Exited (3)") and rows[1]["Mounts"] == "data" and rows[1]["LocalVolumes"] == "1"
    table = good(two, "ps", "-a", "--format", r"table {{.Names}}\t{{upper .State}}\t{{.Size}}").splitlines()
    assert re.split(r"\s{2,}", table[0]) == ["NAMES", "STATE", "SIZE"] and table[1].split()[:2] == ["down", "EXITED"]
    done = two("ps", "--format", "{{.Nope}}")
    assert done.returncode == 1 and ".Nope" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("filters", "want"),
    [
        (["name=o"], "down"), (["name=u"], "up"), (["status=exited"], "down"), (["status=running"], "up"), (["exited=3"], "down"),
        (["exited=0"], ""), (["label=team"], "down up"), (["label=team=red"], "down"), (["label=team", "name=^up$"], "up"),
        (["volume=data"], "up"), (["volume=/data"], "up"), (["ancestor=busybox"], "down up"), (["ancestor=none"], ""),
        (["since=up"], "down"), (["before=down"], "up"), (["health=none"], "down up"),
        (["status=exited", "status=running"], "down up"),
    ],
)  # fmt: skip
def test_filters_of_ps(two, filters: list[str], want: str) -> None:
    words = [word for text in filters for word in ("--filter", text)]
    assert good(two, "ps", "-a", "--format", "{{.Names}}", *words).split() == want.split()


def test_a_command_writes_nothing_to_our_terminal(minirt) -> None:
    """It may be an image's: in the list it is quoted as Go does that, and on one line."""
    good(minirt, "create", "--name", "box", "busybox", 'a\x1b[31m\nb"')
    try:
        assert '"a\\x1b[31m\\nb\\""' in good(minirt, "ps", "-a").splitlines()[1]
    finally:
        good(minirt, "rm", "box")


def test_a_filter_that_is_none_is_refused(minirt) -> None:
    for text in ("nothing=1", "name", "status=asleep", "health=tired"):
        done = minirt("ps", "--filter", text)
        assert done.returncode == 125 and done.stderr.count("\n") == 1


def test_inspect_finds_what_has_the_name(two) -> None:
    assert good(two, "inspect", "-f", "{{.Name}} {{.State.Status}} {{.State.ExitCode}}", "down") == "/down exited 3"
    assert (
        good(two, "inspect", "-f", "{{range .Mounts}}{{.Type}}:{{.Name}}:{{.Destination}}:{{.RW}}{{end}}", "up")
        == "volume:data:/data:true"
    )
    assert int(good(two, "inspect", "-f", "{{.State.Pid}}", "up")) > 1
    assert json.loads(good(two, "inspect", "data"))[0]["Name"] == "data"
    assert json.loads(good(two, "inspect", "--type", "image", "busybox"))[0]["Os"] == "linux"
    assert good(two, "inspect", "-s", "-f", "{{if gt .SizeRw 0}}wrote{{end}}", "up") == "wrote"
    done = two("inspect", "up", "nobody")
    assert done.returncode == 1 and "nobody" in done.stderr and json.loads(done.stdout)[0]["Name"] == "/up"
    assert two("inspect", "--type", "volume", "up").returncode == 1


def test_images_by_filter_and_template(minirt) -> None:
    assert good(minirt, "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=busy*").endswith("busybox:latest")
    assert (
        good(minirt, "images", "-q", "--filter", "reference=none*") == ""
        and good(minirt, "images", "-q", "-f", "dangling=true") == ""
    )
    assert good(minirt, "image", "inspect", "-f", "{{.Architecture}}", "busybox") == "amd64"


def test_docker_has_two_names_for_a_command(two) -> None:
    assert good(two, "container", "ls", "-aq") == good(two, "ps", "-aq")
    assert good(two, "container", "inspect", "-f", "{{.Id}}", "up") == good(two, "inspect", "-f", "{{.Id}}", "up")


def test_version_and_info(two) -> None:
    from minirt import __version__

    assert good(two, "version", "--format", "{{.Client.Version}} {{.Server.ApiVersion}}") == f"{__version__} 1.50"
    told = json.loads(good(two, "info", "--format", "json"))
    assert (told["Containers"], told["ContainersRunning"], told["KernelVersion"]) == (2, 1, os.uname().release)
    assert told["DockerRootDir"] == f"{two.root}/lib" and "Containers: 2" in good(two, "system", "info")


@pytest.mark.parametrize(
    ("field", "flag"), [("MemoryLimit", "--memory=64m"), ("PidsLimit", "--pids-limit=20"), ("CpuCfsQuota", "--cpus=0.5")]
)
def test_info_tells_of_limits_that_can_be_kept(minirt, field: str, flag: str) -> None:
    told = json.loads(good(minirt, "info", "--format", "json"))
    assert told[field] == (minirt("run", "--rm", flag, "busybox", "true").returncode == 0)
    assert bool(told["Warnings"]) == (not all(told[one] for one in ("MemoryLimit", "CpuCfsQuota", "CPUSet", "PidsLimit")))


def test_what_is_taken_on_the_disk(two) -> None:
    rows = {row["Type"]: row for row in map(json.loads, good(two, "system", "df", "--format", "json").splitlines())}
    assert (rows["Containers"]["TotalCount"], rows["Containers"]["Active"]) == ("2", "1")
    assert (rows["Local Volumes"]["TotalCount"], rows["Local Volumes"]["Active"]) == ("1", "1")
    assert rows["Images"]["Size"] != "0B" and good(two, "system", "df").startswith("TYPE")
    assert "data" in good(two, "system", "df", "-v")


def test_containers_that_do_not_run_are_pruned(two) -> None:
    good(two, "create", "--name", "new", "-l", "keep=1", "busybox", "true")
    assert good(two, "container", "prune", input="n\n") and good(two, "ps", "-aq", "--filter", "name=down")
    id = good(two, "inspect", "-f", "{{.Id}}", "down")
    assert id in good(two, "container", "prune", "-f", "--filter", "label!=keep")
    assert good(two, "ps", "-a", "--format", "{{.Names}}").split() == ["new", "up"]
    assert good(two, "container", "prune", "-f", "--filter", "until=1h") == "Total reclaimed space: 0B"
    good(two, "system", "prune", "-f", "--volumes")
    assert good(two, "ps", "-a", "--format", "{{.Names}}") == "up" and good(two, "volume", "ls", "-q") == "data"


def test_images_that_nobody_stands_on_are_pruned(own_store) -> None:
    good(own_store, "tag", "busybox", "busybox:other")
    good(own_store, "run", "--name", "box", "busybox", "true")
    good(own_store, "image", "prune", "-a", "-f")
    assert good(own_store, "images", "--format", "{{.Tag}}").split() == ["latest", "other"]  # it stands on both names' image
    good(own_store, "rm", "box")
    good(own_store, "image", "prune", "-af", "--filter", "label=none")
    assert good(own_store, "images", "-q")
    good(own_store, "image", "prune", "-a", "-f")
    assert good(own_store, "images", "-q") == ""

"""Builds: what a Dockerfile says is what the kernel shows in the image's containers, and nothing stays behind."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest
from command import Minirt
from registry_server import Server

from minirt.image.store import Store
from minirt.image.view import View

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="RUN is a container with owners of its own, which needs root"),
]


class Project:
    """A directory with a Dockerfile, and a minirt to build it."""

    def __init__(self, minirt: Minirt, path: Path) -> None:
        self.minirt = minirt
        self.path = path

    def write(self, text: str, **files: str) -> None:
        self.path.mkdir(exist_ok=True)
        for name, content in {"Dockerfile": text, **files}.items():
            (self.path / name).write_text(content)

    def __call__(self, *flags: object, **more: object) -> subprocess.CompletedProcess[str]:
        return self.minirt("build", "--network", "none", "-t", "made", *flags, self.path, **more)

    def good(self, *flags: object, **more: object) -> str:
        """Build; return what is told of the steps."""
        done = self(*flags, **more)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def fails(self, *flags: object) -> str:
        """Build; it must fail with 1 and one line, which is returned."""
        done = self(*flags)
        assert done.returncode == 1, done.stderr
        return next(line for line in done.stderr.splitlines() if line.startswith("minirt: "))

    @property
    def store(self) -> Store:
        return Store(str(self.minirt.root / "lib" / "image"))

    def read(self, path: str, name: str = "made") -> str:
        return View(self.store.resolve(name).layers()).read(path)


@pytest.fixture
def project(own_store: Minirt, tmp_path: Path) -> Project:
    return Project(own_store, tmp_path / "project")


def titles(told: str) -> dict[str, str]:
    """What became of each step, by its title without the count."""
    begun = dict(re.findall(r"^#(\d+) \[\S+ \d+/\d+\] (.*)$", told, re.M))
    return {begun[number]: what.split()[0] for number, what in re.findall(r"^#(\d+) (CACHED|DONE.*)$", told, re.M)}


def test_a_build_arg_that_nothing_declares_is_told_and_no_error(project: Project) -> None:
    project.write("ARG BASE=busybox\nFROM $BASE\nARG KNOWN OTHER=1\n")
    done = project("--build-arg", "KNOWN=1", "--build-arg", "OTEHR=2", "--build-arg", "http_proxy=x")
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning:")]
    assert done.returncode == 0 and warning.endswith("gives: OTEHR")
    assert project("--build-arg", "KNOWN=1", "-q").stderr == ""


def test_steps_of_a_build_that_runs_are_not_pruned(project: Project) -> None:
    wait = "until [ -e /ctx/go ]; do sleep 0.05; done"
    project.write(f"FROM busybox\nRUN echo one > /one\nRUN --mount=type=bind,target=/ctx {wait}\n")
    child = project.minirt.start("build", "--network", "none", "-t", "made", project.path)
    for line in child.stderr:
        if "RUN --mount" in line:
            break
    pruned = project.minirt("builder", "prune", "--all", "--force")
    assert pruned.returncode == 0 and "a build is running" in pruned.stderr
    (project.path / "go").touch()
    assert child.communicate(timeout=60)[0].startswith("sha256:") and child.returncode == 0
    assert project.minirt("run", "--rm", "made", "cat", "/one").stdout == "one\n"
    assert project.minirt("builder", "prune", "--all").stderr == ""


# -- the cache


def test_a_second_build_does_nothing_and_gives_the_same_image(project: Project) -> None:
    project.write("FROM busybox\nWORKDIR /w\nCOPY a .\nRUN cat a > b\nENV X=1\nCMD [\"sh\"]\n", a="content")
    first = project.good()
    image = project.store.resolve("made")
    assert set(titles(first).values()) == {"DONE"}
    assert [what for title, what in titles(project.good()).items() if not title.startswith("FROM")] == ["CACHED"] * 3
    assert project.store.resolve("made").digest == image.digest


def test_a_step_is_found_by_content_not_by_time(project: Project) -> None:
    project.write("FROM busybox\nCOPY a /a\nRUN cat /a\n", a="1")
    project.good()
    os.utime(project.path / "a", (5, 5))
    assert titles(project.good())["COPY a /a"] == "CACHED"
    (project.path / "a").write_text("2")
    again = titles(project.good())
    assert (again["COPY a /a"], again["RUN cat /a"]) == ("DONE", "DONE")
    assert project.read("/a") == "2"
    (project.path / "a").write_text("1")
    assert titles(project.good())["RUN cat /a"] == "CACHED" and project.read("/a") == "1"


def test_what_a_stage_gives_is_compared_by_content_too(project: Project) -> None:
    text = "FROM busybox AS build\nCOPY source /s\nRUN cut -c 1 /s > /out\nFROM busybox\nCOPY --from=build /out /out\n"
    project.write(text + "RUN cat /out\n", source="abc")
    project.good()
    (project.path / "source").write_text("axyz")
    again = titles(project.good())
    assert again["RUN cut -c 1 /s > /out"] == "DONE" and again["COPY --from=build /out /out"] == again["RUN cat /out"] == "CACHED"


def test_no_cache_does_all_again(project: Project) -> None:
    project.write("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    project.good()
    first = project.read("/id")
    project.good()
    assert project.read("/id") == first
    project.good("--no-cache")
    assert project.read("/id") != first


def test_a_build_argument_only_counts_from_its_line_on(project: Project) -> None:
    project.write("FROM busybox\nRUN echo before\nARG V\nRUN echo $V > /v\n")
    project.good("--build-arg", "V=1")
    again = titles(project.good("--build-arg", "V=2"))
    assert (again["RUN echo before"], again["RUN echo $V > /v"]) == ("CACHED", "DONE") and project.read("/v") == "2\n"


def test_the_steps_outlive_the_names_until_they_are_pruned(project: Project) -> None:
    project.write("FROM busybox\nRUN echo a > /a\n")
    project.good()
    assert project.minirt("image", "rm", "made").returncode == 0
    assert titles(project.good())["RUN echo a > /a"] == "CACHED"
    project.minirt("image", "rm", "made")
    done = project.minirt("builder", "prune", "--all")
    assert done.returncode == 0 and "1 step" in done.stdout
    assert titles(project.good())["RUN echo a > /a"] == "DONE"


def test_builds_at_the_same_time_share_a_store(project: Project) -> None:
    project.write("FROM busybox\nCOPY a /a\nRUN sleep 0.2; echo $RANDOM > /r\nRUN echo 2 > /two\n", a="a" * 100_000)
    builds = [project.minirt.start("build", "--network", "none", "-q", "-t", f"made{number}", project.path) for number in range(4)]
    for build in builds:
        said = build.communicate(timeout=60)[1]
        assert build.returncode == 0, said
    assert project.minirt("image", "verify", "--all").returncode == 0
    assert {project.read("/two", f"made{number}") for number in range(4)} == {"2\n"}


# -- stages


def test_stages_run_side_by_side_and_unneeded_ones_not_at_all(project: Project) -> None:
    """Each of two waits for what only the other can make: one after the other, neither would end."""
    wait = "i=0; while ! [ -e /c/{other} ]; do sleep 0.05; i=$((i+1)); [ $i -lt 300 ] || exit 9; done"
    stage = "FROM busybox AS {mine}\nRUN --mount=type=cache,id=meeting,target=/c touch /c/{mine} && "
    stage += wait + " && echo {mine} > /{mine}\n"
    project.write(
        stage.format(mine="a", other="b") + stage.format(mine="b", other="a") + "FROM busybox AS unneeded\nRUN exit 1\n"
        "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    told = project.good()
    assert project.read("/a") + project.read("/b") == "a\nb\n" and "unneeded" not in told


def test_when_one_stage_fails_the_others_end_at_once(project: Project) -> None:
    project.write("FROM busybox AS slow\nRUN sleep 1000\nFROM busybox AS bad\nRUN sleep 0.5; exit 3\n"
                  "FROM scratch\nCOPY --from=slow /x /\nCOPY --from=bad /y /\n")  # fmt: skip
    assert project.fails() == "minirt: Dockerfile:4: RUN sleep 0.5; exit 3: the command ended with status 3"
    assert project.minirt.containers == []


# -- RUN


def test_a_step_is_an_ordinary_container(project: Project) -> None:
    project.write("FROM busybox\nRUN hostname; echo $$; ls /sys/class/net; grep -c . /proc/net/route; "
                  "grep Seccomp: /proc/self/status; readlink /proc/self/ns/pid; id -u\n")  # fmt: skip
    told = [line.split(" ", 2)[2] for line in project.good().splitlines() if re.match(r"#2 \d", line)]
    assert told[:5] == ["minirt-build", "1", "lo", "1", "Seccomp:\t2"]
    assert told[5] != os.readlink("/proc/self/ns/pid") and told[6] == "0"


def test_the_network_is_none_or_the_hosts(project: Project) -> None:
    look = "readlink /proc/self/ns/net"
    project.write(f"FROM busybox\nRUN {look} > /default\nRUN --network=host {look} > /host\n")
    assert "--allow network.host" in project.fails()
    project.good("--allow", "network.host")
    host = os.readlink("/proc/self/ns/net") + "\n"
    assert project.read("/default") != host and project.read("/host") == host
    project.good("--network", "host")
    assert project.read("/default") == host


def test_mounts_leave_no_trace(project: Project) -> None:
    project.write("FROM busybox\nRUN --mount=type=cache,target=/deep/cache --mount=type=tmpfs,target=/etc/tmp "
                  "--mount=type=bind,source=a,target=/etc/bound --mount=type=secret,id=s "
                  "ls -d /deep/cache /etc/tmp /run/secrets/s && cat /etc/bound\n", a="bound", secret="hush")  # fmt: skip
    base = project.store.resolve("busybox")
    told = project.good("--secret", f"id=s,src={project.path}/secret")
    image = project.store.resolve("made")
    assert "bound" in told and "hush" not in json.dumps(image.config)
    assert [path for path, _ in View(image.layers()).walk(b"")] == [path for path, _ in View(base.layers()).walk(b"")]
    assert image.manifest["layers"][-1]["size"] == 1024, "an archive of nothing"


def test_a_secret_is_nowhere_in_the_store(project: Project) -> None:
    project.write("FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token | wc -c > /length\n"
                  "RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} = 16\n")  # fmt: skip
    project.minirt.env["T"] = "very secret text"
    project.good("--secret", "id=token,env=T")
    assert project.read("/length") == "16\n"
    found = subprocess.run(["grep", "-r", "-l", "very secret text", project.minirt.root], capture_output=True, text=True)
    assert [line for line in found.stdout.splitlines() if "/seccomp/" not in line] == []
    assert "required" in project.fails("--no-cache")


def test_a_cache_is_kept_from_step_to_step_and_locked(project: Project) -> None:
    one = "RUN --mount=type=cache,id=count,sharing=locked,target=/c "
    one += "n=$(cat /c/n 2>/dev/null || echo 0); sleep 0.2; echo $((n + 1)) > /c/n"
    project.write("".join(f"FROM busybox AS s{i}\n{one} # {i}\n" for i in range(3))
                  + "FROM busybox\nCOPY --from=s0 /etc/group /0\nCOPY --from=s1 /etc/group /1\nCOPY --from=s2 /etc/group /2\n"
                  "RUN --mount=type=cache,id=count,target=/c cp /c/n /n\n")  # fmt: skip
    project.good()
    assert project.read("/n") == "3\n", "locked: each saw what the one before it wrote"


def test_what_is_written_to_a_bind_mount_is_lost(project: Project) -> None:
    project.write("FROM busybox\nRUN --mount=type=bind,target=/src,rw echo more >> /src/a && cat /src/a > /seen\n"
                  "RUN --mount=type=bind,target=/src echo x >> /src/a || echo refused > /ro\n", a="1\n")  # fmt: skip
    project.good()
    assert project.read("/seen") == "1\nmore\n" and project.read("/ro") == "refused\n"
    assert (project.path / "a").read_text() == "1\n"


# -- errors


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("FROM busybox\n\n\nRUNN x\n", 4, "did you mean RUN"),
        ("FROM busybox\nRUN a \\\n  b\nENV A\n", 4, "a value is missing"),
        ("RUN x\n", 1, "before the first FROM"),
        ("FROM busybox\nCOPY a\n", 2, "at least one source and a destination"),
        ("FROM busybox\nCOPY nothing /\n", 2, "nothing: not found in the build context"),
        ("FROM busybox\nCOPY ../../etc/passwd /x\n", 2, "not found in the build context"),
        ("FROM busybox\nRUN --mount=type=what,target=/x a\n", 2, "there are type="),
        ("FROM busybox\nRUN cat <<EOF\nx\n", 2, "has no end"),
        ("FROM busybox\nENV A=1 \\\n  # c\n  B='x\n", 2, "without its end"),
        ("FROM busybox\nCOPY --chown=nosuch Dockerfile /\n", 2, "no 'nosuch'"),
        ("FROM busybox\nRUN exit 7\n", 2, "status 7"),
        ("FROM busybox\nRUN [\"/nothing\"]\n", 2, "/nothing"),
        ("FROM busybox\nONBUILD FROM x\n", 2, "cannot be a trigger"),
        ("FROM ${NONE}\n", 1, "nothing is left"),
        ("FROM busybox\nCOPY Dockerfile /etc\nCOPY Dockerfile /etc/passwd/x\n", 3, "is no directory"),
        ("FROM busybox\nHEALTHCHECK --interval=soon CMD x\n", 2, "a time is written"),
        ("FROM busybox\nSTOPSIGNAL SIGNOTHING\n", 2, "no such signal"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line_with_its_place(project: Project, text: str, line: int, word: str) -> None:
    project.write(text)
    said = project.fails("--pull=never")
    assert said.startswith(f"minirt: Dockerfile:{line}: ") and word in said
    assert project.minirt.containers == []


def test_a_shell_opens_where_a_step_failed(project: Project) -> None:
    project.write("FROM busybox\nARG A=arg\nWORKDIR /work\nRUN echo kept > file\nRUN echo lost > other; exit 1\n")
    done = project("--debug-shell", input="pwd; cat file; ls; echo $A\n")
    assert done.returncode == 1 and done.stdout.split() == ["/work", "kept", "file", "arg"]
    assert "minirt: Dockerfile:5: RUN echo lost" in done.stderr and project.minirt.containers == []


def test_the_shell_has_a_terminal_where_there_is_one(project: Project) -> None:
    project.write("FROM busybox\nRUN exit 1\n")
    words = [*project.minirt.program, "build", "--network", "none", "--debug-shell", str(project.path)]
    script = ["script", "-qec", " ".join(words), "/dev/null"]
    done = subprocess.run(script, input="tty\nexit\n", env=project.minirt.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/dev/pts/0" in done.stdout


# -- the same bytes


def test_two_builds_in_two_places_give_the_same_image(image_store: Path, tmp_path: Path) -> None:
    text = ("FROM busybox AS build\nWORKDIR /src\nCOPY . .\nRUN mkdir -p out/x && for i in 3 1 2; do echo $i > out/$i; done && "
            "ln out/1 out/one && chown -R 5:6 out && touch /tmp/now\nFROM busybox\nCOPY --from=build /src/out /out/\n"
            "ADD a.txt /new/dir/\nRUN rm /etc/nsswitch.conf && hostname > /host\nENV A=1\nLABEL x=y\n")  # fmt: skip
    digests = []
    for number in range(2):
        root = tmp_path / f"root{number}"
        (root / "lib").mkdir(parents=True)
        subprocess.run(["cp", "-a", "--reflink=auto", image_store / "lib" / "image", root / "lib" / "image"], check=True)
        project = Project(Minirt(root), tmp_path / f"somewhere{number}" / ("deeper" * number))
        project.path.parent.mkdir(parents=True, exist_ok=True)
        project.write(text, **{"a.txt": "a", "b.txt": "b"})
        time.sleep(1.1 * number)
        project.good("--build-arg", "SOURCE_DATE_EPOCH=1700000000")
        image = project.store.resolve("made")
        digests.append((image.digest, image.diff_ids))
        assert image.config["created"] == "2023-11-14T22:13:20Z"
    assert digests[0] == digests[1]


# -- what comes out


def test_history_shows_the_steps(project: Project) -> None:
    project.write("FROM busybox\nRUN echo a\nENV A=1\nCOPY Dockerfile /d\nCMD [\"sh\"]\n")
    project.good()
    lines = project.minirt("image", "history", "--no-trunc", "made").stdout.splitlines()
    assert [next(word for word in ("CMD", "COPY", "ENV", "RUN", "busybox") if word in line) for line in lines[1:]][:4] == \
        ["CMD", "COPY", "ENV", "RUN"]  # fmt: skip


def test_squash_joins_the_new_layers_and_keeps_the_base(project: Project) -> None:
    project.write("FROM busybox\nRUN echo 1 > /a; mkdir /d; touch /d/x\nRUN rm /a /etc/nsswitch.conf; rm -r /d; "
                  "mkdir /d; touch /d/y\nRUN echo 3 > /c\n")  # fmt: skip
    project.good()
    plain = project.store.resolve("made")
    project.good("--squash")
    squashed, base = project.store.resolve("made"), project.store.resolve("busybox")
    assert squashed.diff_ids[:-1] == base.diff_ids and len(plain.diff_ids) == len(base.diff_ids) + 3

    def seen(layers: list[str]) -> list[tuple[bytes, int, int]]:
        return [(path, one.status.st_mode, one.status.st_mtime_ns) for path, one in View(layers).walk(b"")]

    assert seen(squashed.layers()) == seen(plain.layers())
    assert project.minirt("run", "--rm", "made", "sh", "-c", "ls /d; cat /c; ls /a /etc/nsswitch.conf").stdout.split() == ["y", "3"]


def test_the_result_can_be_files(project: Project, tmp_path: Path) -> None:
    project.write("FROM scratch\nCOPY a /d/a\n", a="content")
    assert project.minirt("build", "--network", "none", "-o", tmp_path / "out", project.path).returncode == 0
    assert (tmp_path / "out" / "d" / "a").read_text() == "content"
    assert project.minirt("build", "--network", "none", "-o", f"type=tar,dest={tmp_path}/out.tar", project.path).returncode == 0
    listed = subprocess.run(["tar", "-tf", tmp_path / "out.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["d/", "d/a"]


def test_a_dockerfile_from_standard_input_has_no_context(project: Project, tmp_path: Path) -> None:
    words = ("build", "--network", "none", "-q", "--iidfile", tmp_path / "id", "-")
    done = project.minirt(*words, input="FROM busybox\nRUN echo hi > /hi\n")
    assert done.returncode == 0 and done.stderr == ""
    image = done.stdout.strip()
    assert (tmp_path / "id").read_text() == image and image.startswith("sha256:")
    assert project.minirt("run", "--rm", image, "cat", "/hi").stdout == "hi\n"


def test_progress_and_result_can_be_json(project: Project) -> None:
    project.write("FROM busybox\nRUN echo said\n")
    done = project("--progress", "json", "--format", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"begin", "output", "done"} <= {event["event"] for event in events} and any(event["text"] == "said" for event in events)
    assert json.loads(done.stdout)["Names"] == ["made"]


def test_a_base_for_another_machine_is_refused(project: Project) -> None:
    project.write("FROM busybox\nRUN true\n")
    assert "is for linux/amd64, and linux/arm64 is wanted" in project.fails("--platform", "linux/arm64")
    project.write("FROM scratch\nCOPY Dockerfile /\n")
    project.good("--platform", "linux/arm64")
    assert project.store.resolve("made").config["architecture"] == "arm64"


def test_a_base_that_is_not_here_is_fetched(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("urllib3")
    pytest.importorskip("aiohttp")
    server = Server(tmp_path / "registry", "-q")
    try:
        name = f"{server.host}/team/base:v1"
        assert project.minirt("tag", "busybox", name).returncode == 0
        assert project.minirt("push", "--tls-verify=false", name).returncode == 0
        assert project.minirt("rmi", name).returncode == 0
        project.write(f"FROM {name}\nRUN echo fetched > /f\n")
        assert "no image named" in project.fails("--pull=never")
        project.good("--tls-verify=false")
        assert project.read("/f") == "fetched\n"
        assert server.host in project.minirt("images").stdout
    finally:
        server.stop()


# -- what is not to be trusted


def test_a_link_of_the_context_leads_nowhere_else(project: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    project.write("FROM busybox\nCOPY link /x\n")
    (project.path / "link").symlink_to(tmp_path / "outside")
    assert "link: not found in the build context" in project.fails()
    (project.path / "up").symlink_to("../../../../../../../etc/passwd")
    project.write("FROM busybox\nCOPY up /x\n")
    assert "up: not found in the build context" in project.fails()


def test_a_link_of_the_image_is_followed_inside_it(project: Project, tmp_path: Path) -> None:
    project.write(f"FROM busybox\nRUN ln -s {tmp_path} /out && ln -s ../../../../.. /up && mkdir -p /t{tmp_path}\n"
                  "COPY a /out/a\nCOPY a /up/b\nWORKDIR /out/w\nRUN pwd -P\n", a="1")  # fmt: skip
    told = project.good()
    assert f" {tmp_path}/w\n" in told and project.read("/b") == "1" and project.read(f"{tmp_path}/a") == "1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_an_archive_that_is_added_stays_inside(project: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    project.write("FROM busybox\nADD evil.tar /d/\n")
    with tarfile.open(project.path / "evil.tar", "w") as tar:
        link, file = tarfile.TarInfo("a"), tarfile.TarInfo("a/file")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        tar.addfile(link)
        tar.addfile(file)
    project("-q")
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", [".wh.x", "d/.wh..wh..opq"])
def test_what_would_be_a_whiteout_is_refused(project: Project, name: str) -> None:
    project.write("FROM busybox\nCOPY . /d/\n")
    (project.path / name).parent.mkdir(exist_ok=True)
    (project.path / name).touch()
    assert "begins with .wh." in project.fails()
    project.write("FROM busybox\nADD a.tar /d/\n")
    with tarfile.open(project.path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    assert "begins with .wh." in project.fails()


class Liar(http.server.BaseHTTPRequestHandler):
    """Answers /good with a file, anything else with 404."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/good" else 404)
        self.end_headers()
        self.wfile.write(b"good")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_what_a_url_gives_is_checked(project: Project) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        project.write(f"FROM busybox\nADD --checksum=sha256:{'0' * 64} {url}/good /x\n")
        assert "its digest is sha256:770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c" in project.fails()
        project.write(f"FROM busybox\nADD {url}/bad /x\n")
        assert "404" in project.fails() or "Not Found" in project.fails()
    finally:
        server.shutdown()
        server.server_close()
    assert "refused" in project.fails()


def test_a_signal_ends_a_build_and_its_steps(project: Project) -> None:
    project.write("FROM busybox AS a\nRUN echo begun; sleep 1000\n")
    build = project.minirt.start("build", "--network", "none", project.path)
    assert build.stderr is not None
    while not build.stderr.readline().endswith(" begun\n"):
        pass
    build.send_signal(signal.SIGINT)
    assert build.wait(timeout=30) == 130 and project.minirt.containers == []


def test_without_root_files_are_roots_all_the_same(project: Project, tmp_path: Path) -> None:
    """A user's own files are those of root in the container, and in the image."""
    project.write("FROM busybox\nRUN --mount=type=cache,target=/c echo 1 > /f; echo c > /c/f; id -u\nCOPY a /a\n", a="a")
    root = Path(tempfile.mkdtemp(prefix="minirt-user-", dir="/var/tmp"))
    try:
        shutil.copytree(project.path, root / "project")
        subprocess.run(["chown", "-R", "1500:1500", root], check=True)
        user = ["setpriv", "--reuid=1500", "--regid=1500", "--clear-groups"]
        words = [*user, *project.minirt.program, "build", "--network", "none", "-t", "made", root / "project"]
        done = subprocess.run(words, env={**project.minirt.env, "MINIRT_ROOT": f"{root}/root", "HOME": str(root)},
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        if "unshare" in done.stderr or "clone3" in done.stderr:
            pytest.skip(f"users make no user namespaces here: {done.stderr}")
        assert done.returncode == 0, done.stderr
        store = Store(f"{root}/root/lib/image")
        for layer, name in zip(store.resolve("made").manifest["layers"][-2:], ("f", "a"), strict=True):
            with tarfile.open(store.blobs.path(layer["digest"])) as tar:
                assert [(info.name, info.uid, info.gid) for info in tar] == [(name, 0, 0)]
    finally:
        shutil.rmtree(root)


def test_a_policy_that_refuses_an_image_refuses_it_as_a_base(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "reject"}]}')
    project.write("FROM busybox\nRUN true\n")
    project.minirt.env["MINIRT_POLICY"] = str(tmp_path / "policy.json")
    assert "policy" in project.fails() and "Dockerfile:1: FROM busybox" in project.fails()
    project.write("FROM scratch\nCOPY --from=busybox /bin/busybox /\n")
    assert "policy" in project.fails()

"""Compose files: read with their lines, variables replaced, merged, checked, and turned into options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.compose.fields import check
from minirt.compose.merge import merge
from minirt.compose.options import options_of
from minirt.compose.project import Project, load, project_name
from minirt.compose.service import config_hash, labels_of, seconds
from minirt.compose.text import ComposeError, read
from minirt.compose.variables import env_value, expand, expand_all, read_env
from minirt.errors import MinirtError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a compose file and load it."""
    monkeypatch.chdir(tmp_path)
    for name in ("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME"):
        monkeypatch.delenv(name, raising=False)

    def make(text: str, **more: object) -> Project:
        (tmp_path / "compose.yaml").write_text(text)
        return load(**{"name": "demo", **more})

    return make


def wrong(project, text: str) -> str:
    with pytest.raises(ComposeError) as error:
        project(text)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- variables -----------------------------------------------------------------------------------------------------------

SET = {"A": "a", "EMPTY": "", "B_1": "b"}
# compose-spec, 12-interpolation.md
EXPANDED = [
    ("$A ${A} x", "a a x"), ("$$A $${A}", "$A ${A}"), ("${NO}", ""), ("${NO:-d}|${EMPTY:-d}|${A:-d}", "d|d|a"),
    ("${NO-d}|${EMPTY-d}", "d|"), ("${A:+r}|${EMPTY:+r}|${NO:+r}", "r||"), ("${A+r}|${EMPTY+r}|${NO+r}", "r|r|"),
    ("${NO:-${A}}", "a"), ("${NO:-${NONE:-deep}}", "deep"), ("${B_1}.$B_1", "b.b"), ("${NO:-a b:c}", "a b:c"), ("${A:?no}", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), EXPANDED)
def test_variables(text: str, want: str) -> None:
    assert expand(text, SET) == want


@pytest.mark.parametrize("text", ["${NO:?must be set}", "${NO?}", "${", "${A", "${}", "$ x", "$1", "${A*b}", "${-x}"])
def test_variables_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        expand(text, SET)


@settings(max_examples=500)
@given(st.text("${}AB:-+?x ", max_size=30))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        assert isinstance(expand(text, SET), str)
    except ValueError as error:
        assert str(error)


@given(st.text(max_size=30))
def test_doubled_dollars_are_dollars(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}) == text


def test_a_file_of_variables(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# c\nA=1\nexport B='$A'\nC=\"$A-\\n\"\nD=x # c\nE=${A}2\nOURS\nNOT\n\nF=a#b\n")
    found = read_env(str(tmp_path / "env"), {"OURS": "ours"})
    assert found == {"A": "1", "B": "$A", "C": "1-\n", "D": "x", "E": "12", "OURS": "ours", "F": "a#b"}
    assert read_env(str(tmp_path / "none"), {}, required=False) == {}
    (tmp_path / "bad").write_text('A=1\nB="x\n')
    with pytest.raises(ComposeError, match=r"bad:2: "):
        read_env(str(tmp_path / "bad"), {})


@given(st.text(st.characters(blacklist_characters="'\n\r", blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=20))
def test_what_is_in_single_quotes_stays(text: str) -> None:
    assert env_value(f"'{text}'", {"A": "1"}) == text


# -- lines ---------------------------------------------------------------------------------------------------------------

BAD = [  # file, its wrong line, a word of what is said
    ("services:\n  web:\n    image: x\n    imagee: y\n", 4, "is image meant"),
    ("services:\n  web:\n    image: [x]\n", 3, "a text is expected, not a list"),
    ("services:\n  web:\n    image: x\n    ports:\n      - target: x\n", 5, "a number"),
    ("services:\n  web:\n    image: x\n    links: [y]\n", 4, "know each other"),
    ("services:\n  web:\n    image: x\n    extends: {service: y}\n", 4, "no service 'y'"),
    ("services:\n  web:\n    image: x\n    extends: web\n", 4, "it extends itself"),
    ("services:\n  web:\n    extends:\n      service: x\n      file: none.yaml\n", 5, "no such file"),
    ("services:\n  web:\n    image: x\n    devices:\n      - target: /x\n", 5, "source is missing"),
    ("services:\n  web:\n    image: x\n    ulimits: {nofile: {soft: 1}}\n", 4, "hard is missing"),
    ("services:\n  web:\n    image: x\n    volumes:\n      - type: cluster\n", 5, "bind, volume, tmpfs"),
    ("services:\n  web:\n    image: x\n    cap_add: [A, A]\n", 4, "twice"),
    ("services:\n  web:\n    image: x\n    user: 1000\n", 4, "a text is expected, not 1000"),
    ("services:\n  web:\n    image: x\n    privileged: perhaps\n", 4, "true or false is expected, not 'perhaps'"),
    ("services:\n  web:\n    image: x\n    blkio_config: {}\n", 4, "not implemented"),
    ("services:\n  web:\n    image: x\n  web:\n    image: y\n", 4, "twice"),
    ("services:\n  web:\n    command: x\n", 2, "neither image nor build"),
    ("services:\n  web:\n    image: x\n    networks: [none]\n", 4, "no network 'none'"),
    ("services:\n  web:\n    image: x\n    volumes:\n      - data:/x\n", 5, "no volume 'data'"),
    ("services:\n  web:\n    image: x\n    secrets: [s]\n", 4, "no secret 's'"),
    ("services:\n  web:\n    image: x\n    depends_on: [db]\n", 4, "no service 'db'"),
    ("services:\n  web:\n    image: ${NO_SUCH_ONE:?give it}\n", 3, "give it"),
    ("services:\n  web:\n    image: x\n    depends_on:\n      web: {condition: healthy}\n", 5, "one of"),
    ("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n", 2, "a -> b -> a"),
    ("services:\n  web: x\n", 2, "a mapping is expected"), ("service: {}\n", 1, "is services meant"),
    ("services: {}\n", 1, "no services"),
    ("- a\n", 1, "a mapping"), ("", 1, "a mapping"), ("services:\n  web: {image: x\n  y: z\n", 3, ""), ("a: b: c\n", 1, ""),
    ("services:\n  web:\n    image: x\n    deploy:\n      replicas: many\n", 5, "a number"),
    ("services:\n  web:\n    image: x\n    network_mode: host\n    networks: [default]\n", 4, "one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "word"), BAD)
def test_what_is_wrong_is_told_with_its_line(project, text: str, line: int, word: str) -> None:
    said = wrong(project, text)
    assert said.startswith(f"compose.yaml:{line}:") and word in said, said


def test_texts_that_older_yaml_takes_for_numbers_and_truths_are_texts(project) -> None:
    """As Go's YAML has it: in a plain 22:22 nobody means 1342, and in A: yes nobody means true."""
    text = "services:\n  web: {image: x, restart: no, privileged: yes, ports: [22:22, 80:80], environment: {A: yes, B: off}}\n"
    web = project(text)
    made = options_of(web, "web", 1, "sha256:1")
    assert made.publish == ["22:22", "80:80"] and made.env == ["A=yes", "B=off"] and (made.restart, made.privileged) == ("no", True)


def test_aliases_and_merged_mappings(project) -> None:
    found = project("x-a: &a\n  image: x\n  tty: true\nservices:\n  one: *a\n  two:\n    <<: *a\n    tty: false\n")
    assert found.services == {"one": {"image": "x", "tty": True}, "two": {"image": "x", "tty": False}}


def test_aliases_that_mean_a_billion_values_are_refused(project) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "too many" in wrong(project, "\n".join(lines))


WORDS = """services:|  web:|    image: x|    ports:|   - 80|&a|*a|<<: *a|: |- |{|}|[|]|'|"|>|  |${A}|x: 1|2024-01-01|!own x|? k|~"""
pieces = st.sampled_from([*WORDS.split("|"), "|", "\n"])


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=25).map("\n".join) | st.lists(pieces, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_a_compose_file_or_refused(text: str) -> None:
    try:
        document = read("file", text)
        expand_all(document, {})
        check(document)
    except MinirtError as error:
        assert str(error).startswith("file") and "\n" not in str(error)


# -- merging -------------------------------------------------------------------------------------------------------------


def test_a_later_file_changes_and_adds(tmp_path: Path) -> None:
    old = "image: x, command: [a, b], ports: ['80'], environment: [A=1, B=2], volumes: ['./a:/v', './w:/w']"
    new = "image: y, command: [c], ports: ['81'], environment: {B: 3}, volumes: ['./b:/v']"
    first = read("a", f"services: {{web: {{{old}}}}}")
    second = read("b", f"services: {{web: {{{new}}}, new: {{image: z}}}}")
    web = merge(first, second).value["services"]["web"]
    assert (web["image"], web["command"], web["ports"]) == ("y", ["c"], ["80", "81"])
    assert web["environment"] == {"A": "1", "B": 3} and web["volumes"] == ["./b:/v", "./w:/w"]
    document = merge(first, second)
    assert document.value["services"]["new"] == {"image": "z"} and document.places[("services", "new")].startswith("b:")


def test_a_service_begins_with_what_another_says(project, tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "base.yaml").write_text(
        "services:\n  root: {image: x, volumes: ['./data:/d', 'named:/n'], env_file: env, build: ./here}\n"
        "  mid: {extends: root, environment: {A: 1, B: 1}, labels: {l: 1}}\n"
    )
    (tmp_path / "common" / "env").write_text("FROM_FILE=1\n")
    text = "services:\n  web:\n    extends: {file: common/base.yaml, service: mid}\n    environment: {B: 2}\n"
    found = project(text + "  two: {extends: web, image: z}\nvolumes: {named: }\n").services
    assert found["web"]["environment"] == {"A": 1, "B": 2} and found["web"]["image"] == "x" and found["two"]["image"] == "z"
    assert found["web"]["volumes"] == [f"{tmp_path}/common/data:/d", "named:/n"] and found["two"]["labels"] == {"l": 1}
    assert found["web"]["env_file"] == [f"{tmp_path}/common/env"] and found["web"]["build"] == f"{tmp_path}/common/here"


def test_an_included_file_is_a_project_of_its_own(project, tmp_path: Path) -> None:
    for folder in ("db", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "db" / ".env").write_text("TAG=1\nOURS=theirs\n")
    (tmp_path / "db" / "compose.yaml").write_text(
        "include: [more.yaml]\n"
        "services:\n  db:\n    image: pg:${TAG}-${OURS}\n    volumes: [./data:/d, named:/n]\n    secrets: [s]\n"
        "    environment: [TAG, A=1]\nvolumes: {named: }\nsecrets: {s: {file: s}}\n"
    )
    (tmp_path / "db" / "more.yaml").write_text("services: {more: {image: x, build: ./here}}\n")
    (tmp_path / "a.yaml").write_text("services: {two: {image: x, command: a, env_file: env}}\n")
    (tmp_path / "b.yaml").write_text("services: {two: {command: '${B}'}}\n")
    (tmp_path / "b.env").write_text("B=bee\n")
    (tmp_path / "other" / "env").write_text("")
    (tmp_path / ".env").write_text("OURS=ours\n")
    text = "include:\n  - db/compose.yaml\n  - {path: [a.yaml, b.yaml], project_directory: other, env_file: b.env}\n"
    found = project(text + "services:\n  web: {image: x, depends_on: [db, two]}\n")
    db = found.services["db"]
    assert db["image"] == "pg:1-ours" and db["volumes"] == [f"{tmp_path}/db/data:/d", "named:/n"]
    assert db["environment"] == {"TAG": "1", "A": "1"} and found.part("secrets")["s"]["file"] == f"{tmp_path}/db/s"
    assert found.services["more"]["build"] == f"{tmp_path}/db/here" and "named" in found.part("volumes")
    assert (found.services["two"]["command"], found.services["two"]["env_file"]) == ("bee", [f"{tmp_path}/other/env"])
    assert found.order(["web"]) == ["db", "two", "web"] and "include" not in found.document.value
    assert str(found.fail("x", "services", "db", "image")).startswith("db/compose.yaml:4:"), "an error names the file that says it"


def test_what_cannot_be_included_is_told_with_its_line(project, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("include: [compose.yaml]\nservices: {a: {image: x}}\n")
    (tmp_path / "b.yaml").write_text("services: {web: {image: y}}\n")
    web = "services: {web: {image: x}}\n"
    for text, line, word in [
        ("include: [a.yaml]\n", "a.yaml:1", "includes itself"), ("include:\n  - b.yaml\n", "compose.yaml:2", "services.web"),
        ("include:\n  - none.yaml\n", "compose.yaml:2", "no such file"),
        ("include:\n  - {env_file: x}\n", "compose.yaml:2", "path is"),
    ]:  # fmt: skip
        said = wrong(project, text + web)
        assert said.startswith(f"{line}:") and word in said, said
    (tmp_path / "b.yaml").write_text(web)
    assert project("include: [b.yaml]\n" + web).services == {"web": {"image": "x"}}, "the same twice is no conflict"


# -- projects ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "want"), [("My App", "myapp"), ("_x-1", "x-1"), ("A.b_c", "ab_c"), ("", ""), ("---", "")])
def test_a_directory_names_a_project(name: str, want: str) -> None:
    assert project_name(name) == want


def test_profiles_and_order(project) -> None:
    text = "services:\n  c: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n  a: {image: x}\n"
    text += "  d: {image: x, profiles: [dev]}\n"
    assert project(text).order() == ["a", "b", "c"] and project(text).order(["b"]) == ["a", "b"]
    assert set(project(text, profiles=["dev"]).services) == {"a", "b", "c", "d"} == set(project(text, profiles=["*"]).services)
    assert "d" in project(text, names=["d"]).services
    assert project(text).order(["c"], alone=True) == ["c"]


def test_labels_are_docker_composes(project, tmp_path: Path) -> None:
    web = "{image: x, labels: {own: 1}, depends_on: {db: {condition: service_healthy}}}"
    found = project(f"services:\n  db: {{image: x}}\n  web: {web}\n")
    labels = labels_of(found, "web", 2, "sha256:1")
    prefix = "com.docker.compose."
    compose = {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
    assert compose.pop("version") and labels["own"] == "1"
    assert compose == {
        "project": "demo", "service": "web", "container-number": "2", "oneoff": "False", "image": "sha256:1",
        "config-hash": config_hash(found, "web"), "depends_on": "db:service_healthy:false",
        "project.config_files": str(tmp_path / "compose.yaml"), "project.working_dir": str(tmp_path),
    }  # fmt: skip


def test_the_digest_changes_with_what_a_container_is_made_from_alone(project) -> None:
    base = "services:\n  web: {image: x, environment: {A: '1'}}\n"
    same = "services:\n  web: {image: x, environment: [A=1], scale: 3, depends_on: [b]}\n  b: {image: y}\n"
    first = config_hash(project(base), "web")
    assert config_hash(project(base), "web") == first != config_hash(project(base.replace("'1'", "'2'")), "web")
    assert config_hash(project(base.replace("image: x", "image: x, scale: 3")), "web") == first
    assert config_hash(project(same), "web")


EVERYTHING = """\
services:
  other: {image: busybox}
  web:
    image: busybox
    command: sh -c "echo hi"
    entrypoint: [/init, -x]
    user: nobody
    working_dir: /srv
    hostname: h
    domainname: d
    stop_signal: QUIT
    stop_grace_period: 1m30s
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    group_add: [5]
    security_opt: ["no-new-privileges:true"]
    dns: 10.0.0.1
    dns_search: [a, b]
    sysctls: {net.ipv4.ip_forward: 1}
    extra_hosts: ["a:10.0.0.2", "b=10.0.0.3"]
    devices: [/dev/null, {source: /dev/zero, target: /dev/z, permissions: r}]
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    logging: {driver: json-file, options: {max-size: 1m}}
    init: true
    tty: "true"
    read_only: true
    privileged: false
    deploy:
      replicas: 2
      restart_policy: {condition: on-failure, max_attempts: 3}
      resources: {limits: {cpus: 0.5, memory: 64m, pids: 9}, reservations: {memory: 32m}}
    shm_size: 1m
    tmpfs: /run
    ports: [80, "127.0.0.1:8080:80/udp", {target: 90, published: 9090, host_ip: 127.0.0.2, protocol: tcp}]
    expose: [70]
    volumes:
      - /anonymous
      - data:/data:ro
      - ./here:/here
      - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}
      - {type: volume, source: data, target: /part, volume: {subpath: a, nocopy: true}, read_only: true}
    networks:
      back: {aliases: [www], ipv4_address: 10.1.2.3, priority: 9}
      default:
    healthcheck: {test: [CMD, "true"], interval: 2s, retries: 3, start_period: 1m}
    ipc: service:other
    environment: {A: 1, B: true, C: null, D: x=y}
volumes: {data: {name: real}}
networks: {back: {}}
"""


def test_a_service_with_everything_becomes_options(project, tmp_path: Path) -> None:
    made = options_of(project(EVERYTHING), "web", 1, "sha256:1")
    assert (made.name, made.entrypoint, made.command) == ("demo-web-1", "/init", ["-x", "sh", "-c", "echo hi"])
    assert (made.user, made.workdir, made.hostname, made.domainname) == ("nobody", "/srv", "h", "d")
    assert (made.stop_signal, made.stop_timeout, made.restart) == ("QUIT", 90, "on-failure:3")
    assert (made.cap_add, made.cap_drop, made.group_add) == (["NET_ADMIN"], ["ALL"], ["5"])
    assert (made.dns, made.dns_search) == (["10.0.0.1"], ["a", "b"])
    assert made.sysctl == ["net.ipv4.ip_forward=1"] and made.add_host == ["a=10.0.0.2", "b=10.0.0.3"]
    assert made.device == ["/dev/null", "/dev/zero:/dev/z:r"] and made.ulimit == ["nofile=10:20", "nproc=5"]
    assert (made.init, made.tty, made.read_only, made.privileged) == (True, True, True, False)
    assert (made.cpus, made.memory, made.memory_reservation, made.pids_limit, made.shm_size) == ("0.5", "64m", "32m", 9, "1m")
    assert made.publish == ["80", "127.0.0.1:8080:80/udp", "127.0.0.2:9090:90/tcp"]
    assert (made.expose, made.tmpfs) == (["70"], ["/run"])
    assert made.volume == ["/anonymous", "real:/data:ro", f"{tmp_path}/here:/here"]
    assert made.mount == ["type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700",
                          "type=volume,target=/part,source=real,readonly,volume-nocopy,volume-subpath=a"]  # fmt: skip
    assert made.network == "name=demo_back,alias=web,alias=www,ip=10.1.2.3" and made.networks == ["name=demo_default,alias=web"]
    assert made.healthcheck == {"Test": ["CMD", "true"], "Interval": 2 * 10**9, "Retries": 3, "StartPeriod": 60 * 10**9}
    assert made.ipc == "container:demo-other-1" and made.log_opt == ["max-size=1m"]
    assert made.env == ["A=1", "B=true", "D=x=y"]
    assert json.dumps(vars(made))  # it can be kept for a later start


@pytest.mark.parametrize(("text", "want"), [("1s", 1.0), ("1m30s", 90.0), ("100ms", 0.1), ("1h", 3600.0), ("1.5s", 1.5)])
def test_durations(text: str, want: float) -> None:
    assert seconds(text) == pytest.approx(want)


@pytest.mark.parametrize("text", ["", "5", "x", "1s2", "1d", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


# -- develop.watch -------------------------------------------------------------------------------------------------------

MEANT = [  # what has changed, and what it is called in the container: below ./src, whose target is /app; nothing: it is not meant
    ("src/a.py", "/app/a.py"), ("src/deep/b.py", "/app/deep/b.py"), ("src", "/app"), ("src/a.txt", ""), ("other/a.py", ""),
    ("srcs/a.py", ""), ("src/.git/a.py", ""), ("src/a.py~", ""), ("src/.a.py.swp", ""), ("src/skip/a.py", ""),
    ("src/left/a.py", ""), ("src/skip/keep.py", "/app/skip/keep.py"),
]  # fmt: skip


def test_what_a_rule_means(project, tmp_path: Path) -> None:
    from minirt.compose.watch import rules_of

    for name in ("src", "other", "srcs"):
        (tmp_path / name).mkdir()
    (tmp_path / ".dockerignore").write_text("src/left\n")
    rule = "{path: ./src/, action: sync, target: /app, include: '**/*.py', ignore: [skip, '!skip/keep.py']}"
    made = project(f"services:\n  web:\n    build: .\n    develop: {{watch: [{rule}]}}\n")
    (rule,) = rules_of(made, ["web"])
    found = {path: rule.below(str(tmp_path / path)) for path, _ in MEANT}
    assert {path: rule.place(name) if name is not None else "" for path, name in found.items()} == dict(MEANT)

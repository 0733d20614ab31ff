"""Each lesson is followed as a learner would, from blank; and what the course promises of each is tried, for all lessons alike.

Transcripts and sessions are replayed by test_documents.py.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tutorials.tutor.check import Reference, check, observed
from tutorials.tutor.exercise import blank
from tutorials.tutor.grade import submissions
from tutorials.tutor.hints import RUNGS, rungs
from tutorials.tutor.lessons import TOP, Lesson, find, lessons
from tutorials.tutor.mutate import mutants
from tutorials.tutor.mutate_c import another
from tutorials.tutor.observe import checks
from tutorials.tutor.place import lacking
from tutorials.tutor.source import source
from tutorials.tutor.story import effects, record, same
from tutorials.tutor.weave import build, terms, woven
from tutorials.tutor.world import Raised, World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from command import Minirt

LESSONS = lessons()
FEW = 4  # mutants of each lesson in `make test`, the same each time; all of them are tried by `make test-long`
of_each = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.id)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="observing containers takes CAP_SYS_ADMIN")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may enter, and that no other session of pytest takes away."""
    path = Path(tempfile.mkdtemp(prefix="tutorials-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def here(minirt: Minirt, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A learner's directory; minirt keeps its things below a root of its own."""
    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    monkeypatch.setenv("TUTOR_DIR", str(place / "course"))
    return place


@pytest.fixture
def unchanged(minirt: Minirt) -> Iterator[None]:
    """The host keeps its mounts, gets none of ours, and no container is left; others may mount meanwhile."""
    before = points()
    yield
    after = points()
    assert not [point for point in before - after if re.match(r"/$|/proc|/sys|/dev(?!/shm/)", point)]
    assert not [point for point in after - before if str(minirt.root) in point or "/tutor-" in point]
    assert minirt.containers == []


def points() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def tutor(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tutorials.tutor.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOP, timeout=110, check=False, **more)


def possible(lesson: Lesson) -> None:
    lack = lacking(lesson)
    if lack:
        pytest.skip(f"{lesson.id} needs {', '.join(lack)}")


_references: dict[str, Reference] = {}


def reference(lesson: Lesson) -> Reference:
    possible(lesson)
    if lesson.id not in _references:
        _references[lesson.id] = observed(lesson)
    return _references[lesson.id]


# -- from blank ----------------------------------------------------------------------------------------------


@of_each
def test_a_learner_begins_fails_is_helped_and_passes(lesson: Lesson, here: Path, unchanged: None) -> None:
    possible(lesson)
    begun = tutor("start", lesson.id)
    path = here / "course" / lesson.id / f"exercise.{lesson.language}"
    assert begun.returncode == 0 and str(path) in begun.stdout
    links = re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", path.with_name("lesson.md").read_text())
    assert links and [link for link in links if not (path.parent / link).exists()] == []
    first = tutor("check")
    assert first.returncode == 1 and "not yet (blank)" in first.stdout and f"exercise.{lesson.language}:" in first.stdout
    helped = [tutor("hint").stdout.strip() for _ in RUNGS]
    assert len(set(helped)) >= 3 and "the real source" in helped[-1]
    path.write_text(blank(lesson, solved=True))
    second = tutor("check", "--format", "json")
    assert second.returncode == 0 and json.loads(second.stdout)["passed"], second.stdout
    assert re.search(rf"^{lesson.id} .* passed ", tutor("list").stdout, re.M)
    assert (tutor("reset").returncode == 0 and "NotImplemented" in path.read_text()) or "#error" in path.read_text()


@pytest.mark.timeout(300)
@of_each
def test_each_wrong_answer_fails_with_its_own_words(lesson: Lesson, here: Path, unchanged: None) -> None:
    """Several at a time: those whose guests hang are waited for together."""
    known = reference(lesson)

    def accepted(answer: Path) -> str:
        text = answer.read_text()
        said = ast.get_docstring(ast.parse(text)) if answer.suffix == ".py" else text
        wanted = re.search(r"^(?: \* )?The check says: ([\w-]+): (.+)$", said or "", re.M)
        assert wanted, f"{answer.name}: its first comment tells what the check says"
        verdict = check(lesson, answer, known, partial=True)
        told = not verdict.passed and verdict.id == wanted[1] and wanted[2] in f"{verdict.observed} {verdict.differs}"
        return "" if told and rungs(lesson, verdict.id, verdict.observed)["question"] else f"{answer.name}: {verdict}"

    with ThreadPoolExecutor(4 if lesson.language == "c" else 2) as pool:
        assert [one for one in pool.map(accepted, lesson.wrong) if one] == []


@needs_root
def test_an_exception_is_told_with_the_line_that_raised_it(here: Path, unchanged: None) -> None:
    lesson, answer = LESSONS[0], here / "exercise.py"
    before, call, after = blank(lesson, solved=True).partition("    p.mount(")
    answer.write_text(f"{before}    p.mount({{}}['x'])\n{call}{after}")
    verdict = check(lesson, answer, reference(lesson))
    line = before.count("\n") + 1
    assert (verdict.id, verdict.observed, verdict.where) == ("raised", "KeyError: 'x'", f"exercise.py:{line}")


OBSERVED = """
import json, os
from pathlib import Path
from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import find
from tutorials.tutor.observe import facts, start
answer = Path("/var/tmp/exercise.py")
answer.write_text(blank(find("c2"), solved=True).replace("flags |= getattr(k, TYPES[kind])", "pass"))
print(json.dumps([facts(start(find("c2"), "seed", str(answer)), 60), os.listdir("/var/tmp")]))
"""


@needs_root
def test_an_answer_that_takes_the_observer_s_root_is_told_so_and_leaves_nothing(minirt: Minirt) -> None:
    """A container without a mount namespace changes the root of who observes it. In a /var/tmp in which there is nobody else."""
    own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /var/tmp && exec "$@"', "sh"]
    done = subprocess.run([*own, sys.executable, "-c", OBSERVED], capture_output=True, text=True, cwd=TOP, timeout=100, check=True,
                          env={**os.environ, "MINIRT_ROOT": str(minirt.root)})  # fmt: skip
    found, left = json.loads(done.stdout)
    assert {"/", "/proc"} <= set(dict(found)["host-unmounted"]) and "died" not in dict(found)
    assert "exercise.py" in left and not [name for name in left if name.startswith("tutor-")]


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm")
def test_an_exception_in_a_processor_s_thread_is_told_like_any_other(here: Path) -> None:
    lesson, answer = find("m1"), here / "exercise.py"
    text = blank(lesson, solved=True)
    count = next(line for line in text.splitlines() if "self.counts.io[key] =" in line)
    answer.write_text(text.replace(count, "        self.counts.io[key] += 1"))
    verdict = check(lesson, answer, reference(lesson))
    line = text.splitlines().index(count) + 1
    assert verdict.id == "raised" and verdict.observed.startswith("KeyError: ") and verdict.where == f"exercise.py:{line}", verdict


def changed(lesson: Lesson, answer: str) -> list[Any]:
    """Return what the run of a lesson's story changes and what fails in it, as the trace tells."""
    with World(answer, lesson.symbols, "") as world:
        try:
            return effects(world, checks(lesson.path).STORY)
        except Raised as error:
            return [str(error)]


def tried(lesson: Lesson, directory: Path, few: int = 0) -> tuple[int, list[str]]:
    """Return how many mutants are refused, and which are not though they change what is seen from outside."""
    known = reference(lesson)
    real = changed(lesson, "") if lesson.language == "py" else []
    ranked = sorted(mutants(lesson), key=lambda pair: zlib.crc32(pair[0].encode()))
    chosen = islice((pair for pair in ranked if lesson.language == "py" or another(lesson, pair[1])), few or None)

    def survives(numbered: tuple[int, tuple[str, str]]) -> str | None:
        number, (name, text) = numbered
        path = directory / f"mutant{number}.{lesson.language}"
        path.write_text(text)
        if not check(lesson, path, known).passed:
            return ""
        return name if lesson.language == "c" or changed(lesson, str(path)) != real else None

    with ThreadPoolExecutor(4 if lesson.language == "c" else 2) as pool:
        told = [name for name in pool.map(survives, enumerate(chosen)) if name is not None]
    return told.count(""), [name for name in told if name]


@of_each
def test_some_mechanical_mistakes_are_noticed(lesson: Lesson, here: Path, unchanged: None) -> None:
    refused, kept = tried(lesson, here, FEW)
    assert refused and len(kept) <= 1, kept


@pytest.mark.long
@pytest.mark.timeout(600)
@of_each
def test_nine_of_ten_mechanical_mistakes_are_noticed(lesson: Lesson, here: Path, unchanged: None) -> None:
    refused, kept = tried(lesson, here)
    assert refused >= 9 * len(kept) and refused > 8, f"{refused} are refused, and these not: {kept}"


@of_each
def test_a_recorded_trace_equals_a_fresh_one(lesson: Lesson, here: Path) -> None:
    possible(lesson)
    assert {"birth", "failing"} <= set(lesson.traces)
    for name in lesson.traces:
        record(lesson, name, here / "fresh.jsonl")
        differs = same(lesson.path / "traces" / f"{name}.jsonl", here / "fresh.jsonl")
        assert not differs, f"{differs}: if that is meant, `tutor record {lesson.id}`, and read the lesson again"
        assert '"errno"' in (here / "fresh.jsonl").read_text() or name != "failing"


# -- as it is written ----------------------------------------------------------------------------------------


def test_all_lessons_hold_to_the_rules_and_their_weaves_resolve(place: Path) -> None:
    assert build(place) == []
    assert sorted(path.stem for path in place.glob("*/*.md")) == sorted(lesson.path.name for lesson in LESSONS)


def test_the_course_s_readme_lists_each_lesson_and_each_command_of_it_is_one() -> None:
    text = (TOP / "tutorials/README.md").read_text()
    needs = {"root": "root", "kvm": "/dev/kvm", "cgroup2": "cgroup v2"}
    rows = [f"| [{x.short}. {x.title}]({x.id}/lesson.md) | {x.minutes} | {', '.join(needs[n] for n in x.needs)} |" for x in LESSONS]
    assert re.findall(r"^\| \[.*$", text, re.M) == rows
    for command in set(re.findall(r"`tutor (\w+)", text)):
        assert tutor(command, "--help").returncode == 0, command


@of_each
def test_a_lesson_asks_shows_and_has_mistakes(lesson: Lesson) -> None:
    kinds = [fence.kind for fence in lesson.fences]
    assert kinds.count("quiz") >= 3 and kinds.count("predict") >= 3 and kinds.count("exercise") == 1 and "weave" in kinds
    assert len(lesson.wrong) >= 3 and 20 <= lesson.minutes <= 40 and terms(lesson)
    known = {"sh", "python", "weave", "predict", "quiz", "exercise", "text"}
    assert set(kinds) <= known  # no code of a lesson's own
    assert "Manual pages:" in lesson.text and "How a real system differs" in lesson.text


@of_each
def test_each_fact_has_its_hints(lesson: Lesson, here: Path) -> None:
    for id, _ in reference(lesson).facts:
        have = rungs(lesson, id)
        assert {"says", *RUNGS} <= set(have), id
        assert source(have["source"]).text


def test_nothing_that_is_to_be_written_has_been_shown_but_in_the_first_lesson() -> None:
    for lesson in LESSONS:
        text = woven(lesson)
        shown = [symbol for symbol in lesson.symbols if source(symbol).text.partition("\n")[2] in text]
        assert lesson is LESSONS[0] or not shown, f"{lesson.id} shows {shown}"
        hidden = [fence for fence in lesson.fences if fence.kind == "weave" and fence.words[0] in lesson.symbols]
        assert text.count("yours to write, in the exercise") == len([fence for fence in hidden if "whole" not in fence.words])


@pytest.mark.parametrize("lesson", [one for one in LESSONS if one.language == "py"], ids=lambda lesson: lesson.id)
def test_a_blank_has_all_names_that_it_speaks_of(lesson: Lesson, place: Path) -> None:
    """The answer as well: what it needs of its module is imported, or an editor would underline it."""
    for solved in (False, True):
        text = blank(lesson, solved=solved)
        (place / "exercise.py").write_text(text)
        modules = re.findall(r"^from (\S+) import", text, re.M)
        assert len(modules) == len(set(modules)), "a module is named once"
        words = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", str(place / "exercise.py")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout


def test_hints_go_on_from_what_the_check_has_asked_and_are_of_the_function_that_is_blank(here: Path) -> None:
    lesson, path = find("c3"), here / "course/containers/03_mounts/exercise.py"
    assert tutor("start", lesson.id).returncode == 0
    first = "wanted = wanted_propagation(c)\n    p.mount(None, '/', None, getattr(k, PROPAGATION[wanted.removeprefix('r')]))"
    path.write_text(path.read_text().replace("raise NotImplementedError", first, 1))
    asked = tutor("check", "--no-lab").stdout.splitlines()[-1].removeprefix("hint:").strip()
    told = [tutor("hint").stdout.strip() for _ in range(3)]
    assert len({asked, *told}) == 4 and "mount_setattr" in told[1] and "def read_only_root" in told[2], (asked, told)


def test_renaming_a_woven_symbol_breaks_the_build(place: Path) -> None:
    for folder in ("minirt", "minivm", "csrc", "tutorials"):
        skip = shutil.ignore_patterns("__pycache__", "*.so", "*.elf", "*.bin")
        shutil.copytree(TOP / folder, place / folder, ignore=skip)
    assert tutor("build", "--top", place).returncode == 0
    path = place / "minirt/oci/rootfs.py"
    path.write_text(path.read_text().replace("def old_root(", "def old_rooot("))
    done = tutor("build", "--top", place)
    assert done.returncode == 1
    assert re.search(r"^tutor: containers/01_by_hand/lesson.md:\d+: weave .* has no old_root$", done.stderr, re.M), done.stderr


def test_a_trace_is_replayed_where_nothing_was_built(place: Path) -> None:
    """No C, no root, no KVM: the tree alone, and Python."""
    for folder in ("minirt", "minivm", "tutorials"):
        skip = shutil.ignore_patterns("__pycache__", "*.so", "*.elf", "*.bin")
        shutil.copytree(TOP / folder, place / folder, ignore=skip)
    subprocess.run(["chmod", "-R", "a+rX", place], check=True)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"] if os.geteuid() == 0 else []
    env = {"PATH": os.environ["PATH"], "TUTOR_DIR": "/nowhere"}
    for lesson in LESSONS:
        for name in lesson.traces:
            words = [*drop, "/usr/bin/env", "python3", "-m", "tutorials.tutor.cli", "replay", lesson.id, name]
            done = subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0 and " = " in done.stdout, done.stderr
    out = place / "out"
    out.mkdir()
    out.chmod(0o777)
    page = [*words, "--html", str(out / "page.html")]  # of the last one, a machine's
    done = subprocess.run(page, cwd=place, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "KVM_CREATE_VM" in (out / "page.html").read_text(), done.stderr


# -- the command ---------------------------------------------------------------------------------------------


def test_what_needs_root_says_so_in_one_line(here: Path) -> None:
    if os.geteuid() == 0 and subprocess.run(["setpriv", "--reuid=65534", "test", "-r", __file__], check=False).returncode:
        pytest.skip(f"{TOP} is below a directory that only root may enter")
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    words = [*drop, sys.executable, "-m", "tutorials.tutor.cli", "check", "c1", "--answer", __file__]
    done = subprocess.run(words, capture_output=True, text=True, cwd=TOP, timeout=60, check=False)
    assert done.returncode == 2 and "needs root: sudo" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("words", "says"), [
    (("check",), "no lesson is begun yet"), (("start", "c99"), "no lesson of this name"),
    (("grade", "/nowhere"), "no such directory"),
    (("new", "containers/01_by_hand", "minirt.oci.system:hostname"), "is there already"), (("hint", "c1"), "was not checked yet"),
    (("new", "containers/99_x", "minirt.oci.system:nothing"), "has no nothing"), (("replay", "c1", "x"), "no trace 'x'"),
    (("export", "/dev/null/x"), "tutor: /dev/null/x/containers: Not a directory"),
])  # fmt: skip
def test_what_cannot_be_done_is_told_in_a_line(words: tuple[str, ...], says: str, here: Path) -> None:
    done = tutor(*words)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_new_lesson_is_scaffolded_with_all_that_it_needs(place: Path) -> None:
    for folder in ("minirt", "minivm", "csrc", "tutorials"):
        shutil.copytree(TOP / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-m", "tutorials.tutor.cli", "new", "containers/99_names", "minirt.oci.system:hostname"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    made = {str(path.relative_to(place / "tutorials/containers/99_names")) for path in map(Path, done.stdout.split())}
    assert made == {"lesson.md", "lesson.toml", "check.py", "hints.toml", "wrong/first.py"}
    assert "test_tutorials.py -k 99_names" in done.stderr
    trace = (place / "tutorials/containers/99_names/lesson.toml").read_text()
    assert 'failing = "minirt run --trace FILE --fail sethostname=EPERM --rm busybox true"' in trace
    built = subprocess.run([*words[:3], "build"], cwd=place, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stderr
    if os.geteuid() == 0:  # its wrong answer is the reference still
        check = [*words[:3], "check", "c99", "--partial", "--answer", "tutorials/containers/99_names/wrong/first.py"]
        done = subprocess.run(check, cwd=place, capture_output=True, text=True, timeout=100, check=False)
        assert done.stdout == "containers/99_names: passed\n", done.stderr


def test_files_of_no_lesson_are_named_and_learners_may_use_short_names(here: Path) -> None:
    for name in ("ann/c1.py", "ann/notes.py", "bob/repository/containers/02_names/exercise.py", "eve/04_uart.py"):
        (here / "class" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "class" / name).write_text("")
    found = [(learner, lesson and lesson.id, path.name) for learner, lesson, path in submissions(here / "class")]
    assert found == [("ann", "containers/01_by_hand", "c1.py"), ("ann", None, "notes.py"),
                     ("bob", "containers/02_names", "exercise.py"), ("eve", None, "04_uart.py")]  # fmt: skip


def test_handouts_have_no_answers(here: Path) -> None:
    out = here / "out"
    assert tutor("export", "--blank", out).returncode == 0
    names = {path.name for path in out.rglob("*") if path.is_file()}
    assert "lesson.md" in names and "solution.py" not in names and "check.py" not in names
    for lesson in LESSONS:
        assert (out / lesson.id / f"exercise.{lesson.language}").read_text() == blank(lesson)


@needs_root
def test_watch_checks_each_time_the_file_is_saved(here: Path) -> None:
    words = [sys.executable, "-m", "tutorials.tutor.cli", "watch", "--plain", "c1"]
    lesson = LESSONS[0]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TOP) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if "not yet (blank)" in line)
        process.stdin.write("hint\n")
        process.stdin.flush()
        assert next(line for line in lines if line.startswith("hint: "))
        (here / "course" / lesson.id / "exercise.py").write_text(blank(lesson, solved=True))
        assert next(line for line in lines if "passed" in line)
        process.stdin.write("quit\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@needs_root
def test_the_live_screen_shows_progress_and_obeys_keys(here: Path) -> None:
    """On a pty: what is drawn, read as a terminal's text."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(TOP)
        os.environ |= {"TERM": "xterm", "LINES": "50", "COLUMNS": "120"}
        os.execv(sys.executable, [sys.executable, "-m", "tutorials.tutor.cli", "watch", "c1"])
    seen = ""

    def until(text: str) -> bool:
        nonlocal seen
        end = time.monotonic() + 60
        while time.monotonic() < end and text not in seen:
            if select.select([fd], [], [], 1)[0]:
                seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(fd, 65536).decode(errors="replace"))
        return text in seen

    try:
        assert until("not yet (blank)") and "0 of" in seen and "exercise.py" in seen
        os.write(fd, b"h")
        assert until("hint 1")
        os.write(fd, b"x")
        assert until("no key 'x'")
        os.write(fd, b"q")
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    assert status == 0


# -- submissions ---------------------------------------------------------------------------------------------

HONEST = "an honest one"
CHEATS = {
    "prints the words": r"""
print("containers/01_by_hand: passed")
print('["host-files", "not read"]')
print('["end", ""]')
""",
    "edits the checker": r"""
import glob, tutorials
for path in glob.glob(tutorials.__path__[0] + "/**/*", recursive=True):
    try:
        open(path, "w").write("def observe(world): return iter(())")
    except OSError:
        pass
""",
    "forges facts and a trace": r"""
import glob
facts = '["host-files", "not read"]\n["not-the-root", "the root of its mount namespace"]\n["end", ""]\n'
for path in glob.glob("/proc/[0-9]*/fd/1") + [f"{path}/run.jsonl" for path in glob.glob("/var/tmp/tutor-*")]:
    try:
        open(path, "w").write(facts)
    except OSError:
        pass
""",
    "is another program": r"""
import os, sys
ready = [word for word in sys.argv if word.startswith("READY=")]
if ready:
    os.write(1, ("\n" + ready[0][6:] + "\n").encode())
    os.execv("/bin/sleep", ["sleep", "3"])
""",
    "ends the observer": r"""
import os, signal
for pid in [os.getppid(), *range(2, 40000)]:
    try:
        pid in (0, 1, os.getpid()) or os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
""",
}


@needs_root
@pytest.mark.timeout(300)
def test_submissions_that_cheat_are_not_passed(here: Path, unchanged: None) -> None:
    lesson = LESSONS[0]
    before = {path: path.read_bytes() for path in (TOP / "tutorials").rglob("*.py")}
    for name, text in {**CHEATS, HONEST: ""}.items():
        body = blank(lesson, solved=True) if name == HONEST else re.sub("raise NotImplementedError", "pass", blank(lesson))
        path = here / "class" / name / lesson.id / "exercise.py"
        path.parent.mkdir(parents=True)
        path.write_text(body + "\n" + text)
    done = tutor("grade", "--json", here / "class")
    told = {learner: results[lesson.id]["passed"] for learner, results in json.loads(done.stdout).items()}
    assert told == {**dict.fromkeys(CHEATS, False), HONEST: True}, done.stdout
    lacks = json.loads(done.stdout)["prints the words"][lesson.id]
    assert re.search(r"and in the reference `mount\(NULL, \"/\", NULL, MS_REC\|MS_PRIVATE, NULL\)`$", lacks["differs"]), lacks
    assert before == {path: path.read_bytes() for path in (TOP / "tutorials").rglob("*.py")}


@needs_root
def test_make_grade_says_what_is_not_passed_yet(here: Path) -> None:
    assert tutor("start", "c1").returncode == 0
    done = tutor("grade", "--json")
    (told,) = json.loads(done.stdout)[""].values()
    assert done.returncode == 1 and told["id"] == "blank" and told["passed"] is False

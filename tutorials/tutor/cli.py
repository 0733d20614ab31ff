"""tutor: the words on the command line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minirt import __version__
from minirt.cli import completion
from minirt.cli.help import UsualParser, asked
from minirt.errors import MinirtError, complain, unread
from tutorials.tutor import examples
from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson, find, lessons
from tutorials.tutor.state import State

__all__ = ["main"]


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    what = "Learn how containers and virtual machines are made, with the inside of real ones to write."
    plain = argparse.RawDescriptionHelpFormatter
    top = UsualParser(prog="tutor", description=what, epilog=examples.TOP, formatter_class=plain)
    top.add_argument("--version", action="version", version=f"tutor {__version__}", help="print the version")
    top.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, run: Any, help: str, lesson: str | None = "?") -> argparse.ArgumentParser:
        what, more = help[0].upper() + help[1:] + ".", examples.MORE[name]
        one = commands.add_parser(name, help=help, description=what, epilog=more, formatter_class=plain)
        one.set_defaults(run=run)
        if lesson:
            one.add_argument("lesson", nargs=lesson, metavar="LESSON", help="default: the current one")
        return one

    formatted(add("list", run_list, "show the lessons, and which are passed", None))
    add("start", run_start, "begin a lesson: write its blank exercise")
    watch = add("watch", run_watch, "check the exercise each time it is saved")
    watch.add_argument("--plain", action="store_true", help="lines, no screen: for pipes and screen readers")
    in_lab(watch)
    check = add("check", run_check, "check the exercise")
    check.add_argument("--answer", metavar="FILE", help="this file instead")
    check.add_argument("--partial", action="store_true", help="functions that the file lacks are the real ones: for wrong/*.py")
    in_lab(check)
    formatted(check)
    hint = add("hint", run_hint, "help with what failed at the last check; each time a little more")
    hint.add_argument("--rung", type=int, choices=(1, 2, 3, 4), help="this one: question, pointer, pseudo-code, source")
    add("next", run_next, "begin the next lesson that is not passed", None)
    add("reset", run_reset, "write a new blank; the old file becomes exercise.py.old")
    add("read", run_read, "go through a lesson, with its predictions and quizzes asked")
    replay = add("replay", run_replay, "tell a recorded trace of a lesson again")
    replay.add_argument("trace", nargs="?", metavar="TRACE", help="its name, as birth or failing (default: birth)")
    replay.add_argument("--html", metavar="OUT", help="write a page that steps through it")
    measure = add("measure", run_measure, help="measure what a lesson's formulas predict, and draw both")
    measure.add_argument("--out", metavar="DIR", help="write pictures (SVG) and numbers (JSON) there")
    formatted(measure)
    grade = add("grade", run_grade, "check submissions: a folder for each learner, or files", None)
    grade.add_argument("place", nargs="?", metavar="DIR", help="default: your own exercises")
    grade.add_argument("--json", action="store_true", help="for a program to read")
    grade.add_argument("--no-sandbox", action="store_true", help="trust them: no container around each")
    in_lab(grade)
    add("weave", run_weave, "print a lesson with its source in it")
    build = add("build", run_build, "weave all lessons, and say what does not hold", None)
    build.add_argument("--out", metavar="DIR", help="write them there")
    build.add_argument("--top", metavar="DIR", default=str(TOP), help="the tree to take them from")
    new = add("new", run_new, "write the files of a new lesson", None)
    new.add_argument("lesson", metavar="LESSON", help="containers/NN_name or machines/NN_name")
    new.add_argument("symbol", metavar="SYMBOL", help="what the learner is to write, as minirt.oci.system:hostname")
    record = add("record", run_record, "record a lesson's traces anew")
    record.add_argument("--compare", action="store_true", help="only say what is different")
    export = add("export", run_export, "write handouts: lessons with their source, and exercises", None)
    export.add_argument("out", metavar="DIR", help="where to")
    export.add_argument("--blank", action="store_true", help="no answers, no checks: what learners get (default: with solutions)")
    completion.command(commands, "tutor").set_defaults(run=run_completion)
    return top


def in_lab(one: argparse.ArgumentParser) -> None:
    lab = one.add_mutually_exclusive_group()
    lab.add_argument("--lab", action="store_true", default=None, help="check in the lab, a virtual machine: needs no root here")
    lab.add_argument("--no-lab", dest="lab", action="store_false", help="never; default: for what this machine lacks")


def formatted(one: argparse.ArgumentParser) -> None:
    one.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def main(words: list[str] | None = None) -> int:
    """Run one command. Returns its exit status."""
    top = parser()
    args = top.parse_args(asked(list(sys.argv[1:] if words is None else words)))
    if not args.command:
        top.print_help()
        return 2
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except TutorError as error:
        complain(f"tutor: {error}")
        return 2
    except BrokenPipeError:
        return unread()
    except KeyboardInterrupt:
        return 130
    except (OSError, MinirtError) as error:
        if args.debug:
            raise
        told = isinstance(error, OSError) and error.filename and f"{error.filename}: {error.strerror}"
        complain(f"tutor: {told or error}")
        return 2


def chosen(args: argparse.Namespace, state: State) -> Lesson:
    """Return the lesson that is meant. Raises: TutorError."""
    if args.lesson:
        return find(args.lesson)
    if not state.current:
        raise TutorError("no lesson is begun yet: tutor start c1")
    return find(state.current)


# -- learning ------------------------------------------------------------------------------------------------


def run_list(args: argparse.Namespace) -> int:
    state = State()
    if args.format == "json":
        told = [{"id": x.id, "title": x.title, "minutes": x.minutes, "needs": x.needs, "passed": x.id in state.passed}
                for x in lessons()]  # fmt: skip
        print(json.dumps(told, indent=2))
        return 0
    for lesson in lessons():
        mark = "passed" if lesson.id in state.passed else "here" if lesson.id == state.current else ""
        print(f"{lesson.id:<32} {lesson.minutes:>3} min  {mark:<7} {lesson.title}")
    return 0


def run_start(args: argparse.Namespace) -> int:
    state = State()
    lesson = find(args.lesson) if args.lesson else find(state.current) if state.current else lessons()[0]
    begun(state, lesson, state.start(lesson))
    return 0


def begun(state: State, lesson: Lesson, path: Path) -> None:
    print(f"{lesson.id}: {lesson.title} ({lesson.minutes} minutes)")
    print(f"read   {path.with_name('lesson.md')}   (or: {typed()} read)")
    print(f"write  {path}\nthen   {typed(lesson)} check   (or: {typed(lesson)} watch)")


def typed(lesson: Lesson | None = None) -> str:
    """Return the word by which this command is found as it is typed here, with sudo where a lesson's check takes it."""
    from tutorials.tutor.place import TUTOR

    if lesson is not None and "root" in lesson.needs and os.geteuid():
        return f"sudo {TUTOR}"  # sudo looks into directories of its own (man 5 sudoers, secure_path)
    found = shutil.which("tutor")
    if found and os.path.samefile(found, TUTOR):
        return "tutor"
    return os.path.relpath(TUTOR) if Path.cwd() == TOP and TUTOR.is_relative_to(TOP) else str(TUTOR)


def run_next(args: argparse.Namespace) -> int:
    state = State()
    lesson = state.next()
    if lesson is None:
        print("every exercise is passed")
        return 0
    begun(state, lesson, state.start(lesson))
    return 0


def run_reset(args: argparse.Namespace) -> int:
    state = State()
    lesson = chosen(args, state)
    print(f"a new blank: {state.start(lesson, anew=True)}")
    return 0


def run_check(args: argparse.Namespace) -> int:
    from tutorials.tutor.hints import hint
    from tutorials.tutor.place import Place
    from tutorials.tutor.screen import verdict_lines

    state = State()
    lesson = chosen(args, state)
    path = Path(args.answer) if args.answer else state.exercise(lesson)
    if not path.exists():
        raise TutorError(f"{path} is not there: tutor start {lesson.id}")
    with Place(args.lab, aloud, partial=args.partial) as place:
        verdict = asdict(place(lesson, path))
    if not args.answer:
        state.checked(lesson, verdict)
    print(json.dumps(verdict, indent=2) if args.format == "json" else "\n".join(verdict_lines(verdict)))
    if args.format == "json":
        return 0 if verdict["passed"] else 1
    if not verdict["passed"]:
        print(f"hint:     {hint(lesson, verdict, 0)}")
        if not args.answer:
            state.rungs[lesson.id] = max(state.rungs.get(lesson.id, 0), 1)  # what `tutor hint` says next is another one
            state.save()
    elif not args.answer and (after := state.next()):
        print(f"next:     {typed(after)} next   ({after.title})")
    return 0 if verdict["passed"] else 1


def aloud(text: str) -> None:
    """Say what is being done, where that takes long."""
    print(f"tutor: {text}", file=sys.stderr, flush=True)


def run_watch(args: argparse.Namespace) -> int:
    from tutorials.tutor.place import Place
    from tutorials.tutor.screen import Watch, plain_wanted, watch_live, watch_plain

    state = State()
    lesson = find(args.lesson) if args.lesson else find(state.current) if state.current else lessons()[0]
    with Place(args.lab, aloud, keep=True) as place:
        place.refuse(lesson)
        watch = Watch(state, lesson, place)
        if plain_wanted(args.plain):
            return watch_plain(watch)
        try:
            import rich  # noqa: F401
        except ImportError:
            aloud("without rich there are plain lines (pip install 'minirt[course]')")
            return watch_plain(watch)
        return watch_live(watch)


def run_hint(args: argparse.Namespace) -> int:
    from tutorials.tutor.hints import hint
    from tutorials.tutor.screen import Watch

    state = State()
    lesson = chosen(args, state)
    last = state.last.get(lesson.id)
    if last is None:
        raise TutorError(f"{lesson.id} was not checked yet: tutor check {lesson.id}")
    if last["passed"]:
        print(f"{lesson.id}: passed; nothing to help with")
        return 0
    print(hint(lesson, last, args.rung - 1) if args.rung else Watch(state, lesson).hint())
    return 0


def run_read(args: argparse.Namespace) -> int:
    from tutorials.tutor.reader import read

    state = State()
    return read(chosen(args, state) if args.lesson or state.current else lessons()[0])


def run_replay(args: argparse.Namespace) -> int:
    from minirt.cli.main import main as minirt

    state = State()
    lesson = chosen(args, state)
    name = args.trace or next(iter(lesson.traces), "")
    path = lesson.path / "traces" / f"{name}.jsonl"
    if not path.exists():
        raise TutorError(f"{lesson.id} has no trace {name!r}; it has {', '.join(lesson.traces) or 'none'}")
    return minirt(["explain", str(path), *(["--html", args.html] if args.html else [])])


def run_measure(args: argparse.Namespace) -> int:
    from tutorials.tutor.measure import curves, lines, write

    for curve in curves(chosen(args, State())):
        print(json.dumps(asdict(curve)) if args.format == "json" else "\n".join(lines(curve)), flush=True)
        if args.out:
            path = write(curve, Path(args.out))
            print(f"  {path}", file=sys.stderr)
    return 0


# -- teaching ------------------------------------------------------------------------------------------------


def run_grade(args: argparse.Namespace) -> int:
    from tutorials.tutor.grade import grade
    from tutorials.tutor.place import Place

    own = State().directory
    if not args.place and not own.is_dir():
        raise TutorError("nothing is begun yet: tutor start c1")
    with Place(args.lab, aloud, sandbox=not args.no_sandbox and bool(args.place), keep=True) as place:
        return grade(Path(args.place) if args.place else own, args.json, place)


def run_weave(args: argparse.Namespace) -> int:
    from tutorials.tutor.weave import woven

    print(woven(chosen(args, State())), end="")
    return 0


def run_build(args: argparse.Namespace) -> int:
    from tutorials.tutor.weave import build

    problems = build(Path(args.out) if args.out else None, Path(args.top).resolve())
    for line in problems:
        print(f"tutor: {line}", file=sys.stderr)
    return 1 if problems else 0


def run_new(args: argparse.Namespace) -> int:
    from tutorials.tutor.scaffold import scaffold

    for path in scaffold(args.lesson, args.symbol):
        print(path)
    aloud(f"now write them, then `tutor record {args.lesson}`; what is still to do: "
          f".venv/bin/python -m pytest tests/system/test_tutorials.py -k {args.lesson.partition('/')[2]}")  # fmt: skip
    return 0


def run_record(args: argparse.Namespace) -> int:
    from tutorials.tutor.story import record, same

    status = 0
    for lesson in [find(args.lesson)] if args.lesson else lessons():
        for name in lesson.traces:
            path = lesson.path / "traces" / f"{name}.jsonl"
            with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
                fresh = Path(directory) / "fresh.jsonl"
                record(lesson, name, fresh)
                if args.compare:
                    differs = same(path, fresh)
                    status |= bool(differs)
                    print(f"{lesson.id} {name}: {'; '.join(differs) or 'the same'}")
                else:
                    path.parent.mkdir(exist_ok=True)
                    shutil.copyfile(fresh, path)
                    print(path)
    return status


def run_export(args: argparse.Namespace) -> int:
    from tutorials.tutor.exercise import blank
    from tutorials.tutor.weave import build

    out = Path(args.out)
    problems = build(out)
    if problems:
        raise TutorError(problems[0])
    for lesson in lessons():
        place = out / lesson.id
        place.mkdir(parents=True, exist_ok=True)
        (out / f"{lesson.id}.md").rename(place / "lesson.md")
        (place / f"exercise.{lesson.language}").write_text(blank(lesson), encoding="utf-8")
        if not args.blank:
            (place / f"solution.{lesson.language}").write_text(blank(lesson, solved=True), encoding="utf-8")
            shutil.copytree(lesson.path / "wrong", place / "wrong", dirs_exist_ok=True)
    for name in ("glossary.md", "teaching.md"):
        if (TOP / "tutorials" / name).exists() and not (args.blank and name == "teaching.md"):
            shutil.copyfile(TOP / "tutorials" / name, out / name)
    print(out)
    return 0


# -- of every command ----------------------------------------------------------------------------------------


def run_completion(args: argparse.Namespace) -> int:
    try:
        return completion.print_script(parser(), args.shell)
    except ImportError:
        raise TutorError(completion.NEEDS) from None


if __name__ == "__main__":
    sys.exit(main())

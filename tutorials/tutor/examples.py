"""What stands below each command's help: examples, and what cannot be said in a line."""

from __future__ import annotations

__all__ = ["MORE", "TOP"]

TOP = """examples:
  tutor list                        the lessons, and which of them are passed
  tutor start c1                    write the first exercise's blank, and say what to read and where to write
  sudo tutor watch                  check it each time it is saved; a screen with hints
  sudo tutor check                  check it once
  tutor hint                        help with what failed: a question, a pointer, pseudo-code, the source
  sudo tutor measure c6             what formulas predict, and what the kernel does
  tutor replay c1                   a recorded birth, told again: no root, no Linux needed
  sudo tutor grade --json DIR       check a folder of submissions, each in a container of its own
  tutor export --blank out/         handouts: lessons with their source, and blank exercises

A lesson is named by its track and number (c2, m1), or by any part of its name. Exercises lie in ~/minirt-course
($TUTOR_DIR). Exit status: 0 passed, 1 not passed, 2 it cannot be checked here or the words are wrong.
"""
MORE = {
    "list": """examples:
  tutor list
  tutor list --format json          for a program: each lesson with its state
""",
    "start": """examples:
  tutor start                       the current lesson, or the first
  tutor start c2                    the second of the containers
  tutor start overlay               by a part of its name
""",
    "watch": """examples:
  sudo tutor watch
  sudo tutor watch --plain          lines, for a pipe or a screen reader
  tutor watch --lab m1              in the lab, which needs no root
""",
    "check": """examples:
  sudo tutor check
  sudo tutor check c3 --format json
  tutor check --lab m1              in the lab, which needs no root
  sudo tutor check c1 --answer ../of_a_friend.py
""",
    "hint": """examples:
  tutor hint
  tutor hint --rung 3               pseudo-code, at once
""",
    "next": """examples:
  tutor next
""",
    "reset": """examples:
  tutor reset                       the current lesson's
  tutor reset c2
""",
    "read": """examples:
  tutor read                        the current lesson
  tutor read c1
""",
    "replay": """examples:
  tutor replay c1                   its birth, told again
  tutor replay c1 failing           another of its traces
  tutor replay c1 --html birth.html
""",
    "measure": """examples:
  sudo tutor measure c6
  sudo tutor measure m3 --out pictures/
  sudo tutor measure c6 --format json
""",
    "grade": """a submission is one of
  DIR/LEARNER/containers/01_by_hand/exercise.py      as `tutor export --blank` hands it out
  DIR/LEARNER/01_by_hand.py    DIR/LEARNER/c1.py     .c where the exercise is in C
With --json one object: learner -> lesson -> passed, id, expected, observed, differs, where, seconds. Exit status: 0 all passed,
1 not all, 2 nothing was there to grade. tutorials/teaching.md has more.

examples:
  sudo tutor grade                  your own exercises
  sudo tutor grade handed-in/
  sudo tutor grade --json handed-in/ > marks.json
""",
    "weave": """examples:
  tutor weave c1 > c1.md
""",
    "build": """examples:
  tutor build                       only say what does not hold
  tutor build --out woven/
""",
    "new": """then
  tutor check --answer tutorials/LESSON/wrong/first.py --partial LESSON      what the check says of a mistake
  tutor record LESSON                                                        its traces
  python -m pytest tests/system/test_tutorials.py -k NN_name                 what a lesson promises, and this one lacks
CONTRIBUTING.md, "A new lesson", has more.

examples:
  tutor new containers/08_names minirt.oci.system:hostname
""",
    "record": """examples:
  sudo tutor record c1
  sudo tutor record c1 --compare    only say what is different now
""",
    "export": """with --blank for each lesson lesson.md and exercise.py (or .c), which learners hand in, and the glossary;
without it solution.py and the wrong answers, each with what is wrong about it, too.

examples:
  tutor export --blank handouts/    for learners
  tutor export solutions/           for teachers
""",
}

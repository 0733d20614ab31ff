"""make site: the annotated source. Lessons with their source in them, every module beside its prose, an index of manual pages.

    python -m tutorials.tutor.site [OUT]        default: build/site; open site/index.html in it, with no server and no network

The pages are made here as Markdown and turned into a site, with search, by zensical. A module's page is its docstring, and then
each function and class with its own, in the order of the file; lessons that show it are linked, and so are manual pages.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

from minirt.plan.player import page as player_page
from minirt.trace import read_trace
from minivm.inspect.told import ready
from tutorials.tutor.cited import cited_page, cites, cross_linked
from tutorials.tutor.diagrams import imports, layered, steps_diagram
from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson, lessons
from tutorials.tutor.markdown import quiz
from tutorials.tutor.source import c_defines, c_tree
from tutorials.tutor.timeline import timeline
from tutorials.tutor.weave import block, build

__all__ = ["pages", "site"]

FOLDER = re.compile(r"`((?:minirt|minivm|csrc)/\w+)/`")


def readme_rooms() -> str:
    """Return the part of README with the table of rooms."""
    return (TOP / "README.md").read_text(encoding="utf-8").partition("\n## The rooms")[2].partition("\n## ")[0]


def rooms() -> tuple[str, ...]:
    """Return the folders with source, in the order in which README's table has them; those that are in them behind each."""
    found: list[str] = []
    for line in readme_rooms().splitlines():
        for name in FOLDER.findall(line.split("|")[1] if line.startswith("|") else ""):
            inner = sorted(path for path in (TOP / name).rglob("*") if path.is_dir() and any(path.glob("*.py")))
            found += [name, *(str(path.relative_to(TOP)) for path in inner)]
    return tuple(dict.fromkeys(found))


ROOMS = rooms()
SETTINGS = """site_name: minirt and minivm
use_directory_urls: false
docs_dir: docs
site_dir: site
theme:
  font: false
  features: [navigation.prune, navigation.footer, content.code.copy, search.highlight]
  palette:
    - {media: '(prefers-color-scheme)', toggle: {icon: lucide/sun-moon, name: as the system has it}}
    - {media: '(prefers-color-scheme: light)', scheme: default, toggle: {icon: lucide/sun, name: light}}
    - {media: '(prefers-color-scheme: dark)', scheme: slate, toggle: {icon: lucide/moon, name: dark}}
plugins: [search, offline]
extra_javascript: [javascripts/worker.js]
extra_css: [stylesheets/diagrams.css]
markdown_extensions: [tables, toc, admonition, pymdownx.details, pymdownx.superfences, pymdownx.highlight]
nav:
  - index.md
"""
FIRST = """# minirt and minivm, annotated

A container runtime made of Linux system calls, and a hypervisor made of KVM ioctls: a course made of their source, and every module
beside its prose.

**To follow the course** type `make demo` in the source's directory (Debian 12 or 13, Ubuntu 24.04), then
`.venv/bin/tutor start c1`, and read [the first lesson](lessons/containers/01_by_hand.md). A lesson says what to type and what comes
back, and ends with functions that you write; `tutor check` says what the kernel thinks of them, and `tutor hint` helps.

**Only to read** you need nothing: at the end of each lesson are recorded births to step through. The [steps of a birth](steps.md)
are the shortest way into the source. Search (`/`) finds functions, system calls and terms.
"""
TRACK = {"containers": "Containers", "machines": "Machines"}  # sections of the navigation
MORE = "To look up"
LOOKED_UP = {"The steps of a birth": "steps.md", "Glossary": "glossary.md", "Manual pages and specifications": "cited.md"}
NEEDS = {"root": "root", "kvm": "/dev/kvm", "cgroup2": "cgroup v2, or the lab"}
ARROWS = "What is above rests on what is below; each name leads to where that room says what it is for."
STEPS = """# The steps of a birth

What `minirt run` has the kernel do, in this order. A line leads from a step to each that needs it: `--without` the one
cuts the other, too. Each name leads to the function that says the step's system calls.

"""
KEY = """A column is a call, as high as it took long (from a line to the next a thousand times as long). Rest on it to read it,
click to see the state behind it. <span class="key call">a call</span>
<span class="key changed">one that changed what is seen from outside</span>
<span class="key tolerated">one that failed, as it may</span> <span class="key failed">one that failed, and so ended it</span>
"""


def pages(out: Path) -> dict[str, list[tuple[str, str]]]:
    """Write the Markdown pages. Returns the navigation: section -> (title, path). Raises: TutorError for what does not hold."""
    problems = build()
    if problems:
        raise TutorError(problems[0])
    shown: dict[str, list[str]] = {}
    navigation: dict[str, list[tuple[str, str]]] = {}
    glossary = (TOP / "tutorials/glossary.md").read_text(encoding="utf-8")
    written(out / "glossary.md", cross_linked(glossary, ""))
    for lesson in lessons():
        for fence in lesson.fences:
            if fence.kind == "weave":
                shown.setdefault(fence.words[0], []).append(lesson.id)
        page = f"lessons/{lesson.id}.md"
        written(out / page, lesson_page(lesson) + recorded(lesson, out))
        navigation.setdefault(TRACK[lesson.path.parent.name], []).append((f"{lesson.short}. {lesson.title}", page))
    navigation[MORE] = list(LOOKED_UP.items())
    cited: dict[str, set[str]] = {}
    for room in ROOMS:
        for source in in_order(TOP / room):
            place = str(source.relative_to(TOP))
            text = module_page(source, place, shown) if source.suffix == ".py" else c_page(source, place, shown)
            if source.name == "__init__.py":
                text += files_diagram(room, place)
            written(out / f"source/{place}.md", text)
            navigation.setdefault(room, []).append((source.name, f"source/{place}.md"))
            for found in cites(text):
                cited.setdefault(found, set()).add(place)
    for text in (glossary, *(lesson.text for lesson in lessons())):
        for found in cites(text):
            cited.setdefault(found, set())
    written(out / "cited.md", cited_page(cited))
    written(out / "steps.md", STEPS + steps_diagram(lambda place, name: f"source/{place}.html#{name}"))
    written(out / "index.md", first_page(navigation))
    return navigation


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lesson_page(lesson: Lesson) -> str:
    """Return a lesson with its source; predictions and quizzes are boxes, the answers folded away."""
    text, at = "", 0
    for fence in lesson.fences:
        text += cross_linked(lesson.text[at : fence.start], "../../")
        at = fence.end
        if fence.kind == "predict":
            text += '!!! question "Predict"\n' + indented(fence.body)
        elif fence.kind == "quiz":
            one = quiz(fence)
            answers = "\n".join(f"- {answer}" for answer in one.answers)
            text += f'!!! question "{one.question.replace(chr(34), chr(39))}"\n{indented(answers)}\n'
            text += '??? success "Answer"\n' + indented(one.answers[one.right])
        elif fence.kind == "sh":
            text += f"```console\n{fence.body}```"
        else:
            text += block(lesson, fence, TOP)
    return text + cross_linked(lesson.text[at:], "../../")


def recorded(lesson: Lesson, out: Path) -> str:
    """Draw a lesson's traces, each above a link to a page that steps through it, which is written."""
    text = f"\n## Recorded\n\n{KEY}\n"
    for name, command in lesson.traces.items():
        path = lesson.path / "traces" / f"{name}.jsonl"
        with path.open(encoding="utf-8") as file:
            header, events = read_trace(file)
        if header.get("kind") == "machine":
            events = ready(events)
        player = f"{lesson.path.name}-{name}.html"
        written(out / "lessons" / lesson.path.parent.name / player, player_page(header, events))
        told = command.replace(" --trace FILE", "")
        text += f"\n`{told}`: [step through it]({player})\n\n{timeline(events, player, f'the calls of {told}')}\n"
    return text


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


def files_diagram(room: str, place: str) -> str:
    """Draw which of a room's files imports which: what is at the top rests on what is below."""
    files = {path.stem: path for path in in_order(TOP / room) if path.suffix == ".py" and path.name != "__init__.py"}
    base = room.replace("/", ".")
    arrows = {(name, other) for name, path in files.items() for other in files if f"{base}.{other}" in imports(path)}
    if not arrows:
        return ""
    names = {name: f"{path.name}.html" for name, path in files.items()}
    return f"\n## What rests on what\n\n{layered(names, arrows, f'which file of {room} imports which')}"


def rooms_diagram() -> str:
    """Draw which room imports which; the rooms within one are part of it."""
    whole = [room for room in ROOMS if room.count("/") == 1 and not room.startswith("csrc")]
    arrows = {(room, other) for room in whole for path in (TOP / room).rglob("*.py") for other in whole if room != other
              and any(f"{name}.".startswith(f"{other}.".replace("/", ".")) for name in imports(path))}  # fmt: skip
    names = {room: f"source/{in_order(TOP / room)[0].relative_to(TOP)}.html" for room in whole}
    return layered(names, arrows, "which room imports which")


def in_order(room: Path) -> list[Path]:
    """Return a room's files: first as its __init__.py names them, then the others."""
    first = room / "__init__.py"
    text = first.read_text(encoding="utf-8") if first.exists() else ""
    files = [path for path in sorted([*room.glob("*.py"), *room.glob("*.c"), *room.glob("*.h")]) if path.name != "__init__.py"]
    named = re.findall(r"\b([\w/]+\.py)\b", (ast.get_docstring(ast.parse(text)) or "") if text else "")
    ordered = [room / name for name in dict.fromkeys(named) if (room / name) in files]
    return ([first] if text else []) + ordered + [path for path in files if path not in ordered]


def module_page(path: Path, place: str, shown: dict[str, list[str]]) -> str:
    """Return a Python module's page."""
    text = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(text), text.splitlines()
    module = place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    page = f"# {escaped(place)}\n\n{prose(ast.get_docstring(tree) or '', place)}\n"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            code = "\n".join(lines[first - 1 : node.end_lineno])
            page += f"\n## {node.name}\n\n{prose((ast.get_docstring(node) or '').partition(chr(10))[0], place)}\n"
            page += links(f"{module}:{node.name}", place, shown)
            page += f'\n```python title="{place}:{first}"\n{code}\n```\n'
    return page


def c_page(path: Path, place: str, shown: dict[str, list[str]]) -> str:
    """Return a C file's page: each comment as prose, each definition below its own."""
    data = path.read_bytes()
    page, said = f"# {escaped(place)}\n", ""
    for node in c_tree(data).children:
        text = data[node.start_byte : node.end_byte].decode()
        if node.type == "comment":
            said = re.sub(r"^[ /]*\*+/?|\*/$", "", text, flags=re.M).strip()
            beside = node.next_sibling is not None and node.next_sibling.start_point[0] == node.end_point[0] + 1
            page += "" if beside else f"\n{prose(said, place)}\n"
        elif node.type not in (";", "preproc_include"):
            name = next(iter(sorted(c_defines(node))), "")
            heading = f"\n## {name}\n\n{prose(said, place)}\n" if name and node.type == "function_definition" else ""
            page += heading + links(f"{place}:{name}", place, shown)
            page += f'\n```c title="{place}:{node.start_point[0] + 1}"\n{text.rstrip()}\n```\n'
            said = ""
    return page


def escaped(place: str) -> str:
    """Return a file's name so that Markdown leaves it as it is."""
    return place.replace("_", r"\_")


def links(symbol: str, place: str, shown: dict[str, list[str]]) -> str:
    """Return where a symbol is shown in the course."""
    found = [lesson for key, ids in shown.items() if key == symbol or key.startswith(f"{symbol}.") for lesson in ids]
    up = "../" * (place.count("/") + 1)
    told = ", ".join(f"[{lesson}]({up}lessons/{lesson}.md)" for lesson in dict.fromkeys(found))
    return f"\nIn the course: {told}\n" if told else ""


def prose(text: str, place: str) -> str:
    """Return a docstring as Markdown: what is indented in it is shown as it is. Args: place, the file that it is of."""
    parts = []
    for part in re.split(r"\n\s*\n", text.strip()):
        plain = not any(line.startswith("    ") for line in part.splitlines())
        parts.append(cross_linked(part.replace("<", "&lt;"), "../" * (place.count("/") + 1)) if plain else f"```text\n{part}\n```")
    return "\n\n".join(parts)


def first_page(navigation: dict[str, list[tuple[str, str]]]) -> str:
    """Return the page that the site begins with: the course, and the reading order."""
    text = FIRST
    for track, section in TRACK.items():
        text += f"\n## {section}\n\n| lesson | minutes | needs |\n|---|---|---|\n"
        have = [lesson for lesson in lessons() if lesson.path.parent.name == track]
        for lesson, (title, path) in zip(have, navigation[section], strict=True):
            text += f"| [{title}]({path}) | {lesson.minutes} | {', '.join(NEEDS[need] for need in lesson.needs)} |\n"
    text += f"\n## {MORE}\n\n" + "".join(f"- [{title}]({path})\n" for title, path in navigation[MORE])
    text += f"\n## Rooms\n\n{ARROWS}\n{rooms_diagram()}\n"
    for room in ROOMS:
        links = " · ".join(f"[`{title}`]({path})" for title, path in navigation[room])
        text += f"\n### {room}\n\n{what_happens(room)}\n\n{links}\n"
    return text


def what_happens(room: str) -> str:
    """Say what a room is for: the first sentence of its __init__.py, or what README's table says of it."""
    first = TOP / room / "__init__.py"
    if first.exists():
        said = (ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or "").partition("\n\n")[0].replace("\n", " ")
        return said.partition(". ")[0].removesuffix(".") + "."
    rows = [line.split("|") for line in readme_rooms().splitlines() if line.startswith("|")]
    said = next((cells[2].strip() for cells in rows if f"`{room}/`" in cells[1]), "")
    return f"{said[:1].upper()}{said[1:]}."


def settings(navigation: dict[str, list[tuple[str, str]]]) -> str:
    """Return mkdocs.yml, which zensical reads."""
    text = SETTINGS
    for section, entries in navigation.items():
        text += f"  - '{section}':\n"
        for title, path in entries:
            quoted = title.replace("'", "''")
            text += f"      - '{quoted}': {path}\n"
    return text


def site(out: Path) -> Path:
    """Build the site; returns its first page. Raises: TutorError."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "docs").mkdir(parents=True)
    for name, folder in (("worker.js", "javascripts"), ("diagrams.css", "stylesheets")):
        written(out / "docs" / folder / name, Path(__file__).with_name(name).read_text(encoding="utf-8"))
    navigation = pages(out / "docs")
    (out / "mkdocs.yml").write_text(settings(navigation), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "-f", str(out / "mkdocs.yml")]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    if done.returncode or not (out / "site/index.html").exists():
        said = (done.stderr or done.stdout).strip()[-400:]
        raise TutorError(f"zensical did not build the site: {said} (pip install 'minirt[site]')")
    for page in (out / "site").rglob("*.html"):  # a script from elsewhere: worker.js does what it is for
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r'<script src="https?://[^>]*></script>', "", text), encoding="utf-8")
    return out / "site/index.html"


if __name__ == "__main__":
    try:
        print(site(Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "build/site").absolute()))
    except TutorError as failure:
        sys.exit(f"tutor: {failure}")

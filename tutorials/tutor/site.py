"""make site: the annotated source. Lessons with their source in them, every module beside its prose, an index of manual pages.

    python -m tutorials.tutor.site [OUT]        default: build/site. It needs no network; its search wants to be served:
    python -m http.server --directory build/site/site

The pages are made here as Markdown and turned into a site, with search, by zensical. A module's page is its docstring, and then
each function and class with its own, in the order of the file; lessons that show it are linked, and so are manual pages.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson, lessons
from tutorials.tutor.markdown import quiz
from tutorials.tutor.source import c_defines, c_tree
from tutorials.tutor.weave import block, build

__all__ = ["pages", "site"]

MANUAL = re.compile(r"\bman (\d) ([a-z_][\w.-]*)|`([a-z_][\w.-]*)\((\d)\)`")
SPECIFICATION = re.compile(r"\b((?:runtime|image|distribution)-spec [\w.-]+(?:#[\w-]+)?)|\b(Intel SDM volume \w+(?:, [\d.]+)?)")
ROOMS = (
    "minirt/plan", "csrc/plan", "minirt/oci", "minirt/runtime", "minirt/linux", "minirt/image", "minirt/network",
    "minirt/engine", "minirt/build", "minirt/registry", "minivm/kvm", "csrc/kvm", "minivm/machine", "minivm/boot",
    "minivm/devices", "minivm/inspect", "csrc/guest",
)  # fmt: skip
SETTINGS = """site_name: minirt and minivm
use_directory_urls: false
docs_dir: docs
site_dir: site
theme:
  font: false
  features: [navigation.indexes, content.code.copy, search.highlight]
  palette:
    - {media: '(prefers-color-scheme: light)', scheme: default}
    - {media: '(prefers-color-scheme: dark)', scheme: slate}
plugins: [search, offline]
markdown_extensions: [tables, toc, admonition, pymdownx.details, pymdownx.superfences, pymdownx.highlight]
nav:
  - index.md
"""
FIRST = """# minirt and minivm, annotated

A container runtime made of Linux system calls, and a hypervisor made of KVM ioctls.
"""


def pages(out: Path) -> dict[str, list[tuple[str, str]]]:
    """Write the Markdown pages. Returns the navigation: section -> (title, path). Raises: TutorError for what does not hold."""
    problems = build()
    if problems:
        raise TutorError(problems[0])
    shown: dict[str, list[str]] = {}
    for lesson in lessons():
        for fence in lesson.fences:
            if fence.kind == "weave":
                shown.setdefault(fence.words[0], []).append(lesson.id)
        page = out / "lessons" / f"{lesson.id}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(lesson_page(lesson), encoding="utf-8")
    shutil.copyfile(TOP / "tutorials/glossary.md", out / "glossary.md")
    navigation: dict[str, list[tuple[str, str]]] = {"Course": [("Glossary", "glossary.md")]}
    for lesson in lessons():
        navigation["Course"].append((f"{lesson.id.split('/')[0]}: {lesson.title}", f"lessons/{lesson.id}.md"))
    cited: dict[str, set[str]] = {}
    for room in ROOMS:
        for source in in_order(TOP / room):
            place = str(source.relative_to(TOP))
            text = module_page(source, place, shown) if source.suffix == ".py" else c_page(source, place, shown)
            page = out / "source" / f"{place}.md"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, encoding="utf-8")
            navigation.setdefault(room, []).append((source.name, f"source/{place}.md"))
            for found in cites(text):
                cited.setdefault(found, set()).add(place)
    index = "# Manual pages and specifications\n\nWhere the source and its prose name them.\n\n"
    for name, places in sorted(cited.items()):
        index += f"- {name}: {', '.join(f'[{place}](source/{place}.md)' for place in sorted(places))}\n"
    (out / "cited.md").write_text(index, encoding="utf-8")
    navigation["Course"].append(("Manual pages and specifications", "cited.md"))
    (out / "index.md").write_text(first_page(navigation), encoding="utf-8")
    return navigation


def lesson_page(lesson: Lesson) -> str:
    """Return a lesson with its source; predictions and quizzes are boxes, the answers folded away."""
    text, at = "", 0
    for fence in lesson.fences:
        text += lesson.text[at : fence.start]
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
    return text + lesson.text[at:]


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


def cites(text: str) -> Iterator[str]:
    """Yield the manual pages and the sections of specifications that a text names."""
    for match in MANUAL.finditer(text):
        yield f"{match[2] or match[3]}({match[1] or match[4]})"
    for match in SPECIFICATION.finditer(text):
        yield match[1] or match[2]


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
    page = f"# {place}\n\n{prose(ast.get_docstring(tree) or '')}\n"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            code = "\n".join(lines[first - 1 : node.end_lineno])
            page += f"\n## {node.name}\n\n{prose((ast.get_docstring(node) or '').partition(chr(10))[0])}\n"
            page += links(f"{module}:{node.name}", place, shown)
            page += f'\n```python title="{place}:{first}"\n{code}\n```\n'
    return page


def c_page(path: Path, place: str, shown: dict[str, list[str]]) -> str:
    """Return a C file's page: each comment as prose, each definition below its own."""
    data = path.read_bytes()
    page, said = f"# {place}\n", ""
    for node in c_tree(data).children:
        text = data[node.start_byte : node.end_byte].decode()
        if node.type == "comment":
            said = re.sub(r"^[ /]*\*+/?|\*/$", "", text, flags=re.M).strip()
            beside = node.next_sibling is not None and node.next_sibling.start_point[0] == node.end_point[0] + 1
            page += "" if beside else f"\n{prose(said)}\n"
        elif node.type not in (";", "preproc_include"):
            name = next(iter(sorted(c_defines(node))), "")
            heading = f"\n## {name}\n\n{prose(said)}\n" if name and node.type == "function_definition" else ""
            page += heading + links(f"{place}:{name}", place, shown)
            page += f'\n```c title="{place}:{node.start_point[0] + 1}"\n{text.rstrip()}\n```\n'
            said = ""
    return page


def links(symbol: str, place: str, shown: dict[str, list[str]]) -> str:
    """Return where a symbol is shown in the course."""
    found = [lesson for key, ids in shown.items() if key == symbol or key.startswith(f"{symbol}.") for lesson in ids]
    up = "../" * (place.count("/") + 1)
    told = ", ".join(f"[{lesson}]({up}lessons/{lesson}.md)" for lesson in dict.fromkeys(found))
    return f"\nIn the course: {told}\n" if told else ""


def prose(text: str) -> str:
    """Return a docstring as Markdown: what is indented in it is shown as it is."""
    parts = []
    for part in re.split(r"\n\s*\n", text.strip()):
        plain = not any(line.startswith("    ") for line in part.splitlines())
        parts.append(part.replace("<", "&lt;") if plain else f"```text\n{part}\n```")
    return "\n\n".join(parts)


def first_page(navigation: dict[str, list[tuple[str, str]]]) -> str:
    """Return the page that the site begins with: the reading order."""
    text = FIRST
    for section, entries in navigation.items():
        text += f"\n## {section}\n\n" + "".join(f"- [{title}]({path})\n" for title, path in entries)
    return text


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
    navigation = pages(out / "docs")
    (out / "mkdocs.yml").write_text(settings(navigation), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "-f", str(out / "mkdocs.yml")]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    if done.returncode or not (out / "site/index.html").exists():
        said = (done.stderr or done.stdout).strip()[-400:]
        raise TutorError(f"zensical did not build the site: {said} (pip install 'minirt[site]')")
    for page in (out / "site").rglob("*.html"):  # a script from elsewhere, for browsers without module workers
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r'<script src="https?://[^>]*></script>', "", text), encoding="utf-8")
    return out / "site/index.html"


if __name__ == "__main__":
    try:
        print(site(Path(sys.argv[1] if len(sys.argv) > 1 else TOP / "build/site").absolute()))
    except TutorError as failure:
        sys.exit(f"tutor: {failure}")

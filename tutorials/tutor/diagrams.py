"""Diagrams of the site, drawn from the code: the steps of a birth, and which file of the product imports which.

They are SVG inside of the page, in the site's own colours (diagrams.css), so that they are light and dark as it is. Positions are
sums of sizes: nothing but this file is needed to draw them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path

from tutorials.tutor.lessons import TOP
from tutorials.tutor.source import python_node

__all__ = ["imports", "layered", "steps", "steps_diagram"]

ROW, LINE, LETTER, PAD = 26, 54, 7.3, 12  # pixels: a step's row, a layer's, a letter, beside a name
WIDTH = 700  # of a picture: as wide as the site's text


def svg(width: float, height: float, said: str, parts: list[str]) -> str:
    """Return a picture as a block of HTML. Args: said, what it shows, for who cannot see it."""
    head = f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{escape(said, quote=True)}">'
    point = '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    point += '<path d="M0 0 L8 4 L0 8 z" class="point"/></marker></defs>'
    return f'<div class="diagram">{head}{point}{"".join(parts)}</svg></div>\n'


def label(x: float, y: float, text: str, css: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, css: str = "box") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5" class="{css}"/>'


def arrow(way: str, title: str) -> str:
    return f'<path d="{way}" class="needs" marker-end="url(#arrow)"><title>{escape(title)}</title></path>'


def linked(href: str, inside: str, title: str = "") -> str:
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<a href="{escape(href, quote=True)}">{told}{inside}</a>' if href else inside


# -- the steps of a birth ----------------------------------------------------------------------------------------


class Step:
    """A step of minirt/oci/compile.py's ORDER, as its decorator says it."""

    def __init__(self, function: str, place: str, call: ast.Call) -> None:
        self.function, self.place = function, place  # place: minirt/oci/rootfs.py
        words = [str(arg.value) for arg in call.args if isinstance(arg, ast.Constant)]
        self.name, self.needs = words[0], tuple(words[1:])
        values = [key.value for key in call.keywords if key.arg == "why"]
        self.why = str(ast.literal_eval(values[0])) if values else ""


def steps() -> list[Step]:
    """Return the steps of a birth, in their order."""
    from minirt.oci.compile import ORDER

    found: list[Step] = []
    for function in ORDER:
        module = getattr(function, "__wrapped__", function).__module__
        place = module.replace(".", "/") + ".py"
        node = python_node(ast.parse((TOP / place).read_text(encoding="utf-8")), function.__name__)
        calls = [one for one in node.decorator_list if isinstance(one, ast.Call) and ast.unparse(one.func) == "step"]
        if calls and not any(step.name == Step(node.name, place, calls[0]).name for step in found):
            found.append(Step(node.name, place, calls[0]))
    return found


def steps_diagram(link: Callable[[str, str], str]) -> str:
    """Draw the steps, a row each; on the left lines from what a step needs.

    Args:
        link: from a file and a function of it to a page's address.
    """
    order = steps()
    rows = {step.name: number for number, step in enumerate(order)}
    left, wide = 100, max(len(name) for name in rows) * LETTER + 2 * PAD
    parts = []
    for step in order:
        y = rows[step.name] * ROW + 4
        name = box(left, y, wide, ROW - 6) + label(left + PAD, y + 14, step.name, "name")
        parts.append(linked(link(step.place, step.function), name, f"{step.place}: {step.function}"))
        parts.append(label(left + wide + PAD, y + 14, step.why, "why"))
        for need in step.needs:
            if need in rows:
                top, bottom = rows[need] * ROW + 4 + ROW / 2 - 3, y + ROW / 2 - 3
                out = left - min(12 + 4 * (rows[step.name] - rows[need]), left)
                way = f"M{left} {top:.1f} C{out:.1f} {top:.1f} {out:.1f} {bottom:.1f} {left} {bottom:.1f}"
                parts.append(arrow(way, f"{step.name} needs {need}"))
    return svg(WIDTH + 80, len(rows) * ROW + 8, "the steps of a container's birth and what each needs", parts)


# -- what imports what -------------------------------------------------------------------------------------------


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules that a file imports as it is loaded: dotted names, of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return frozenset(found)


def layered(names: Mapping[str, str], arrows: set[tuple[str, str]], said: str) -> str:
    """Draw boxes in layers with arrows that go down: from who imports to what is imported.

    Args:
        names: box -> the address that it leads to.
        arrows: from, to. Those that others already say (a to c, where a to b and b to c) are left out.
        said: what the picture shows, in a few words.
    """
    order = list(names)
    below = {name: {b for a, b in arrows if a == name and b != name and b in names} for name in order}
    rank = ranks(below)
    rows: dict[int, list[str]] = {}
    for name in order:
        rows.setdefault(rank[name], []).append(name)
    place: dict[str, tuple[float, float, float]] = {}  # x, y, width
    y, parts = 6.0, list[str]()
    for level in sorted(rows):
        for line in lines(rows[level]):
            wide = sum(len(name) * LETTER + 2 * PAD + PAD for name in line) - PAD
            x = max((WIDTH - wide) / 2, 0)
            for name in line:
                size = len(name) * LETTER + 2 * PAD
                place[name] = (x, y, size)
                x += size + PAD
            y += LINE
    for a, b in reduced(below):
        (ax, ay, aw), (bx, by, bw) = place[a], place[b]
        if by > ay:
            x1, x2 = ax + aw / 2, bx + bw / 2
            way = f"M{x1:.1f} {ay + 24:.1f} C{x1:.1f} {ay + 44:.1f} {x2:.1f} {by - 22:.1f} {x2:.1f} {by - 1:.1f}"
            parts.append(arrow(way, f"{a} imports {b}"))
    for name, (x, y0, size) in place.items():
        parts.append(linked(names[name], box(x, y0, size, 24) + label(x + PAD, y0 + 16, name, "name")))
    return svg(WIDTH, y - LINE + 34, said, parts)


def lines(names: list[str]) -> list[list[str]]:
    """Divide a layer's boxes into lines that fit."""
    found: list[list[str]] = [[]]
    room = WIDTH * 1.0
    for name in names:
        size = len(name) * LETTER + 3 * PAD
        if size > room and found[-1]:
            found.append([])
            room = WIDTH
        found[-1].append(name)
        room -= size
    return found


def ranks(below: Mapping[str, set[str]]) -> dict[str, int]:
    """Return each box's layer, 0 at the top: one more than the lowest of those that point at it."""
    above = {name: [other for other in below if name in below[other]] for name in below}
    rank: dict[str, int] = {}

    def of(name: str, way: tuple[str, ...]) -> int:
        if name not in rank:
            found = max((of(other, (*way, name)) + 1 for other in above[name] if other not in (*way, name)), default=0)
            if way:
                return found
            rank[name] = found
        return rank[name]

    for name in below:
        of(name, ())
    return rank


def reduced(below: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows without those that a longer way says, too."""
    reach: dict[str, set[str]] = {name: set(others) for name, others in below.items()}
    for _ in below:
        for name, others in reach.items():
            reach[name] = others | {far for other in others for far in reach[other]}
    return [(a, b) for a, others in below.items() for b in sorted(others)
            if not any(b in reach[c] for c in others if c != b and a not in reach[c])]  # fmt: skip

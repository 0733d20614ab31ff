"""tutor measure: what a lesson's formulas predict, beside what the kernel does; as a table, as bars, as a picture.

A lesson's measure.py has `measure()`, which yields a Curve for each formula. Where this machine lacks what the lesson needs it is
measured in the lab.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import TOP, Lesson
from tutorials.tutor.place import lacking

__all__ = ["Curve", "curves", "lines", "svg", "write"]

BAR = 40  # characters
WIDTH, HEIGHT, LEFT, ABOVE, RIGHT, BOTTOM = 560, 320, 60, 56, 20, 50  # of a picture, pixels
STYLE = """text{font:12px sans-serif;fill:#222}.title{font-size:15px}line{stroke:#999}polyline{fill:none;stroke:#06c;stroke-width:2}
circle{fill:#c40}rect{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}rect{fill:#222}polyline{stroke:#6af}}"""


@dataclass(frozen=True)
class Curve:
    """What one formula predicts, and what was measured."""

    name: str  # of the files that it is written to
    formula: str
    x: str  # what is changed
    y: str  # what is measured
    points: list[tuple[float, float, float]]  # x, predicted, measured


def curves(lesson: Lesson) -> Iterator[Curve]:
    """Measure, here or in the lab. Raises: TutorError where the lesson has nothing to measure, or it cannot be measured."""
    path = lesson.path / "measure.py"
    if not path.exists():
        raise TutorError(f"{lesson.id} has nothing to measure")
    lack = lacking(lesson)
    if lack == ["root"]:
        raise TutorError(f"{lesson.id} needs root: sudo tutor measure")
    if lack:
        yield from measured_in_lab(lesson)
        return
    spec = importlib.util.spec_from_file_location(f"measure_{lesson.path.name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from module.measure()


def measured_in_lab(lesson: Lesson) -> Iterator[Curve]:
    """Start the lab (lab/README.md), which measures and prints. Raises: TutorError."""
    run = TOP / "lab" / "run"
    if not run.exists():
        raise TutorError(f"{lesson.id} needs {', '.join(lacking(lesson))}; the lab comes with the source, and not with the package")
    words = [str(run), ".venv/bin/tutor", "measure", lesson.id, "--format", "json"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=TOP) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield Curve(**json.loads(line))
    if process.returncode:
        raise TutorError(f"{lesson.id}: measuring in the lab failed, with status {process.returncode}")


def lines(curve: Curve) -> Iterator[str]:
    """Yield a curve as a table, with a bar of # for what was measured and a | where the prediction is."""
    most = max([max(point[1:]) for point in curve.points] + [1e-9])
    yield f"{curve.name}: {curve.formula}"
    yield f"  {curve.x:>24}  predicted  measured  {curve.y}"
    for x, predicted, measured in curve.points:
        bar = list(f"{'#' * round(BAR * measured / most):<{BAR + 1}}")
        bar[round(BAR * predicted / most)] = "|"
        yield f"  {x:>24g}  {predicted:>9.3f}  {measured:>8.3f}  {''.join(bar).rstrip()}"


def svg(curve: Curve) -> str:
    """Return a curve as a picture: a line for the prediction, dots for what was measured."""
    xs = [point[0] for point in curve.points]
    left, right = min(xs), max(xs)
    most = max([1e-9, *(value for point in curve.points for value in point[1:])]) * 1.1

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / most * (HEIGHT - ABOVE - BOTTOM)

    def text(x: float, y: float, said: str, more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(said)}</text>'

    parts = [text(LEFT, 22, curve.name, 'class="title"'), text(LEFT, 42, curve.formula)]
    parts.append(text(WIDTH - RIGHT, 22, "line: predicted, dots: measured", 'text-anchor="end"'))
    for step in range(5):
        down = at(left, most * step / 4)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(text(6, down + 4, f"{most * step / 4:.3g}"))
    parts += [text(at(x, 0)[0], HEIGHT - BOTTOM + 18, f"{x:g}", 'text-anchor="middle"') for x in dict.fromkeys(xs)]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in (at(x, predicted) for x, predicted, _ in curve.points))
    parts.append(f'<polyline points="{line}"/>')
    parts += [f'<circle r="4" cx="{a:.1f}" cy="{b:.1f}"/>' for a, b in (at(x, measured) for x, _, measured in curve.points)]
    parts.append(text(LEFT, HEIGHT - 8, f"{curve.y}, by {curve.x}"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><style>{STYLE}</style>'
    return f'{head}<rect width="{WIDTH}" height="{HEIGHT}"/>{"".join(parts)}</svg>\n'


def write(curve: Curve, directory: Path) -> Path:
    """Write a curve's picture and its numbers below a directory; returns the picture's path."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{curve.name}.json").write_text(json.dumps(asdict(curve)) + "\n", encoding="utf-8")
    path = directory / f"{curve.name}.svg"
    path.write_text(svg(curve), encoding="utf-8")
    return path

"""What a lesson measures, as a table and as a picture."""

import json
import xml.etree.ElementTree as xml

import pytest

from tutorials.tutor.errors import TutorError
from tutorials.tutor.lessons import find
from tutorials.tutor.measure import Curve, curves, lines, svg, write

CURVE = Curve("one & other", "y = x < 4", "x", "y", [(1, 1.0, 0.5), (2, 2.0, 2.0), (4, 4.0, 3.0)])


def test_a_bar_is_what_was_measured_and_a_stroke_what_was_predicted():
    _, _, *bars = lines(CURVE)
    assert [bar.count("#") for bar in bars] == [5, 20, 30]
    assert [bar.rindex("|") - bars[0].index("#") for bar in bars] == [10, 20, 40]


def test_a_picture_has_a_dot_for_each_point_and_a_line_for_the_formula():
    root = xml.fromstring(svg(CURVE))
    inside = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert inside.count("circle") == 3 and inside.count("polyline") == 1
    dots = [float(e.get("cy", "0")) for e in root.iter() if e.tag.endswith("circle")]
    assert dots == sorted(dots, reverse=True)  # more is higher up
    assert any(e.text == "y = x < 4" for e in root.iter())


def test_nothing_but_zeroes_is_drawn_too():
    flat = Curve("flat", "y = 0", "x", "y", [(0, 0.0, 0.0)])
    assert xml.fromstring(svg(flat)) is not None and len(list(lines(flat))) == 3


def test_numbers_are_written_beside_the_picture(tmp_path):
    path = write(CURVE, tmp_path / "new")
    assert path.read_text().startswith("<svg")
    assert json.loads((tmp_path / "new/one & other.json").read_text())["points"] == [[1, 1.0, 0.5], [2, 2.0, 2.0], [4, 4.0, 3.0]]


def test_a_lesson_without_formulas_has_nothing_to_measure():
    with pytest.raises(TutorError, match="nothing to measure"):
        list(curves(find("c1")))

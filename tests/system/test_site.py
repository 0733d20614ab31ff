"""make site: every module has its page, links lead somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tutorials.tutor.lessons import TOP, lessons
from tutorials.tutor.site import ROOMS, pages, site


def test_each_module_has_a_page_that_the_course_is_linked_from(tmp_path: Path) -> None:
    pages(tmp_path)
    wanted = {f"{path.relative_to(TOP)}.md" for room in ROOMS for path in [*(TOP / room).glob("*.py"), *(TOP / room).glob("*.c")]}
    assert {str(path.relative_to(tmp_path / "source")) for path in (tmp_path / "source").rglob("*.md")} >= wanted
    text = (tmp_path / "source/minirt/oci/rootfs.py.md").read_text()
    assert "## pivot_root" in text and "lessons/containers/01_by_hand.md" in text
    assert "- pivot_root(2): " in (tmp_path / "cited.md").read_text()
    assert "_#error" not in text and "## uart_put" in (tmp_path / "source/csrc/guest/uart.c.md").read_text()


def test_answers_of_quizzes_are_folded_away(tmp_path: Path) -> None:
    pages(tmp_path)
    for lesson in lessons():
        text = (tmp_path / f"lessons/{lesson.id}.md").read_text()
        assert '??? success "Answer"' in text and "```quiz" not in text and "```weave" not in text


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_site_needs_no_network_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    root = site(tmp_path / "out").parent
    outside, lost = set(), set()
    for page in root.rglob("*.html"):
        if page.name == "404.html":
            continue
        for tag, link in re.findall(r'<(\w+)[^>]* (?:href|src)="([^"]+)"', page.read_text(errors="replace")):
            if link.startswith(("http:", "https:", "//")):
                outside |= {link} if tag in ("link", "img", "script") else set()
            elif not link.startswith(("#", "mailto:", "data:")) and not (page.parent / re.split("[#?]", link)[0]).exists():
                lost.add(f"{page.name}: {link}")
    assert not outside and not lost
    assert "pivot_root" in (root / "search.json").read_text()

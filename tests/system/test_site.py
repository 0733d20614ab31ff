"""make site: every module has its page, diagrams are drawn from the code, links lead somewhere, search needs no server."""

from __future__ import annotations

import os
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from webdriver import ENTER, Browser, available

from minirt.trace import read_trace
from tutorials.tutor.cited import cross_linked
from tutorials.tutor.diagrams import layered, ranks, reduced, steps
from tutorials.tutor.lessons import TOP, lessons
from tutorials.tutor.site import pages, rooms, site

SVG = re.compile(r'<div class="diagram">(<svg.*?</svg>)</div>', re.S)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as Markdown."""
    out = tmp_path_factory.mktemp("pages")
    pages(out)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site."""
    pytest.importorskip("zensical")
    return site(tmp_path_factory.mktemp("site") / "out").parent


@pytest.fixture
def browser() -> Iterator[Browser]:
    if not available():
        pytest.skip("no chromium and chromedriver on this machine")
    with Browser() as opened:
        yield opened


def test_each_module_has_a_page_that_the_course_is_linked_from(written: Path) -> None:
    wanted = {str(path.relative_to(TOP)) for top in ("minirt", "minivm") for path in (TOP / top / "x").parent.rglob("*/*.py")}
    have = {str(path.relative_to(written / "source")).removesuffix(".md") for path in (written / "source").rglob("*.md")}
    assert wanted <= have and {"csrc/guest/uart.c", "csrc/monitor/monitor.c", "csrc/plan/executor.c"} <= have
    text = (written / "source/minirt/oci/rootfs.py.md").read_text()
    assert "## pivot_root" in text and "lessons/containers/01_by_hand.md" in text
    assert "_#error" not in text and "## uart_put" in (written / "source/csrc/guest/uart.c.md").read_text()


def test_manual_pages_and_specifications_are_linked_where_they_are_named(written: Path) -> None:
    listed = (written / "cited.md").read_text()
    page = "https://man7.org/linux/man-pages/man2/pivot_root.2.html"
    assert re.search(rf'<a id="pivot_root-2"></a>\[pivot_root\(2\)\]\({page}\): .*\[minirt/oci/rootfs.py\]', listed)
    assert "](https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks)" in listed
    assert cross_linked("a hook (man 2 mount).", "../") == "a hook ([man 2 mount](../cited.md#mount-2))."
    assert cross_linked("`ld.so(8)` and [`mount(2)`](x)", "") == "[`ld.so(8)`](cited.md#ld-so-8) and [`mount(2)`](x)"
    anchors = set(re.findall(r'<a id="([\w-]+)">', listed))
    named = {found for path in written.rglob("*.md") for found in re.findall(r"cited\.md#([\w-]+)\)", path.read_text())}
    assert named <= anchors and len(named) > 100


def test_the_first_page_has_each_lesson_with_its_short_name_and_each_room_with_what_it_is_for(written: Path) -> None:
    text = (written / "index.md").read_text()
    for lesson in lessons():
        assert f"| [{lesson.short}. {lesson.title}](lessons/{lesson.id}.md) | {lesson.minutes} |" in text
    for room in rooms():
        said = text.partition(f"\n### {room}\n\n")[2].partition("\n")[0]
        assert 15 < len(said) < 200 and said.endswith(".") and "Read in this order" not in said, room


def test_answers_of_quizzes_are_folded_away(written: Path) -> None:
    for lesson in lessons():
        text = (written / f"lessons/{lesson.id}.md").read_text()
        assert '??? success "Answer"' in text and "```quiz" not in text and "```weave" not in text


# -- diagrams ----------------------------------------------------------------------------------------------------


def test_the_steps_are_those_of_a_birth_and_each_leads_to_its_function(written: Path) -> None:
    (picture,) = SVG.findall((written / "steps.md").read_text())
    links = [link.get("href") or "" for link in ElementTree.fromstring(picture).iter("a")]
    assert len(links) == len(steps()) > 30
    for link in links:
        place, _, name = link.partition("#")
        assert f"## {name}\n" in (written / place.replace(".html", ".md")).read_text(), link
    assert [step.name for step in steps()].index("pivot_root") < [step.name for step in steps()].index("seccomp")


def test_a_recorded_trace_is_drawn_call_by_call_and_can_be_stepped_through(written: Path) -> None:
    for lesson in lessons():
        pictures = SVG.findall((written / f"lessons/{lesson.id}.md").read_text())
        assert len(pictures) == len(lesson.traces)
        for picture, name in zip(pictures, lesson.traces, strict=True):
            with (lesson.path / f"traces/{name}.jsonl").open() as file:
                _, events = read_trace(file)
            bars = [one.get("class") for one in ElementTree.fromstring(picture).iter("rect")]
            assert [bar in ("failed", "tolerated") for bar in bars] == [bool(event.errno) for event in events]
            assert (written / f"lessons/{lesson.path.parent.name}/{lesson.path.name}-{name}.html").exists()


@pytest.mark.parametrize("name", ["machines/02_long_mode-walk", "machines/01_eight_ioctls-birth"])
def test_the_player_of_a_machine_s_trace_shows_its_code_and_its_walk(written: Path, browser: Browser, name: str) -> None:
    lesson, _, trace = name.rpartition("-")
    with (TOP / f"tutorials/{lesson}/traces/{trace}.jsonl").open() as file:
        _, events = read_trace(file)
    number, event = next((n, event) for n, event in enumerate(events, 1) if event.call == "KVM_EXIT_IO")
    assert event.data is not None
    browser.go((written / f"lessons/{name}.html").as_uri() + f"#{number}")
    shown = browser.text("#state")
    assert "out dx, al" in browser.text(".asm b") and f"rax\n{event.data['registers']['rax']:#x}" in shown
    entries = event.data["walk"]["entries"] if trace == "walk" else []
    assert ("walk" in event.data) == bool(entries) == ("4-level paging" in shown)
    for entry in entries:
        assert f"{entry['level']} {entry['index']} {entry['address']:#x} {entry['value']:#x} {' '.join(entry['flags'])}" in shown


def test_arrows_go_down_and_none_says_what_others_say() -> None:
    below = {"cli": {"engine", "plan"}, "engine": {"oci"}, "oci": {"plan"}, "plan": set[str]()}
    assert ranks(below) == {"cli": 0, "engine": 1, "oci": 2, "plan": 3}
    assert reduced(below) == [("cli", "engine"), ("engine", "oci"), ("oci", "plan")]
    circle = {"a": {"b"}, "b": {"a"}}
    assert set(ranks(circle)) == {"a", "b"} and len(reduced(circle)) == 2
    ElementTree.fromstring(layered(dict.fromkeys(circle, "x.html"), {("a", "b"), ("b", "a")}, 'of "a" & b'))


def test_rooms_are_those_of_the_readme_in_its_order() -> None:
    assert rooms()[:2] == ("minirt/plan", "csrc/plan") and "minirt/image/remote" in rooms()


# -- the built site ----------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_site_needs_no_network_and_its_links_lead_somewhere(built: Path) -> None:
    outside, lost, known = set(), set(), dict[str, bool]()
    texts = {page: page.read_text(errors="replace") for page in built.rglob("*.html")}
    anchors = {page: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for page, text in texts.items()}
    for page, text in texts.items():
        if page.name == "404.html":
            continue
        for tag, link in re.findall(r'<(\w+)[^>]* (?:href|src)="([^"]+)"', text):
            if link.startswith(("http:", "https:", "//")):
                outside |= {link} if tag in ("link", "img", "script") else set()
            elif not link.startswith(("mailto:", "data:")):
                place, _, name = link.partition("#")
                path = os.path.normpath(page.parent / place.partition("?")[0]) if place else str(page)
                target = Path(path)
                if path not in known:
                    known[path] = target.exists()
                if not known[path] or (name and not name.isdigit() and target in anchors and name not in anchors[target]):
                    lost.add(f"{page.relative_to(built)}: {link}")
    assert not outside and not lost


@pytest.mark.long
@pytest.mark.timeout(600)
def test_search_finds_a_function_in_a_page_opened_as_a_file(built: Path, browser: Browser) -> None:
    waits = iter((0.5, 1, 2, 4, 8, 16))

    def found() -> bool:
        """Search in a fresh page: keys that come before the box listens, or Enter before there are results, are lost."""
        browser.go((built / "lessons/containers/01_by_hand.html").as_uri())
        browser.until(lambda: browser.run("return document.querySelector('iframe') !== null"))
        wait = next(waits)
        browser.click(".md-search__button")
        time.sleep(wait / 4)
        browser.type("pivot_root")
        time.sleep(wait)
        browser.type(ENTER)
        time.sleep(wait / 4)
        return "source/minirt/oci/rootfs.py.html" in browser.url

    browser.until(found)
    assert browser.url.endswith("#pivot_root")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_diagrams_can_be_read_in_light_and_in_dark(built: Path, browser: Browser) -> None:
    def colours(scheme: str) -> tuple[int, int]:
        browser.scheme(scheme)
        browser.go((built / "steps.html").as_uri())
        return brightness(browser.style(".diagram text.name", "fill")), brightness(browser.style("body", "background-color"))

    (ink, paper), (light_ink, dark_paper) = colours("light"), colours("dark")
    assert paper - ink > 120 and light_ink - dark_paper > 120


@pytest.mark.long
@pytest.mark.timeout(600)
def test_on_paper_and_on_a_telephone_nothing_is_cut_off(built: Path, browser: Browser) -> None:
    """A4 between its margins is 672 pixels wide; a telephone 390. What is wider has to wrap, or can be scrolled."""
    wide = "return [...document.querySelectorAll('.md-content pre code, .md-content .diagram, .md-content table')]"
    for page in ("index.html", "lessons/machines/03_exits.html", "steps.html", "source/minirt/oci/rootfs.py.html"):
        browser.width(672)
        browser.paper(True)
        browser.go((built / page).as_uri())
        assert browser.run("return document.documentElement.scrollWidth") <= 672, page
        assert browser.run(f"{wide}.filter(one => one.scrollWidth > one.clientWidth + 1).length") == 0, page
        paper = browser.style("body", "background-color")
        assert brightness(paper) > 200 or paper.endswith(", 0)"), "the sheet's own white shows through"
        assert brightness(browser.style(".md-typeset", "color")) < 120, "dark on light, whatever the screen has"
        browser.paper(False)
        browser.width(390)
        browser.go((built / page).as_uri())
        assert browser.run("return document.documentElement.scrollWidth") <= 390, page


def brightness(colour: str) -> int:
    """Return the mean of a colour's three parts; of one that can be seen through, over what it is on is not asked."""
    return sum(int(float(part)) for part in re.findall(r"[\d.]+", colour)[:3]) // 3

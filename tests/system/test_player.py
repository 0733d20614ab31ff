"""The trace player, in Chromium: keys are pressed, and what is then shown is held against the trace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import Minirt
from webdriver import Browser, available

from minirt.plan.player import page
from minirt.trace import Event

pytestmark = pytest.mark.skipif(not available(), reason="no chromium and chromedriver on this machine")
root = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
RIGHT, LEFT, HOME, END, DOWN, ENTER = "\ue014", "\ue012", "\ue011", "\ue010", "\ue00f", "\ue007"
HOSTILE = "</script><img src=x onerror=\"document.title='run'\"><!--<script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def opened(browser: Browser, path: Path, text: str) -> None:
    path.write_text(text)
    browser.go("about:blank")
    browser.go(path.as_uri())


def trace(count: int = 6) -> list[Event]:
    return [Event("mkdir", (f'"/d{i}"', "0755"), step=f"s{i // 2}", why=f"reason {i}", change=(f"+ mount /d{i} (tmpfs, rw)",),
                  errno=17 if i == 3 else 0) for i in range(count)]  # fmt: skip


def test_keys_go_forward_back_and_a_step_on(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path / "t.html", page({"kind": "container"}, trace()))
    seen = []
    for key in (RIGHT, RIGHT, LEFT, END, HOME, DOWN, "j", "k"):
        browser.type(key)
        seen.append(browser.text("#place"))
    assert [text.split()[0] for text in seen] == ["2", "3", "2", "6", "1", "3", "4", "3"]
    browser.type("j")
    assert browser.text("#call") == 'mkdir("/d3", 0755) = -1 EEXIST' and browser.text("#why") == "reason 3"
    assert browser.text(".mounts").splitlines() == [f"/d{i} (tmpfs, rw)" for i in range(4)]


def test_each_event_has_a_link_and_search_finds_it(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path / "t.html", page({"kind": "container"}, trace()))
    browser.go((tmp_path / "t.html").as_uri() + "#5")
    assert browser.text("#why") == "reason 4"
    browser.type("/reason 1" + ENTER)
    assert browser.text("#why") == "reason 1" and browser.run("return location.hash") == "#2"


def test_the_quiz_hides_what_comes_and_counts_first_tries(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path / "t.html", page({"kind": "container"}, trace()))
    browser.type("q" + RIGHT)
    assert browser.text("#place") == "1 of 6", "no peeping"
    assert browser.run("return [...document.querySelectorAll('#list button')].filter(b => b.offsetParent).length") == 1
    press = "[...document.querySelectorAll('.option')].find(b => b.textContent.includes('%s')).click()"
    options = browser.run("return [...document.querySelectorAll('.option')].map(b => b.textContent)")
    wrong = next(text for text in options if "/d1" not in text)
    browser.run(press % wrong[:12])
    assert "reason 1" in browser.text("#hint")
    browser.run(press % "/d1")
    browser.run(press % "/d2")
    assert browser.text("#place") == "3 of 6" and browser.text("#hint").startswith("1 of 2")


def test_what_a_trace_says_is_text_and_nothing_else(browser: Browser, tmp_path: Path) -> None:
    event = Event("open", (HOSTILE,), step=HOSTILE, why=HOSTILE, change=(HOSTILE, f"x: {HOSTILE} -> y"), data={HOSTILE: HOSTILE})
    text = page({"kind": "container", "image": HOSTILE}, [event])
    opened(browser, tmp_path / "t.html", text)
    assert browser.text("#why") == HOSTILE and browser.run("return document.title") != "run"
    assert browser.run("return document.images.length") == 0


def test_on_a_telephone_the_call_is_seen_beside_the_list(browser: Browser, tmp_path: Path) -> None:
    try:
        browser.width(390)
        opened(browser, tmp_path / "t.html", page({"kind": "container"}, trace(60)))
        browser.type(RIGHT)
        box = "document.getElementById('why').getBoundingClientRect()"
        place = browser.run(f"return [{box}.top, {box}.bottom, innerHeight]")
        assert 0 <= place[0] < place[1] <= place[2] and browser.text("#why") == "reason 1"
        assert browser.run("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.width(1100)


def test_light_and_dark_are_both_readable(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path / "t.html", page({"kind": "container"}, trace()))
    lightness = {}
    for name in ("light", "dark"):
        browser.scheme(name)
        colours = [browser.style("body", style) for style in ("color", "background-color")]
        lightness[name] = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours]
    assert lightness["light"][1] - lightness["light"][0] > 450 and lightness["dark"][0] - lightness["dark"][1] > 450
    browser.scheme("light")


@root
def test_a_birth_is_one_page_that_needs_nothing_else(browser: Browser, minirt: Minirt, tmp_path: Path) -> None:
    done = minirt("run", "--rm", "--trace", tmp_path / "t.jsonl", "--hostname", "box", "busybox", "true")
    assert done.returncode == 0, done.stderr
    assert minirt("explain", tmp_path / "t.jsonl", "--html", tmp_path / "t.html").returncode == 0
    text = (tmp_path / "t.html").read_text()
    own = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert len(text) < 400_000 and not re.search(r"(src|href)\s*=|url\(|fetch\(|https?:", own)
    events = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()[1:]]
    browser.go((tmp_path / "t.html").as_uri())
    browser.type(END)
    assert browser.text("#place") == f"{len(events)} of {len(events)}"
    clone = next(i for i, event in enumerate(events) if event["call"] == "clone3")
    browser.go((tmp_path / "t.html").as_uri() + f"#{clone + 1}")
    rows = browser.text("#state table")
    mine = os.readlink("/proc/self/ns/uts")
    assert mine in rows and re.search(r"uts:\[\d+\]", rows.replace(mine, "")), "the host's, and another"


def test_a_trace_is_told_again_as_it_was_told(minirt: Minirt, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    lines = [{"trace": 1, "kind": "container"}, *(event.as_dict() for event in trace(2))]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = minirt("explain", file)
    assert 'mkdir("/d0", 0755) = 0' in done.stdout and "reason 1" in done.stdout


def test_a_machine_s_console_is_read_from_its_exits(browser: Browser, tmp_path: Path) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no /dev/kvm")
    minivm = [sys.executable, "-m", "minivm"]
    words = [*minivm, "run", "--trace", tmp_path / "v.jsonl"]
    subprocess.run(words, input=b"", stdout=subprocess.DEVNULL, check=True, timeout=60)
    subprocess.run([sys.executable, "-m", "minirt", "explain", tmp_path / "v.jsonl", "--html", tmp_path / "v.html"], check=True)
    browser.go((tmp_path / "v.html").as_uri())
    browser.type(END)
    shown: Any = browser.run("return document.getElementById('console').textContent")
    assert shown.startswith("Hello from the minivm guest") and "power off with status 0" in shown


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The page of a guest's run, and the trace's events."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no /dev/kvm")
    place = tmp_path_factory.mktemp("machine")
    words = [sys.executable, "-m", "minivm", "run", "--trace", place / "v.jsonl"]
    subprocess.run(words, input=b"", stdout=subprocess.DEVNULL, check=True, timeout=60)
    subprocess.run([sys.executable, "-m", "minirt", "explain", place / "v.jsonl", "--html", place / "v.html"], check=True)
    return place / "v.html", [json.loads(line) for line in (place / "v.jsonl").read_text().splitlines()[1:]]


def at(browser: Browser, path: Path, number: int) -> str:
    browser.go("about:blank")
    browser.go(f"{path.as_uri()}#{number + 1}")
    return browser.text("#state")


def test_a_machine_s_memory_is_drawn_as_it_is_given(browser: Browser, machine: tuple[Path, list[dict[str, Any]]]) -> None:
    path, events = machine
    memory = next(i for i, event in enumerate(events) if event["call"] == "KVM_SET_USER_MEMORY_REGION")
    assert re.search(r"^0x0 0x3ffffff RAM$", at(browser, path, memory), re.M) and "GDT" not in browser.text("#state")
    copied = [i for i, event in enumerate(events) if event["call"] == "memcpy"]
    shown = at(browser, path, copied[-1])
    for event in (events[i] for i in copied):
        start, size = int(event["args"][0].partition("=")[2], 16), int(event["args"][2].split()[0])
        assert f"{start:#x} {start + size - 1:#x} {event['args'][1]}" in shown


def test_a_guest_s_exit_shows_code_registers_device_and_walk(browser: Browser, machine: tuple[Path, list[dict[str, Any]]]) -> None:
    path, events = machine
    exits = [i for i, event in enumerate(events) if event["call"] == "KVM_EXIT_IO"]
    number = next(i for i in exits if events[i]["args"][:2] == ["out", "port=0x3f8"])
    shown = at(browser, path, number)
    registers = events[number]["data"]["registers"]
    assert browser.text(".asm b").endswith("out dx, al")
    assert all(f"{name}\n{value:#x}" in shown for name, value in registers.items() if name not in ("rip", "rflags")), shown
    assert f"0x3f8 out THR {events[number]['args'][3]} 1" in shown and "0x3f9 out IER" in shown
    entries = next(event["data"]["walk"] for event in events if "walk" in (event.get("data") or {}))["entries"]
    for entry in entries:
        assert f"{entry['level']} {entry['index']} {entry['address']:#x} {entry['value']:#x}" in shown
    changed = browser.run("return [...document.querySelectorAll('.registers .new span')].map(e => e.textContent)")
    before = next(events[i]["data"]["registers"] for i in reversed(exits) if i < number)
    assert changed == [name for name in registers if registers[name] != before[name]]


def test_on_paper_it_is_dark_on_light_and_a_reason_is_not_repeated(
    browser: Browser, machine: tuple[Path, list[dict[str, Any]]]
) -> None:
    path, events = machine
    at(browser, path, 0)
    browser.paper(True)
    colours = [sum(map(int, re.findall(r"\d+", browser.style("body", style))[:3])) for style in ("color", "background-color")]
    assert colours[1] - colours[0] > 450 and not browser.text("#event")
    browser.paper(False)
    told = browser.run("return [...document.querySelectorAll('#list button')].filter(b => b.dataset.why).length")
    reasons = [event.get("why", "") for event in events]
    assert told == sum(1 for before, why in zip(["", *reasons], reasons, strict=False) if why and why != before)


BAD = [(None, "No such file"), ("", "not a trace"), ("{}\n", "not a trace"), ('{"trace": 1}\n{"x": 1}\n', "no event"),
       ('{"trace": 1}\n5\n', "no event"), ('{"trace": 1}\n{"call"\n', "no event"), ('{"trace": 1}\n{"call": 5}\n', "no event"),
       ('{"trace": 1}\n{"call": "a", "args": 5}\n', "no event"),
       ('{"trace": 9}\n', "format 1"), ("\udcff", "not text")]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), BAD)
def test_bad_input_is_one_line(minirt: Minirt, tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "t.jsonl"
    if content is not None:
        file.write_text(content, errors="surrogateescape")
    done = minirt("explain", file, "--html", tmp_path / "out.html")
    assert done.returncode == 125 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("out*"))

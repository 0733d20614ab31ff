"""Images of a compose file: a few are fetched at the same time, and a failure or Ctrl-C ends all of it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from command import Minirt
from liars import Content, Handler, Registry

pytestmark = pytest.mark.timeout(300)
LIMIT = 60  # s
NAMES = ["a", "b", "c", "d", "e"]


class Slow:
    """Holds what is asked for of each image until `enough` images are being fetched at once."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.lock = threading.Lock()
        self.inside: set[str] = set()
        self.most = 0
        self.go = threading.Event()

    def __call__(self, handler: Handler) -> bool:
        name = handler.path.split("/")[2]
        if "/manifests/" in handler.path:
            with self.lock:
                self.inside.add(name)
                self.most = max(self.most, len(self.inside))
            if self.most >= self.enough:
                self.go.wait(0.5)  # for one more to come, if it does
                self.go.set()
            assert self.go.wait(LIMIT)
            with self.lock:
                self.inside.discard(name)
        return False


def project(minirt: Minirt, tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')
    minirt.env["CONTAINERS_REGISTRIES_CONF"] = str(tmp_path / "registries.conf")
    lines = [f"  {name}: {{image: '{registry.host}/{name}:1', network_mode: none}}\n" for name in NAMES]
    (tmp_path / "compose.yaml").write_text("services:\n" + "".join(lines))


@pytest.mark.parametrize("words", [("pull",), ("create",)])
def test_three_images_are_fetched_at_the_same_time_and_no_more(own_store: Minirt, tmp_path: Path, words: tuple[str, ...]) -> None:
    slow = Slow(3)
    with Registry(Content(), slow) as registry:
        project(own_store, tmp_path, registry)
        done = own_store("compose", "-p", "demo", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert slow.most == 3
        for name in NAMES:
            assert f"{registry.host}/{name}:1  " in done.stderr, "how far it is is told of each"
            assert own_store.good("images", "-q", f"{registry.host}/{name}:1").strip()
        own_store("compose", "-p", "demo", "down", cwd=tmp_path)


def hang(handler: Handler, gone: threading.Event, hung: threading.Event) -> bool:
    """Say that a layer comes, of all images but b, and no more; then that b is not there."""
    if "/b/" in handler.path:
        hung.wait(LIMIT)
        handler.answer(404, b"{}")
        return True
    if handler.blob:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(handler.server.content.layers[-1])))
        handler.end_headers()
        hung.set()
        gone.wait(LIMIT)
        return True
    return False


def test_an_image_that_is_not_there_ends_what_hangs(own_store: Minirt, tmp_path: Path) -> None:
    gone, hung = threading.Event(), threading.Event()
    with Registry(Content(), lambda handler: hang(handler, gone, hung)) as registry:
        project(own_store, tmp_path, registry)
        try:
            done = own_store("compose", "-p", "demo", "pull", cwd=tmp_path)
        finally:
            gone.set()
    assert done.returncode == 125 and f"{registry.host}/b:1" in done.stderr.splitlines()[-1]


def test_ctrl_c_ends_what_hangs(own_store: Minirt, tmp_path: Path) -> None:
    gone, hung = threading.Event(), threading.Event()
    with Registry(Content(), lambda handler: "/b/" not in handler.path and hang(handler, gone, hung)) as registry:
        project(own_store, tmp_path, registry)
        pull = own_store.start("compose", "-p", "demo", "pull", "a", "c", "d", cwd=tmp_path)
        try:
            assert hung.wait(LIMIT)
            pull.send_signal(signal.SIGINT)
            pull.communicate(timeout=LIMIT)
        finally:
            gone.set()
            pull.kill()
            pull.communicate()
    assert pull.returncode == 130

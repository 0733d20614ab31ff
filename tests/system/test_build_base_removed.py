"""A base image that somebody removes while a build stands on it: the build has it until its end, and then it goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Minirt
from interference import before_next

from minirt.build import copying
from minirt.build.build import Build
from minirt.build.errors import BuildError
from minirt.build.options import BuildOptions
from minirt.engine import gc
from minirt.image.store import Image, Store
from minirt.image.view import View

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="RUN is a container with owners of its own, which needs root"),
]

BASE = "FROM busybox\nCOPY file /file\nLABEL of=base\n"
FIRST_STEPS: dict[str, tuple[str, object, str]] = {  # with what is called when the base has just been found
    "run": ("FROM base\nRUN --network=none cat /file > /copy\n", Build, "check_stop"),
    "copy": ("FROM base\nCOPY --from=base /file /copy\n", Build, "check_stop"),
    "copy alone": ("FROM scratch\nCOPY --from=base /file /copy\n", copying, "put_all"),
    "no step": ("FROM base\nLABEL of=made\n", Build, "finish"),
}


@pytest.fixture
def store(own_store: Minirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with an image `base`, whose own layer nothing else keeps."""
    monkeypatch.setenv("MINIRT_ROOT", str(own_store.root))
    (tmp_path / "file").write_text("content")
    (tmp_path / "Dockerfile").write_text(BASE)
    made = Store(str(own_store.root / "lib" / "image"))
    build(made, tmp_path, "base")
    made.steps.forget(unused=-1)
    yield made


def build(store: Store, project: Path, name: str) -> Image:
    with Build(store, BuildOptions(str(project), names=[name], network="none", progress="quiet", pull="never")) as made:
        return made.finish(made.run())


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_a_base_that_is_removed_before_the_first_step_is_kept_stays_until_the_end(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, where, function = FIRST_STEPS[name]
    (tmp_path / "Dockerfile").write_text(text)
    base = store.resolve("base")

    def removed() -> None:
        assert store.remove("base") == [] and not [one for one in gc.collect() if one.kind == "hold"]

    happened = before_next(monkeypatch, where, function, removed)
    made = build(store, tmp_path, "made")
    assert happened and store.holders() == []
    found = View(made.layers()).find(b"file" if name == "no step" else b"copy")
    assert found is not None and Path(os.fsdecode(found.path)).read_text() == "content"
    assert base.digest in store.collect()  # now nothing needs it


def test_what_a_killed_build_has_held_goes_with_gc(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").write_text(FIRST_STEPS["run"][0])
    before_next(monkeypatch, Build, "check_stop", lambda: os.kill(os.getpid(), signal.SIGKILL))
    pid = os.fork()
    if pid == 0:
        try:
            build(store, tmp_path, "made")
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(store.holders()) == 1
    assert [one.kind for one in gc.collect(dry=True)] == ["hold"] and len(store.holders()) == 1
    assert [one.kind for one in gc.collect()] == ["hold"] and store.holders() == []


def test_a_base_that_is_removed_as_it_is_found_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").write_text(FIRST_STEPS["run"][0])
    happened = before_next(monkeypatch, Store, "hold", lambda: store.remove("base"))
    with pytest.raises(BuildError, match="FROM base: image 'base:latest' was removed just now"):
        build(store, tmp_path, "made")
    assert happened and store.holders() == []

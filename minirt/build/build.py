"""A build: which stages are needed, each in a thread of its own; what comes out is an image with names.

    Dockerfile ─lines─▶ instructions ─stages─▶ stages ─▶ those that the target needs ─stage─▶ layers, configuration ─▶ image

A stage begins when somebody needs it, and waits where it needs another that is not ready.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from minirt.build.bases import Bases, read_platform
from minirt.build.context import Context, Tree
from minirt.build.errors import BuildError, DockerfileError
from minirt.build.layering import rfc3339
from minirt.build.lines import parse
from minirt.build.progress import Progress
from minirt.build.run import Cancelled
from minirt.build.scope import Scope, platform_variables, read_global
from minirt.build.stage import Running
from minirt.build.stages import find, read_stages, sources_of
from minirt.build.state import State
from minirt.build.words import BadWord, expand, split
from minirt.image.reference import Reference
from minirt.image.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future

    from minirt.build.lines import Instruction
    from minirt.build.options import BuildOptions
    from minirt.build.stages import Stage
    from minirt.image.blobs import Descriptor
    from minirt.image.store import Image, Store

__all__ = ["Build"]

NAMES = ("Dockerfile", "Containerfile")


class Build:
    """One build; a context manager.

    Args: store, for images and steps; options. Raises DockerfileError, BuildError: then nothing was run.
    """

    def __init__(self, store: Store, options: BuildOptions) -> None:
        self.store = store
        self.options = options
        self.undo = ExitStack()
        self.progress = Progress(options.progress)
        self.path, text = _dockerfile(options)
        self.name = os.path.basename(self.path) if self.path != "-" else "Dockerfile"
        self.context = Context(options.context, self.path)
        self.epoch = options.epoch
        self.latest = None if options.epoch is None else options.epoch * 10**9  # ns
        self.platform = str(read_platform(options.platform))
        self._futures: dict[int, Future[State]] = {}
        self.bases = Bases(store, options)
        try:
            self.dockerfile = parse(text)
            arguments, self.stages = read_stages(self.dockerfile)
            self.outside = read_global(arguments, options.build_args, platform_variables(self.platform))
            self.target = self._target()
        except DockerfileError as error:
            error.file = self.name
            raise
        except BadWord as error:
            raise DockerfileError(0, str(error), self.name) from None

    def _target(self) -> Stage:
        if not self.options.target:
            return self.stages[-1]
        found = find(self.stages, self.options.target)
        if found is None:
            names = ", ".join(stage.title for stage in self.stages)
            raise DockerfileError(0, f"--target {self.options.target}: there is no such stage; there are {names}")
        return found

    def undeclared(self) -> list[str]:
        """Return the names of --build-arg that mean nothing here, as no ARG declares them: a slip, most often."""
        from minirt.build.scope import PROXIES

        known = {*PROXIES, "SOURCE_DATE_EPOCH"}
        for instruction in self.dockerfile.instructions:
            if instruction.name == "ARG":
                known |= {word.partition("=")[0] for word in split(instruction.text, instruction.escape)}
        return [name for name in self.options.build_args if name not in known and not name.startswith("BUILDKIT_")]

    def __enter__(self) -> Build:
        import threading

        self._lock = threading.RLock()
        self.stop, self._stopper = os.pipe2(os.O_CLOEXEC)
        self.undo.callback(os.close, self.stop)
        with self.store.adding():  # there is a store from here on
            self.undo.enter_context(self.store.steps.using())
        self.undo.callback(self.bases.release)  # before that: who builds nothing holds nothing
        self._threads: list[threading.Thread] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_all()
        for thread in self._threads:
            thread.join()
        self.undo.close()

    # -- stages

    def run(self) -> State:
        """Build what is wanted. Returns what it has become. Raises BuildError of the step that failed first."""
        for stage in self._needed():
            self._start(stage)
        try:
            return self.state_of(self.target)
        except Cancelled:
            failed = (future.exception() for future in self._futures.values() if future.done())
            first = next((error for error in failed if error is not None and not isinstance(error, Cancelled)), None)
            raise (first or BuildError("stopped")) from None

    def _needed(self) -> list[Stage]:
        """Return the stages that the target needs, in the file's order."""
        needed: set[int] = set()
        waiting = [self.target]
        while waiting:
            stage = waiting.pop()
            if stage.index in needed:
                continue
            needed.add(stage.index)
            names = [self.base_name(stage), *(name for one in stage.instructions for name in sources_of(one))]
            waiting += filter(None, (self.stage_named(name, stage.index) for name in names))
        return [stage for stage in self.stages if stage.index in needed]

    def _start(self, stage: Stage) -> Future[State]:
        """Begin a stage, unless it was begun."""
        from concurrent.futures import Future
        from threading import Thread

        with self._lock:
            known = self._futures.get(stage.index)
            if known is not None:
                return known
            future: Future[State] = Future()
            self._futures[stage.index] = future
            thread = Thread(target=self._work, args=(stage, future), name=stage.title)
            self._threads.append(thread)
            thread.start()
            return future

    def _work(self, stage: Stage, future: Future[State]) -> None:
        try:
            future.set_result(Running(self, stage).run())
        except BaseException as error:
            future.set_exception(error)
            self._stop_all()

    def _stop_all(self) -> None:
        """Tell all stages to end: whoever waits for a container sees it, and ends it. Several threads may do so at once."""
        with self._lock:
            if self._stopper >= 0:
                os.close(self._stopper)
                self._stopper = -1

    def state_of(self, stage: Stage) -> State:
        """Return what a stage has become, when it has. Raises what it failed with; Cancelled where another failed first."""
        return self._start(stage).result()

    def stage_named(self, name: str, before: int) -> Stage | None:
        """Return the stage above the one of number `before` that a name or a number means, or None: it is an image."""
        return find(self.stages, name, before)

    def check_stop(self) -> None:
        """Raise Cancelled where the build is over."""
        if self._stopper < 0:
            raise Cancelled("stopped")

    # -- what stages are built on, and copy from

    def base_name(self, stage: Stage) -> str:
        """Return what a FROM names. Raises DockerfileError."""
        start = stage.start
        try:
            name = expand(stage.base, self.outside, start.escape)
        except BadWord as error:
            raise DockerfileError(start.line, f"FROM: {error}", self.name) from None
        if not name:
            why = "an ARG before the first FROM has no value"
            raise DockerfileError(start.line, f"FROM {stage.base}: nothing is left of it: {why}", self.name)
        return name

    def platform_of(self, stage: Stage) -> str:
        """Return the platform of the image that a stage is built on. Raises BuildError."""
        text = expand(stage.platform, self.outside, stage.start.escape)
        return str(read_platform(text)) if text else self.platform

    def scratch_state(self, stage: Stage) -> State:
        """Return the state that FROM scratch begins with."""
        from minirt.oci.lookup import DEFAULT_PATH

        system, architecture, *variant = self.platform_of(stage).split("/")
        document = {"architecture": architecture, "os": system, "config": {"Env": [f"PATH={DEFAULT_PATH}"]}}
        if variant:
            document["variant"] = variant[0]
        return State(self.store, document, [], [], Scope(self.options.build_args, self.outside), 0)

    def tree(self, name: str, before: int) -> Tree:
        """Return the files of a stage or an image, to copy from. Raises BuildError, ImageError."""
        stage = self.stage_named(name, before)
        if stage is not None:
            return Tree(View(self.state_of(stage).directories()), f"stage {stage.title}")
        return Tree(View(self.bases.image(name, self.platform).layers()), f"image {name}")

    # -- times, places, errors

    def created(self) -> str:
        """Return the time of what is made now: SOURCE_DATE_EPOCH's, or the clock's."""
        return rfc3339(time.time_ns() if self.latest is None else self.latest)

    def config_time(self, state: State) -> str:
        """Return the time of a step that makes no layer: that of the layer below it, so that to repeat it changes nothing."""
        return self.created() if self.latest is not None or not state.created else state.created

    def scratch(self, undo: ExitStack) -> tuple[str, int]:
        """Return an empty directory of the store, there until `undo` is closed, and the fd that keeps it from being swept."""
        with self.store.adding():
            return self.store.scratch.kept(undo)

    def located(self, instruction: Instruction, error: Exception) -> BuildError:
        """Return an error with its place before it."""
        text = error.text if isinstance(error, DockerfileError) else str(error)
        text = getattr(error, "strerror", None) or text
        first = instruction.source.splitlines()[0]
        return BuildError(f"{self.name}:{instruction.line}: {first[:80]}: {text}")

    # -- what comes out

    def finish(self, state: State) -> Image:
        """Make the image, and give it the names that were asked for; without one its ID leads to it.

        Returns it. Raises ImageError.
        """
        state.config["Labels"] = {**(state.config.get("Labels") or {}), **self.options.labels}
        if self.latest is not None:
            state.document["created"] = self.created()
        state.document.setdefault("created", self.created())
        with self.store.adding():
            descriptor = self._write(state)
            image = self.store.image(descriptor)
            for name in self.options.names:
                self.store.set_name(name, descriptor)
            self.store.add_nameless(descriptor)
            image.name = next((Reference.parse(name).familiar for name in self.options.names), "")
        if self.store.steps.forget():
            self.store.collect(wait=False)
        self.store.settle()
        return image

    def _write(self, state: State) -> Descriptor:
        if self.options.squash and len(state.layers) > state.base + 1:
            from minirt.build.squash import squash

            squash(state, self.created(), self.latest)
        return self.store.add_image(state.finished(), state.layers)


def _dockerfile(options: BuildOptions) -> tuple[str, str]:
    """Find the Dockerfile. Returns its path and its text. Raises BuildError."""
    if options.text is not None:
        return "-", options.text
    places = [options.file] if options.file else list(NAMES)
    if not options.inside and not options.file:
        places = [os.path.join(options.context, name) for name in NAMES]
    for place in places:
        path = _within(options.context, place) if options.inside else place
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return path, file.read()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BuildError(f"{place}: {error.strerror}") from None
    raise BuildError(f"{places[0]}: there is no such file: -f says where the Dockerfile is")


def _within(context: str, place: str) -> str:
    """Return the path of a file of a context that others made: its links do not lead out of it."""
    path = View([context]).resolve(os.fsencode(place))
    return os.path.join(context, os.fsdecode(path))

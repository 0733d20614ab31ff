"""One stage, from its FROM to its last instruction."""

from __future__ import annotations

from minirt.build.configure import CONFIGURE
from minirt.build.context import Tree
from minirt.build.errors import BuildError, DockerfileError
from minirt.build.instructions import check
from minirt.build.lines import parse
from minirt.build.run import Cancelled
from minirt.build.scope import Scope
from minirt.build.state import State
from minirt.build.steps import LAYERED
from minirt.errors import MinirtError
from minirt.image.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack

    from minirt.build.build import Build
    from minirt.build.changes import Changes
    from minirt.build.lines import Instruction
    from minirt.build.stages import Stage

__all__ = ["Running", "StepFailed"]


class StepFailed(BuildError):
    """A step failed; `state` is what the stage was before it, and `line` where it stands."""

    def __init__(self, text: str, line: int, state: State, instruction: Instruction) -> None:
        super().__init__(text)
        self.line = line
        self.state = state
        self.instruction = instruction


class Running:
    """A stage that is being built."""

    def __init__(self, build: Build, stage: Stage) -> None:
        self.build = build
        self.stage = stage
        self.state: State
        self._count = 1
        self._total = 1 + sum(one.name in LAYERED for one in stage.instructions)

    def run(self) -> State:
        """Do all of it. Returns what it has become. Raises StepFailed, BuildError."""
        start = self.stage.start
        told = self.build.progress.step(f"[{self.stage.title} 1/{self._total}] {start.source}")
        try:
            self.state = self._base()
        except (Cancelled, StepFailed):  # of the stage that this one is built on
            told.tell("error", "stopped")
            raise
        except MinirtError as error:
            told.tell("error", str(error))
            raise self.build.located(start, error) from None
        told.tell("done")
        for instruction in [*self._triggers(), *self.stage.instructions]:
            self.build.check_stop()
            self._step(instruction)
        return self.state

    def _base(self) -> State:
        """Return what FROM means: nothing, a stage above, or an image."""
        build, stage = self.build, self.stage
        name = build.base_name(stage)
        if name == "scratch":
            return build.scratch_state(stage)
        above = build.stage_named(name, stage.index)
        if above is not None:
            state = build.state_of(above)
            scope = Scope(build.options.build_args, build.outside, state.scope.args)
            return State(state.store, state.document, state.layers, state.diff_ids, scope, state.base)
        image = build.bases.image(name, build.platform_of(stage))
        return State.of_image(image, Scope(build.options.build_args, build.outside))

    def _triggers(self) -> list[Instruction]:
        """Return what the base image's ONBUILD says, each at the line of our FROM. It is done once, and not kept."""
        found: list[Instruction] = []
        for text in self.state.config.pop("OnBuild", None) or ():
            for instruction in parse(text, {"escape": "\\"}, self.stage.start.line).instructions:
                instruction.line = instruction.last = self.stage.start.line
                try:
                    check(instruction)
                except DockerfileError as error:
                    raise self.build.located(self.stage.start, BuildError(f"ONBUILD {text}: {error.text}")) from None
                found.append(instruction)
        self._total += sum(one.name in LAYERED for one in found)
        return found

    def _step(self, instruction: Instruction) -> None:
        """Do one instruction."""
        if instruction.name not in LAYERED:
            try:
                created_by = CONFIGURE[instruction.name](self.state, instruction)
            except MinirtError as error:
                raise self.build.located(instruction, error) from None
            self.state.note(created_by, self.build.config_time(self.state), empty=True)
            return
        self._count += 1
        told = self.build.progress.step(f"[{self.stage.title} {self._count}/{self._total}] {instruction.source}")
        try:
            told.tell(LAYERED[instruction.name](self, instruction, told))
        except (Cancelled, StepFailed):  # of a stage that it takes files from
            told.tell("error", "stopped")
            raise
        except (MinirtError, OSError) as error:
            told.tell("error", str(error))
            failure = self.build.located(instruction, error)
            raise StepFailed(str(failure), instruction.line, self.state, instruction) from error

    # -- for the steps

    def view(self) -> View:
        """Return the files so far."""
        return View(self.state.directories())

    def tree(self) -> Tree:
        """Return the files so far as something to copy from."""
        return Tree(self.view(), f"stage {self.stage.title}")

    def changes(self, empty: bool = False) -> Changes:
        """Return a layer to be filled. Args: empty, as if there were nothing below it (COPY --link)."""
        import time

        from minirt.build.changes import Changes

        return Changes([] if empty else self.state.directories(), time.time_ns(), self.build.latest)

    def scratch(self, undo: ExitStack) -> str:
        """Return an empty directory that is there until `undo` is closed."""
        return self.build.scratch(undo)[0]

    def scratch_for_build(self) -> tuple[str, int]:
        """Return an empty directory that is there until the build ends, and the fd that keeps it from being swept."""
        return self.build.scratch(self.build.undo)

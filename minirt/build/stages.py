"""Instructions -> stages: each begins with a FROM and ends before the next (docs.docker.com, "Multi-stage builds")."""

from __future__ import annotations

from minirt.build.errors import DockerfileError
from minirt.build.instructions import check, flag
from minirt.build.words import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.lines import Dockerfile, Instruction

__all__ = ["Stage", "find", "read_stages", "sources_of"]


class Stage:
    """One stage: FROM and what follows it."""

    def __init__(self, index: int, start: Instruction) -> None:
        words = split(start.text, start.escape)
        self.index = index
        self.start = start
        self.base = words[0]  # variables as they are
        self.platform = flag(start, "platform")  # likewise
        self.name = words[2].lower() if len(words) == 3 else ""
        self.instructions: list[Instruction] = []

    @property
    def title(self) -> str:
        """What progress calls it."""
        return self.name or f"stage-{self.index}"


def read_stages(dockerfile: Dockerfile) -> tuple[list[Instruction], list[Stage]]:
    """Check all instructions, and part them into stages.

    Returns the ARGs before the first FROM, and the stages. Raises DockerfileError.
    """
    before: list[Instruction] = []
    stages: list[Stage] = []
    for instruction in dockerfile.instructions:
        check(instruction)
        if instruction.name == "FROM":
            stage = Stage(len(stages), instruction)
            if stage.name and any(other.name == stage.name for other in stages):
                raise instruction.error(f"FROM … AS {stage.name}: another stage has this name")
            stages.append(stage)
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            before.append(instruction)
        else:
            raise instruction.error(f"{instruction.name} stands before the first FROM, where only ARG may")
    if not stages:
        raise DockerfileError(0, "there is no FROM: an image is made from another, or from scratch")
    return before, stages


def find(stages: list[Stage], text: str, before: int | None = None) -> Stage | None:
    """Return the stage with this name or number.

    Args: before, the number of a stage: only those above it are looked at.
    """
    above = stages if before is None else stages[:before]
    for stage in reversed(above):
        if stage.name and stage.name == text.lower():
            return stage
    if text.isdecimal() and len(text) < 6 and int(text) < len(above):
        return above[int(text)]
    return None


def sources_of(instruction: Instruction) -> list[str]:
    """Return the names of stages or images that an instruction takes files from."""
    if instruction.name == "COPY":
        return [flag(instruction, "from")] if flag(instruction, "from") else []
    if instruction.name == "RUN":
        from minirt.build.mounts import parse_mount

        mounts = [parse_mount(instruction, value or "") for key, value in instruction.flags if key == "mount"]
        return [mount.source_stage for mount in mounts if mount.source_stage]
    return []

"""Instructions that change the configuration alone: ENV, CMD, LABEL and their like, each a function of the state.

(image-spec config.md#properties; Healthcheck, OnBuild and Shell are docker's additions, which it writes into OCI images too.)
"""

from __future__ import annotations

import posixpath

from minirt.build.instructions import command, health, pairs
from minirt.build.words import expand, split
from minirt.image.change import exec_form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.build.lines import Instruction
    from minirt.build.state import State

__all__ = ["CONFIGURE", "resolve_workdir"]


def _words(state: State, instruction: Instruction) -> list[str]:
    """Return the words of an instruction, their variables replaced."""
    return [expand(word, state.variables, instruction.escape) for word in split(instruction.text, instruction.escape)]


def env(state: State, instruction: Instruction) -> str:
    """All values see the environment as it was before the instruction."""
    variables, have = state.variables, state.env
    new = [(expand(name, variables, instruction.escape), expand(value, variables, instruction.escape))
           for name, value in pairs(instruction)]  # fmt: skip
    have |= dict(new)
    state.config["Env"] = [f"{name}={value}" for name, value in have.items()]
    return "ENV " + " ".join(f"{name}={value}" for name, value in new)


def label(state: State, instruction: Instruction) -> str:
    variables = state.variables
    new = {expand(name, variables, instruction.escape): expand(value, variables, instruction.escape)
           for name, value in pairs(instruction)}  # fmt: skip
    state.config["Labels"] = {**(state.config.get("Labels") or {}), **new}
    return "LABEL " + " ".join(f"{name}={value}" for name, value in new.items())


def arg(state: State, instruction: Instruction) -> str:
    state.scope.declare(instruction, state.env)
    return instruction.source


def cmd(state: State, instruction: Instruction) -> str:
    state.config["Cmd"] = command(instruction.text, state.shell)
    state.cmd_set = True
    return instruction.source


def entrypoint(state: State, instruction: Instruction) -> str:
    """A CMD of the base image was for its entry point, so it goes."""
    state.config["Entrypoint"] = command(instruction.text, state.shell)
    if not state.cmd_set:
        state.config.pop("Cmd", None)
    return instruction.source


def expose(state: State, instruction: Instruction) -> str:
    from minirt.image import change

    text = " ".join(_words(state, instruction))
    try:
        change.apply(state.config, f"EXPOSE {text}")
    except change.BadChange as error:
        raise instruction.error(f"EXPOSE: {error}") from None
    return f"EXPOSE {text}"


def volume(state: State, instruction: Instruction) -> str:
    words = exec_form(instruction.text)
    words = _words(state, instruction) if words is None else [expand(w, state.variables, instruction.escape) for w in words]
    if not words or not all(word.strip() for word in words):
        raise instruction.error("VOLUME: a path is empty")
    state.config["Volumes"] = {**(state.config.get("Volumes") or {}), **{word: {} for word in words}}
    return "VOLUME [" + " ".join(words) + "]"


def user(state: State, instruction: Instruction) -> str:
    text = expand(instruction.text, state.variables, instruction.escape)
    if not text or len(text.split()) != 1:
        raise instruction.error(f"USER {text!r}: it is written USER NAME[:GROUP], names or numbers")
    state.config["User"] = text
    return f"USER {text}"


def stopsignal(state: State, instruction: Instruction) -> str:
    import signal

    text = expand(instruction.text, state.variables, instruction.escape)
    known = {one.name for one in signal.Signals} | {str(number) for number in signal.valid_signals()}
    name = text.upper() if text.upper().startswith("SIG") or text.isdecimal() else f"SIG{text.upper()}"
    if name not in known and not name.startswith("SIGRT"):
        raise instruction.error(f"STOPSIGNAL {text}: no such signal")
    state.config["StopSignal"] = text
    return f"STOPSIGNAL {text}"


def healthcheck(state: State, instruction: Instruction) -> str:
    state.config["Healthcheck"] = health(instruction).as_dict()
    return instruction.source


def shell(state: State, instruction: Instruction) -> str:
    state.config["Shell"] = exec_form(instruction.text)
    return instruction.source


def onbuild(state: State, instruction: Instruction) -> str:
    """A trigger is kept as it was written, here-documents and all: it is read when another image is built on this one."""
    text = instruction.text + "".join(f"\n{doc.content}{doc.name}" for doc in instruction.heredocs)
    state.config["OnBuild"] = [*(state.config.get("OnBuild") or []), text]
    return instruction.source


def maintainer(state: State, instruction: Instruction) -> str:
    state.document["author"] = expand(instruction.text, state.variables, instruction.escape)
    return instruction.source


def resolve_workdir(state: State, text: str) -> str:
    """Return the working directory that a path means: relative ones are below the one before."""
    above = state.config.get("WorkingDir") or "/"
    return "/" + posixpath.normpath(posixpath.join("/", above, text)).lstrip("/")


CONFIGURE: dict[str, Callable[[State, Instruction], str]] = {
    "ARG": arg, "CMD": cmd, "ENTRYPOINT": entrypoint, "ENV": env, "EXPOSE": expose, "HEALTHCHECK": healthcheck, "LABEL": label,
    "MAINTAINER": maintainer, "ONBUILD": onbuild, "SHELL": shell, "STOPSIGNAL": stopsignal, "USER": user, "VOLUME": volume,
}  # fmt: skip

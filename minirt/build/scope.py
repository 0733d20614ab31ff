"""Which variables there are where (docs.docker.com/reference/dockerfile, "ARG", "Scope").

    before the first FROM     ARG: for FROM alone; in a stage `ARG NAME` takes it over
    in a stage                ARG from its line on, ENV from its line on; of one name ENV counts
    given by --build-arg      in place of an ARG's default; of what no ARG declares only those that every build knows
"""

from __future__ import annotations

import os

from minirt.build.words import expand, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from minirt.build.lines import Instruction

__all__ = ["PROXIES", "Scope", "platform_variables", "read_global"]

# Known without ARG in every RUN where they are given, and no part of what makes a step the same (docs: "Predefined ARGs").
PROXIES = tuple(
    name for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
)
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def platform_variables(target: str) -> dict[str, str]:
    """Return BUILDPLATFORM, TARGETOS and their like. Args: target, as linux/amd64 or linux/arm/v7."""
    machine = os.uname().machine
    made: dict[str, str] = {}
    for prefix, platform in (("BUILD", f"linux/{MACHINES.get(machine, machine)}"), ("TARGET", target)):
        system, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        made |= {f"{prefix}PLATFORM": platform, f"{prefix}OS": system, f"{prefix}ARCH": architecture, f"{prefix}VARIANT": variant}
    return made


def read_global(instructions: list[Instruction], given: Mapping[str, str], platforms: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that FROM may use. Raises DockerfileError."""
    scope = Scope(given, dict(platforms))
    scope.args |= platforms
    for instruction in instructions:
        scope.declare(instruction, {})
    return scope.args


class Scope:
    """The ARGs of one stage.

    Args: given, by --build-arg; outside, those before the first FROM, with the platform's; args, of the stage that this one
    is built on.
    """

    def __init__(self, given: Mapping[str, str], outside: Mapping[str, str], args: Mapping[str, str] | None = None) -> None:
        self.given = given
        self.outside = outside
        self.args: dict[str, str] = dict(args or {})

    def declare(self, instruction: Instruction, env: Mapping[str, str]) -> None:
        """Do what an ARG says. Raises BadWord."""
        for word in split(instruction.text, instruction.escape):
            name, equals, default = word.partition("=")
            value: str | None = expand(default, self.variables(env), instruction.escape) if equals else None
            if not equals and name in self.outside:
                value = self.outside[name]
            if name in self.given:
                value = self.given[name]
            if value is not None:
                self.args[name] = value

    def variables(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return what $NAME means: the ARGs, and the image's environment, which counts more."""
        return {**self.args, **env}

    def for_run(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the ARGs that a RUN finds in its environment beside the image's."""
        return {name: value for name, value in self.args.items() if name not in env}

    def proxies(self) -> dict[str, str]:
        """Return the proxies that were given, for RUN."""
        return {name: value for name, value in self.given.items() if name in PROXIES}

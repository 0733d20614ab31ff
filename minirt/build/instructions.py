"""What each instruction may say: its flags and the form of its text, checked before anything is run.

(docs.docker.com/reference/dockerfile, one section an instruction.)
"""

from __future__ import annotations

from minirt.build.words import BadWord, split
from minirt.errors import nearest
from minirt.image.change import exec_form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.build.lines import Instruction

__all__ = ["Health", "check", "command", "flag", "health", "pairs", "paths", "seconds"]

FLAGS = {
    "ADD": ("chown", "chmod", "link", "checksum", "unpack", "exclude", "keep-git-dir"),
    "COPY": ("from", "chown", "chmod", "link", "exclude", "parents"),
    "FROM": ("platform",),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
    "RUN": ("mount", "network", "security"),
}
OFTEN = ("mount", "exclude")  # flags that may be there more than once
TRUTH = ("link", "keep-git-dir", "parents", "unpack")  # flags whose value is true by default


def check(instruction: Instruction) -> None:
    """Check an instruction's form. Raises DockerfileError with its line."""
    name = instruction.name
    form = FORMS.get(name)
    if form is None:
        near = nearest(name, FORMS)
        raise instruction.error(f"there is no instruction {name}" + (f": did you mean {near}?" if near else ""))
    seen = set()
    for key, value in instruction.flags:
        if key not in FLAGS.get(name, ()):
            there = ", ".join(f"--{flag}" for flag in FLAGS.get(name, ())) or "none"
            raise instruction.error(f"{name} has no flag --{key}; there are: {there}")
        if value is None and key not in TRUTH:
            raise instruction.error(f"{name} --{key} needs a value: --{key}=…")
        if key in seen and key not in OFTEN:
            raise instruction.error(f"{name} --{key} is there twice")
        seen.add(key)
    if not instruction.text and not (name in ("RUN", "COPY", "ADD") and instruction.heredocs):
        raise instruction.error(f"{name} needs arguments")
    try:
        form(instruction)
    except BadWord as error:
        raise instruction.error(f"{name}: {error}") from None


def flag(instruction: Instruction, name: str, default: str = "") -> str:
    """Return a flag's value."""
    for key, value in instruction.flags:
        if key == name:
            return "true" if value is None else value
    return default


def command(text: str, shell: list[str]) -> list[str]:
    """Return the arguments that a RUN, CMD or ENTRYPOINT means, by the shell that is in force."""
    words = exec_form(text)
    return [*shell, text] if words is None else words


def pairs(instruction: Instruction) -> list[tuple[str, str]]:
    """Return the (name, value) of `A=b C="d e"`, or of the old form `A all the rest`; quotes and variables as they are.

    Raises DockerfileError.
    """
    name = instruction.name
    words = _split(instruction)
    if "=" not in words[0]:
        rest = instruction.text[len(words[0]) :].strip()
        if not rest:
            raise instruction.error(f"{name} {words[0]}: a value is missing: {name} NAME=VALUE")
        return [(words[0], rest)]
    made = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise instruction.error(f"{name}: {word!r} is not NAME=VALUE (a value with blanks is put in quotes)")
        if not key:
            raise instruction.error(f"{name}: {word!r} has no name before the =")
        made.append((key, value))
    return made


def paths(instruction: Instruction) -> tuple[list[str], str]:
    """Return the sources and the destination of COPY and ADD; quotes and variables as they are. Raises DockerfileError."""
    words = exec_form(instruction.text)
    if words is None:
        words = _split(instruction)
    if len(words) < 2:
        raise instruction.error(f"{instruction.name} needs at least one source and a destination")
    return words[:-1], words[-1]


class Health:
    """A HEALTHCHECK: what to run, and how often; times in ns, 0 for docker's default."""

    def __init__(self, test: list[str], times: dict[str, int], retries: int) -> None:
        self.test = test
        self.times = times
        self.retries = retries

    def as_dict(self) -> dict[str, object]:
        """Return it as docker's image configuration has it."""
        made: dict[str, object] = {"Test": self.test, **{key: value for key, value in self.times.items() if value}}
        return made | ({"Retries": self.retries} if self.retries else {})


def health(instruction: Instruction) -> Health:
    """Read a HEALTHCHECK. Raises DockerfileError."""
    kind, _, rest = instruction.text.partition(" ")
    kind, rest = kind.upper(), rest.strip()
    if kind == "NONE":
        if rest or instruction.flags:
            raise instruction.error("HEALTHCHECK NONE takes no arguments")
        return Health(["NONE"], {}, 0)
    if kind != "CMD" or not rest:
        raise instruction.error("HEALTHCHECK is written: HEALTHCHECK [--interval=30s …] CMD command, or HEALTHCHECK NONE")
    words = exec_form(rest)
    test = ["CMD-SHELL", rest] if words is None else ["CMD", *words]
    names = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval"}
    times = {}
    for key, name in names.items():
        if text := flag(instruction, key):
            times[name] = seconds(instruction, key, text)
    retries = flag(instruction, "retries", "0")
    if not retries.isdecimal() or len(retries) > 9:
        raise instruction.error(f"HEALTHCHECK --retries={retries}: a number")
    return Health(test, times, int(retries))


def seconds(instruction: Instruction, key: str, text: str) -> int:
    """Return the nanoseconds of Go's `1m30s`, `500ms`, `0`. Raises DockerfileError."""
    import re

    units = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", text)
    if text != "0" and (not parts or "".join(number + unit for number, unit in parts) != text):
        raise instruction.error(f"{instruction.name} --{key}={text}: a time is written as 30s, 1m30s or 500ms")
    from fractions import Fraction

    total = int(sum((Fraction(number.removesuffix(".")) * units[unit] for number, unit in parts), Fraction()))
    if 0 < total < 10**6:
        raise instruction.error(f"{instruction.name} --{key}={text}: less than 1 ms")
    return total


# -- the forms


def _split(instruction: Instruction) -> list[str]:
    words = split(instruction.text, instruction.escape)
    if not words:
        raise instruction.error(f"{instruction.name} needs arguments")
    return words


def _from(instruction: Instruction) -> None:
    words = _split(instruction)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise instruction.error("FROM is written: FROM [--platform=OS/ARCH] IMAGE [AS NAME]")
    if len(words) == 3:
        name = words[2].lower()
        if not (name[0].isascii() and name[0].isalpha() and name.replace("-", "a").replace("_", "a").replace(".", "a").isalnum()):
            raise instruction.error(f"FROM … AS {words[2]}: a stage's name begins with a letter and has letters, digits, _ - .")


def _arg(instruction: Instruction) -> None:
    for word in _split(instruction):
        if not word.partition("=")[0]:
            raise instruction.error(f"ARG {word}: a name is missing")


def _copy(instruction: Instruction) -> None:
    sources, destination = paths(instruction)
    if len(sources) > 1 and not destination.endswith("/") and destination not in (".", "..") and "$" not in destination:
        raise instruction.error(
            f"{instruction.name} of {len(sources)} sources: the destination has to be a directory and end with /: {destination}/"
        )
    checksum = flag(instruction, "checksum")
    if checksum and "$" not in checksum:
        from minirt.image.digest import is_digest

        if not is_digest(checksum) and (checksum.strip("0123456789abcdef") or not 7 <= len(checksum) <= 64):
            raise instruction.error(f"ADD --checksum={checksum}: it is written sha256:HEX, or for a git repository as a commit")


def _run(instruction: Instruction) -> None:
    network = flag(instruction, "network", "default")
    if network not in ("default", "none", "host"):
        raise instruction.error(f"RUN --network={network}: there are default, none and host")
    security = flag(instruction, "security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise instruction.error(f"RUN --security={security}: there are sandbox and insecure")
    from minirt.build.mounts import parse_mount

    for key, value in instruction.flags:
        if key == "mount":
            parse_mount(instruction, value or "")


def _shell(instruction: Instruction) -> None:
    if not exec_form(instruction.text):
        raise instruction.error('SHELL is written as a JSON array: SHELL ["/bin/sh", "-c"]')


def _one_word(instruction: Instruction) -> None:
    if len(_split(instruction)) != 1:
        raise instruction.error(f"{instruction.name} takes one argument")


def _onbuild(instruction: Instruction) -> None:
    from minirt.build.lines import parse

    inner = parse(instruction.text.replace("\n", " "), {"escape": instruction.escape}, instruction.line).instructions \
        if not instruction.heredocs else []  # fmt: skip
    name = instruction.text.split(None, 1)[0].upper()
    if name in ("ONBUILD", "FROM", "MAINTAINER"):
        raise instruction.error(f"ONBUILD {name}: {name} cannot be a trigger")
    if name not in FORMS:
        raise instruction.error(f"ONBUILD {name}: there is no instruction {name}")
    for one in inner:
        check(one)


def _anything(instruction: Instruction) -> None:
    pass


FORMS: dict[str, Callable[[Instruction], object]] = {
    "ADD": _copy, "ARG": _arg, "CMD": _anything, "COPY": _copy, "ENTRYPOINT": _anything, "ENV": pairs, "EXPOSE": _split,
    "FROM": _from, "HEALTHCHECK": health, "LABEL": pairs, "MAINTAINER": _anything, "ONBUILD": _onbuild, "RUN": _run,
    "SHELL": _shell, "STOPSIGNAL": _one_word, "USER": _anything, "VOLUME": _anything, "WORKDIR": _anything,
}  # fmt: skip

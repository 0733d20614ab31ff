"""`minirt oci`, also installed as `minirt-oci`: runc's command line (man 8 runc).

Errors are one line on standard error and, with --log, one in the log, in the form that engines parse.
"""

from __future__ import annotations

import os
import sys

from minirt.errors import MinirtError
from minirt.runtime.flags import Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["COMMANDS", "GLOBAL", "main"]

GLOBAL = (
    Flag("debug", "log more"),
    Flag("log", "FILE write the log there too", ""),
    Flag("log-format", "FORMAT of the log: text or json", "text"),
    Flag("root", "DIR where containers' state is kept", ""),
    Flag("criu", "PATH (ignored, as in runc)", ""),
    Flag("systemd-cgroup", "let systemd make the cgroup, a scope: linux.cgroupsPath is slice:prefix:name"),
    Flag("rootless", "BOOL ignore cgroup permission errors: true, false or auto", "auto"),
    Flag("help h", "show help"),
    Flag("version v", "print the version"),
)
BIRTH = (
    Flag("bundle b", "DIR the bundle's directory; by default this one", ""),
    Flag("console-socket", "PATH of a unix socket that the terminal's master is sent to", ""),
    Flag("pidfd-socket", "PATH of a unix socket that a pidfd of the first process is sent to", ""),
    Flag("pid-file", "FILE to write the first process's pid to", ""),
    Flag("no-pivot", "enter the root without pivot_root: only where / is the initramfs"),
    Flag("no-new-keyring", "stay in the caller's session keyring"),
    Flag("preserve-fds", "N pass N more descriptors than 0, 1, 2 (and those of LISTEN_FDS)", 0),
)
EXEC = (
    Flag("console-socket", "PATH of a unix socket that the terminal's master is sent to", ""),
    Flag("pidfd-socket", "PATH of a unix socket that a pidfd of the process is sent to", ""),
    Flag("cwd", "DIR working directory in the container", ""),
    Flag("env e", "NAME=VALUE add to the environment", []),
    Flag("tty t", "give it a terminal"),
    Flag("user u", "UID[:GID] run as", ""),
    Flag("additional-gids g", "GID one more group", []),
    Flag("process p", "FILE the process as JSON (runtime-spec config.md#process)", ""),
    Flag("detach d", "do not wait for its end"),
    Flag("pid-file", "FILE to write its pid to", ""),
    Flag("process-label", "LABEL of SELinux", ""),
    Flag("apparmor", "PROFILE of AppArmor", ""),
    Flag("no-new-privs", "no set-user-ID program gives it more rights"),
    Flag("cap c", "CAPABILITY one more", []),
    Flag("preserve-fds", "N pass N more descriptors than 0, 1, 2", 0),
    Flag("cgroup", "PATH a cgroup below the container's", []),
    Flag("ignore-paused", "also in a paused container, where it waits"),
)


class Log:
    """Where warnings and errors go."""

    def __init__(self, path: str, format: str) -> None:
        self.path = path
        self.format = format

    def write(self, level: str, message: str) -> None:
        """Write a line, to the log file or to standard error."""
        import time

        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        from minirt.documents import dumps

        if self.format == "json":
            line = dumps({"level": level, "msg": message, "time": now})
        else:
            line = f"time={dumps(now)} level={level} msg={dumps(message)}"
        if not self.path:
            print(line, file=sys.stderr)
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            print(f"minirt oci: --log {self.path}: {error.strerror}: {line}", file=sys.stderr)

    def warn(self, message: str) -> None:
        """Tell what is not as asked, and does no harm."""
        self.write("warning", message)

    def fail(self, message: str) -> None:
        """Tell why a command failed: to the log for the engine, on standard error for people."""
        if self.path:
            self.write("error", message)
        print(f"minirt oci: {message}", file=sys.stderr)


class Call:
    """One call of the command: its root, flags and words."""

    def __init__(self, root: str, values: dict[str, Any], words: list[str], log: Log) -> None:
        self.root = root
        self.values = values
        self.words = words
        self.log = log

    @property
    def id(self) -> str:
        """The container's id. Raises: UsageError."""
        return self.words[0]


def _create(call: Call) -> int:
    from minirt.runtime.create import create

    return create(call.root, call.id, call.values, call.log.warn)


def _run(call: Call) -> int:
    from minirt.runtime.create import run

    return run(call.root, call.id, call.values, call.log.warn)


def _start(call: Call) -> int:
    from minirt.runtime.starting import start

    return start(call.root, call.id, call.log.warn)


def _exec(call: Call) -> int:
    from minirt.runtime.joining import execute

    words = call.words[2:] if call.words[1:2] == ["--"] else call.words[1:]
    return execute(call.root, call.id, words, call.values, call.log.warn)


def _kill(call: Call) -> int:
    from minirt.runtime.ending import kill

    signal = call.words[1] if len(call.words) > 1 else "SIGTERM"
    return kill(call.root, call.id, signal, call.values["all"])


def _delete(call: Call) -> int:
    from minirt.runtime.ending import delete

    return delete(call.root, call.id, call.values["force"], call.log.warn)


def _state(call: Call) -> int:
    from minirt.runtime.listing import state

    return state(call.root, call.id)


def _list(call: Call) -> int:
    from minirt.runtime.listing import list_containers

    return list_containers(call.root, call.values["format"], call.values["quiet"])


def _ps(call: Call) -> int:
    from minirt.runtime.listing import ps

    return ps(call.root, call.id, call.values["format"], call.words[1:])


def _pause(call: Call) -> int:
    from minirt.runtime.limits import pause

    return pause(call.root, call.id)


def _resume(call: Call) -> int:
    from minirt.runtime.limits import resume

    return resume(call.root, call.id)


def _update(call: Call) -> int:
    from minirt.runtime.limits import update

    return update(call.root, call.id, call.values, call.log.warn)


def _events(call: Call) -> int:
    from minirt.runtime.limits import events

    return events(call.root, call.id, call.values["stats"], call.values["interval"])


def _spec(call: Call) -> int:
    from minirt.documents import pretty
    from minirt.oci.spec import first_spec

    path = os.path.join(call.values["bundle"], "config.json")
    spec = first_spec(call.values["rootless"], os.geteuid(), os.getegid())
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(pretty(spec) + "\n")
    except FileExistsError:
        raise MinirtError(f"file {path} exists: remove it, or choose another place with --bundle") from None
    except OSError as error:
        raise MinirtError(f"{path}: {error.strerror}") from None
    return 0


def _features(call: Call) -> int:
    from minirt.documents import pretty
    from minirt.oci.features import features

    print(pretty(features()))
    return 0


def _checkpoint(call: Call) -> int:
    from minirt.runtime.checkpoint import checkpoint

    return checkpoint(call.root, call.id, call.values, call.log.warn)


def _restore(call: Call) -> int:
    from minirt.runtime.restore import restore

    return restore(call.root, call.id, call.values, call.log.warn)


class Command:
    """One command: what it does, its flags, how many words it wants besides (at least, at most)."""

    def __init__(self, do: Callable[[Call], int], usage: str, help: str, least: int, most: int, *flags: Flag) -> None:
        self.do = do
        self.usage = usage
        self.help = help
        self.least = least
        self.most = most
        self.flags = (*flags, Flag("help h", "show help"))


MANY = 1 << 20
COMMANDS = {
    "create": Command(_create, "ID", "create a container; its program waits for `start`", 1, 1, *BIRTH),
    "start": Command(_start, "ID", "start a created container", 1, 1),
    "run": Command(
        _run, "ID", "create and start a container, stay until its end, delete it", 1, 1, *BIRTH,
        Flag("detach d", "do not wait for its end"), Flag("keep", "do not delete it at its end"),
        Flag("no-subreaper", "(ignored: minirt is none)"),
    ),
    "state": Command(_state, "ID", "print a container's state as JSON", 1, 1),
    "exec": Command(_exec, "ID COMMAND [ARG...]", "run one more process in a container", 1, MANY, *EXEC),
    "kill": Command(
        _kill, "ID [SIGNAL]", "send a signal, by default TERM, to a container's first process", 1, 2,
        Flag("all a", "to all of its processes"),
    ),
    "delete": Command(
        _delete, "ID", "remove a container that has stopped", 1, 1, Flag("force f", "kill it first, if it has not"),
    ),
    "list": Command(
        _list, "", "list containers", 0, 0, Flag("format f", "FORMAT table or json", "table"), Flag("quiet q", "ids alone"),
    ),
    "ps": Command(
        _ps, "ID [PS OPTIONS]", "list a container's processes", 1, MANY, Flag("format f", "FORMAT table or json", "table"),
    ),
    "pause": Command(_pause, "ID", "stop all of a container's processes where they are", 1, 1),
    "resume": Command(_resume, "ID", "let them go on", 1, 1),
    "update": Command(_update, "ID", "change a container's limits", 1, 1),
    "events": Command(
        _events, "ID", "print statistics and out-of-memory events as JSON lines", 1, 1, Flag("stats", "once, and end"),
        Flag("interval", "TIME between two statistics", "5s"),
    ),
    "spec": Command(
        _spec, "", "write a config.json to begin with", 0, 0, Flag("bundle b", "DIR where to", ""),
        Flag("rootless", "for a user without root's rights"),
    ),
    "features": Command(_features, "", "print what this runtime can do, as JSON", 0, 0),
    "checkpoint": Command(_checkpoint, "ID", "save a container's processes by CRIU", 1, 1),
    "restore": Command(_restore, "ID", "bring them back", 1, 1),
}  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 1 for a failure, 255 for one of exec, else the container's own."""
    words = list(sys.argv[1:] if words is None else words)
    log = Log("", "text")
    name = ""
    try:
        values, rest = parse(words, GLOBAL)
        if values["version"] or values["help"] or not rest or rest[0] in ("help", "h"):
            from minirt.runtime import usage

            return usage.print_version() if values["version"] else usage.print_help(COMMANDS, GLOBAL)
        log = Log(values["log"], values["log_format"])
        if values["log_format"] not in ("text", "json"):
            raise MinirtError(f"unknown log-format {values['log_format']!r}: text or json")
        name = rest[0]
        return perform(name, rest[1:], values, log)
    except MinirtError as error:
        log.fail(phrase(name, str(error)))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        if "--debug" in words:
            raise
        log.fail(phrase(name, f"{type(error).__name__}: {error} (minirt oci --debug shows where)".replace("\n", " ")))
    return 255 if name == "exec" else 1


def perform(name: str, words: list[str], values: dict[str, Any], log: Log) -> int:
    """Do one command. Raises: MinirtError."""
    command = COMMANDS.get(name)
    if command is None:
        raise MinirtError(f"no command {name!r}: minirt oci --help lists them")
    flags = (*rare_flags(name), *command.flags)
    own, rest = parse(words, flags)
    if own["help"]:
        from minirt.runtime import usage

        return usage.print_command_help(name, command, flags)
    # Go's flags end at the first word; callers also write `kill ID KILL --all` and `delete ID --force`.
    if command.most < MANY and any(word.startswith("-") and len(word) > 1 for word in rest[1:]):
        more, tail = parse(rest[1:] if rest[1].startswith("-") else rest[2:], flags)
        own.update({key: value for key, value in more.items() if value})
        rest = rest[: 1 if rest[1].startswith("-") else 2] + tail
    if not command.least <= len(rest) <= command.most:
        raise MinirtError(f'"minirt oci {name}" wants {command.usage or "nothing"} besides its flags: see --help')
    own["systemd_cgroup"] = values["systemd_cgroup"]
    root = values["root"]
    if not root:
        from minirt.runtime.container import default_root

        root = default_root()
    return command.do(Call(os.path.abspath(root), own, rest, log))


def rare_flags(name: str) -> tuple[Flag, ...]:
    """Return the flags of commands that have many, which are loaded when they are wanted."""
    if name == "update":
        from minirt.runtime.limits import UPDATE as flags
    elif name == "checkpoint":
        from minirt.runtime.checkpoint import FLAGS as flags
    elif name == "restore":
        from minirt.runtime.restore import FLAGS as flags
    else:
        return ()
    return flags


def phrase(name: str, text: str) -> str:
    """Return an error in the frame that runc gives it, which engines look for."""
    frames = {"create": "runc create failed: unable to start container process: ",
              "run": "runc run failed: unable to start container process: ", "exec": "exec failed: "}  # fmt: skip
    return frames.get(name, "") + text

"""`minirt`: find the command's module, let it parse and run, print what goes wrong in one line."""

from __future__ import annotations

import argparse
import sys

from minirt import __version__
from minirt.cli.help import Help, Parser, asked
from minirt.errors import MinirtError, complain, unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["build_parser", "main"]

# command -> (module with add_parser(subparsers), one line)
COMMANDS = {
    "run": ("run", "run a command in a new container"),
    "create": ("run", "make a container, to be started"),
    "start": ("lifecycle", "start containers that were created, or have ended"),
    "stop": ("lifecycle", "end containers: TERM, and KILL after a while"),
    "restart": ("lifecycle", "stop and start containers"),
    "update": ("update", "change limits and restart policy of containers"),
    "kill": ("lifecycle", "send containers a signal"),
    "pause": ("lifecycle", "hold containers still"),
    "unpause": ("lifecycle", "let paused containers go on"),
    "wait": ("lifecycle", "wait until containers have ended"),
    "rename": ("lifecycle", "give a container another name"),
    "inspect": ("inspect", "tell all about containers, images, networks, volumes"),
    "events": ("events", "tell what happens, as it happens"),
    "logs": ("streams", "print what a container wrote"),
    "attach": ("streams", "be at a container's streams or terminal"),
    "exec": ("streams", "run one more command in a container"),
    "cp": ("cp", "copy files between a container and the host"),
    "diff": ("content", "what a container has changed"),
    "export": ("content", "a container's files as a tar"),
    "commit": ("content", "an image of a container as it is"),
    "top": ("content", "a container's processes"),
    "stats": ("stats", "what containers use"),
    "why": ("why", "try the usual causes of a failed call"),
    "explain": ("explain", "tell a trace again, or make a page of it"),
    "plan": ("plan", "what two containers' plans differ in"),
    "network": ("network", "networks that containers share"),
    "volume": ("volume", "directories that outlive containers"),
    "port": ("network", "which ports of the host lead to a container"),
    "graph": ("graph", "the machine's containers as a picture"),
    "ps": ("containers", "list containers"),
    "rm": ("containers", "remove containers"),
    "compose": ("compose", "services of a compose file: up, down, ps, logs, exec ..."),
    "container": ("system", "docker's longer names for these commands; prune"),
    "system": ("system", "what all of it takes on the disk, and what nobody uses"),
    "info": ("system", "tell about the engine and its host"),
    "version": ("system", "tell versions"),
    "gc": ("gc", "remove what a killed minirt left"),
    "image": ("image", "import, list, inspect, verify and remove images"),
    "build": ("build", "make an image from a Dockerfile"),
    "builder": ("builder", "prune what builds keep"),
    "pull": ("image.short", "fetch an image from a registry and unpack it"),
    "push": ("image.short", "send an image to a registry"),
    "images": ("image.short", "list images"),
    "rmi": ("image.short", "remove images"),
    "tag": ("image.short", "give an image another name"),
    "save": ("image.short", "write images as one archive"),
    "load": ("image.short", "take images out of an archive"),
    "import": ("image.short", "make an image of a root file system's tar"),
    "history": ("image.short", "print how an image's layers came about"),
    "login": ("image.account", "keep a name and password for a registry"),
    "logout": ("image.account", "forget a registry's name and password"),
    "search": ("image.account", "look for images in a registry"),
    "registry": ("registry", "serve images to any client, as a registry"),
    "serve": ("serve", "Docker's Engine API, for the docker command line"),
    "doctor": ("doctor", "tell what this machine offers and what to do about the rest"),
    "oci": ("oci", "the OCI runtime's commands, as runc has them"),
    "man": ("man", "show a command's manual page, or write all pages to a directory"),
    "completion": ("completion", "print a completion script for bash, zsh or tcsh"),
}

EPILOG = """\
examples:
  minirt run busybox echo hello               a container of the embedded image
  minirt run -it busybox sh                   a shell in one
  minirt run --explain busybox true           each system call of its birth, with its reason
  minirt run --without seccomp busybox sh     take one wall away
  minirt doctor                               what works on this machine

`minirt COMMAND --help` tells more.
"""


def build_parser(chosen: str | None, alone: bool = False) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's own is complete (None: all are, for completion).

    Args:
        alone: it is the first word, so that nobody asks for the list of all: the others are left out.
    """
    parser = Parser(
        prog="minirt",
        description="Containers made of Linux system calls, each of which can be read.",
        epilog=EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"minirt {__version__}", help="print the version")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    done = set()
    for name, (module, text) in COMMANDS.items():
        if chosen is None or name == chosen:
            if module not in done:
                done.add(module)
                load(module).add_parser(commands)
        elif not (alone and chosen) and COMMANDS.get(chosen, ("",))[0] != module:
            commands.add_parser(name, help=text, add_help=False)
    return parser


def load(module: str):  # type: ignore[no-untyped-def]
    """Import one command's module."""
    import importlib

    return importlib.import_module(f"minirt.cli.{module}")


def shorter(words: list[str]) -> list[str]:
    """Return `container rm ...` as `rm ...`, `image list` as `image ls`: docker has both names for one command."""
    if words[:1] == ["image"] and words[1:2] in (["list"], ["remove"]):
        return ["image", {"list": "ls", "remove": "rm"}[words[1]], *words[2:]]
    verb = words[1] if len(words) > 1 and words[0] == "container" else ""
    verb = {"ls": "ps", "list": "ps", "remove": "rm"}.get(verb, verb)
    return [verb, *words[2:]] if verb in COMMANDS and verb not in ("system", "container", "info", "version") else words


def remember(error: MinirtError) -> None:
    """Keep a failed system call for `minirt why`."""
    record, errno = getattr(error, "record", None), getattr(error, "errno", 0)
    if record is not None and errno:
        from minirt.plan.decode import arguments
        from minirt.plan.why import Failed, keep

        keep(Failed(record.call, arguments(record), errno, record.step, bool(record.inject)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = asked(list(sys.argv[1:] if argv is None else argv))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a test's has not
            stream.reconfigure(errors="surrogateescape")  # names of files are bytes
    if words[:1] == ["oci"]:  # its words follow Go's rules for flags, not argparse's
        from minirt.runtime.command import main as oci

        return oci(words[1:])
    words = shorter(words)
    chosen = next((word for word in words if not word.startswith("-")), "")
    parser = build_parser(chosen if chosen in COMMANDS else "", alone=words[:1] == [chosen])
    args = parser.parse_args(words)
    if not args.command:
        parser.print_help()
        return 2
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except MinirtError as error:
        remember(error)
        if args.debug:
            raise
        complain(f"minirt: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        complain("minirt: stopped")
        return 130
    except BrokenPipeError:
        return unread()
    except Exception as error:
        if args.debug:
            raise
        text = str(error).replace("\n", " ")
        complain(f"minirt: {type(error).__name__}: {text} (minirt --debug shows where)")
        return 125

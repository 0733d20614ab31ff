"""`minirt build`: docker's flags to BuildOptions, and one call."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.help import Help
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.build.options import BuildOptions
    from minirt.build.origin import Origin
    from minirt.image.store import Image

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt build -t app .                                 the Dockerfile (or Containerfile) of this directory
  minirt build -t app:dev --target build --build-arg VERSION=1.2 .
  minirt build -f docker/Dockerfile -t app --secret id=token,src=token.txt .
  printf 'FROM busybox\\nRUN echo hi\\n' | minirt build -t hi -
  minirt build -t app https://github.com/user/app.git#v1.0:server     a branch, tag or commit, and a directory in it
  tar -cz . | minirt build -t app -                     a context through a pipe; also a file, or a URL, of one
  minirt build --ssh default -t app .                   RUN --mount=type=ssh has your agent
  minirt build --network none -t app .                  RUN has nothing but what is in the context
  minirt build -o out .                                 the files, into a directory
  minirt build --debug-shell -t app .                   a shell where a step fails
  SOURCE_DATE_EPOCH=0 minirt build -t app .             the same bytes wherever and whenever
  minirt image history app                              the steps

RUN has the network `bridge`, as `minirt run --network bridge`; --network gives it another of `minirt network`, the host's, or none.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "build", help="make an image from a Dockerfile", description="Make an image from a Dockerfile.", epilog=EPILOG,
        formatter_class=Help,
    )  # fmt: skip
    many = {"action": "append", "default": []}
    parser.add_argument("context", metavar="DIRECTORY|ARCHIVE|URL|REPOSITORY|-",
                        help="what COPY copies from; -: standard input, an archive or a Dockerfile alone")  # fmt: skip
    parser.add_argument("-f", "--file", default="", metavar="FILE",
                        help="the Dockerfile (in an archive or a repository: its path there); -: standard input")  # fmt: skip
    parser.add_argument("-t", "--tag", metavar="NAME", help="a name for the image (none: its ID leads to it)", **many)
    parser.add_argument("--target", default="", metavar="STAGE", help="the stage that is wanted (the last)")
    parser.add_argument("--build-arg", metavar="NAME[=VALUE]", help="a value for an ARG", **many)
    parser.add_argument("--secret", metavar="id=ID[,src=FILE|,env=NAME]", help="for RUN --mount=type=secret", **many)
    parser.add_argument("--ssh", metavar="default|ID[=SOCKET|KEY,…]", help="an agent for RUN --mount=type=ssh", **many)
    parser.add_argument("--allow", metavar="WHAT", choices=("network.host", "security.insecure"),
                        help="what a RUN may ask for: network.host or security.insecure", **many)  # fmt: skip
    parser.add_argument("--label", metavar="NAME=VALUE", help="a label for the image", **many)
    parser.add_argument("--platform", default="", metavar="OS/ARCH", help="of the image (this machine's)")
    parser.add_argument("--network", default="default", metavar="none|host|bridge|NAME", help="of RUN (bridge)")
    parser.add_argument("--pull", nargs="?", const="always", default="missing", choices=("missing", "always", "never"),
                        help="fetch base images (missing)")  # fmt: skip
    parser.add_argument("--tls-verify", nargs="?", const="true", default="true", choices=("true", "false"),
                        help="of registries: false also takes HTTP (true)")  # fmt: skip
    parser.add_argument("--no-cache", action="store_true", help="do every step again")
    parser.add_argument("--squash", action="store_true", help="join the new layers into one")
    parser.add_argument("-o", "--output", default="", metavar="DIR|type=local|tar|oci,dest=PLACE",
                        help="the result as files, or for others")  # fmt: skip
    parser.add_argument("--iidfile", default="", metavar="FILE", help="write the image's ID to a file")
    parser.add_argument("--debug-shell", action="store_true", help="a shell upon the last good layer where a step fails")
    parser.add_argument("--progress", default="plain", choices=("plain", "json", "quiet", "auto"), help="how it tells of steps")
    parser.add_argument("-q", "--quiet", action="store_true", help="only the image's ID")
    parser.add_argument("--format", default="table", choices=("table", "json"), help="of what is told of the image at the end")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build, and tell what became of it."""
    from minirt import paths
    from minirt.build.build import Build
    from minirt.build.origin import Origin
    from minirt.build.output import parse_output
    from minirt.build.stage import StepFailed
    from minirt.image.store import Store

    if args.context == args.file == "-":
        raise UsageError("-f - and the context -: standard input is only one of them")
    output = parse_output(args.output) if args.output else None
    store, options = Store(paths.data_root() + "/image"), _options(args)
    say = bool if options.progress in ("quiet", "json") else _say
    keep = options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "") in ("1", "true")
    with Origin(store, args.context, sys.stdin.buffer, keep_git=keep, say=say) as origin:
        _place(options, origin)
        with Build(store, options) as build:
            if unknown := build.undeclared():
                say(f"warning: no ARG declares what --build-arg gives: {', '.join(unknown)}")
            try:
                state = build.run()
            except StepFailed as failure:
                if not args.debug_shell:
                    raise
                print(f"minirt: {failure}", file=sys.stderr)
                from minirt.build.shell import open_shell

                open_shell(build, failure)
                return failure.exit_code
            if output is not None and output.files:
                output.write_files(state)
                return 0
            image = build.finish(state)
            if output is not None:
                output.write_image(image, image.name)
            _tell(args, image, build.options.names)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _place(options: BuildOptions, origin: Origin) -> None:
    """Tell the build where its context is, and which Dockerfile is meant."""
    options.context, options.inside = origin.path, not origin.local
    if options.file == "-":
        options.text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    elif origin.text is not None:
        if options.file:
            raise UsageError(f"-f {options.file}: what {origin.word} gave is a Dockerfile alone, with no files beside it")
        options.text = origin.text


def _tell(args: argparse.Namespace, image: Image, names: list[str]) -> None:
    """Print the image's ID on standard output, and write it where it is wanted."""
    if args.iidfile:
        with open(args.iidfile, "w", encoding="utf-8") as file:
            file.write(image.id)
    if args.format == "json":
        import json

        print(json.dumps({"Id": image.id, "Digest": image.digest, "Names": names, "Size": image.size}))
        return
    if names and not args.quiet and args.progress != "json":
        print(f"named {', '.join(names)}", file=sys.stderr)
    print(image.id)


def _options(args: argparse.Namespace) -> BuildOptions:
    from minirt.build.options import BuildOptions
    from minirt.build.ssh import parse_ssh
    from minirt.engine.values import parse_pairs, parse_variables

    given = parse_variables(args.build_arg, "--build-arg")
    made = BuildOptions(args.context, file=args.file, names=args.tag, target=args.target, platform=args.platform, build_args=given,
                        network=args.network, pull=args.pull, no_cache=args.no_cache, squash=args.squash)  # fmt: skip
    made.allow = args.allow
    made.tls_verify = args.tls_verify == "true"
    made.secrets = dict(map(_secret, args.secret))
    made.ssh = parse_ssh(args.ssh, os.environ)
    made.labels = parse_pairs(args.label, "--label")
    made.progress = "quiet" if args.quiet else "plain" if args.progress == "auto" else args.progress
    epoch = given.get("SOURCE_DATE_EPOCH", os.environ.get("SOURCE_DATE_EPOCH", ""))
    if epoch:
        if not (epoch.isascii() and epoch.isdigit() and len(epoch) < 12):
            raise UsageError(f"SOURCE_DATE_EPOCH={epoch}: seconds since the epoch, a number")
        made.epoch = int(epoch)
        made.build_args.setdefault("SOURCE_DATE_EPOCH", epoch)
    for name in args.tag:
        from minirt.image.reference import Reference

        Reference.parse(name)
    return made


def _secret(text: str) -> tuple[str, bytes]:
    """Return the id and the content of id=ID[,src=FILE|,env=NAME]; alone, ID is also the variable's name, or the file's."""
    values = dict(item.partition("=")[::2] for item in text.split(","))
    name, kind = values.pop("id", ""), values.pop("type", "")
    source, variable = values.pop("src", values.pop("source", "")), values.pop("env", "")
    if not name or values or (source and variable) or kind not in ("", "file", "env"):
        raise UsageError(f"--secret {text}: it is written id=ID,src=FILE or id=ID,env=NAME")
    if not source and (variable or kind == "env" or name in os.environ):
        value = os.environ.get(variable or name)
        if value is None:
            raise UsageError(f"--secret {text}: there is no variable {variable or name}")
        return name, os.fsencode(value)
    try:
        with open(source or name, "rb") as file:
            return name, file.read(1 << 20)
    except OSError as error:
        raise UsageError(f"--secret {text}: {source or name}: {error.strerror}") from None

"""`minirt image …`: words on the command line -> calls into minirt.image."""

from __future__ import annotations

import argparse
import os
import sys

from minirt import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from minirt.image.store import Image, Store

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Register `image` and its sub-commands; each sets `run`, a function of the arguments to the exit code."""
    parser = subparsers.add_parser("image", help="import, list, inspect, tag, verify, remove and prune images")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_import(verbs)
    _add_ls(verbs)
    inspect = _verb(verbs, "inspect", _inspect, "print all that is known of an image, as JSON")
    inspect.add_argument("names", metavar="NAME", nargs="+")
    history = _verb(verbs, "history", _history, "print how an image's layers came about, newest first")
    history.add_argument("--no-trunc", action="store_true", help="do not shorten")
    history.add_argument("name", metavar="NAME")
    tag = _verb(verbs, "tag", _tag, "give an image another name", "minirt image tag busybox box:test")
    tag.add_argument("source", metavar="NAME")
    tag.add_argument("name", metavar="NEWNAME")
    rm = _verb(verbs, "rm", _rm, "remove names, and what no other name leads to", "minirt image rm box:test debian")
    rm.add_argument("names", metavar="NAME", nargs="+")
    _verb(verbs, "prune", _prune, "remove content that no name leads to, such as a killed import leaves")
    verify = _verb(verbs, "verify", _verify, "compute an image's digests again and name what is damaged")
    verify.add_argument("names", metavar="NAME", nargs="+")


def _verb(verbs: Subparsers, name: str, run: Any, text: str, example: str = "") -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n  {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_import(verbs: Subparsers) -> None:
    parser = _verb(
        verbs,
        "import",
        _import,
        "make an image of a root file system's tar (plain, gzip or zstd)",
        "mmdebstrap --variant=minbase bookworm - | minirt image import - debian\n"
        "  minirt image import -c 'CMD [\"/bin/bash\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar.gz debian:12\n"
        "  tar -C ROOTFS -c . | minirt image import -m 'from a directory' - mine",
    )
    parser.add_argument("archive", metavar="FILE|-", help="the archive; - is standard input")
    parser.add_argument("name", metavar="NAME", help="for the image")
    parser.add_argument(
        "-c",
        "--change",
        action="append",
        default=[],
        metavar="INSTRUCTION",
        help="a Dockerfile instruction for the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, "
        "STOPSIGNAL, USER, VOLUME, WORKDIR",
    )
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="a comment for the history")


def _add_ls(verbs: Subparsers) -> None:
    parser = _verb(verbs, "ls", _ls, "list images", "minirt image ls -q\n  minirt image ls --format json")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: an object a line")
    parser.add_argument("-q", "--quiet", action="store_true", help="only IDs")


def _store() -> Store:
    from minirt.image.store import Store

    return Store(paths.data_root() + "/image")


def _find(store: Store, name: str) -> Image:
    from minirt.image.busybox import find

    return find(store, name)


# -- the verbs


def _import(args: argparse.Namespace) -> int:
    from minirt.image.errors import ImageError
    from minirt.image.importer import import_rootfs

    archive = args.archive
    if "://" in archive:
        raise ImageError(f"import of a URL is not implemented: `curl -L {archive} | minirt image import - NAME`")
    if archive == "-" and sys.stdin is None:  # as the interpreter found descriptor 0 closed
        raise ImageError("standard input is closed: pipe a tar into it")
    if archive == "-" and sys.stdin.isatty():
        raise ImageError("standard input is a terminal: pipe a tar into it")
    try:
        stream = sys.stdin.buffer if archive == "-" else open(archive, "rb", buffering=0)
        if os.path.isdir(archive):
            raise IsADirectoryError
    except IsADirectoryError:
        hint = f"`tar -C {archive} -c . | minirt image import - {args.name}`"
        raise ImageError(f"{archive} is a directory: {hint}") from None
    except OSError as error:
        raise ImageError(f"cannot read {archive}: {error.strerror}") from None
    with stream, _Progress(os.fstat(stream.fileno()).st_size) as progress:
        image = import_rootfs(
            _store(),
            stream.fileno(),
            args.name,
            origin=archive,
            changes=args.change,
            message=args.message,
            progress=progress.advance,
        )
    print(image.id)
    return 0


def _ls(args: argparse.Namespace) -> int:
    import json

    rows = [_row(name, image) for name, image in _listed(_store())]
    if args.quiet:
        for row in rows:
            print(row["ID"])
    elif args.format == "json":
        for row in rows:
            print(json.dumps(row))
    else:
        titles = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID"}
        titles |= {"CreatedSince": "CREATED", "Size": "SIZE"}
        _print_table([list(titles.values())] + [[row[key] for key in titles] for row in rows])
    return 0


def _inspect(args: argparse.Namespace) -> int:
    import json

    store = _store()
    print(json.dumps([_description(store, _find(store, name)) for name in args.names], indent=4))
    return 0


def _history(args: argparse.Namespace) -> int:
    image = _find(_store(), args.name)
    sizes = [int(layer["size"]) for layer in image.manifest["layers"]]
    rows = []
    for step in image.config.get("history") or []:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        by = str(step.get("created_by", ""))
        if len(by) > 45 and not args.no_trunc:
            by = by[:44] + "…"
        rows.append([_since(step.get("created", "")), by, _human(size), str(step.get("comment", ""))])
    first = (image.id if args.no_trunc else _short(image.id),)
    table = [[*(first if not row else ("<missing>",)), *cells] for row, cells in enumerate(reversed(rows))]
    _print_table([["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], *table])
    return 0


def _tag(args: argparse.Namespace) -> int:
    store = _store()
    store.tag(_find(store, args.source).name, args.name)
    return 0


def _rm(args: argparse.Namespace) -> int:
    from minirt.image.errors import ImageError

    store = _store()
    errors = []
    for name in args.names:
        try:
            gone = store.remove(name)
        except ImageError as error:
            errors.append(str(error))
            continue
        print(f"Untagged: {name}")
        for digest in gone:
            print(f"Deleted: {digest}")
    if errors:
        raise ImageError("\n".join(errors))
    return 0


def _prune(args: argparse.Namespace) -> int:
    store = _store()
    for digest in store.collect():
        print(f"Deleted: {digest}")
    store.images()  # one that cannot be read keeps all content from being removed: say so
    return 0


def _verify(args: argparse.Namespace) -> int:
    from minirt.image.errors import Damaged
    from minirt.image.verify import verify

    store = _store()
    problems = []
    for name in args.names:
        try:
            for digest, problem in verify(store, _find(store, name)):
                print(f"{digest}  {'DAMAGED' if problem else 'ok'}", flush=True)
                problems += [f"image {name!r}: {problem}"] if problem else []
        except Damaged as error:
            problems.append(f"image {name!r}: {error}")
    if problems:
        raise Damaged("\n".join(problems))
    return 0


# -- what is printed


def _listed(store: Store) -> Iterator[tuple[str, Image | None]]:
    """All names and their images; None for one that cannot be read, so that a list is always to be had."""
    from minirt.image.errors import Attempt, ImageError
    from minirt.image.index import name_of

    with Attempt(f"read the image store {store.root}"):
        for entry in store.index.entries():
            try:
                yield name_of(entry), store.image(entry)
            except ImageError:
                yield name_of(entry), None


def _row(name: str, image: Image | None) -> dict[str, str]:
    """One image, in the words of `docker image ls --format json`."""
    repository, _, tag = name.rpartition(":")
    row = {"Repository": repository or "<none>", "Tag": tag or "<none>", "ID": "damaged", "Digest": ""}
    if image is None:
        return row | {"CreatedAt": "", "CreatedSince": "", "Size": ""}
    created = str(image.config.get("created", ""))
    return row | {
        "ID": _short(image.id),
        "Digest": image.digest,
        "CreatedAt": created,
        "CreatedSince": _since(created),
        "Size": _human(image.size),
    }


def _description(store: Store, image: Image) -> dict[str, Any]:
    """One image, in the words of `docker image inspect`, and its manifest's layers."""
    from minirt.image.index import name_of

    names = [name_of(entry) for entry in store.index.entries() if entry.get("digest") == image.digest]
    repositories = sorted({name.rpartition(":")[0] for name in names})
    return {
        "Id": image.id,
        "RepoTags": names,
        "RepoDigests": [f"{repository}@{image.digest}" for repository in repositories],
        "Digest": image.digest,
        "Created": image.config.get("created", ""),
        "Author": image.config.get("author", ""),
        "Architecture": image.config.get("architecture", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "Config": image.config.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Layers": image.manifest["layers"],
        "History": image.config.get("history") or [],
    }


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _human(size: int) -> str:
    """Return a size as docker prints it: three digits, powers of a thousand."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.3g}{unit}"


def _since(created: str) -> str:
    """Return how long ago a time of RFC 3339 was."""
    import calendar
    import time

    try:
        seconds = int(time.time() - calendar.timegm(time.strptime(created[:19], "%Y-%m-%dT%H:%M:%S")))
    except (TypeError, ValueError):
        return "unknown"
    for unit, length in (("year", 31536000), ("month", 2592000), ("week", 604800), ("day", 86400),
                         ("hour", 3600), ("minute", 60), ("second", 1)):  # fmt: skip
        count = seconds // length
        if count >= (1 if unit == "second" else 2):
            return f"{count} {unit}{'s' * (count > 1)} ago"
    return "just now"


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("   ".join(map(str.ljust, row, widths)).rstrip())


class _Progress:
    """Bytes so far, on a terminal only: rich's bar where it is installed, else one line that counts.

    Args: total, bytes, 0 where it is not known. Nothing is shown, or imported, in the first 0.3 s.
    """

    def __init__(self, total: int) -> None:
        import time

        self._clock = time.monotonic
        self._total = total
        self._done = 0
        self._next = self._clock() + 0.3 if sys.stderr.isatty() else float("inf")
        self._bar: Any = None
        self._plain = False

    def __enter__(self) -> _Progress:
        return self

    def advance(self, count: int) -> None:
        """Count bytes, and show them at most ten times a second."""
        self._done += count
        if self._clock() < self._next:
            return
        self._next = self._clock() + 0.1
        if self._bar is None and not self._plain:
            self._start()
        if self._plain:
            of = f" of {_human(self._total)}" if self._total else ""
            print(f"\r{_human(self._done)}{of} ", end="", file=sys.stderr, flush=True)
        else:
            self._bar.update(0, completed=self._done)

    def _start(self) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
        except ImportError:
            self._plain = True
            return
        columns = (TextColumn("importing"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)  # Console reads NO_COLOR
        self._bar.add_task("importing", total=self._total or None)
        self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._plain:
            print("\r\33[K", end="", file=sys.stderr, flush=True)

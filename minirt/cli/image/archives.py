"""Archives in: import."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.image.verb import open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from minirt.cli.image.verb import Subparsers

__all__ = ["add"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    parser = verb(
        verbs,
        "import",
        _import,
        "make an image of a root file system's tar (plain, gzip or zstd)",
        "mmdebstrap --variant=minbase bookworm - | minirt image import - debian",
        "minirt image import -c 'CMD [\"/bin/bash\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar.gz debian:12",
        "tar -C ROOTFS -c . | minirt image import -m 'from a directory' - mine",
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


def _import(args: argparse.Namespace) -> int:
    from minirt.cli.image.progress import Counter
    from minirt.image.errors import ImageError
    from minirt.image.importer import import_rootfs

    archive = args.archive
    if "://" in archive:
        raise ImageError(f"import of a URL is not implemented: `curl -L {archive} | minirt image import - NAME`")
    stream = _source(archive, f"`tar -C {archive} -c . | minirt image import - {args.name}`")
    with stream, Counter("importing", os.fstat(stream.fileno()).st_size) as progress:
        image = import_rootfs(
            open_store(),
            stream.fileno(),
            args.name,
            origin=archive,
            changes=args.change,
            message=args.message,
            progress=progress.advance,
        )
    print(image.id)
    return 0


def _source(archive: str, hint: str) -> IO[bytes]:
    """Open an archive; `-` is standard input. Raises ImageError, with the hint where it is a directory."""
    from minirt.image.errors import ImageError

    if archive == "-" and sys.stdin is None:  # as the interpreter found descriptor 0 closed
        raise ImageError("standard input is closed: pipe a tar into it")
    if archive == "-" and sys.stdin.isatty():
        raise ImageError("standard input is a terminal: pipe a tar into it")
    try:
        stream = sys.stdin.buffer if archive == "-" else open(archive, "rb", buffering=0)
        if os.path.isdir(archive):
            raise IsADirectoryError
    except IsADirectoryError:
        raise ImageError(f"{archive} is a directory: {hint}") from None
    except OSError as error:
        raise ImageError(f"cannot read {archive}: {error.strerror}") from None
    return stream

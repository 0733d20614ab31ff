"""Archives in and out: import, export, save, load."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.image.verb import find, open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from minirt.cli.image.verb import Subparsers

__all__ = ["add", "add_import", "add_load", "add_save"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    add_import(verbs, "minirt image import")
    export = verb(verbs, "export", _export, "write an image's file tree as one tar",
                  "minirt image export -o busybox.tar busybox", "minirt image export busybox | tar -tv")  # fmt: skip
    _add_output(export)
    export.add_argument("name", metavar="NAME")
    add_save(verbs, "minirt image save")
    add_load(verbs, "minirt image load")


def add_save(verbs: Subparsers, command: str) -> None:
    """Add the verb that writes images as one archive."""
    save = verb(verbs, "save", _save, "write images, with names and layers, as one archive", f"{command} -o box.tar busybox",
                f"{command} --format docker busybox | docker load")  # fmt: skip
    _add_output(save)
    save.add_argument("--format", choices=("oci", "docker"), default="oci", help="an OCI layout, or what docker load reads")
    save.add_argument("names", metavar="NAME", nargs="+")


def add_load(verbs: Subparsers, command: str) -> None:
    """Add the verb that reads them."""
    load = verb(verbs, "load", _load, "take images out of an archive of save, docker save, podman save or skopeo",
                f"{command} -i box.tar", f"docker save app | {command}", f"{command} -i layout.tar --tag mine:1")  # fmt: skip
    load.add_argument("-i", "--input", default="-", metavar="FILE", help="the archive, perhaps gzip or zstd; else standard input")
    load.add_argument("-t", "--tag", default="", metavar="NAME", help="for an image that has no name, or in its place")
    load.add_argument("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="of an index; by default this machine's")
    load.add_argument("-q", "--quiet", action="store_true", help="only IDs")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="where to; else standard output")


def add_import(verbs: Subparsers, command: str) -> None:
    """Add the verb that makes an image of a root file system."""
    parser = verb(
        verbs,
        "import",
        _import,
        "make an image of a root file system's tar (plain, gzip or zstd)",
        f"mmdebstrap --variant=minbase bookworm - | {command} - debian",
        f"{command} -c 'CMD [\"/bin/bash\"]' -c 'ENV LANG=C.UTF-8' rootfs.tar.gz debian:12",
        f"tar -C ROOTFS -c . | {command} -m 'from a directory' - mine",
    )
    parser.add_argument("archive", metavar="FILE|-", help="the archive; - is standard input")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="for the image (none: its ID leads to it)")
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
    from minirt.engine.images import tell_image
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
    tell_image("import", args.name or image.id, image.id)
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


def _export(args: argparse.Namespace) -> int:
    from minirt.image.export import export

    _write(args.output, export(find(open_store(), args.name).layers()))
    return 0


def _save(args: argparse.Namespace) -> int:
    from minirt.engine.images import tell_image
    from minirt.image.save import save_docker, save_oci

    store = open_store()
    images = [(image.name, image) for image in (find(store, name) for name in args.names)]
    for name, image in images:
        tell_image("save", name, image.id)
    _write(args.output, (save_oci if args.format == "oci" else save_docker)(store, images))
    return 0


def _write(path: str, pieces: Iterator[bytes]) -> None:
    """Write an archive: whole under its name, or not at all."""
    from minirt.image.errors import Attempt, ImageError

    if path == "-":
        if sys.stdout.isatty():
            raise ImageError("standard output is a terminal: give --output FILE, or pipe it somewhere")
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    special = os.path.exists(path) and not os.path.isfile(path)  # /dev/null, a FIFO
    temporary = path if special else f"{path}.{os.getpid()}.new"
    with Attempt(f"write {path}"):
        try:
            with open(temporary, "wb") as stream:
                for piece in pieces:
                    stream.write(piece)
            if not special:
                os.rename(temporary, path)
        except BaseException:
            if not special and os.path.exists(temporary):
                os.unlink(temporary)
            raise


def _load(args: argparse.Namespace) -> int:
    from minirt.cli.image.progress import Counter
    from minirt.engine.images import tell_image
    from minirt.image.load import load

    stream = _source(args.input, "an archive is a file")
    with stream, Counter("loading", os.fstat(stream.fileno()).st_size) as progress:
        images = load(open_store(), stream.fileno(), origin=args.input, tag=args.tag, platform=args.platform,
                      progress=progress.advance)  # fmt: skip
    for image in images:
        tell_image("load", image.name or image.id, image.id)
        print(image.id if args.quiet else f"Loaded image: {image.name}" if image.name else f"Loaded image ID: {image.id}")
    return 0

"""Dockerfiles, each instruction and corner of them, for `minirt build` and for buildah: tests/peers/dockerfiles/NAME.

Here is what belongs to each: the files of its context, flags that both commands know, and where buildah differs, which
sentence decides. Where it refuses a file, `docker` is what docker's documentation says of it, with the place.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["CASES", "Case"]

OLD = 1_500_000_000_123_456_789  # ns since the epoch
FILES = Path(__file__).parent / "dockerfiles"
REFERENCE = "docs.docker.com/reference/dockerfile"

STUBS = "buildah leaves what it made to mount on; buildkit takes it away (executor/stubs.go): mounts are no part of the image"
SETUID = "buildah 1.28 changes the owner after the mode, which clears set-user-ID (man 2 chown)"
UNUSED = f"{REFERENCE}, 'WORKDIR': created even if it is not used in any subsequent instruction; buildah makes it when it is used"
USER = "buildah makes the working directory when it is used, for the user at that time"


class Case:
    """One Dockerfile.

    Args: files, of the context, by path: text, bytes, a link ("-> TARGET"), None for a directory; flags, of both commands;
    make, called with the context's directory for what `files` cannot say; docker, where buildah refuses it: (what is in which
    file, None for no file, or of which configuration field; where that is documented); but, paths that are not as buildah's,
    and which document or rule says so; text, where it is not a file.
    """

    def __init__(
        self, files: dict[str, str | bytes | None] | None = None, *flags: str, make: Callable[[Path], None] | None = None,
        docker: tuple[dict[str, object], str] | None = None, but: dict[str, str] | None = None, text: str = "",
    ) -> None:  # fmt: skip
        self.files = files or {}
        self.flags = flags
        self.make = make
        self.docker = docker
        self.but = but or {}
        self.text = text

    def write(self, name: str, place: Path, **values: str) -> list[str]:
        """Make the context, with the same times whenever it is made. Args: values, for {NAME} in it. Returns its flags."""
        text = self.text or (FILES / name.replace(" ", "_")).read_text()
        place.mkdir(parents=True)
        for key, value in values.items():
            text = text.replace(f"{{{key}}}", value)
        for file, content in {**self.files, "Dockerfile": text}.items():
            path = place / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, bytes):
                path.write_bytes(content)
            elif content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_bytes(content.encode())
        if self.make is not None:
            self.make(place)
        for above, folders, files in os.walk(place):
            for one in [*folders, *files]:
                os.utime(os.path.join(above, one), ns=(OLD, OLD), follow_symlinks=False)
        return [flag.replace("{context}", str(place)) for flag in self.flags]


def archive(*names: str) -> bytes:
    """Return a tar with owners, modes and a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mtime, info.uid, info.gid = 1_400_000_000, 7, 8
            info.type, info.mode = (tarfile.DIRTYPE, 0o750) if name.endswith("/") else (tarfile.REGTYPE, 0o640)
            info.size = 0 if name.endswith("/") else len(name)
            tar.addfile(info, io.BytesIO(name.encode()[: info.size]))
        link = tarfile.TarInfo("link")
        link.type, link.linkname, link.mtime = tarfile.SYMTYPE, "/elsewhere", 1_400_000_000
        tar.addfile(link)
    return stream.getvalue()


def special(place: Path) -> None:
    """Files with all that a file can have."""
    folder = place / "special"
    folder.mkdir()
    (folder / "setuid").write_text("setuid")
    os.chown(folder / "setuid", 11, 12)
    (folder / "setuid").chmod(0o4711)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1777)
    os.link(folder / "setuid", folder / "zz-second-name")
    (folder / "empty").touch()
    (folder / "white space").write_text("x")
    (folder / "dangling").symlink_to("/nowhere")
    (folder / "private").write_text("p")
    (folder / "private").chmod(0o600)


TREE: dict[str, str | bytes | None] = {
    "a.txt": "a", "b.txt": "b", "c.md": "c", "d/e.txt": "e", "d/f/g.txt": "g", "d/empty": None, "d/link": "-> e.txt",
    "one file": "1",
}  # fmt: skip
IGNORE = "# no\n*.md\n**/g.txt\nd/link\n!c.md\nDockerfile\nd/f\n!d/f/keep\n"
ARCHIVES: dict[str, str | bytes | None] = {
    "a.tar": archive("d/", "d/f", "g"), "a.tgz": gzip.compress(archive("h/", "h/1"), mtime=0), "b.bz2": bz2.compress(archive("i")),
    "c.xz": lzma.compress(archive("j/", "j/k")), "notar.tar": "no tar", "d/x": "x",
}  # fmt: skip

CASES = {
    "scratch": Case(TREE),
    "stages": Case(),
    "target": Case({}, "--target", "b"),
    "from arg": Case({}, "--build-arg", "BASE=busybox"),
    "run forms": Case(),
    "run changes": Case(),
    "run mounts": Case(TREE),
    "run cache": Case(but=dict.fromkeys(("var/cache", "var/cache/deep", "var/cache/deep/er"), STUBS)),
    "run secret": Case({"token.txt": "hush"}, "--secret", "id=token,src={context}/token.txt", but={"run/secrets": STUBS}),
    "copy globs": Case(TREE),
    "copy owners": Case(TREE),
    "copy directories": Case(TREE),
    "copy from keeps owners": Case(),
    "special files": Case(make=special, but=dict.fromkeys(("special/setuid", "special/zz-second-name"), SETUID)),
    "dockerignore": Case({**TREE, ".dockerignore": IGNORE, "d/f/keep": "k", "x.md": "x"}),
    "add archives": Case(ARCHIVES),
    "env": Case(),
    "args": Case({}, "--build-arg", "GIVEN=given", "--build-arg", "C=c", "--build-arg", "HTTP_PROXY=http://nobody"),
    "workdir": Case(TREE, but=dict.fromkeys(("base/x", "base/x/y", "tmp/deep", "tmp/deep/er"), UNUSED)),
    "user": Case(TREE, but={"home/w": USER}),
    "commands": Case(),
    "entrypoint clears": Case(),
    "configuration": Case(),
    "healthcheck": Case(),
    "shell": Case(),
    "onbuild": Case(TREE),
    "onbuild kept": Case(),
    "line ends": Case(TREE, text='FROM busybox\r\nRUN echo a \\\r\n  > /a\r\nCOPY a.txt /b\r\nCMD ["x"]'),
    "add url": Case({"a.txt": "a"}),
    # -- what buildah 1.28 refuses, or does otherwise than documented
    "directives": Case(
        TREE, docker=({"/p": "c:\\dir\\\n", "/x\\y": "a", "Env": ["P=c:\\dir\\"]}, f"{REFERENCE}, 'escape'"),
    ),
    "shell of commands": Case(docker=(
        {"Cmd": ["/bin/sh", "-ec", "echo hi"], "Entrypoint": ["/bin/sh", "-ec", "top"],
         "ExposedPorts": {"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}},
        f"{REFERENCE}, 'SHELL'; image-spec config.md#properties",
    )),
    "run network": Case(docker=({"/none": "lo\n"}, f"{REFERENCE}, 'RUN --network'")),
    "heredocs": Case(docker=(
        {"/one": "one\n1 two\n", "/two": "$A\n", "/dir/file.txt": '1 "q" $A\n', "/dir/quoted": "$A\n", "/single": "x\n",
         "/piped": "piped\n", "/awk": "awk\n", "/joined": "1\n2\n", "/dev/pipes": None}, f"{REFERENCE}, 'Here-Documents'",
    )),
    "add checksum": Case(docker=({"/named": "from the server\n"}, f"{REFERENCE}, 'ADD --checksum'")),
    "expansions": Case(docker=(
        {"Env": ["A=a.tar.gz", "B=tar.gz", "C=gz", "D=a.tar", "E=a", "F=b.tar.gz", "G=b.tbr.gz"]},
        f"{REFERENCE}, 'Environment replacement'",
    )),
    "copy parents": Case(TREE, docker=(
        {"/p/d/e.txt": "e", "/p/d/f/g.txt": "g", "/p/a.txt": "a", "/pivot/f/g.txt": "g", "/glob/d/f/g.txt": "g"},
        f"{REFERENCE}, 'COPY --parents'",
    )),
    "copy modes": Case(TREE, docker=(
        {"/modes": "755 /d/f\n644 /d/e.txt\n715 /x\n"}, f"{REFERENCE}, 'COPY --chown --chmod'; POSIX.1-2017 chmod",
    )),
    "copy exclude": Case(TREE, docker=(
        {"/x/a.txt": "a", "/x/d/e.txt": "e", "/x/c.md": None, "/x/d/f": None, "/y/a.txt": "a"},
        f"{REFERENCE}, 'COPY --exclude', 'COPY --link'",
    )),
}  # fmt: skip

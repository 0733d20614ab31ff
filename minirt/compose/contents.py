"""Secrets and configs that are no files of the host: their text is written into the container before it starts."""

from __future__ import annotations

import time

from minirt.compose.options import file_of
from minirt.compose.project import Project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container

__all__ = ["put_contents"]


def put_contents(project: Project, name: str, container: Container) -> None:
    """Write secrets and configs into a container that are no files of the host, but text or variables. Raises: ComposeError."""
    for kind in ("secrets", "configs"):
        for one in project.everything[name].get(kind) or ():
            source, target = file_of(one, kind)
            described = project.part(kind)[source]
            if described.get("file"):
                continue
            if described.get("environment"):
                variable = str(described["environment"])
                if variable not in project.variables:
                    raise project.fail(f"there is no variable {variable}", kind, source, "environment")
                text = project.variables[variable]
            elif "content" in described:
                text = str(described["content"])
            else:
                raise project.fail("it has neither file, environment nor content", kind, source)
            how = one if isinstance(one, dict) else {}
            put_file(container, target, text.encode(), how)


def put_file(container: Container, target: str, content: bytes, how: dict[str, object]) -> None:
    """Write one file into a container that does not run. Args: how, uid, gid and mode."""
    from minirt.engine.files.copy import archive_put
    from minirt.image.header import Entry
    from minirt.image.pack import END, Pieces, header

    entry = Entry(target.lstrip("/").encode(), "file")
    mode = how.get("mode", 0o444)
    entry.mode = int(str(mode), 8) if isinstance(mode, str) else int(str(mode))
    entry.uid, entry.gid = int(str(how.get("uid", 0))), int(str(how.get("gid", 0)))
    entry.mtime, entry.size, entry.stored = time.time_ns(), len(content), len(content)
    archive_put(container, "/", Pieces(iter([header(entry), content, bytes(-len(content) % 512), END])))

"""The pages for people: search, a repository's tags, an image. Plain HTML that works without scripts, as it has none."""

from __future__ import annotations

import json
import os
import time
from functools import cache

from aiohttp import web

from minirt.registry.describe import config_of, platform_of, size_of
from minirt.registry.errors import Refusal
from minirt.registry.search import find, visible
from minirt.registry.service import repository_of, service_of, work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from jinja2 import Environment

    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository

__all__ = ["routes"]

TEMPLATES = os.path.join(os.path.dirname(__file__), "templates")
HEADERS = {  # nothing of another host, no script, no frame: what was pushed may say anything
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters.update(bytes=human, short=short, day=day)
    return found


def human(size: int) -> str:
    """Return a size in three digits and powers of a thousand, as docker prints it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def short(digest: str) -> str:
    """Return the first digits of a digest."""
    return digest.partition(":")[2][:12]


def day(seconds: float) -> str:
    """Return a time (seconds since 1970) as a date and a minute, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds)) if seconds else ""


async def _page(request: web.Request, template: str, status: int = 200, **values: Any) -> web.Response:
    plain = "" if request.secure else "--tls-verify=false "  # what `minirt pull` wants to hear of plain HTTP
    text = await work(lambda: _environment().get_template(template).render(host=request.host, plain=plain, **values))
    data = text.encode(errors="replace")  # JSON may have half of a surrogate pair, which UTF-8 has no form for
    return web.Response(body=data, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


async def index(request: web.Request) -> web.Response:
    """Search, and all repositories where nothing is searched for."""
    term = request.query.get("q", "")
    names = await work(visible, request)
    found = await work(find, service_of(request).registry, term, names)
    shown = found[:200]
    return await _page(request, "search.html", term=term, found=shown, hidden=len(found) - len(shown), total=len(names))


async def repository(request: web.Request) -> web.Response:
    """The tags of a repository."""
    registry, wanted = service_of(request).registry, request.query.get("q", "")
    try:
        about = repository_of(request).must_exist()
    except Refusal as error:
        return await _page(request, "missing.html", 404, reason=str(error))
    tags = [tag for tag in await work(about.tags.all) if wanted.lower() in tag.lower()]
    rows = await work(lambda: [_tag(registry, about, tag) for tag in tags[:500]])
    return await _page(request, "repository.html", name=about.name, rows=rows, term=wanted, hidden=max(0, len(tags) - 500))


def _tag(registry: Registry, repository: Repository, tag: str) -> dict[str, Any]:
    digest = repository.tags.digest(tag)
    row: dict[str, Any] = {"tag": tag, "digest": digest, "size": 0, "platforms": [], "pushed": 0.0}
    try:
        row["pushed"] = os.stat(repository.tags.root + f"/{tag}=").st_mtime
        document = json.loads(repository.read(repository.find(digest)))
        if "manifests" in document:
            row["platforms"] = [name for item in document["manifests"] if (name := platform_of(item.get("platform") or {}))]
            row["size"] = sum(_size(repository, item["digest"]) for item in document["manifests"])
        else:
            row["platforms"] = [name for name in [platform_of(config_of(registry, document))] if name]
            row["size"] = size_of(document)
    except (Refusal, OSError):
        pass  # removed while we read, or damaged: the tag is shown all the same
    return row


def _size(repository: Repository, digest: str) -> int:
    try:
        return size_of(json.loads(repository.read(repository.find(digest))))
    except Refusal:
        return 0


async def image(request: web.Request) -> web.Response:
    """An image: its layers and configuration, or an index's images; who refers to it, what else it is called."""
    registry, about = service_of(request).registry, repository_of(request)
    reference = request.match_info.get("tag") or request.match_info["digest"]
    try:
        values = await work(_image, registry, about, reference)
    except Refusal as error:
        return await _page(request, "missing.html", 404, reason=str(error))
    return await _page(request, "image.html", name=about.name, reference=reference, **values)


def _image(registry: Registry, repository: Repository, reference: str) -> dict[str, Any]:
    descriptor = repository.find(reference)
    document = json.loads(repository.read(descriptor))
    config = config_of(registry, document)
    digest = descriptor["digest"]
    images = [{**item, "name": platform_of(item.get("platform") or {}), "bytes": _size(repository, item["digest"])}
              for item in document.get("manifests", [])]  # fmt: skip
    return {
        "digest": digest,
        "media_type": descriptor["mediaType"],
        "artifact_type": document.get("artifactType", ""),
        "subject": document.get("subject") or {},
        "size": size_of(document) + sum(item["bytes"] for item in images),
        "platform": platform_of(config),
        "created": str(config.get("created") or ""),
        "author": str(config.get("author") or ""),
        "layers": _layers(document, config),
        "settings": _settings(config.get("config") or {}),
        "labels": sorted(((config.get("config") or {}).get("Labels") or {}).items()),
        "annotations": sorted((document.get("annotations") or {}).items()),
        "images": images,
        "referrers": repository.referrers(digest),
        "tags": [tag for tag in repository.tags.all() if repository.tags.digest(tag) == digest],
        "at": reference if ":" in reference else "",
    }


def _layers(document: dict[str, Any], config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the layers, lowest first, each with the step that made it where the history says so."""
    steps = [str(step.get("created_by", "")) for step in config.get("history") or [] if not step.get("empty_layer")]
    layers = document.get("layers") or []
    if len(steps) != len(layers):
        steps = [""] * len(layers)
    return [{**layer, "by": by} for layer, by in zip(layers, steps, strict=True)]


def _settings(config: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what the configuration says of the container, in words (image-spec config.md#properties)."""
    rows = [
        ("Entrypoint", [json.dumps(config["Entrypoint"], ensure_ascii=False)] if config.get("Entrypoint") else []),
        ("Command", [json.dumps(config["Cmd"], ensure_ascii=False)] if config.get("Cmd") else []),
        ("Working directory", [str(config["WorkingDir"])] if config.get("WorkingDir") else []),
        ("User", [str(config["User"])] if config.get("User") else []),
        ("Environment", [str(item) for item in config.get("Env") or []]),
        ("Ports", sorted(config.get("ExposedPorts") or {})),
        ("Volumes", sorted(config.get("Volumes") or {})),
        ("Stop signal", [str(config["StopSignal"])] if config.get("StopSignal") else []),
    ]
    return [(title, values) for title, values in rows if values]


async def style(request: web.Request) -> web.FileResponse:
    """The style sheet."""
    return web.FileResponse(f"{TEMPLATES}/style.css", headers={"Content-Type": "text/css", "Cache-Control": "max-age=3600"})


def routes() -> list[web.RouteDef]:
    """Return what this file answers."""
    return [
        web.get("/", index),
        web.get("/style.css", style),
        web.get("/repository/{name:.+}", repository),
        web.get("/image/{name:[^:@]+}:{tag:[^:@]+}", image),
        web.get("/image/{name:[^:@]+}@{digest:[^@]+}", image),
    ]

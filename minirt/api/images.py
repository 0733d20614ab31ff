"""Images: fetched, sent, listed, told of, named, removed, as archives."""

from __future__ import annotations

import base64
import json

from minirt.api.errors import ApiError
from minirt.api.lines import Lines, Transfer, tell
from minirt.api.router import DONE, Created, route
from minirt.engine.disk import open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request
    from minirt.image.remote.credentials import Credentials
    from minirt.image.store import Image, Store

__all__ = ["credentials_of", "open_store", "trusted"]


def by_name(store: Store, name: str) -> Image:
    """Return an image by name or ID. Raises: ApiError."""
    from minirt.image.errors import BadReference, UnknownImage

    try:
        return store.resolve(name)
    except (UnknownImage, BadReference):
        raise ApiError(404, f"No such image: {name}") from None


def with_tag(name: str, tag: str) -> str:
    """Return a name with a tag or digest that came apart from it."""
    return name if not tag else f"{name}@{tag}" if tag.startswith("sha256:") else f"{name}:{tag}"


def credentials_of(request: Request, header: str = "x-registry-auth") -> Credentials | None:
    """Return what the client knows of a registry, None where that is nothing. Raises: ApiError."""
    from minirt.image.remote.credentials import Credentials

    text = request.headers.get(header, "")
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) if text else {}
        user, password = found.get("username") or "", found.get("password") or ""
        if not user and found.get("auth"):
            user, _, password = base64.b64decode(found["auth"]).decode().partition(":")
        token = found.get("identitytoken") or ""
    except (ValueError, AttributeError):
        raise ApiError(400, f"{header}: not an object of JSON as base64url") from None
    return Credentials(user, password, token) if user or token else None


def trusted(name: str) -> bool:
    """Say whether a registry is spoken to by TLS alone: as docker does, but for those on this machine."""
    from minirt.image.reference import Reference

    host = Reference.parse(name).registry.rpartition(":")[0] or Reference.parse(name).registry
    return not (host == "localhost" or host.startswith("127.") or host == "[::1]")


@route("POST", "/images/create")
def create(request: Request) -> Any:
    """Fetch one from a registry, or make one of a root file system's tar."""
    if request.text("fromSrc"):
        return import_rootfs(request)
    from minirt.engine.images import tell_image
    from minirt.image.remote.errors import NotThere
    from minirt.image.remote.pull import pull

    name = with_tag(request.text("fromImage"), request.text("tag"))
    if not name:
        raise ApiError(400, "no image is named: fromImage is missing")
    credentials, platform = credentials_of(request), request.text("platform")

    def work(lines: Lines) -> None:
        store = open_store()
        before = next((entry.get("digest") for entry in store.index.entries() if is_named(entry, name)), "")
        try:
            image = pull(store, name, platform=platform, verify=trusted(name), credentials=credentials,
                         progress=Transfer(lines, "Downloading", "Pull complete"))  # fmt: skip
        except NotThere as error:
            raise ApiError(404, f"{error} (repository does not exist or may require 'docker login')") from None
        tell_image("pull", image.name)
        state = "Image is up to date for" if image.digest == before else "Downloaded newer image for"
        lines.say(status=f"Digest: {image.digest}")
        lines.say(status=f"Status: {state} {image.name}")

    tell(request, work)
    return DONE


def is_named(entry: dict[str, Any], name: str) -> bool:
    """Say whether an entry of the index has a name."""
    from minirt.image.index import name_of
    from minirt.image.reference import Reference

    return name_of(entry) == Reference.parse(name).familiar


def import_rootfs(request: Request) -> Any:
    """Make an image of a root file system's tar."""
    from minirt.image.importer import import_rootfs as make

    if request.text("fromSrc") != "-":
        raise ApiError(501, "not implemented: import of a URL: curl it, and pipe it into docker import -")
    name = request.text("repo") and with_tag(request.text("repo"), request.text("tag"))

    def work(lines: Lines) -> None:
        with request.spooled() as file:
            image = make(open_store(), file.fileno(), name,
                         changes=request.query.get("changes", []), message=request.text("message"))  # fmt: skip
        lines.say(status=image.id)

    tell(request, work)
    return DONE


@route("POST", "/images/{name...}/push")
def push(request: Request, name: str) -> Any:
    """Send one to a registry."""
    from minirt.engine.images import tell_image
    from minirt.image.remote.push import push as send

    store, whole = open_store(), with_tag(name, request.text("tag"))
    image, credentials = by_name(store, whole), credentials_of(request)

    def work(lines: Lines) -> None:
        lines.say(status=f"The push refers to repository [{name}]")
        reference, _ = send(store, image.name, whole, verify=trusted(whole), credentials=credentials,
                            progress=Transfer(lines, "Pushing", "Pushed"))  # fmt: skip
        tell_image("push", whole)
        tag, size = reference.tag or "latest", image.descriptor["size"]
        lines.say(status=f"{tag}: digest: {image.digest} size: {size}")
        lines.say(progressDetail={}, aux={"Tag": tag, "Digest": image.digest, "Size": size})

    tell(request, work)
    return DONE


@route("GET", "/images/json")
def list_all(request: Request) -> Any:
    """List them."""
    from minirt.engine.filters import Filters
    from minirt.engine.image_view import images, listed

    store, filters = open_store(), request.filters()
    if request.text("filter"):
        filters.setdefault("reference", []).append(request.text("filter"))
    found = [listed(names, image) for names, image in images(store, Filters(filters))]
    if request.version < (1, 43):  # older clients count on a name
        for image in found:
            if not image["RepoTags"] and not image["RepoDigests"]:
                image |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    return found


@route("GET", "/images/search")
def search(request: Request) -> Any:
    """Look for some in a registry."""
    from minirt.image.remote.search import search as look

    term = request.text("term")
    host = term.partition("/")[0]
    found = look(term, limit=request.number("limit") or 25, verify=trusted(f"{host}/x" if "/" in term else "x"))
    return [{"description": "", "star_count": 0, "is_official": False, "is_automated": False, **result} for result in found]


@route("GET", "/images/get")
def save_several(request: Request) -> Any:
    """Give some as one archive."""
    return archive(request, request.query.get("names", []))


@route("GET", "/images/{name...}/get")
def save(request: Request, name: str) -> Any:
    """Give one as an archive."""
    return archive(request, [name])


def archive(request: Request, names: list[str]) -> Any:
    """Answer with an archive as `docker save` writes it."""
    from minirt.image.save import save_docker

    store = open_store()
    images = [(image.name, image) for image in (by_name(store, name) for name in names)]
    with request.stream("application/x-tar") as write:
        for piece in save_docker(store, images):
            write(piece)
    return DONE


@route("POST", "/images/load")
def load(request: Request) -> Any:
    """Take those of an archive."""
    from minirt.image.load import load as take

    def work(lines: Lines) -> None:
        with request.spooled() as file:
            images = take(open_store(), file.fileno())
        for image in images:
            lines.say(stream=f"Loaded image: {image.name}\n")

    tell(request, work)
    return DONE


@route("GET", "/images/{name...}/json")
def inspect(request: Request, name: str) -> Any:
    """Tell all about one."""
    from minirt.engine.image_view import described

    store = open_store()
    return described(store, by_name(store, name))


@route("GET", "/images/{name...}/history")
def history(request: Request, name: str) -> Any:
    """Tell how one came about."""
    from minirt.engine.image_view import history as steps

    store = open_store()
    return steps(store, by_name(store, name))


@route("POST", "/images/{name...}/tag")
def tag(request: Request, name: str) -> int:
    """Give one another name."""
    from minirt.engine.images import tell_image

    store, new = open_store(), with_tag(request.text("repo"), request.text("tag"))
    image = by_name(store, name)
    store.tag(image.name or image.digest, new)
    tell_image("tag", new, image.id)
    return 201


@route("POST", "/images/prune")
def prune(request: Request) -> Any:
    """Remove images without a tag, or all, that no container stands on."""
    from minirt.engine.filters import Filters
    from minirt.engine.prune import prune_images

    names, gone, freed = prune_images(filters=Filters(request.filters()))
    return {"ImagesDeleted": [*({"Untagged": name} for name in names), *({"Deleted": digest} for digest in gone)],
            "SpaceReclaimed": freed}  # fmt: skip


@route("DELETE", "/images/{name...}")
def remove(request: Request, name: str) -> Any:
    """Take a name from one; with the last one, or by its ID, it goes."""
    from minirt.engine.images import drop

    store = open_store()
    untagged, gone = drop(store, by_name(store, name), name, request.flag("force"))
    return [*({"Untagged": one} for one in untagged), *({"Deleted": digest} for digest in gone)]


@route("POST", "/commit")
def commit(request: Request) -> Any:
    """Make one of a container as it is."""
    from minirt.api.containers import by_name as container_by_name
    from minirt.build.commit import commit as make

    container = container_by_name(request.text("container"))
    name = with_tag(request.text("repo"), request.text("tag"))
    changes = [line for text in request.query.get("changes", []) for line in text.splitlines() if line.strip()]
    id = make(container, name, author=request.text("author"), message=request.text("comment"), changes=changes,
              pause=request.flag("pause", True))  # fmt: skip
    return Created(Id=id)

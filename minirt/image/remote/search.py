"""What a registry has: docker's search, or the catalog where a registry has none."""

from __future__ import annotations

from minirt.image.errors import printable
from minirt.image.remote.auth import Authorizer
from minirt.image.remote.errors import Lied, NotThere
from minirt.image.remote.http import check, document, joined, json_object, list_in
from minirt.image.remote.login import ask
from minirt.image.remote.registries import Registries
from minirt.image.remote.registry import connect
from minirt.image.remote.repository import next_link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.image.remote.repository import Repository

__all__ = ["search"]

PAGES = 100


def search(text: str, *, limit: int = 25, verify: bool = True) -> list[dict[str, Any]]:
    """Search a registry.

    Args: text, [HOST/]TERM, as docker parts it: with a dot, a colon or as `localhost` it is a host; limit, of results.
    Returns objects with name, description, star_count, is_official. Raises Denied, Unreachable, RegistryError.
    """
    host, slash, term = text.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, term = "docker.io", text
    server = "index.docker.io" if host == "docker.io" else host
    repository = connect(Registries.load().host(server), verify=verify)
    if repository.auth.known and host != "docker.io":
        ask(repository.auth)  # who does not say who he is is not asked, and sees what anybody may see
        repository.auth.introduce()
    try:
        found = _index(repository.auth, server, term, limit)
    except NotThere:
        found = [{"name": name} for name in _catalog(repository) if term.lower() in name.lower()]
    return found[:limit]


def _index(auth: Authorizer, host: str, term: str, limit: int) -> list[dict[str, Any]]:
    """GET /v1/search, which is docker's older interface and the only one that searches."""
    from urllib.parse import urlencode

    what = f"search at {host}"
    response = check(auth.request("GET", f"/v1/search?{urlencode({'q': term, 'n': limit})}", "registry:catalog:search"), what, 200)
    results = list_in(json_object(document(response, what), what), "results")
    found = [result for result in results if isinstance(result, dict) and isinstance(result.get("name"), str)]
    return [one | {word: printable(str(one.get(word) or "")) for word in ("name", "description")} for one in found]


def _catalog(repository: Repository) -> Iterator[str]:
    """All repositories (distribution, "Listing Repositories")."""
    what = f"the catalog of {repository.host}"
    url = "/v2/_catalog?n=1000"
    for _ in range(PAGES):
        response = check(repository.auth.request("GET", url, "registry:catalog:*"), what, 200)
        following = next_link(response.headers.get("Link", ""))
        names = list_in(json_object(document(response, what), what), "repositories")
        yield from (printable(name) for name in names if isinstance(name, str))
        if not following:
            return
        url = joined(url, following)
    raise Lied(f"{what} has more than {PAGES} pages")

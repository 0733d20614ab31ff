"""One repository of one registry: the requests of distribution-spec 1.1.1, a method each.

What comes back is checked here against the digest that it should have, whoever says so; what is a blob is streamed and
checked by who writes it (fetch.py).
"""

from __future__ import annotations

import json

from minirt.image import digest as digests
from minirt.image.index import IMAGES, INDEXES, MEDIA_INDEX
from minirt.image.remote.errors import Lied, NotThere, RegistryError
from minirt.image.remote.http import check, document, finish, joined, json_object, length_of, list_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from urllib3 import BaseHTTPResponse

    from minirt.image.blobs import Descriptor
    from minirt.image.remote.auth import Authorizer

__all__ = ["MANIFESTS", "Repository"]

MANIFESTS = (*IMAGES, *INDEXES)
PAGES = 1000  # of a list, at most: a server could go on for ever


class Repository:
    """A repository.

    Args: auth, of its registry; host, for errors; name, without the host.
    """

    def __init__(self, auth: Authorizer, host: str, name: str) -> None:
        self.auth = auth
        self.host = host
        self.name = name

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def verified(self) -> bool:
        """Whether the registry has to show a certificate that is trusted."""
        return self.auth.verified

    def send(self, method: str, path: str, rights: str = "pull", **more: Any) -> BaseHTTPResponse:
        """Send a request. Args: path, below the repository, or absolute; rights, what a token has to allow."""
        url = path if path.startswith(("http://", "https://", "/")) else f"/v2/{self.name}/{path}"
        scope = f"repository:{self.name}:{rights}"
        if "source" in more:
            scope += f" repository:{more.pop('source')}:pull"
        return self.auth.request(method, url, scope, **more)

    # -- manifests (distribution-spec "Pulling manifests", "Pushing Manifests")

    def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """Fetch a manifest or index.

        Args: reference, a tag or a digest. Returns its bytes and descriptor. Raises NotThere, Denied, Lied, Unreachable.
        """
        what = f"{self}{'@' if ':' in reference else ':'}{reference}"
        response = self.send("GET", f"manifests/{reference}", headers={"Accept": ", ".join(MANIFESTS)})
        check(response, what, 200)
        data = document(response, f"the manifest of {what}")
        announced = length_of(response.headers.get("Content-Length", ""))
        if announced not in (-1, len(data)) and not response.headers.get("Content-Encoding"):
            raise Lied(f"the manifest of {what} has {len(data)} bytes, not the {announced} that the registry announced")
        promised = reference if ":" in reference else response.headers.get("Docker-Content-Digest", "")
        digest = _digest_like(data, promised)
        if promised and digest != promised:
            raise Lied(f"the registry sent {digest} as manifest {promised[:100]} of {self}")
        media = _media(data, response.headers.get("Content-Type", ""), what)
        return data, {"mediaType": media, "digest": digest, "size": len(data)}

    def manifest_digest(self, reference: str) -> str:
        """Return the digest that a tag has, or "" where the registry has no such manifest, or no HEAD."""
        response = self.send("HEAD", f"manifests/{reference}", headers={"Accept": ", ".join(MANIFESTS)})
        finish(response)
        found = response.headers.get("Docker-Content-Digest", "") if response.status == 200 else ""
        return found if digests.is_digest(found) else ""

    def put_manifest(self, reference: str, data: bytes, media: str) -> BaseHTTPResponse:
        """Upload a manifest, under a tag or its digest. Returns the response. Raises RegistryError, Lied."""
        what = f"push of {self}:{reference}"
        headers = {"Content-Type": media, "Content-Length": str(len(data))}
        response = self.send("PUT", f"manifests/{reference}", "pull,push", headers=headers, body=data)
        check(response, what, 201, 200, 202)
        finish(response)
        told = response.headers.get("Docker-Content-Digest", "")
        if told and told != _digest_like(data, told):
            raise Lied(f"{what}: the registry took it for {told[:100]}")
        return response

    # -- blobs (distribution-spec "Pulling blobs", "Checking if content exists in the registry")

    def blob(self, digest: str, begin: int = 0) -> BaseHTTPResponse:
        """Begin to fetch a blob.

        Args: begin, the first byte wanted. Returns the response, of status 206 where it begins there, else 200.
        Raises NotThere, Denied, Unreachable.
        """
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        response = self.send("GET", f"blobs/{digest}", headers=headers)
        return check(response, f"blob {digest} of {self}", 200, 206, 416)

    def small_blob(self, descriptor: Descriptor) -> bytes:
        """Fetch a blob that is a document. Raises NotThere, Denied, Lied, Unreachable."""
        digest = str(descriptor["digest"])
        data = document(self.blob(digest), f"blob {digest} of {self}")
        if len(data) != descriptor["size"] or _digest_like(data, digest) != digest:
            raise Lied(f"the registry sent {_digest_like(data, digest)} of {len(data)} bytes as blob {digest} of {self}")
        return data

    def has_blob(self, digest: str) -> bool:
        """Return whether the registry has a blob. Raises Denied, Unreachable."""
        response = self.send("HEAD", f"blobs/{digest}", "pull,push")
        finish(response)
        return response.status == 200

    # -- lists (distribution-spec "Listing Tags", "Listing Referrers")

    def tags(self) -> Iterator[str]:
        """Yield all tags; what cannot be one is left out. Raises NotThere, Denied, Lied, Unreachable."""
        for page in self._pages("tags/list", f"the tags of {self}"):
            yield from (tag for tag in list_in(page, "tags") if isinstance(tag, str) and tag.isprintable())

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return who refers to a manifest: by the API, else by the tag that stands in for it ("Unavailable Referrers API")."""
        try:
            pages = list(self._pages(f"referrers/{digest}", f"the referrers of {digest}"))
        except NotThere:
            try:
                pages = [json_object(self.manifest(digest.replace(":", "-"))[0], f"the referrers of {digest}")]
            except NotThere:
                return []
        return [entry for page in pages for entry in list_in(page, "manifests") if isinstance(entry, dict)]

    def add_referrer(self, subject: str, descriptor: Descriptor) -> None:
        """Add to the tag that lists who refers to a manifest, where the registry itself keeps no such list.

        distribution-spec "Pushing Manifests with Subject". Two who do so at once may lose one: so does the specification.
        """
        tag = subject.replace(":", "-")
        entries = [entry for entry in self.referrers(subject) if entry.get("digest") != descriptor["digest"]]
        index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": [*entries, descriptor]}
        self.put_manifest(tag, json.dumps(index, separators=(",", ":")).encode(), MEDIA_INDEX)

    def _pages(self, path: str, what: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list; each names the next in a Link header (RFC 8288)."""
        url: str | None = f"/v2/{self.name}/{path}"
        for _ in range(PAGES):
            response = check(self.send("GET", url or ""), what, 200)
            yield json_object(document(response, what), what)
            following = next_link(response.headers.get("Link", ""))
            if not following:
                return
            url = joined(url or "", following)
        raise Lied(f"{what} have more than {PAGES} pages")


def next_link(header: str) -> str:
    """Return the target of `<…>; rel="next"`, or ""."""
    for link in header.split(","):
        target, _, rest = link.partition(">")
        relation = rest.replace(" ", "").replace('"', "").lower()
        if target.strip().startswith("<") and "rel=next" in relation.split(";"):
            return target.strip()[1:]
    return ""


def _digest_like(data: bytes, promised: str) -> str:
    """Return the digest of data, by the algorithm of a promised one where we have it."""
    return digests.of(data, promised.partition(":")[0] if digests.is_digest(promised) else "sha256")


def _media(data: bytes, header: str, what: str) -> str:
    """Return what kind of manifest this is: what it says itself, else what the header says. Raises RegistryError."""
    said = header.partition(";")[0].strip().lower()
    own = json_object(data, f"the manifest of {what}").get("mediaType")
    media = own if isinstance(own, str) and own else said
    if media in MANIFESTS:
        return media
    if "manifest.v1" in media and "docker" in media:
        raise RegistryError(f"{what} is of docker's schema 1, which ended in 2017: push it again with a newer docker")
    if not own and "manifests" in json_object(data, what):
        return MEDIA_INDEX
    if not own and "layers" in json_object(data, what):
        return IMAGES[0]
    raise RegistryError(f"{what} is a {media[:100]!r}, not an image")

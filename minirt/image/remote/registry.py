"""A registry: its connections, who we are there, and its repositories."""

from __future__ import annotations

import os

from minirt.image.remote import credentials as keyring
from minirt.image.remote.auth import Authorizer
from minirt.image.remote.http import Http
from minirt.image.remote.repository import Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.registries import Place

__all__ = ["HUB", "connect"]

HUB = "registry-1.docker.io"  # who answers for docker.io
_CERTIFICATES = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")  # containers-certs.d(5)


def connect(place: Place, *, verify: bool = True, credentials: Credentials | None = None) -> Repository:
    """Return a repository, ready to be asked; nothing is sent yet.

    Args: place, where; verify, as in Http (a place that registries.conf calls insecure is never verified);
    credentials, in place of those that the files have.
    """
    registry = place.registry
    host = HUB if registry == "docker.io" else registry
    http = Http(host, verify=verify and not place.insecure, certificates=_certificates(registry))
    return Repository(Authorizer(http, credentials or keyring.find(registry, place.repository)), registry, place.repository)


def _certificates(registry: str) -> dict[str, str]:
    """Return the files of certs.d/HOST: *.crt, authorities to trust; *.cert and *.key, who we are."""
    for folder in map(os.path.expanduser, _CERTIFICATES):
        try:
            names = sorted(os.listdir(f"{folder}/{registry}"))
        except OSError:
            continue
        options = {".crt": "ca_certs", ".cert": "cert_file", ".key": "key_file"}
        parts = [(name, "." + name.rpartition(".")[2]) for name in names]
        return {options[suffix]: f"{folder}/{registry}/{name}" for name, suffix in parts if suffix in options}
    return {}

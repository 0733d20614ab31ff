"""Credentials tried before they are kept."""

from __future__ import annotations

from minirt.image.errors import BadReference
from minirt.image.remote import credentials as keyring
from minirt.image.remote.auth import Authorizer
from minirt.image.remote.errors import Denied, RegistryError
from minirt.image.remote.http import check as check_status
from minirt.image.remote.http import finish
from minirt.image.remote.registries import Registries
from minirt.image.remote.registry import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.remote.credentials import Credentials

__all__ = ["check", "host_of", "login"]

_HUB = ("index.docker.io", "registry-1.docker.io")


def host_of(text: str) -> str:
    """Return the HOST[:PORT] that a person means who may have copied a URL, as docker login takes it. Raises RegistryError."""
    from minirt.image.reference import Reference

    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in _HUB:
        host = "docker.io"
    full = host if host == "docker.io" or ":" in host or "." in host else f"{host}:443"  # a name of this network's, without a dot
    try:
        if Reference.parse(f"{full}/x").registry == full:
            return host
    except BadReference:
        pass
    raise RegistryError(f"{text!r} is no registry: HOST[:PORT]")


def login(host: str, credentials: Credentials, *, verify: bool = True) -> str:
    """Try credentials at a registry, and keep them if they are good.

    Returns where they are kept. Raises Denied, Unreachable, RegistryError.
    """
    check(host, credentials, verify=verify)
    return keyring.store(host, credentials)


def check(host: str, credentials: Credentials, *, verify: bool = True) -> None:
    """Try credentials at a registry. Raises Denied where it does not take them, Unreachable, RegistryError."""
    repository = connect(Registries.load().host(host), verify=verify, credentials=credentials)
    try:
        taken = ask(repository.auth) == 200
    except Denied:  # so says its token server
        taken = False
    if not taken:
        raise Denied(f"{host} does not take this name and password")


def ask(auth: Authorizer) -> int:
    """Ask a registry whether it speaks this protocol to us (distribution-spec "Determining Support"). Returns the status."""
    response = auth.request("GET", "/v2/", "")
    status = response.status
    check_status(response, "login", 200, 401, 403)
    finish(response)
    return status

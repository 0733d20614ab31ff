"""policy.json: which images may be used, and who has to vouch for them (containers-policy.json(5)).

    {"default": [{"type": "reject"}],
     "transports": {"docker": {"registry.example/team": [{"type": "sigstoreSigned", "keyPath": "/etc/minirt/team.pub"}]}}}

What counts is the most specific scope that a name is in: its repository with the tag, the repository, each path above it,
the registry, `*.DOMAIN`, "", and else the default. All of its requirements have to be met. No file asks for nothing.
"""

from __future__ import annotations

import json

from minirt.image.errors import BadReference
from minirt.image.reference import Reference
from minirt.image.signing.errors import SigningError, Unsigned
from minirt.paths import policy_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from minirt.image.store import Image, Store

__all__ = ["check", "is_meant", "wants_signature"]


_SIGNED = {"type", "keyPath", "keyData", "signedIdentity"}  # what sigstoreSigned may have here


def _requirements(reference: Reference | None) -> list[dict[str, Any]]:
    """Return what the policy asks of an image. Raises SigningError for a policy that cannot be read: then nothing may be used."""
    name = policy_path()
    if not name:
        return []
    try:
        with open(name, encoding="utf-8") as stream:
            policy = json.load(stream)
        scopes = (policy.get("transports") or {}).get("docker") or {}
        found = next((scopes[scope] for scope in (_scopes(reference) if reference else ()) if scope in scopes), None)
        found = policy["default"] if found is None else found
        if found and all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in found):
            return list(found)
    except OSError as error:
        raise SigningError(f"the policy {name} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise SigningError(f"the policy {name} is not what containers-policy.json(5) says: no image may be used")


def _scopes(reference: Reference) -> list[str]:
    repository = f"{reference.registry}/{reference.repository}"
    parts = repository.split("/")
    scopes = [str(reference), *("/".join(parts[:count]) for count in range(len(parts), 0, -1))]
    host = reference.registry.partition(":")[0].split(".")
    return [*scopes, *("*." + ".".join(host[count:]) for count in range(1, len(host))), ""]


def wants_signature(reference: Reference) -> bool:
    """Return whether an image has to be signed. Raises SigningError."""
    return any(one["type"] == "sigstoreSigned" for one in _requirements(reference))


def check(store: Store, image: Image) -> None:
    """See that an image may be used. Raises Unsigned, SigningError."""
    reference = Reference.parse(image.name) if image.name else None  # one without a name is in no scope
    for requirement in _requirements(reference):
        kind = requirement["type"]
        if kind == "insecureAcceptAnything":
            continue
        if kind == "reject":
            raise Unsigned(f"{image.label}: the policy {policy_path()} refuses it")
        if kind != "sigstoreSigned":
            raise SigningError(f"the policy {policy_path()}: {kind!r} is not implemented: no image that it is for may be used")
        if reference is None:
            raise Unsigned(f"{image.label} has no name that a signature could be for, and the policy {policy_path()} asks for one")
        _check_signed(store, image, reference, requirement)


def _check_signed(store: Store, image: Image, reference: Reference, requirement: dict[str, Any]) -> None:
    from minirt.image.signing.attach import good_payloads

    if unknown := set(requirement) - _SIGNED:  # what asks for more than we look at would be asked for by nobody
        where, what = policy_path(), ", ".join(sorted(unknown))
        raise SigningError(f"the policy {where}: sigstoreSigned: {what} is not implemented: no image that it is for may be used")
    key = _key(requirement)
    identity = requirement.get("signedIdentity") or {"type": "matchRepoDigestOrExact"}
    for payload in good_payloads(store, reference, image.digest, key):
        if is_meant(reference, payload.identity, identity):
            return
    raise Unsigned(f"{reference.familiar} has no signature that the policy {policy_path()} takes: `minirt image sign` makes one")


def _key(requirement: dict[str, Any]) -> EllipticCurvePublicKey:
    import base64
    import binascii

    from minirt.image.signing.keys import load_public

    where = str(requirement.get("keyPath") or "keyData")
    try:
        if "keyPath" in requirement and "keyData" not in requirement:  # "exactly one of"
            with open(where, "rb") as stream:
                return load_public(stream.read(), where)
        if "keyPath" in requirement:
            raise KeyError
        return load_public(base64.b64decode(requirement["keyData"], validate=True), f"keyData of {policy_path()}")
    except OSError as error:
        raise SigningError(f"the key {where} of the policy {policy_path()} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, binascii.Error):
        raise SigningError(f"the policy {policy_path()}: sigstoreSigned needs keyPath or keyData") from None


def is_meant(reference: Reference, said: str, identity: dict[str, Any]) -> bool:
    """Return whether the name that a signature vouches for is the one that is used (signedIdentity). Raises SigningError."""
    try:
        signed = Reference.parse(said)
    except BadReference:
        return False
    tagged = ":" in said.rpartition("/")[2] or "@" in said
    same_repository = (signed.registry, signed.repository) == (reference.registry, reference.repository)
    exact = same_repository and tagged and str(signed) == str(reference)
    kind = identity.get("type")
    if kind == "matchExact":
        return exact
    if kind == "matchRepoDigestOrExact":
        return same_repository if reference.digest is not None else exact
    if kind == "matchRepository":
        return same_repository
    if kind == "exactReference":
        return tagged and str(signed) == str(Reference.parse(str(identity.get("dockerReference"))))
    if kind == "exactRepository":
        other = Reference.parse(str(identity.get("dockerRepository")))
        return (signed.registry, signed.repository) == (other.registry, other.repository)
    raise SigningError(f"the policy {policy_path()}: signedIdentity {kind!r} is not implemented")

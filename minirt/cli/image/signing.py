"""Who vouches for images: sign, keygen, and what `verify --key` asks."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.image.verb import find, open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers
    from minirt.image.store import Image, Store

__all__ = ["add", "check_key"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    sign = verb(verbs, "sign", _sign, "vouch for an image: push takes the signature along",
                "minirt image sign --key team.key registry.example/team/app:1")  # fmt: skip
    sign.add_argument("name", metavar="NAME")
    sign.add_argument("--key", required=True, metavar="FILE", help="private key: PEM, or cosign's")
    sign.add_argument("--identity", default="", metavar="NAME", help="what it is vouched for as; by default its name")
    _add_passphrase(sign)
    keygen = verb(verbs, "keygen", _keygen, "make a pair of keys to sign with: PREFIX.key and PREFIX.pub",
                  "minirt image keygen team")  # fmt: skip
    keygen.add_argument("prefix", metavar="PREFIX")
    _add_passphrase(keygen)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", default="", metavar="FILE", help="of the private key; else it is asked for")


def _passphrase(args: argparse.Namespace, *, needed: bool = True) -> bytes:
    """Return the passphrase that a key is, or is to be, encrypted with."""
    if args.passphrase_file:
        return _read(args.passphrase_file).rstrip(b"\r\n")
    if not needed or not sys.stdin.isatty():
        return b""
    import getpass

    return getpass.getpass("Passphrase of the private key: ").encode()


def _read(path: str) -> bytes:
    from minirt.image.errors import ImageError

    try:
        with open(path, "rb") as stream:
            return stream.read(1 << 20)
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}") from None


def _sign(args: argparse.Namespace) -> int:
    from minirt.errors import UsageError
    from minirt.image.reference import Reference
    from minirt.image.signing import keys
    from minirt.image.signing.attach import attach

    pem = _read(args.key)
    store = open_store()
    image = find(store, args.name)
    key = keys.load_private(pem, args.key, _passphrase(args, needed=b"ENCRYPTED" in pem))
    if not (args.identity or image.name):
        raise UsageError(f"image {image.label} has no name to vouch for: `minirt tag` gives it one")
    print(attach(store, image, Reference.parse(args.identity or image.name), key))
    return 0


def _keygen(args: argparse.Namespace) -> int:
    from minirt.image.errors import Attempt
    from minirt.image.signing.keys import generate

    private, public = generate(_passphrase(args))
    for suffix, data, mode in ((".key", private, 0o600), (".pub", public, 0o644)):
        with Attempt(f"write {args.prefix}{suffix}"):
            fd = os.open(args.prefix + suffix, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(fd, "wb") as stream:
                stream.write(data)
        print(args.prefix + suffix)
    return 0


def check_key(args: argparse.Namespace, store: Store, image: Image) -> None:
    """See that a key vouches for an image under its name, here or in its registry. Raises Unsigned."""
    from minirt.image.reference import Reference
    from minirt.image.signing import keys
    from minirt.image.signing.attach import fetch, good_payloads
    from minirt.image.signing.errors import Unsigned
    from minirt.image.signing.policy import is_meant

    key = keys.load_public(_read(args.key), args.key)
    if not image.name:
        raise Unsigned(f"image {image.label} has no name that a signature could be for: `minirt tag` gives it one")
    reference = Reference.parse(image.name)

    def is_signed() -> bool:
        payloads = good_payloads(store, reference, image.digest, key)
        return any(is_meant(reference, payload.identity, {"type": "matchRepository"}) for payload in payloads)

    if not is_signed() and not (fetch(store, reference, image.digest, verify=args.tls_verify) and is_signed()):
        raise Unsigned(f"image {image.name!r} has no signature by {args.key}")

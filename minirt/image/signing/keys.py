"""Keys: ECDSA on P-256 with SHA-256, as cosign and skopeo have them.

A public key is PEM. A private key is PKCS #8 in PEM, or cosign's: "ENCRYPTED COSIGN PRIVATE KEY", a JSON document with the key
under scrypt and NaCl's secretbox (sigstore/cosign, pkg/cosign/keys.go; theupdateframework/go-tuf, encrypted).
"""

from __future__ import annotations

from minirt.image.signing.errors import BadKey, SigningError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

__all__ = ["generate", "load_private", "load_public", "sign", "verify"]

TITLES = ("ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY")
SCRYPT = {"N": 32768, "r": 8, "p": 1}
MEMORY = 1 << 26  # bytes that scrypt may take: a hostile key could ask for all there are
HINT = ".venv/bin/pip install 'cryptography>=42' 'pynacl>=1.5'"


def load_public(pem: bytes, name: str) -> EllipticCurvePublicKey:
    """Read a public key. Args: name, for errors. Raises BadKey."""
    serialization, ec = _library()
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise BadKey(f"{name} is not a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise BadKey(f"{name} is not a key for ECDSA on P-256")
    found: EllipticCurvePublicKey = key
    return found


def load_private(pem: bytes, name: str, passphrase: bytes) -> EllipticCurvePrivateKey:
    """Read a private key. Args: name, for errors; passphrase, of an encrypted one. Raises BadKey."""
    serialization, ec = _library()
    try:
        if any(f"-----BEGIN {title}-----".encode() in pem for title in TITLES):
            key = serialization.load_der_private_key(_open(_unarmored(pem), passphrase), None)
        else:
            key = serialization.load_pem_private_key(pem, passphrase or None if b"ENCRYPTED" in pem else None)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadKey(f"{name} is not a private key in PEM, or the passphrase is wrong") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise BadKey(f"{name} is not a key for ECDSA on P-256")
    found: EllipticCurvePrivateKey = key
    return found


def generate(passphrase: bytes) -> tuple[bytes, bytes]:
    """Make a key pair. Returns the private key in cosign's form, and the public one, as PEM."""
    serialization, ec = _library()
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _armored(_close(der, passphrase)), public


def sign(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the signature of data, in DER."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def verify(key: EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether a signature is the key's, of this data."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise SigningError(f"signatures need the package cryptography: {HINT}") from None
    return serialization, ec


def _box(passphrase: bytes, salt: bytes, params: dict[str, int]) -> Any:
    import hashlib

    try:
        from nacl.secret import SecretBox
    except ImportError:
        raise SigningError(f"cosign's private keys need the package pynacl: {HINT}") from None
    secret = hashlib.scrypt(
        passphrase, salt=salt, n=int(params["N"]), r=int(params["r"]), p=int(params["p"]), dklen=32, maxmem=MEMORY
    )
    return SecretBox(secret)


def _open(data: bytes, passphrase: bytes) -> bytes:
    import base64
    import json

    document = json.loads(data)
    kdf, cipher = document["kdf"], document["cipher"]
    if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
        raise ValueError("another way to encrypt")
    box = _box(passphrase, base64.b64decode(kdf["salt"]), kdf["params"])
    from nacl.exceptions import CryptoError

    try:
        opened: bytes = box.decrypt(base64.b64decode(document["ciphertext"]), base64.b64decode(cipher["nonce"]))
    except CryptoError:
        raise ValueError("wrong passphrase") from None
    return opened


def _close(data: bytes, passphrase: bytes) -> bytes:
    import base64
    import json
    import os

    salt, nonce = os.urandom(32), os.urandom(24)
    sealed = _box(passphrase, salt, SCRYPT).encrypt(data, nonce).ciphertext

    def text(raw: bytes) -> str:
        return base64.b64encode(raw).decode()

    kdf = {"name": "scrypt", "params": SCRYPT, "salt": text(salt)}
    cipher = {"name": "nacl/secretbox", "nonce": text(nonce)}
    return json.dumps({"kdf": kdf, "cipher": cipher, "ciphertext": text(sealed)}).encode()


def _armored(data: bytes) -> bytes:
    import base64

    body = base64.b64encode(data).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {TITLES[0]}-----", *lines, f"-----END {TITLES[0]}-----", ""]).encode()


def _unarmored(pem: bytes) -> bytes:
    import base64

    return base64.b64decode(b"".join(line for line in pem.split(b"\n") if not line.startswith(b"-----")))

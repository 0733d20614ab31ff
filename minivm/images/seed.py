"""A seed for cloud-init: the disk from which a stock cloud image learns its user, key, name and network at its first boot.

NoCloud, as cloud-init calls it: a file system with the label `cidata` that has three files, each YAML (JSON is YAML too):

    meta-data        who this machine is: a new instance-id makes cloud-init begin anew
    user-data        #cloud-config, and what to set up
    network-config   version 2, as netplan has it

and may have vendor-data, which user-data goes over.

docs.cloudinit.io, reference/datasources/nocloud, reference/modules (Users and Groups), reference/network-config-format-v2.
"""

from __future__ import annotations

import os
import re

from minivm.errors import MinivmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Given", "network", "seed", "user_data", "write_iso"]

LABEL = "cidata"
CARD = "eth0"  # to netplan a word of ours, as `match` says which cards are meant; elsewhere cloud-init takes it for the card's name
NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")  # as they are (YAML 1.2, 5.1)
PART = re.compile(r"[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?")  # of a host's name
KEY_TYPES = ("ssh-", "ecdsa-", "sk-")


class Given:
    """Files that are there already, by their paths; "" for none (given.py)."""

    __slots__ = ("meta", "network", "user", "vendor")

    def __init__(self, *, user: str = "", meta: str = "", network: str = "", vendor: str = "") -> None:
        self.user, self.meta, self.network, self.vendor = user, meta, network, vendor


def seed(
    *,
    user: str = "",
    keys: Sequence[str] = (),
    hostname: str = "",
    net: str = "",
    commands: Sequence[str] = (),
    given: Given | None = None,
) -> dict[str, bytes]:
    """Return the files of a seed.

    Args:
        user: a user that is made, who may become root by sudo; "" keeps the image's own, who then gets the keys.
        keys: public keys as in a .pub file, or paths of such files.
        hostname: the machine's; "" for the image's own.
        net: as `network` takes it; "" for the file that is given, else `dhcp`.
        commands: run by a shell at the end of the first boot.
        given: files that all this comes on top of.

    Raises UsageError, MinivmError where a file takes PyYAML.
    """
    from minivm.images import given as files

    given = given or Given()
    if net and given.network:
        raise UsageError("--net and --network-config both say how the network is: leave one out")
    if hostname and not is_hostname(hostname):
        raise UsageError(f"--hostname {hostname!r}: letters, digits and -, in parts of at most 63 with dots between them")
    own = user_data(user, [_key(key) for key in keys], commands)
    said = b"#cloud-config\n" + _json(own)
    if given.user:
        said = files.join(said if own else b"", files.user_data(given.user))
    meta = {"instance-id": f"iid-{os.urandom(8).hex()}"} | (files.mapping(given.meta, "meta-data") if given.meta else {})
    made = {
        "meta-data": _json(meta | ({"local-hostname": hostname} if hostname else {})),
        "user-data": said,
        "network-config": _json(files.network_config(given.network) if given.network else network(net or "dhcp")),
    }
    return made | ({"vendor-data": files.join(b"", files.user_data(given.vendor, "vendor-data"))} if given.vendor else {})


def is_hostname(text: str) -> bool:
    """Say whether a machine may be called this (RFC 1123, 2.1; man 7 hostname)."""
    return len(text) <= 253 and all(PART.fullmatch(part) for part in text.split("."))


def user_data(user: str, keys: Sequence[str], commands: Sequence[str]) -> dict[str, Any]:
    """Return the cloud-config."""
    if not user:
        said: dict[str, Any] = {"ssh_authorized_keys": list(keys)} if keys else {}
    else:
        if not (user.isascii() and user.replace("-", "").replace("_", "").isalnum() and (user[0].isalpha() or user[0] == "_")):
            raise UsageError(f"--user {user!r}: letters, digits, _ and -, and a letter or _ first")
        account = {"name": user, "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": True}
        said = {"users": [account | ({"ssh_authorized_keys": list(keys)} if keys else {})]}
    return said | ({"runcmd": list(commands)} if commands else {})


def network(text: str) -> dict[str, Any]:
    """Return the network's settings.

    Args:
        text: `dhcp`, `none`, or ADDRESS/PREFIX[,GATEWAY[,NAMESERVER...]].

    Raises UsageError.
    """
    import ipaddress

    if text == "none":
        return {"version": 2, "ethernets": {}}
    card: dict[str, Any] = {"match": {"name": "e*"}}  # whatever the bus and the kernel call it
    if text == "dhcp":
        return {"version": 2, "ethernets": {CARD: card | {"dhcp4": True}}}
    address, *more = text.split(",")
    try:
        own = ipaddress.ip_interface(address)
        others = [str(ipaddress.ip_address(word)) for word in more]
    except ValueError as error:
        raise UsageError(f"--net {text!r}: {error}; write dhcp, none, or ADDRESS/PREFIX,GATEWAY,NAMESERVER") from None
    if "/" not in address:
        raise UsageError(f"--net {text!r}: how long is the network's prefix? Write {own.ip}/24, say")
    card["addresses"] = [str(own)]
    if others:
        everything = "0.0.0.0/0" if own.version == 4 else "::/0"  # `default` is netplan's: others than it fail on that
        card["routes"] = [{"to": everything, "via": others[0]}]
    if others[1:]:
        card["nameservers"] = {"addresses": others[1:]}
    return {"version": 2, "ethernets": {CARD: card}}


def write_iso(path: str, files: dict[str, bytes]) -> None:
    """Write an ISO 9660 file system with the label, by pycdlib; with Rock Ridge, for names in lower case.

    Raises MinivmError without pycdlib, FileExistsError.
    """
    from io import BytesIO

    try:
        import pycdlib
    except ImportError:
        raise MinivmError("a seed is written by the package pycdlib: .venv/bin/pip install pycdlib") from None
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident=LABEL, rock_ridge="1.09", joliet=3)
    for number, (name, data) in enumerate(files.items()):
        iso.add_fp(BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    with open(path, "xb") as file:
        try:
            iso.write_fp(file)
            file.flush()
        except BaseException:
            os.unlink(path)
            raise
    iso.close()


def _key(text: str) -> str:
    """Return a public key: what was given, or what is in the file of that name. Raises UsageError."""
    if text.startswith(KEY_TYPES) and " " in text:  # a file's name may begin so too
        return text.strip()
    try:
        with open(text, encoding="utf-8") as file:
            key = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--key {text!r} is neither a public key nor a file with one ({error})") from None
    if not key.startswith(KEY_TYPES) or "\n" in key:
        raise UsageError(f"--key {text!r}: not one public key (the file ends in .pub)")
    return key


def _json(value: object) -> bytes:
    """Return what is bytes as it is, and all else as JSON that is YAML too.

    Characters beyond 16 bits stay as they are, for in two halves YAML would not know them.
    """
    import json

    if isinstance(value, bytes):
        return value
    text = json.dumps(value, indent=1, ensure_ascii=False, default=str)  # a date is one of YAML's values, too
    return NOT_IN_YAML.sub(lambda odd: f"\\u{ord(odd[0]):04x}", text).encode() + b"\n"

"""What a container is to be connected to, as --network, --ip, -p and their like say it: read, and checked.

    --network back --network name=front,alias=www,ip=10.1.2.3   ─▶ an Attachment each; docker's flags without a network's
                                                                  name (--ip, --network-alias ...) are of the first
    -p 8080:80, -P                                              ─▶ Ports
    --dns, --dns-search, --dns-option                           ─▶ what /etc/resolv.conf says, or who is asked in its place
"""

from __future__ import annotations

import os

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.network.connect import Attachment
    from minirt.network.ports import Port

__all__ = ["attachment", "attachments", "check", "exposed", "network_of", "ports", "resolv_conf", "resolver"]

ALONE = ("none", "host", "")


def network_of(options: RunOptions) -> str:
    """Return the first network that a container is in; empty for none, the host's, another container's. Raises: UsageError."""
    name = name_of(options.network)
    publishes = bool(options.publish or options.publish_all)
    if publishes and name == "none":
        return "bridge"
    if name in ALONE or name.startswith("container:"):
        if publishes or options.ip or options.ip6 or options.mac_address or options.network_alias or options.networks:
            flags = "--publish, --ip, --mac-address, --network-alias and another --network"
            raise UsageError(f"{flags}: with --network {name} there is nothing to publish or to name")
        return ""
    return "bridge" if name == "default" else name


def name_of(text: str) -> str:
    """Return the network's name of one --network: NAME, or name=NAME,alias=...."""
    if "=" not in text or text.startswith("container:"):
        return text
    return next((word[5:] for word in text.split(",") if word.startswith("name=")), "")


def attachments(options: RunOptions) -> list[Attachment]:
    """Return what a container is to be connected to. Raises: UsageError."""
    first = network_of(options)
    if not first:
        return []
    from minirt.network.connect import Attachment

    found = [attachment(text) for text in (options.network if options.network != "none" else first, *options.networks)]
    for one in found:
        one.network = "bridge" if one.network == "default" else one.network
        if one.network in ALONE or one.network.startswith("container:"):
            raise UsageError(f"--network {one.network}: it does not go together with others")
    if len({one.network for one in found}) < len(found):
        raise UsageError(f"--network {found[-1].network}: twice the same")
    own = found[0]  # docker's flags without a network's name are of the first
    found[0] = Attachment(own.network, [*own.aliases, *options.network_alias], own.address or options.ip,
                          own.address6 or options.ip6, own.hardware or options.mac_address)  # fmt: skip
    return found


def attachment(text: str) -> Attachment:
    """Return what one --network says: NAME, or name=NAME,alias=NAME,ip=ADDRESS,ip6=...,mac-address=.... Raises: UsageError."""
    from minirt.network.connect import Attachment

    if "=" not in text:
        return Attachment(text)
    words: dict[str, list[str]] = {}
    for word in text.split(","):
        key, _, value = word.partition("=")
        words.setdefault(key, []).append(value)
    aliases = words.pop("alias", [])
    single = {key: values[-1] for key, values in words.items()}
    name = single.pop("name", "")
    made = Attachment(name, aliases, single.pop("ip", ""), single.pop("ip6", ""), single.pop("mac-address", ""))
    if single or not name:
        raise UsageError(f"--network {text}: write name=NAME, and what is wanted of alias=, ip=, ip6=, mac-address=")
    return made


def ports(options: RunOptions, image: dict[str, Any]) -> list[Port]:
    """Return the ports that are to be published: -p, and with -P those of the image and --expose that -p does not name.

    Args:
        options: what was asked for.
        image: the image's `config` object.

    Raises: UsageError.
    """
    from minirt.network.ports import parse_ports

    found = [port for text in options.publish for port in parse_ports(text)]
    if options.publish_all:
        taken = {(port.inside, port.protocol) for port in found}
        found += [port for port in exposed(options, image) if (port.inside, port.protocol) not in taken]
    return found


def exposed(options: RunOptions, image: dict[str, Any]) -> list[Port]:
    """Return the ports that the image or --expose names. Raises: UsageError."""
    from minirt.network.ports import exposed_ports

    return exposed_ports([*(image.get("ExposedPorts") or ()), *options.expose])


def resolver(options: RunOptions) -> dict[str, list[str]]:
    """Return --dns, --dns-search and --dns-option. Raises: UsageError."""
    for server in options.dns:
        from ipaddress import ip_address

        try:
            ip_address(server)
        except ValueError as error:
            raise UsageError(f"--dns {server}: {error}") from None
    for text in (*options.dns_search, *options.dns_option):
        if not text or any(character.isspace() or not character.isprintable() for character in text):
            raise UsageError(f"--dns-search or --dns-option {text!r}: one word each")
    wanted = {"servers": options.dns, "search": options.dns_search, "options": options.dns_option}
    return {key: list(values) for key, values in wanted.items() if values}


def check(options: RunOptions) -> None:
    """Refuse what cannot be, before anything is made. Raises: UsageError."""
    resolver(options)
    wanted = attachments(options)
    if not wanted:
        return
    from minirt.network.addresses import parse_hardware

    ports(options, {})
    for one in wanted:
        if one.hardware:
            parse_hardware(one.hardware)
    if os.geteuid() != 0:
        from minirt.network.pasta import refuse

        refuse(wanted)


def resolv_conf(options: RunOptions) -> str:
    """Return what a container finds in /etc/resolv.conf until a network says otherwise."""
    from minirt.engine.context import read_host

    wanted = resolver(options)
    if not wanted and not network_of(options):
        return read_host("/etc/resolv.conf")
    from minirt.network.names import resolv_conf as text
    from minirt.network.names import servers_for

    return text(servers_for(wanted), wanted.get("search", []), wanted.get("options", []), False)

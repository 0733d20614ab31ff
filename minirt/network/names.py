"""Files of names: /etc/hosts and /etc/resolv.conf of a container, as its networks say.

Both are files of the container's directory, bound into it; written in place, what is in them changes there at once. Where the
names of a network are answered (keeper.py), resolv.conf sends all questions there; what the container was to have in its place
(--dns, or the host's) is asked from there.
"""

from __future__ import annotations

import os

from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.network.store import Endpoint, Store

__all__ = ["resolv_conf", "servers_for", "servers_in", "tell"]

BEGIN = "# its own addresses\n"
ELSEWHERE = "/run/systemd/resolve/resolv.conf"  # what systemd-resolved asks, where /etc/resolv.conf names only itself


def tell(store: Store, container: str) -> None:
    """Write a container's files anew."""
    places = store.endpoints(container=container)
    directory = os.path.join(data_root(), "containers", container)
    rewrite(f"{directory}/hosts", lambda old: old.partition(BEGIN)[0] + (BEGIN if places else "") + "".join(map(line, places)))
    answered = {network.name: str(network.ipam.gateway) for network in store.networks() if network.dns_port}
    servers = [answered[place.network] for place in places if place.network in answered]
    if places:
        wanted = places[0].resolver
        text = resolv_conf(servers or servers_for(wanted), wanted.get("search", ()), wanted.get("options", ()), bool(servers))
        rewrite(f"{directory}/resolv.conf", lambda _: text)


def rewrite(path: str, change: Callable[[str], str]) -> None:
    """Change a file in place; one that is not there is of a container that is just being made, or has gone."""
    try:
        with open(path, "r+", encoding="utf-8") as file:
            text = change(file.read())
            file.seek(0)
            file.write(text)
            file.truncate()
    except FileNotFoundError:
        pass


def line(end: Endpoint) -> str:
    """Return lines of /etc/hosts (man 5 hosts): each address, and what its container is called."""
    names = " ".join(dict.fromkeys([end.name, end.container[:12]]))
    return "".join(f"{address}\t{names}\n" for address in end.addresses)


def servers_for(wanted: dict[str, list[str]]) -> list[str]:
    """Return the name servers of a container without names of ours: --dns, or the host's that can be reached from there."""
    if wanted.get("servers"):
        return wanted["servers"]
    for path in ("/etc/resolv.conf", ELSEWHERE):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                found = [server for server in servers_in(file.read()) if not server.startswith("127.") and server != "::1"]
        except OSError:
            continue
        if found:
            return found
    return []


def resolv_conf(servers: list[str], search: list[str] | tuple[str, ...], options: list[str] | tuple[str, ...], ours: bool) -> str:
    """Return a resolv.conf (man 5 resolv.conf).

    Args:
        servers: name servers.
        search: domains; by default the host's, `.` for none.
        options: --dns-option; by default the host's.
        ours: whether names of containers are answered there: then one without a dot is asked for as it is.
    """
    here = host_words()
    search = [domain for domain in search or here.get("search", ()) if domain != "."]
    options = list(options or here.get("options", ()))
    if ours and not any(option.startswith("ndots:") for option in options):
        options.append("ndots:0")
    lines = [f"search {' '.join(search)}"] if search else []
    lines += [f"nameserver {server}" for server in servers]
    lines += [f"options {' '.join(options)}"] if options else []
    return "".join(f"{text}\n" for text in lines)


def host_words() -> dict[str, list[str]]:
    """Return what the host's resolv.conf says after `search` and `options`."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            words = [text.split() for text in file]
    except OSError:
        return {}
    return {word[0]: word[1:] for word in words if word and word[0] in ("search", "options")}


def servers_in(text: str) -> list[str]:
    """Return the name servers of a resolv.conf's text (man 5 resolv.conf)."""
    words = [line.split() for line in text.splitlines()]
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]

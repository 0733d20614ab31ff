"""The facts as text: a tree for a terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Tree = tuple[str, list[Any]]  # a line, and what is below it

__all__ = ["amount", "figures", "goal", "layers", "own", "render", "where"]

BOLD, DIM, GREEN, CYAN = "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[36m"


def render(facts: dict[str, Any], paint: Callable[[str, str], str] = lambda code, text: text) -> Iterator[str]:
    """Yield the lines.

    Args:
        facts: of facts.collect.
        paint: puts a text into a colour.
    """
    host = facts["host"]
    yield from lines((paint(BOLD, host["name"]) + f"  Linux {host['kernel']}", [
        *[of_container(one, paint) for one in facts["containers"]],
        *[of_bridge(link, facts, paint) for link in host["links"] if link["kind"] == "bridge"],
        ("ports of the host", [(f"{where(port)} ─▶ {goal(port)}", [])
                               for port in facts["ports"]]),
        *[of_group(group, facts, paint) for group in facts["groups"]],
    ]))  # fmt: skip


def lines(tree: Tree, first: str = "", rest: str = "") -> Iterator[str]:
    """Yield a tree's lines, with the branches drawn."""
    text, below = tree
    yield first + text
    below = [part for part in below if part[0] not in ("", "ports of the host") or part[1]]
    for number, part in enumerate(below):
        last = number == len(below) - 1
        yield from lines(part, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def of_container(one: dict[str, Any], paint: Callable[[str, str], str]) -> Tree:
    """Return a container's part."""
    spaces = one["namespaces"]
    shared = [f"{kind} with {', '.join(names)}" for kind, names in one["shares"].items()]
    alone = [kind for kind, space in spaces.items() if not space["host"] and kind not in one["shares"]]
    group = one["cgroup"]
    return (paint(BOLD + GREEN, one["name"]) + f"  {one['image']}  {one['program']}, process {one['pid']}", [
        ("namespaces", [
            (f"its own    {' '.join(alone)}" if alone else "", []),
            (f"shared     {'; '.join(shared)}" if shared else "", []),
            (f"the host's {' '.join(kind for kind, space in spaces.items() if space['host'])}", []),
        ]),
        (f"cgroup     {figures(group)}" if group else "", []),
        ("layers", [(paint(DIM, own(one, path) + ("  (what it changes)" if path == one["layers"]["upper"] else "")), [])
                    for path in layers(one)]),
        ("mounts", [(f"{m['target']} ◀─ {own(one, m['source'])} {paint(DIM, m['type'] + (', ro' if m['read_only'] else ''))}", [])
                    for m in one["mounts"]]),
        *[(f"{paint(CYAN, link['name'])} {' '.join(link['addresses'])}  {'══ ' + link['end'] if link['end'] else link['kind']}", [])
          for link in one["links"]],
    ])  # fmt: skip


def layers(one: dict[str, Any]) -> list[str]:
    """Return the layers of a container's root, the uppermost first."""
    return [path for path in [one["layers"]["upper"], *one["layers"]["lower"]] if path]


def of_bridge(link: dict[str, Any], facts: dict[str, Any], paint: Callable[[str, str], str]) -> Tree:
    """Return a bridge's part: what is at it."""
    network = next((network for network in facts["networks"] if network["bridge"] == link["name"]), None)
    what = f"network {network['name']}{', internal' if network['internal'] else ''}" if network else "not ours"
    at = [other for other in facts["host"]["links"] if other["bridge"] == link["name"]]
    return (f"bridge {paint(CYAN, link['name'])}  {' '.join(link['addresses'])}  {what}", [
        (f"{other['name']} ══ {other['end']['name']} of {other['end']['container']}" if other["end"] else other["name"], [])
        for other in at
    ])  # fmt: skip


def of_group(group: dict[str, Any], facts: dict[str, Any], paint: Callable[[str, str], str]) -> Tree:
    """Return a cgroup's part."""
    owner = next((one["name"] for one in facts["containers"] if one["cgroup"] and one["cgroup"]["path"] == group["path"]), "")
    name = f"{paint(GREEN, owner)}  {group['name'][:24]}" if owner else f"cgroup {group['name']}"
    return f"{name}  {figures(group)}", [of_group(child, facts, paint) for child in group["children"]]


def figures(group: dict[str, Any]) -> str:
    """Return what a group uses, in a line; what is not counted here is left out."""
    parts = []
    if group["memory"] is not None:
        parts.append(f"memory {amount(group['memory'])}" + (f" of {amount(group['limit'])}" if group["limit"] else ""))
    if group["cpu"] is not None:
        parts.append(f"processor {group['cpu'] / 1e6:.2f} s")
    count = group["pids"] if group["pids"] is not None else group["processes"]
    parts.append(f"{count} process{'' if count == 1 else 'es'}")
    return ", ".join([*parts, *(["frozen"] if group["frozen"] else [])])


def amount(size: int) -> str:
    """Return bytes as people say them."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def where(port: dict[str, Any]) -> str:
    """Return a port of the host as it is written."""
    address = f"[{port['address']}]" if ":" in port["address"] else port["address"] or "*"
    return f"{address}:{port['port']}/{port['protocol']}"


def goal(port: dict[str, Any]) -> str:
    """Return where a port of the host leads."""
    address = f"[{port['to']}]" if ":" in port["to"] else port["to"]
    return f"{port['container']}  {address}:{port['inside']}"


def own(one: dict[str, Any], path: str) -> str:
    """Return a path, shortened where it is in the container's own directory, whose name is long."""
    before, found, rest = path.partition(f"/{one['id']}/")
    return f"…/{one['id'][:12]}/{rest}" if found and before.endswith("/containers") else path

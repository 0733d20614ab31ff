"""The facts as a picture (SVG 1.1): a card a container, the bridges below, the host's wire and its cgroups under them.

    ┌ web ───────┐ ┌ db ────────┐
    │ namespaces │ │            │     a namespace's colour is the same wherever it is the same one; grey is the host's
    │ cgroup     │ │            │
    │ layers     │ │            │
    │ mounts     │ │            │
    └ eth0 ──────┘ └ eth0 ──────┘
    ════ bridge ═════════════════     what goes in at eth0 comes out there
    ──●8080────────────────────────   the host

No program but a browser is needed to see it, and none to draw it: positions are sums of sizes.
"""

from __future__ import annotations

from html import escape

from minirt.graph.text import amount, figures, goal, layers, own, where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["draw"]

CARD, GAP, MARGIN, LINE = 276, 26, 28, 17  # pixels
MOST = 12  # mounts that are shown
COLOURS = ("#2563eb", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0e7490", "#a16207", "#be185d")
STYLE = """
  text { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; fill: #1e293b; white-space: pre }
  .title { font-weight: bold; font-size: 14px } .head { font-size: 10px; fill: #64748b; letter-spacing: 1px }
  .soft { fill: #64748b; font-size: 11px } .chip { font-size: 10px; fill: #fff } .hostchip { font-size: 10px; fill: #475569 }
  .card { fill: #fff; stroke: #cbd5e1 } .layer { fill: #e2e8f0; stroke: #94a3b8 } .upper { fill: #fef3c7; stroke: #d97706 }
  .bar { fill: #e2e8f0 } .used { fill: #16a34a } .wire { fill: none; stroke-width: 2 }
"""


class Drawing:
    """Shapes, and the place where the next line goes."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, css: str = "", room: float = 0.0, fill: str = "") -> None:
        """Write a line; what does not fit into so many pixels is cut, and there when the pointer rests on it."""
        shown, most = text, int(room / (7.3 if css in ("", "title") else 6.7)) if room else 0
        if most and len(text) > most:
            shown = "…" + text[-most + 1 :] if "/" in text else text[: most - 1] + "…"
        colour = f' style="fill:{fill}"' if fill else ""
        whole = f"<title>{escape(text)}</title>" if shown != text else ""
        self.parts.append(f'<text x="{x:.0f}" y="{y:.0f}" class="{css}"{colour}>{whole}{escape(shown)}</text>')

    def box(self, x: float, y: float, width: float, height: float, css: str = "", round: int = 4, fill: str = "") -> None:
        """Draw a rectangle."""
        colour = f' style="fill:{fill}"' if fill else ""
        size = f'width="{width:.0f}" height="{height:.0f}" rx="{round}"'
        self.parts.append(f'<rect x="{x:.0f}" y="{y:.0f}" {size} class="{css}"{colour}/>')

    def wire(self, points: list[tuple[float, float]], colour: str) -> None:
        """Draw a line through points."""
        path = " ".join(f"{'L' if number else 'M'}{x:.0f} {y:.0f}" for number, (x, y) in enumerate(points))
        self.parts.append(f'<path d="{path}" class="wire" style="stroke:{colour}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        """Draw a dot."""
        self.parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" style="fill:{colour};stroke:#fff"/>')


def draw(facts: dict[str, Any]) -> str:
    """Return the picture. Args: facts, of facts.collect."""
    d = Drawing()
    host, shown = facts["host"], facts["containers"]
    width = max(2 * MARGIN + len(shown) * (CARD + GAP) - GAP, 2 * MARGIN + 2 * CARD)
    d.text(MARGIN, 34, f"{host['name']}   Linux {host['kernel']}", "title")
    d.text(MARGIN, 52, f"{len(shown)} container{'' if len(shown) == 1 else 's'} running", "soft")
    top = 70.0
    colours = space_colours(shown)
    height = max([card_height(one) for one in shown], default=0)
    ends: dict[tuple[str, str], tuple[float, float]] = {}  # (container, interface) -> where its wire begins
    for number, one in enumerate(shown):
        card(d, MARGIN + number * (CARD + GAP), top, height, one, colours, ends)
    below = bridges(d, facts, top + height + 46, width, ends)
    below = wire_of_host(d, facts, below, width)
    below = cgroups(d, facts, below, width)
    size = f'width="{width:.0f}" height="{below:.0f}" viewBox="0 0 {width:.0f} {below:.0f}"'
    body = "\n".join(d.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
        f'<rect width="100%" height="100%" fill="#f8fafc"/>\n{body}\n</svg>\n'
    )


def space_colours(shown: list[dict[str, Any]]) -> dict[int, str]:
    """Return a colour for each namespace that several containers share; one of a single container has the first."""
    shared: dict[int, str] = {}
    for one in shown:
        for kind in one["shares"]:
            number = one["namespaces"][kind]["number"]
            shared.setdefault(number, COLOURS[1 + len(shared) % (len(COLOURS) - 1)])
    return shared


def card_height(one: dict[str, Any]) -> float:
    """Return how tall a card has to be."""
    rows = len(layers(one)) + min(len(one["mounts"]), MOST + 1) + sum(max(len(link["addresses"]), 1) for link in one["links"])
    return 192 + LINE * (rows + len(one["shares"]))


def card(
    d: Drawing, x: float, y: float, height: float, one: dict[str, Any], colours: dict[int, str],
    ends: dict[tuple[str, str], tuple[float, float]],
) -> None:  # fmt: skip
    """Draw a container."""
    d.box(x, y, CARD, height, "card", 8)
    inner, room = x + 12, CARD - 24
    d.text(inner, y + 22, one["name"], "title", room)
    d.text(inner, y + 38, f"{one['image']}   {one['program']} ({one['pid']})", "soft", room)
    at = chips(d, inner, y + 58, one, colours)
    at = heading(d, inner, at, "CGROUP")
    if one["cgroup"]:
        gauge(d, inner, at, room, one["cgroup"])
    at = heading(d, inner, at + 24, "LAYERS")
    for path in layers(one):
        upper = path == one["layers"]["upper"]
        d.box(inner, at - 11, room, LINE - 2, "upper" if upper else "layer", 2)
        d.text(inner + 6, at, "what it changes" if upper else path, "soft", room - 12)
        at += LINE
    at = heading(d, inner, at + 6, "MOUNTS")
    for mount in one["mounts"][:MOST]:
        d.text(inner, at, f"{mount['target']} ◀ {own(one, mount['source'])}", "soft", room)
        at += LINE
    if len(one["mounts"]) > MOST:
        d.text(inner, at, f"and {len(one['mounts']) - MOST} more", "soft")
    links(d, inner, y + height, one, ends)


def chips(d: Drawing, x: float, y: float, one: dict[str, Any], colours: dict[int, str]) -> float:
    """Draw the namespaces, a chip each. Returns where it goes on."""
    at = heading(d, x, y, "NAMESPACES")
    left = x
    for kind, space in one["namespaces"].items():
        size = 8 + 6 * len(kind)
        fill = "#e2e8f0" if space["host"] else colours.get(space["number"], COLOURS[0])
        d.box(left, at - 11, size, 15, "", 7, fill)
        d.text(left + 4, at, kind, "hostchip" if space["host"] else "chip")
        left += size + 2
    at += LINE + 2
    for kind, names in one["shares"].items():
        d.text(x, at, f"{kind} is also {', '.join(names)}'s", "soft", CARD - 24, colours[one["namespaces"][kind]["number"]])
        at += LINE
    return at + 4


def heading(d: Drawing, x: float, y: float, text: str) -> float:
    """Write a small heading. Returns where it goes on."""
    d.text(x, y, text, "head")
    return y + LINE


def gauge(d: Drawing, x: float, y: float, room: float, group: dict[str, Any]) -> None:
    """Draw what a group uses: a bar where there is a limit."""
    d.text(x, y, figures(group), "soft", room)
    if group["memory"] is not None and group["limit"]:
        d.box(x, y + 5, room, 5, "bar", 2)
        d.box(x, y + 5, max(room * min(group["memory"] / group["limit"], 1), 2), 5, "used", 2)


def links(d: Drawing, x: float, bottom: float, one: dict[str, Any], ends: dict[tuple[str, str], tuple[float, float]]) -> None:
    """Draw the interfaces at a card's lower edge."""
    rows = sum(max(len(link["addresses"]), 1) for link in one["links"])
    at = bottom - 10 - LINE * max(rows - 1, 0)
    if not one["links"]:
        host = one["namespaces"].get("net", {}).get("host")
        d.text(x, at, "the host's network" if host else "no interface but lo", "soft")
    for number, link in enumerate(one["links"]):
        for row, address in enumerate(link["addresses"] or ["no address"]):
            d.text(x, at, f"{link['name'] if not row else '':6}{address}", "", CARD - 24)
            at += LINE
        if link["shared"]:
            continue  # it is drawn at another container, which has the same network namespace
        ends[one["name"], link["name"]] = (x + 30 + 64 * number, bottom)
        d.box(x + 22 + 64 * number, bottom - 4, 16, 8, "", 2, "#334155")


def bridges(
    d: Drawing, facts: dict[str, Any], y: float, width: float, ends: dict[tuple[str, str], tuple[float, float]]
) -> float:
    """Draw the bridges with the pairs that lead to them. Returns where it goes on."""
    found = [link for link in facts["host"]["links"] if link["kind"] == "bridge"]
    of = {network["bridge"]: network for network in facts["networks"]}
    for number, bridge in enumerate(found):  # wires first, so that they go behind the bridges that they are not of
        for link in facts["host"]["links"]:
            if link["bridge"] == bridge["name"] and link["end"] and (link["end"]["container"], link["end"]["name"]) in ends:
                x, from_y = ends[link["end"]["container"], link["end"]["name"]]
                d.wire([(x, from_y + 4), (x, y + 58 * number)], COLOURS[number % len(COLOURS)])
                d.text(x + 6, y + 58 * number - 5, link["name"], "soft", 110)
    for number, bridge in enumerate(found):
        d.box(MARGIN, y, width - 2 * MARGIN, 30, "", 6, COLOURS[number % len(COLOURS)])
        network = of.get(bridge["name"])
        what = f"network {network['name']}{' (internal)' if network['internal'] else ''}" if network else "a bridge of others"
        d.text(MARGIN + 12, y + 19, f"{bridge['name']}   {what}   {' '.join(bridge['addresses'])}", "", width - 80, "#fff")
        y += 58
    return y


def wire_of_host(d: Drawing, facts: dict[str, Any], y: float, width: float) -> float:
    """Draw the host's own interfaces, and the ports that lead to containers. Returns where it goes on."""
    own = [link for link in facts["host"]["links"] if not link["bridge"] and link["kind"] not in ("bridge",) and link["up"]]
    d.text(MARGIN, y + 8, "THE HOST'S INTERFACES AND PUBLISHED PORTS", "head")
    y += 28
    for link in own:
        d.text(MARGIN, y, f"{link['name']:8}{' '.join(link['addresses'])}", "", width - 2 * MARGIN)
        y += LINE
    y += 6
    for port in facts["ports"]:
        d.dot(MARGIN + 6, y - 4, "#b91c1c")
        d.text(MARGIN + 20, y, f"{where(port)}  ▶  {goal(port)}", "", width - 2 * MARGIN)
        y += LINE
    return y + 16


def cgroups(d: Drawing, facts: dict[str, Any], y: float, width: float) -> float:
    """Draw the tree of cgroups; a bar is a group's part of the memory that is used. Returns where it goes on."""
    if not facts["groups"]:
        return y
    owners = {one["cgroup"]["path"]: one["name"] for one in facts["containers"] if one["cgroup"]}
    top = facts["groups"][0]
    whole = top["memory"] or max((child["memory"] or 0 for child in top["children"]), default=0)  # the root group counts none
    left, room = MARGIN + 260, max(width - 2 * MARGIN - 580, 60) if whole else 0
    d.text(MARGIN, y, "CGROUPS: WHAT EACH USES, ITS CHILDREN'S IN IT", "head")
    y += LINE + 4

    def below(group: dict[str, Any], depth: int, y: float) -> float:
        name = owners.get(group["path"], group["name"])
        d.text(MARGIN + 18 * depth, y, name, "title" if group["path"] in owners else "", 240 - 18 * depth)
        if whole and group["memory"] is not None:
            d.box(left, y - 9, room, 10, "bar", 3)
            d.box(left, y - 9, max(room * min(group["memory"] / whole, 1), 2), 10, "used", 3)
            d.text(left + room + 10, y, amount(group["memory"]), "soft")
        d.text(left + (room + 90 if whole else 0), y, figures({**group, "memory": None}), "soft", 230)
        y += LINE + 2
        for child in group["children"]:
            y = below(child, depth + 1, y)
        return y

    for group in facts["groups"]:
        y = below(group, 0, y)
    return y + 14

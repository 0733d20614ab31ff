"""Manual pages and sections of specifications: where source and prose name them, a page that lists them, and links between both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

__all__ = ["cited_page", "cites", "cross_linked"]

NAME = r"([a-z_][\w-]*(?:\.[\w-]+)*)"
MANUAL = re.compile(rf"\bman (\d) {NAME}|`{NAME}\((\d)\)`")
SPECIFICATION = re.compile(r"\b((?:runtime|image|distribution)-spec [\w-]+(?:\.[\w-]+)*(?:#[\w-]+)?)"
                           r"|\b(Intel SDM volume \w+(?:, [\d.]+)?)")  # fmt: skip


def cites(text: str) -> Iterator[str]:
    """Yield the manual pages and the sections of specifications that a text names."""
    for match in MANUAL.finditer(text):
        yield f"{match[2] or match[3]}({match[1] or match[4]})"
    for match in SPECIFICATION.finditer(text):
        yield match[1] or match[2]


def cross_linked(text: str, up: str) -> str:
    """Return Markdown in which manual pages and sections of specifications lead to where the site lists them."""

    def link(match: re.Match[str]) -> str:
        already = text[: match.start()].endswith("[")
        return match[0] if already else f"[{match[0]}]({up}cited.md#{anchor(next(cites(match[0])))})"

    text = MANUAL.sub(link, text)
    return SPECIFICATION.sub(link, text)


def anchor(name: str) -> str:
    """Return the anchor of a manual page or a section in the list of them."""
    return re.sub(r"\W+", "-", name).strip("-").lower()


def cited_page(cited: Mapping[str, set[str]]) -> str:
    """Return the list of what the source and its prose name, each with the files that do."""
    text = "# Manual pages and specifications\n\nWhere source and prose name them; the first link leads out, to the text.\n\n"
    for name, places in sorted(cited.items()):
        address = elsewhere(name)
        told = f"[{name}]({address})" if address else name
        found = ", ".join(f"[{place}](source/{place}.md)" for place in sorted(places))
        text += f'- <a id="{anchor(name)}"></a>{told}{": " if found else ""}{found}\n'
    return text


def elsewhere(name: str) -> str:
    """Return the address of a manual page or a section of OCI's specifications in the net; empty for what has none."""
    manual = re.fullmatch(r"(.+)\((\d)\)", name)
    if manual:
        return f"https://man7.org/linux/man-pages/man{manual[2]}/{manual[1]}.{manual[2]}.html"
    kind, _, place = name.partition(" ")
    return f"https://github.com/opencontainers/{kind}/blob/main/{place}" if kind.endswith("-spec") and ".md" in place else ""

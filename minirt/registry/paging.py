"""A long list in pieces: `?n=` how many, `?last=` after which (distribution-spec spec.md#listing-tags)."""

from __future__ import annotations

from bisect import bisect_right

from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Page", "next_link"]


class Page:
    """What a query asks for.

    Args: query, the URL's; limit, the most that one answer holds.
    Raises Refusal where n is no number.
    """

    def __init__(self, query: Mapping[str, str], limit: int = 1000) -> None:
        text = query.get("n", "")
        if text and not (text.isascii() and text.isdigit()):
            raise Refusal("UNSUPPORTED", f"n={text[:40]!r} is not a number", status=400)
        self.size = min(int(text[:9]), limit) if text else limit
        self.last = query.get("last", "")

    def of(self, items: Sequence[str]) -> tuple[list[str], bool]:
        """Return the piece of a sorted list, and whether more follows. Where nothing was asked for, nothing follows."""
        begin = bisect_right(items, self.last) if self.last else 0  # `last` itself need not be there any more
        end = begin + self.size
        return list(items[begin:end]), self.size > 0 and end < len(items)


def next_link(path: str, last: str, **query: str | int) -> str:
    """Return the Link header (RFC 8288) that leads to what follows `last`."""
    from urllib.parse import urlencode

    return f'<{path}?{urlencode({**query, "last": last})}>; rel="next"'

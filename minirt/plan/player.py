"""The trace player: a trace as one page that steps forward and back through it, with no network, no root, no Linux.

The page is player.html, with the trace in it. What it shows beside each event is folded from the events' own `change` lines, in
the browser; nothing is computed here that could differ from the trace.
"""

from __future__ import annotations

import html
import json
import os
from errno import errorcode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.trace import Event

__all__ = ["page"]


def page(header: dict[str, Any], events: Iterable[Event]) -> str:
    """Return a trace as a page of HTML.

    Args:
        header: the trace's, as `read_trace` gives it.
        events: of it.
    """
    with open(os.path.join(os.path.dirname(__file__), "player.html"), encoding="utf-8") as file:
        template = file.read()
    subject = " ".join([str(header.get("image", "")), *map(str, header.get("command") or ())]).strip()
    kind = "A container" if header.get("kind") == "container" else "A machine"
    title = f"{kind}, call by call{f': {subject}' if subject else ''}"
    shown = [event.as_dict() for event in events]
    errnos = {number: errorcode.get(number, str(number)) for number in {event.get("errno", 0) for event in shown}}
    data = json.dumps({"header": header, "events": shown, "errnos": errnos}, separators=(",", ":"))
    # In a script element only "<" could end it, or begin a comment (HTML, "Restrictions for contents of script elements").
    data = data.replace("<", "\\u003c")
    before, _, after = template.replace("@TITLE@", html.escape(title)).partition("@TRACE@")
    return before + data + after

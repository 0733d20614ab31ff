"""A recorded trace as a picture: a column for each call, as high as it took long; who made it, in which step, what failed.

It leads to the player's page (minirt/plan/player.py), which steps through the same trace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minirt.trace import Event
from tutorials.tutor.diagrams import WIDTH, box, label, linked, svg

__all__ = ["timeline"]

LANE = 92  # pixels of one side's row; the last 20 are its gap to the next
LEFT, RIGHT, FOOT = 104, 40, 96  # room for the sides' names, and for the steps'
NEAR = 13  # pixels between two steps' names, at least
DECADES = 6  # of duration: from 100 ns, which is no height, to 100 ms


def timeline(events: Sequence[Event], player: str, said: str) -> str:
    """Draw a trace.

    Args:
        events: of it.
        player: address of the page that steps through it; an event's own is that with #NUMBER.
        said: what the trace is of, in a few words.
    """
    sides = list(dict.fromkeys(event.side for event in events))
    wide = min((WIDTH - LEFT - RIGHT) / max(len(events), 1), 24)
    parts, step, last = list[str](), "", -100.0
    bottom = len(sides) * LANE
    for number, side in enumerate(sides):
        base = number * LANE + LANE - 20
        parts.append(label(0, base - 24, side, "name"))
        parts.append(f'<path d="M{LEFT} {base} H{LEFT + wide * len(events):.1f}" class="axis"/>')
        for power, name in ((3, "1 µs"), (6, "1 ms")):
            y = base - height(10**power)
            parts.append(f'<path d="M{LEFT} {y:.1f} H{LEFT + wide * len(events):.1f}" class="grid"/>')
            parts.append(label(LEFT - 34, y + 4, name, "scale"))
    for number, event in enumerate(events):
        x = LEFT + number * wide
        base = sides.index(event.side) * LANE + LANE - 20
        high = max(height(event.duration), 3)
        ended = event.errno and not any(later.side == event.side for later in events[number + 1 :])
        css = "failed" if ended else "tolerated" if event.errno else "changed" if event.change else "call"
        took = f"{event.duration / 1000:.1f} µs" if event.duration else ""
        title = " · ".join(filter(None, (f"{event.call}({', '.join(event.args)})"[:160], event.step, took, event.why)))
        bar = box(x + wide * 0.1, base - high, max(wide * 0.8, 1), high, css)
        parts.append(linked(f"{player}#{number + 1}", bar, title))
        if event.step != step:
            step = event.step
            if x - last >= NEAR:
                last = x
                at = x + wide / 2
                parts.append(f'<path d="M{at:.1f} {base} V{bottom - 14}" class="grid"/>')
                parts.append(f'<text transform="translate({at:.1f} {bottom - 6}) rotate(55)" class="scale">{step}</text>')
    return svg(WIDTH, bottom + FOOT, said, parts)


def height(duration: float) -> float:
    """Return a column's height for so many nanoseconds: a decade is as high as the other."""
    return (LANE - 30) / DECADES * min(max(math.log10(max(duration, 1)) - 2, 0), DECADES)

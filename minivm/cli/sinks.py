"""What the events of a run go to: --explain, --profile, --trace."""

from __future__ import annotations

import contextlib
import sys

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from minirt.trace import Sink

__all__ = ["opened"]


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[list[Sink]]:
    """Open what the events go to; flushed and closed at the end."""
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = []
        if options.explain:
            from minirt.plan.explain import Explainer
            from minivm.inspect.fold import Fold

            fold = Fold(Explainer(sys.stderr))
            stack.callback(fold.flush)
            sinks.append(fold)
        if options.profile:
            from minivm.inspect.profile import Profile

            options.profile = Profile()
            sinks.append(options.profile)
        if options.trace:
            sinks.append(stack.enter_context(_trace(options.trace)))
        yield sinks


@contextlib.contextmanager
def _trace(path: str) -> Iterator[Sink]:
    """Open a trace. Raises MinivmError where it cannot be written, now or later (a full disk)."""
    from minirt.trace import TraceWriter

    try:
        with open(path, "w", encoding="utf-8") as file:
            yield TraceWriter(file, "machine")
    except OSError as error:
        raise MinivmError(f"cannot write trace {path!r}: {error.strerror}") from None

"""Hooks: programs that an engine wants run at points of a container's life (runtime-spec config.md#posix-platform-hooks).

    prestart, createRuntime   on the host, when namespaces and mounts are made      } a failure here ends
    createContainer           in the container's namespaces, host's files in sight  } the container
    startContainer            in the container, before its program                  }
    poststart                 on the host, when the program runs
    poststop                  on the host, when the container is deleted

Each gets the container's state on standard input.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Hook = dict[str, Any]

__all__ = ["before_pivot", "of", "run_inside", "run_outside"]


def of(config: dict[str, Any], kind: str) -> list[Hook]:
    """Return the hooks of a kind."""
    return (config.get("hooks") or {}).get(kind) or []


def before_pivot(config: dict[str, Any]) -> bool:
    """Say whether some hook wants to see the host's files and the container's mounts together."""
    return any(of(config, kind) for kind in ("prestart", "createRuntime", "createContainer"))


def run_outside(kind: str, hooks: Sequence[Hook], state: dict[str, Any]) -> None:
    """Run hooks on the host, one after the other. Raises: RuntimeFailure at the first that fails."""
    for i, hook in enumerate(hooks):
        from minirt.runtime import hook as one

        one.run_outside(f"error running {kind} hook #{i}", hook, state)


def run_inside(kind: str, hooks: Sequence[Hook], state: dict[str, Any], pid: int) -> None:
    """Run hooks in a container's namespaces.

    Args:
        kind: for messages.
        hooks: what to run.
        state: what they get.
        pid: the container's first process, which waits meanwhile.

    Raises: RuntimeFailure at the first that fails.
    """
    for i, hook in enumerate(hooks):
        from minirt.runtime import hook as one

        one.run_inside(f"error running {kind} hook #{i}", hook, state, pid)

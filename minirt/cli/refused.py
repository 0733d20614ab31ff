"""Flags of `docker run` that are refused, each with its reason: better than one that is taken and does nothing.

A test reads `docker run --help` and holds that each flag of it is either one of ours or stands here.
"""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["REFUSED", "add_refused"]

V2 = "cgroup v2 has no such limit"
WINDOWS = "it is for Windows"

# flag -> why, and what to do instead
REFUSED = {
    "--blkio-weight-device": "cgroup v2 weighs a group on all devices alike: --io-weight",
    "--cgroup-parent": "containers' groups are minirt's to place",
    "--cpu-count": WINDOWS,
    "--cpu-percent": WINDOWS,
    "--cpu-rt-period": V2,
    "--cpu-rt-runtime": V2,
    "--gpus": "not implemented: give --device /dev/nvidia0 and what else belongs to it",
    "--io-maxbandwidth": WINDOWS,
    "--io-maxiops": WINDOWS,
    "--isolation": WINDOWS,
    "--kernel-memory": V2,
    "--link": "containers of one --network know each other by name",
    "--link-local-ip": "not implemented",
    "--memory-swappiness": V2,
    "--oom-kill-disable": V2,
    "--runtime": "minirt is the runtime: minirt run --as-oci DIR writes a bundle for another",
    "--storage-opt": "what a container writes has no limit of its own",
    "--use-api-socket": "a container is not given the engine: bind its socket with -v if it must have it",
}


class Refuse(argparse.Action):
    """Say why."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> NoReturn:
        parser.exit(125, f"{parser.prog}: {option}: {REFUSED[str(option)]}\n")


def add_refused(parser: argparse.ArgumentParser) -> None:
    """Let a parser know the flags, without telling of them in its help."""
    hidden: dict[str, Any] = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for flag in REFUSED:
        parser.add_argument(flag, action=Refuse, nargs="?", **hidden)

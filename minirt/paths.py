"""Where things are kept (man 7 file-hierarchy; XDG Base Directory specification where not root).

`MINIRT_ROOT` moves all of it below one directory, for tests and for looking at it.
"""

from __future__ import annotations

import os

__all__ = ["cache_root", "data_root", "policy_path", "state_root"]


def _below(root_path: str, variable: str, fallback: str) -> str:
    root = os.environ.get("MINIRT_ROOT")
    if root:
        return os.path.join(os.path.abspath(root), os.path.basename(os.path.dirname(root_path)))
    if os.geteuid() == 0:
        return root_path
    return os.path.join(os.environ.get(variable) or os.path.expanduser(fallback), "minirt")


def data_root() -> str:
    """Return the directory of images and containers: /var/lib/minirt, or below XDG_DATA_HOME."""
    return _below("/var/lib/minirt", "XDG_DATA_HOME", "~/.local/share")


def state_root() -> str:
    """Return the directory of what is only true until the next boot: /run/minirt, or below XDG_RUNTIME_DIR."""
    return _below("/run/minirt", "XDG_RUNTIME_DIR", "~/.local/state")


def cache_root() -> str:
    """Return the directory of what can be made again: /var/cache/minirt, or below XDG_CACHE_HOME."""
    return _below("/var/cache/minirt", "XDG_CACHE_HOME", "~/.cache")


def policy_path() -> str:
    """Return the path of the policy that says which images may be used: MINIRT_POLICY, the user's, the machine's; "" for none."""
    given = os.environ.get("MINIRT_POLICY")
    if given:
        return given
    own = os.path.expanduser("~/.config/minirt/policy.json")
    return next((path for path in (own, "/etc/minirt/policy.json") if os.path.exists(path)), "")

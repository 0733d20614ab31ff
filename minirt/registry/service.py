"""What the handlers of requests share: the registry, who may do what, where to look for more, and a way to wait for disks.

A handler runs in the event loop, which serves everybody, so what may take long (a write, an fsync, a hash of much
data, a lock) goes through `work`: a thread does it. Opening and reading small files is left in the loop.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from minirt.registry.access import Access
    from minirt.registry.proxy import Proxy
    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository

    T = TypeVar("T")

__all__ = ["SERVICE", "Service", "repository_of", "service_of", "work"]

_THREADS = ThreadPoolExecutor(32, "registry")


class Service:
    """One running registry."""

    def __init__(self, registry: Registry, access: Access, proxy: Proxy | None = None, *, read_only: bool = False) -> None:
        self.registry = registry
        self.access = access
        self.proxy = proxy
        self.read_only = read_only or proxy is not None


SERVICE = web.AppKey("service", Service)


def service_of(request: web.Request) -> Service:
    """Return what the application is about."""
    return request.app[SERVICE]


def repository_of(request: web.Request) -> Repository:
    """Return the repository that a URL names. Raises Refusal (NAME_INVALID)."""
    return service_of(request).registry.repository(request.match_info["name"])


def must_be_writable(request: web.Request) -> None:
    """Raise where nothing may be pushed or deleted (distribution-spec spec.md#content-management: 405)."""
    if service_of(request).read_only:
        raise Refusal("UNSUPPORTED", "this registry is read-only")


async def work(function: Callable[..., T], *args: object) -> T:
    """Call a function in a thread, and wait for it. It runs to its end even if the client goes away meanwhile."""
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(_THREADS, function, *args))

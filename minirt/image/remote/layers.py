"""The layers of an image, arriving: a few are fetched at a time, and what is there is unpacked meanwhile.

Layers are unpacked side by side too: only its end, where a layer looks into those below, waits for them
(minirt.image.layers.Unpacking). The lowest is always on its way, so none waits for ever.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from minirt.image.errors import Damaged
from minirt.image.layers import chain_ids
from minirt.image.remote.errors import Lied
from minirt.image.remote.fetch import fetch
from minirt.image.remote.together import Stopped, raise_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from minirt.image.blobs import Descriptor
    from minirt.image.compression import Reader
    from minirt.image.remote.pull import Progress
    from minirt.image.remote.repository import Repository
    from minirt.image.store import Store

__all__ = ["arrive"]

FETCHES = 4  # at a time: docker has 3, podman 6
UNPACKS = 2
LOOK = 0.2  # s between two looks whether it is still wanted


def arrive(
    store: Store, repository: Repository, layers: list[Descriptor], diff_ids: list[str], progress: Progress,
    wanted: Callable[[], bool] = lambda: True,
) -> None:  # fmt: skip
    """Let the store have layers, as blobs and as directories. Call it inside `Store.adding`.

    Args: diff_ids, lowest first; none of them, where nothing is to be unpacked; wanted, asked meanwhile whether to go on.
    Raises what `fetch` and `Layers.unpack_one` do, the first that went wrong; the others have stopped by then. Stopped, where it is
    not wanted any more.
    """
    arrival = _Arrival(store, repository, layers, diff_ids, progress)
    with ThreadPoolExecutor(FETCHES, "fetch") as fetchers, ThreadPoolExecutor(UNPACKS, "unpack") as unpackers:
        try:
            futures = [fetchers.submit(arrival.fetch, layer) for layer in {one["digest"]: one for one in layers}.values()]
            futures += [unpackers.submit(arrival.unpack, number) for number in range(len(diff_ids))]
            while wanted() and not is_over(futures):
                wait(futures, LOOK, FIRST_EXCEPTION)
        finally:
            arrival.stop(futures)
    raise_first(futures)
    if not all(future.done() and not future.cancelled() for future in futures):
        raise Stopped("stopped")


def is_over(futures: list[Future[None]]) -> bool:
    """Say whether all have ended, or one has failed."""
    return all(future.done() for future in futures) or any(future.done() and future.exception() for future in futures)


class _Arrival:
    def __init__(
        self, store: Store, repository: Repository, layers: list[Descriptor], diff_ids: list[str], progress: Progress
    ) -> None:
        self._store = store
        self._repository = repository
        self._layers = layers
        self._diff_ids = diff_ids
        self._paths = [store.layers.path(chain) for chain in chain_ids(diff_ids)]
        self._progress = progress
        self._stopped = threading.Event()
        self._fetched = {layer["digest"]: threading.Event() for layer in layers}
        self._unpacked = [threading.Event() for _ in layers]

    def stop(self, futures: list[Future[None]]) -> None:
        """Let every thread come to its end."""
        if all(future.done() for future in futures):
            return
        self._stopped.set()
        for future in futures:
            future.cancel()
        for event in [*self._fetched.values(), *self._unpacked]:
            event.set()
        self._repository.auth.abort()

    def fetch(self, layer: Descriptor) -> None:
        """Fetch one layer's blob."""
        digest = layer["digest"]
        try:
            self._progress.begin(digest, layer["size"])
            advance = functools.partial(self._progress.advance, digest)
            fetch(self._store, self._repository, layer, advance, self._stopped.is_set, functools.partial(self._arrived, digest))
        except BaseException:
            self._stopped.set()
            raise

    def _arrived(self, digest: str) -> None:
        """A blob is here and right; the unpacking need not wait for the disk."""
        self._progress.say(digest, "fetched")
        self._fetched[digest].set()

    def unpack(self, number: int) -> None:
        """Unpack one layer, when it is there."""
        from minirt.image.compression import FdReader

        layer, path = self._layers[number], self._paths[number]
        self._wait(self._fetched[layer["digest"]])
        with open(self._store.partials.read(layer), "rb", buffering=0) as blob:
            source = _Stoppable(FdReader(blob.fileno()), self._check)
            try:
                if self._store.layers.has(path):
                    self._wait_below(number)
                else:
                    self._store.layers.unpack_one(source, layer, self._diff_ids[number], path, lambda: self._below(number))
            except Damaged as error:
                raise Lied(str(error)) from error  # the blob was what its digest says: the image is wrong
        self._progress.say(layer["digest"], "unpacked")
        self._unpacked[number].set()

    def _below(self, number: int) -> list[str]:
        """Wait for the layers below one. Returns their directories, topmost first."""
        self._wait_below(number)
        return self._paths[:number][::-1]

    def _wait_below(self, number: int) -> None:
        for event in self._unpacked[:number]:
            self._wait(event)

    def _wait(self, event: threading.Event) -> None:
        event.wait()
        self._check()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped("stopped")


class _Stoppable:
    """A reader that ends when the others have failed."""

    def __init__(self, source: Reader, check: Callable[[], None]) -> None:
        self._source = source
        self._check = check

    def read(self, size: int, /) -> bytes:
        self._check()
        return self._source.read(size)

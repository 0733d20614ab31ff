"""Names: /etc/hosts of all who share a network has them all.

The file is one of the container's directory, bound into it; written in place, what is in it changes there at once.
Simplified: an engine with many containers answers DNS instead, as a program may read /etc/hosts only once.
"""

from __future__ import annotations

import os

from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.network.store import Endpoint, Store

__all__ = ["tell"]

BEGIN = "# containers of the same networks\n"


def tell(store: Store, network: str) -> None:
    """Write the names of a network's containers into /etc/hosts of each."""
    for end in store.endpoints(network=network):
        path = os.path.join(data_root(), "containers", end.container, "hosts")
        try:
            with open(path, "r+", encoding="utf-8") as file:
                own = file.read().partition(BEGIN)[0]
                text = own + BEGIN + "".join(line(other) for other in neighbours(store, end))
                file.seek(0)
                file.write(text)
                file.truncate()
        except FileNotFoundError:
            continue  # it is just being made, or has gone


def neighbours(store: Store, end: Endpoint) -> list[Endpoint]:
    """Return all who share a network with a container, itself among them."""
    mine = [place.network for place in store.endpoints(container=end.container)]
    return [other for network in mine for other in store.endpoints(network=network)]


def line(end: Endpoint) -> str:
    """Return a line of /etc/hosts (man 5 hosts): the address, and what its container is called."""
    names = dict.fromkeys([end.name, *end.aliases, end.container[:12]])
    return f"{end.address}\t{' '.join(name for name in names if name)}\n"

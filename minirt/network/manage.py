"""Networks made and removed: a name, and subnets that nobody has. The bridge is made with the first container, and stays."""

from __future__ import annotations

import os

from minirt.errors import UsageError
from minirt.network import bridge
from minirt.network.addresses import Ipam, free_subnet, free_subnet6
from minirt.network.bridge import IPVLAN, MACVLAN, Wire
from minirt.network.rootless import is_user
from minirt.network.store import Network, NetworkConflict, NetworkError, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT", "DRIVERS", "RESERVED", "create", "make_default", "prune", "remove"]

DEFAULT = "bridge"  # made when somebody first wants it
RESERVED = ("host", "none", "default", "container")
DRIVERS = ("bridge", "macvlan", "ipvlan")
# --opt, in docker's words; podman's shorter ones mean the same
OPTIONS = {
    "bridge": ("com.docker.network.bridge.name", "com.docker.network.bridge.enable_ip_masquerade", "com.docker.network.driver.mtu",
               "com.docker.network.bridge.host_binding_ipv4"),
    "macvlan": ("parent", "macvlan_mode", "com.docker.network.driver.mtu"),
    "ipvlan": ("parent", "ipvlan_mode", "com.docker.network.driver.mtu"),
}  # fmt: skip
SHORT = {"mtu": "com.docker.network.driver.mtu", "mode": "{driver}_mode"}


def create(
    name: str, ipams: Sequence[Ipam] = (), *, ipv6: bool = False, driver: str = "bridge", internal: bool = False,
    labels: dict[str, str] | None = None, options: dict[str, str] | None = None,
) -> Network:  # fmt: skip
    """Make a network.

    Args:
        name: of it.
        ipams: at most one subnet of IPv4 and one of IPv6; IPv4 is found where it is missing.
        ipv6: whether IPv6 is found too.
        driver: bridge, macvlan or ipvlan.
        internal: nothing beyond it is reached.
        labels: of it.
        options: the driver's.

    Raises: NetworkError, UsageError.
    """
    check_name(name)
    options = check_options(driver, options or {})
    if internal and driver != "bridge":
        raise UsageError(f"--internal: {driver} has the host's wire, which leads out: only a bridge is internal")
    by_version = {ipam.version: ipam for ipam in ipams}
    if len(by_version) < len(ipams):
        raise UsageError("--subnet: at most one of IPv4 and one of IPv6")
    with Store() as store:
        network = make(store, name, by_version, ipv6, driver, internal, labels or {}, options)
    note("create", network)
    return network


def check_name(name: str) -> None:
    """Refuse what is no name of a network. Raises: UsageError."""
    plain = name.replace("-", "a").replace("_", "a").replace(".", "a")
    if not (plain.isascii() and plain.isalnum() and name[0].isalnum()) or name in RESERVED:
        raise UsageError(f"network {name!r}: a name is made of letters, digits, _ . - and is none of {', '.join(RESERVED)}")


def check_options(driver: str, given: dict[str, str]) -> dict[str, str]:
    """Return a driver's options in docker's words. Raises: UsageError."""
    if driver not in DRIVERS:
        raise UsageError(f"--driver {driver}: there are {', '.join(DRIVERS)}")
    if driver != "bridge" and is_user():
        raise UsageError(f"--driver {driver}: the host's wire is root's to share: without root there is bridge")
    options = {SHORT.get(key, key).format(driver=driver): value for key, value in given.items()}
    for key, value in options.items():
        if key not in OPTIONS[driver]:
            raise UsageError(f"--opt {key}: {driver} has {', '.join(OPTIONS[driver])}")
        modes = {"macvlan_mode": MACVLAN, "ipvlan_mode": IPVLAN}.get(key)
        if modes is not None and value not in modes:
            raise UsageError(f"--opt {key}={value}: there are {', '.join(modes)}")
    mtu = options.get("com.docker.network.driver.mtu")
    if mtu is not None and not (mtu.isascii() and mtu.isdecimal() and 68 <= int(mtu[:6]) <= 65535):
        raise UsageError(f"--opt mtu={mtu}: from 68 to 65535 bytes")
    link = options.get("com.docker.network.bridge.name", "x")
    plain = link.replace("-", "a").replace("_", "a").replace(".", "a")
    if not (len(link) < 16 and plain.isascii() and plain.isalnum()) or link in (".", ".."):  # it stands in nft's script as it is
        raise UsageError(f"--opt com.docker.network.bridge.name={link}: at most 15 letters, digits, _ . -")
    if driver != "bridge" and not options.get("parent"):
        raise UsageError(f"--driver {driver}: whose wire is it to share? Give -o parent=INTERFACE")
    return options


def make(
    store: Store, name: str, ipams: dict[int, Ipam], ipv6: bool, driver: str, internal: bool, labels: dict[str, str],
    options: dict[str, str],
) -> Network:  # fmt: skip
    """Write a network down, with subnets that nobody has."""
    networks = store.networks()
    if any(network.name == name for network in networks):
        raise NetworkConflict(f"network {name!r} is there already")
    others = [ipam.subnet for network in networks for ipam in network.ipams]
    for ipam in ipams.values():
        clash = next((other for other in others if other.version == ipam.version and other.overlaps(ipam.subnet)), None)
        if clash:
            raise NetworkConflict(f"--subnet {ipam.subnet}: another network has {clash}")
    four = ipams.get(4) or Ipam(free_subnet([*others, *bridge.host_subnets()]))
    six = ipams.get(6) or (Ipam(free_subnet6()) if ipv6 else None)
    link = options.get("com.docker.network.bridge.name") or bridge_name(name)
    return store.add_network(name, link, four, six, driver=driver, internal=internal, labels=labels, options=options)


def bridge_name(name: str) -> str:
    """Return a name for a new bridge: a fixed one for the default network, if no other root's may be beside it."""
    if name == DEFAULT and "MINIRT_ROOT" not in os.environ:
        return "minirt0"
    return f"br-{os.urandom(6).hex()}"


def make_default() -> None:
    """Make the default network, if it is missing; it is written down before its bridge is made, so no kill leaves one unknown."""
    with Store(look=True) as store:
        if any(other.name == DEFAULT for other in store.networks()):
            return
    with Store() as store:
        if not any(other.name == DEFAULT for other in store.networks()):
            make(store, DEFAULT, {}, False, "bridge", False, {}, {})


def remove(text: str) -> Network:
    """Remove a network that nobody is in. Raises: NetworkError; NetworkConflict where somebody is."""
    from minirt.network import keeper
    from minirt.network.connect import repair, settle

    with Store() as store, Wire() as wire:
        network = store.network(text)
        repair(store, wire)
        store.remove_network(network.name)
        if network.driver == "bridge":
            bridge.remove_bridge(network.bridge)
        settle(store)
        keeper.end(network)
    note("destroy", network)
    return network


def prune(wanted: Sequence[Network] | None = None) -> list[Network]:
    """Remove networks that nobody is in: of these, or of all; but not the default one. Returns those that were removed."""
    with Store(look=True) as store:
        candidates = store.networks() if wanted is None else wanted
    done = []
    for network in candidates:
        if network.name == DEFAULT:
            continue
        try:
            done.append(remove(network.name))
        except NetworkError:
            continue  # somebody is in it, or has removed it
    return done


def note(action: str, network: Network) -> None:
    """Write down that it happened, for `minirt events`."""
    from minirt.state.events import tell

    tell("network", action, network.id, {"name": network.name, "type": network.driver})

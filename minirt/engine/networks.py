"""Networks as a person, or Docker's Engine API, asks for them: what a container is to be connected to, and those that run.

    lead_in, leave                                  at the barrier `network` of a birth; in the end
    connect, disconnect                             of a container that runs: a process joins its network namespace and gives
                                                    us a socket from there; of one that does not, for its next start
    create, listed, inspect, remove, prune          networks themselves
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager

from minirt.engine.attachments import attachments, exposed, ports, resolver
from minirt.engine.container import Conflict, Container
from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.network.connect import Attachment
    from minirt.network.store import Network
    from minirt.plan.birth import Birth
    from minirt.trace import Sink

__all__ = ["connect", "create", "disconnect", "inspect", "lead_in", "leave", "listed", "prune", "remove", "settings_of"]


# -- a birth -------------------------------------------------------------------------------------------------------------


def lead_in(
    container: Container, options: RunOptions, image: dict[str, Any], birth: Birth, sink: Sink | None = None
) -> None:
    """Lead a container's networks into it, at its barrier. Raises: MinirtError with exit code 125."""
    fd, birth.received = birth.received, -1
    namespace = os.open(f"/proc/{birth.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        from minirt.network import pasta
        from minirt.network.rootless import is_user

        wanted, published = attachments(options), ports(options, image)
        if is_user() and pasta.is_wanted(wanted):
            pasta.start(container.id, container.path, birth.pid, published, sink)
        else:
            from minirt.network.connect import connect as lead

            lead(wanted, container.id, container.label, namespace, fd, ports=published, resolver=resolver(options), sink=sink)
    except MinirtError as error:
        error.exit_code = 125
        raise
    finally:
        os.close(namespace)
        os.close(fd)


def leave(container: Container, sink: Sink | None = None) -> None:
    """Take a container out of all its networks. Args: sink, told what is done."""
    if has_pasta(container):
        from minirt.network.pasta import stop

        stop(container.id, container.path)
    else:
        from minirt.network.connect import leave as out

        out(container.id, sink)


def has_pasta(container: Container) -> bool:
    """Say whether a container has a network for itself alone, as users without root may have it."""
    return os.path.exists(f"{container.path}/pasta.pid")


# -- containers that are there -------------------------------------------------------------------------------------------


@contextmanager
def inside(container: Container) -> Iterator[tuple[int, int]]:
    """Give a running container's network namespace, and a rtnetlink socket that was made there. Raises: Conflict, KernelError."""
    from minirt.engine.removal import running, while_running
    from minirt.linux import constants as k
    from minirt.plan import Plan, Slot
    from minirt.plan.birth import Birth

    os.close(running(container))
    pid = container.state["pid"]
    plan, process, fd = Plan().step("network"), Slot("container"), Slot("rtnetlink")
    spaces = k.CLONE_NEWNET | (k.CLONE_NEWUSER if os.geteuid() != 0 else 0)  # without root only who is in the latter may enter
    plan.pidfd_open(pid, 0, store=process).setns(process, spaces, why="where its interfaces are")
    plan.socket(k.AF_NETLINK, k.SOCK_RAW | k.SOCK_CLOEXEC, k.NETLINK_ROUTE, store=fd, why="it acts where it was made")
    plan.barrier("network", give=fd).exit_group(0)
    with while_running(container), ExitStack() as undo:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        undo.callback(os.close, namespace)
        birth = undo.enter_context(Birth(plan))
        for _ in birth.barriers():
            socket, birth.received = birth.received, -1
            try:
                os.close(running(container))  # still: so the number by which it was joined was its own
                yield namespace, socket
            finally:
                os.close(socket)
        birth.wait()


def connect(name: str, container: Container, wanted: Attachment | None = None) -> None:
    """Connect a container to a network: at once if it runs, and at each start. Raises: ContainerError, NetworkError, KernelError.

    Args:
        name: of the network, or the beginning of its id.
        container: whom.
        wanted: how; by default with any address.
    """
    from minirt.network import pasta
    from minirt.network.connect import Attachment
    from minirt.network.connect import connect as lead

    wanted = wanted or Attachment(name)
    wanted.network = find_network(name).name
    if has_pasta(container) or (os.geteuid() != 0 and pasta.is_wanted(kept_attachments(container))):
        raise Conflict(f"container {container.label} has the network `bridge`, which without root goes with no other (pasta)")
    if container.running:
        shares = own_network(container)
        if shares:
            raise Conflict(f"container {container.label} has the network of {shares}: it is not for it to change")
        with inside(container) as (namespace, socket):
            lead([wanted], container.id, container.label, namespace, socket, resolver=resolver_of(container))
    change(container, lambda kept: [one for one in kept if one.network != wanted.network] + [wanted])


def renamed(container: Container) -> None:
    """Let its networks know a container by its new name."""
    from minirt.network.schema import is_connected

    if is_connected(container.id):
        from minirt.network.store import Store

        with Store() as store:
            store.rename(container.id, container.label)


def own_network(container: Container) -> str:
    """Return whose network a running container has, if it is not its own."""
    options = run_options(container)
    mode = options.network if options is not None else ""
    return "the host" if mode == "host" else mode if mode.startswith("container:") else ""


def disconnect(name: str, container: Container) -> None:
    """Take a container out of a network, now and for its next starts. Raises: NetworkError where it is not in it."""
    from minirt.network.connect import disconnect as out

    network = find_network(name)
    if container.running:
        with inside(container) as (_, socket):
            out(network.name, container.id, socket)
    elif not any(one.network == network.name for one in kept_attachments(container)):
        from minirt.network.store import NetworkError

        raise NetworkError(f"container {container.label} is not in network {network.name}")
    change(container, lambda kept: [one for one in kept if one.network != network.name])


def run_options(container: Container) -> RunOptions | None:
    """Return what a container was made with, None of one that was run in the foreground."""
    from minirt.engine.asked import load_options

    return load_options(container) if os.path.exists(f"{container.path}/options.json") else None


def resolver_of(container: Container) -> dict[str, list[str]]:
    """Return what a container was made with of --dns and the like."""
    options = run_options(container)
    return resolver(options) if options is not None else {}


def kept_attachments(container: Container) -> list[Attachment]:
    """Return what a container is connected to at its next start."""
    options = run_options(container)
    return attachments(options) if options is not None else []


def change(container: Container, how: Callable[[list[Attachment]], list[Attachment]]) -> None:
    """Change what a container is connected to at its next start; one that was run in the foreground has none."""
    from minirt.engine.asked import changing

    if run_options(container) is None:
        return
    with changing(container):
        options = run_options(container)
        if options is None:
            return  # it was removed meanwhile
        first, *more = [long_form(one) for one in how(attachments(options))] or ["none"]
        options.network, options.networks = first, more
        options.network_alias, options.ip, options.ip6, options.mac_address = [], "", "", ""
        container.write("options.json", json.dumps(vars(options)))


def long_form(one: Attachment) -> str:
    """Return an attachment as one --network says it."""
    words = [f"name={one.network}", *(f"alias={alias}" for alias in one.aliases)]
    chosen = {"ip": one.address, "ip6": one.address6, "mac-address": one.hardware}
    words += [f"{key}={value}" for key, value in chosen.items() if value]
    return ",".join(words) if len(words) > 1 else one.network


def settings_of(container: Container, options: RunOptions | None = None) -> dict[str, Any]:
    """Return a container's NetworkSettings, in docker's words. Args: options, what it was made with, if the caller has them."""
    from minirt.network.describe import settings

    options = options or run_options(container)
    named = exposed(options, {}) if options is not None else []
    sandbox = f"/proc/{container.state['pid']}/ns/net" if container.running else ""
    return settings(container.id, named, sandbox)


# -- networks ------------------------------------------------------------------------------------------------------------


def find_network(text: str) -> Network:
    """Return a network by its name, its id, or the beginning of that. Raises: NoNetwork."""
    from minirt.network.manage import DEFAULT, make_default
    from minirt.network.store import Store

    if text == DEFAULT and os.geteuid() == 0:
        make_default()
    with Store(look=True) as store:
        return store.network(text)


def create(document: dict[str, Any]) -> dict[str, Any]:
    """Make a network from a document as Docker's Engine API has it (NetworkCreateRequest). Returns what `inspect` says of it.

    Raises: NetworkError, UsageError.
    """
    from minirt.network.addresses import parse_ipam
    from minirt.network.describe import describe
    from minirt.network.manage import create as make
    from minirt.network.store import Store

    ipam = document.get("IPAM") or {}
    if ipam.get("Driver") not in (None, "", "default"):
        raise UsageError(f"--ipam-driver {ipam['Driver']}: there is default")
    configs = [
        parse_ipam(config["Subnet"], config.get("Gateway") or "", config.get("IPRange") or "")
        for config in ipam.get("Config") or () if config.get("Subnet")
    ]  # fmt: skip
    given = [(document.get(field) or {}).items() for field in ("Labels", "Options")]
    labels, options = ({str(key): str(value) for key, value in pairs} for pairs in given)
    network = make(
        document.get("Name") or "", configs, ipv6=bool(document.get("EnableIPv6")), driver=document.get("Driver") or "bridge",
        internal=bool(document.get("Internal")), labels=labels, options=options,
    )  # fmt: skip
    with Store(look=True) as store:
        return describe(store, network)  # not by its name: another may have removed it


def listed(filters: Mapping[str, Sequence[str]] | None = None) -> list[dict[str, Any]]:
    """Return all networks in docker's words, those that are always there too.

    Args:
        filters: docker's: name (a part of it), id (its beginning), driver, label (KEY or KEY=VALUE), type (custom, builtin),
            scope, dangling (true, false). Of the values of one any will do, of the keys all must; labels must all.

    Raises: UsageError.
    """
    from minirt.network.describe import FIXED, describe, describe_fixed
    from minirt.network.store import Store

    with Store(look=True) as store:
        found = [describe(store, network) for network in store.networks()] + [describe_fixed(name) for name in FIXED]
    return sorted((one for one in found if matches(one, filters or {})), key=lambda one: str(one["Name"]))


def matches(one: dict[str, Any], filters: Mapping[str, Sequence[str]]) -> bool:
    """Say whether a network passes docker's filters. Raises: UsageError."""
    labels = one["Labels"]
    builtin = one["Name"] in ("bridge", "host", "none")
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda value: value in one["Name"],
        "id": lambda value: one["Id"].startswith(value),
        "driver": lambda value: one["Driver"] == value,
        "scope": lambda value: one["Scope"] == value,
        "type": lambda value: value == ("builtin" if builtin else "custom"),
        "dangling": lambda value: (value.lower() in ("true", "1")) == (not builtin and not one["Containers"]),
        "label": lambda value: value in labels or ("=" in value and labels.get(value.partition("=")[0]) == value.partition("=")[2]),
    }
    for key, values in filters.items():
        if key == "until":
            continue
        if key not in tests:
            raise UsageError(f"--filter {key}: there are {', '.join(tests)}")
        quantity = all if key == "label" else any
        if not quantity(tests[key](value) for value in values):
            return False
    return True


def inspect(text: str) -> dict[str, Any]:
    """Return what is known of a network, by name or the beginning of its id, in docker's words. Raises: NoNetwork."""
    from minirt.network.describe import FIXED, describe, describe_fixed
    from minirt.network.store import Store

    for name, (_, id) in FIXED.items():
        if text in (name, id):
            return describe_fixed(name)
    find_network(text)
    with Store(look=True) as store:
        return describe(store, store.network(text))


def remove(text: str) -> str:
    """Remove a network that nobody is in. Returns its name. Raises: NetworkError; NetworkConflict where somebody is."""
    from minirt.network.describe import FIXED
    from minirt.network.manage import remove as drop
    from minirt.network.store import NetworkConflict

    if text in FIXED:
        raise NetworkConflict(f"network {text}: it is always there")
    return drop(text).name


def prune(filters: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Remove networks that nobody is in, and that pass docker's filters (label, until). Returns their names. Raises: UsageError."""
    from minirt.network.manage import prune as drop
    from minirt.network.store import Store

    filters = dict(filters or {})
    until = filters.pop("until", None)
    chosen = {one["Id"] for one in listed(filters)}
    with Store(look=True) as store:
        networks = [network for network in store.networks() if network.id in chosen]
    if until:
        from minirt.engine.moments import moment
        from minirt.network.describe import moment as text

        networks = [network for network in networks if text(network.created) < moment(until[0])]
    return [network.name for network in drop(networks)]

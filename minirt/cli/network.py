"""`minirt network` and `minirt port`."""

from __future__ import annotations

import argparse
import json
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.network.store import Network, Store

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt network create backend
  minirt run -d --name db --network backend busybox sleep 1000
  minirt run --rm --network backend busybox ping -c 1 db
  minirt network inspect backend
  minirt network rm backend
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "network", help="networks that containers share", description="Networks: a bridge, a subnet, and who is in it.",
        epilog=EPILOG, formatter_class=Help,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    make = verbs.add_parser("create", help="make one", formatter_class=Help)
    make.add_argument("--subnet", default="", metavar="SUBNET", help="as 10.1.2.0/24; by default one that is free")
    make.add_argument("--internal", action="store_true", help="nothing beyond it can be reached")
    make.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="annotate it")
    make.add_argument("name", metavar="NAME")
    make.set_defaults(run=create)
    show = verbs.add_parser("ls", help="list them", formatter_class=Help)
    show.add_argument("-q", "--quiet", action="store_true", help="names only")
    show.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    show.set_defaults(run=list_networks)
    look = verbs.add_parser("inspect", help="tell all about them, as JSON", formatter_class=Help)
    look.add_argument("names", nargs="+", metavar="NAME")
    look.set_defaults(run=inspect)
    drop = verbs.add_parser("rm", help="remove them, if nobody is in them", formatter_class=Help)
    drop.add_argument("names", nargs="+", metavar="NAME")
    drop.set_defaults(run=remove)
    sweep = verbs.add_parser("prune", help="remove all that nobody is in", formatter_class=Help)
    sweep.set_defaults(run=prune)
    for name, run, text in (
        ("connect", connect, "lead one into a container that runs"), ("disconnect", disconnect, "take a container out of one")
    ):  # fmt: skip
        verb = verbs.add_parser(name, help=text, formatter_class=Help)
        verb.add_argument("name", metavar="NETWORK")
        verb.add_argument("container", metavar="CONTAINER")
        if name == "connect":
            verb.add_argument("--alias", action="append", default=[], metavar="NAME", help="another name in it")
            verb.add_argument("--ip", default="", metavar="ADDRESS", help="its address there")
        verb.set_defaults(run=run)
    port = commands.add_parser(
        "port", help="which ports of the host lead to a container", description="List a container's published ports.",
        epilog="examples:\n  minirt port web", formatter_class=Help,
    )  # fmt: skip
    port.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    port.set_defaults(run=ports)


def create(args: argparse.Namespace) -> int:
    """Make one, and print its name."""
    from minirt.network.connect import create as make

    labels = dict(label.partition("=")[::2] for label in args.label)
    print(make(args.name, args.subnet, args.internal, labels).name)
    return 0


def list_networks(args: argparse.Namespace) -> int:
    """Print all."""
    from minirt.network.store import Store

    with Store() as store:
        networks = store.networks()
        if args.format == "json":
            print(json.dumps([as_dict(store, network) for network in networks], indent=2))
            return 0
    if args.quiet:
        print("".join(f"{network.name}\n" for network in networks), end="")
        return 0
    print(f"{'NAME':<20}{'BRIDGE':<12}{'SUBNET':<20}INTERNAL")
    for network in networks:
        print(f"{network.name:<20}{network.bridge:<12}{network.subnet!s:<20}{str(network.internal).lower()}")
    return 0


def as_dict(store: Store, network: Network) -> dict[str, Any]:
    """Return what is known of a network, in the words of Docker's Engine API."""
    from minirt.network.addresses import gateway_of

    return {
        "Name": network.name,
        "Driver": "bridge",
        "Internal": network.internal,
        "IPAM": {"Config": [{"Subnet": str(network.subnet), "Gateway": str(gateway_of(network.subnet))}]},
        "Containers": {
            end.container: {"Name": end.name, "IPv4Address": f"{end.address}/{network.subnet.prefixlen}"}
            for end in store.endpoints(network=network.name)
        },
        "Options": {"com.docker.network.bridge.name": network.bridge},
        "Labels": network.labels,
    }


def inspect(args: argparse.Namespace) -> int:
    """Print all about some."""
    from minirt.network.store import Store

    with Store() as store:
        print(json.dumps([as_dict(store, store.network(name)) for name in args.names], indent=2))
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove each; go on after one that cannot be."""
    from minirt.errors import MinirtError
    from minirt.network.connect import remove as drop

    failed = 0
    for name in args.names:
        try:
            drop(name)
            print(name)
        except MinirtError as error:
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    return failed


def prune(args: argparse.Namespace) -> int:
    """Remove those that nobody is in."""
    from minirt.network.connect import remove as drop
    from minirt.network.store import NetworkError, Store

    with Store() as store:
        names = [network.name for network in store.networks() if not store.endpoints(network=network.name)]
    for name in names:
        try:
            drop(name)
            print(name)
        except NetworkError:
            continue  # somebody has come meanwhile
    return 0


def connect(args: argparse.Namespace) -> int:
    """Lead a network into a container that runs."""
    from minirt.engine.container import find
    from minirt.engine.networks import connect_running

    connect_running(find(args.container), args.name, args.alias, args.ip)
    return 0


def disconnect(args: argparse.Namespace) -> int:
    """Take a container out of a network."""
    from minirt.engine.container import find
    from minirt.network.connect import disconnect as leave

    leave(args.name, find(args.container).id)
    return 0


def ports(args: argparse.Namespace) -> int:
    """Print published ports."""
    from minirt.engine.container import find
    from minirt.network.store import Store

    container = find(args.container)
    with Store() as store:
        for id, port in store.ports():
            if id == container.id:
                print(f"{port.inside}/{port.protocol} -> {port.address or '0.0.0.0'}:{port.host}")
    return 0

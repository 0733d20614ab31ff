"""`minirt network` and `minirt port`."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt network create backend
  minirt run -d --name db --network backend busybox sleep 1000
  minirt run --rm --network backend busybox ping -c 1 db
  minirt network create --ipv6 --subnet 10.1.2.0/24 --subnet fd00:1:2::/64 both
  minirt network create --driver macvlan --opt parent=eth0 --subnet 192.168.1.0/24 --gateway 192.168.1.1 lan
  minirt network connect --alias store backend web
  minirt network inspect backend
  minirt network rm backend
"""
CREATE = """\
examples:
  minirt network create backend
  minirt network create --internal --label stage=test shut
  minirt network create --subnet 10.1.2.0/24 --ip-range 10.1.2.128/25 --gateway 10.1.2.254 wide
  minirt network create --ipv6 six                                 (a random subnet of fd00::/8)
  minirt network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 --gateway 192.168.1.1 lan
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "network", help="networks that containers share", description="Networks: a bridge, a subnet, and who is in it.",
        epilog=EPILOG, formatter_class=Help,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    add_create(verbs)
    show = verbs.add_parser("ls", aliases=["list"], help="list networks", formatter_class=Help,
                            epilog="examples:\n  minirt network ls\n  minirt network ls --filter label=stage=test -q")  # fmt: skip
    show.add_argument("-q", "--quiet", action="store_true", help="ids only")
    show.add_argument("--no-trunc", action="store_true", help="whole ids")
    show.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
                      help="name, id, driver, label, type (custom, builtin), scope, dangling")  # fmt: skip
    show.add_argument("--format", default="table", metavar="FORMAT", help="table, json, or as '{{.Name}}' (table)")
    show.set_defaults(run=list_networks)
    look = verbs.add_parser("inspect", help="tell all about networks, as JSON", formatter_class=Help)
    look.add_argument("names", nargs="+", metavar="NETWORK", help="name, or the beginning of an id")
    look.add_argument("-f", "--format", dest="template", default="", metavar="TEMPLATE", help="json, or as '{{.Id}}'")
    look.set_defaults(run=inspect)
    drop = verbs.add_parser("rm", aliases=["remove"], help="remove networks that nobody is in", formatter_class=Help)
    drop.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    drop.add_argument("names", nargs="+", metavar="NETWORK", help="name, or the beginning of an id")
    drop.set_defaults(run=remove)
    sweep = verbs.add_parser("prune", help="remove all networks that nobody is in, but the default one", formatter_class=Help)
    sweep.add_argument("-f", "--force", action="store_true", help="do not ask (it never asks)")
    sweep.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help="label=KEY[=VALUE], until=24h")
    sweep.set_defaults(run=prune)
    add_connections(verbs)
    port = commands.add_parser(
        "port", help="which ports of the host lead to a container", description="List a container's published ports.",
        epilog="examples:\n  minirt port web\n  minirt port web 80/tcp", formatter_class=Help,
    )  # fmt: skip
    port.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    port.add_argument("inside", nargs="?", default="", metavar="PORT[/udp]", help="only what leads to this one of its ports")
    port.set_defaults(run=ports)


def add_create(verbs: Any) -> None:
    """Add `network create`."""
    make = verbs.add_parser("create", help="make a network", formatter_class=Help, epilog=CREATE)
    make.add_argument("-d", "--driver", default="bridge", metavar="DRIVER", help="bridge, macvlan or ipvlan (bridge)")
    make.add_argument("--subnet", action="append", default=[], metavar="SUBNET", help="as 10.1.2.0/24, fd00:1::/64 (a free one)")
    make.add_argument("--gateway", action="append", default=[], metavar="ADDRESS", help="the bridge's own (the subnet's first)")
    make.add_argument("--ip-range", action="append", default=[], metavar="SUBNET", help="the part that is given out (all)")
    make.add_argument("--ipv6", action="store_true", help="IPv6 too")
    make.add_argument("--internal", action="store_true", help="nothing beyond it can be reached")
    text = "mtu, parent, mode (macvlan, ipvlan), com.docker.network.bridge.name, com.docker.network.bridge.enable_ip_masquerade"
    make.add_argument("-o", "--opt", action="append", default=[], metavar="KEY=VALUE", help=text)
    make.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="annotate it")
    make.add_argument("--attachable", action="store_true", help=argparse.SUPPRESS)  # swarm's: all of ours are
    make.add_argument("name", metavar="NAME")
    make.set_defaults(run=create)


def add_connections(verbs: Any) -> None:
    """Add `network connect` and `network disconnect`."""
    join = verbs.add_parser("connect", help="lead a network into a container", formatter_class=Help,
                            epilog="examples:\n  minirt network connect --alias store --ip 10.1.2.9 backend web")  # fmt: skip
    join.add_argument("--alias", action="append", default=[], metavar="NAME", help="another name in it")
    join.add_argument("--ip", default="", metavar="ADDRESS", help="its address there")
    join.add_argument("--ip6", default="", metavar="ADDRESS", help="its IPv6 address there")
    join.add_argument("--mac-address", default="", metavar="ADDRESS", help="its hardware address there")
    part = verbs.add_parser("disconnect", help="take a container out of a network", formatter_class=Help)
    part.add_argument("-f", "--force", action="store_true", help="one that is not in it is no error")
    for verb, run in ((join, connect), (part, disconnect)):
        verb.add_argument("name", metavar="NETWORK", help="name, or the beginning of an id")
        verb.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
        verb.set_defaults(run=run)


def pairs(words: list[str]) -> dict[str, str]:
    """Return KEY=VALUE words as a dictionary."""
    return dict(word.partition("=")[::2] for word in words)


def filters(words: list[str]) -> dict[str, list[str]]:
    """Return --filter's words by key. Raises: UsageError."""
    from minirt.errors import UsageError

    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--filter {word}: write KEY=VALUE")
        found.setdefault(key, []).append(value)
    return found


def create(args: argparse.Namespace) -> int:
    """Make one, and print its id."""
    from minirt.engine.networks import create as make

    print(make({
        "Name": args.name, "Driver": args.driver, "Internal": args.internal, "EnableIPv6": args.ipv6, "Labels": pairs(args.label),
        "Options": pairs(args.opt), "IPAM": {"Config": configs(args.subnet, args.gateway, args.ip_range)},
    })["Id"])  # fmt: skip
    return 0


def configs(subnets: list[str], gateways: list[str], ranges: list[str]) -> list[dict[str, str]]:
    """Return subnets, each with the gateway and the range that are of it. Raises: UsageError."""
    from ipaddress import ip_network

    from minirt.errors import UsageError
    from minirt.network.addresses import parse_subnet

    networks = [parse_subnet(text) for text in subnets]
    found = [{"Subnet": str(network)} for network in networks]
    for flag, key, texts in (("--gateway", "Gateway", gateways), ("--ip-range", "IPRange", ranges)):
        for text in texts:
            try:
                wanted = ip_network(text)
            except ValueError as error:
                raise UsageError(f"{flag} {text}: {error}") from None
            fitting = [i for i, network in enumerate(networks) if network.version == wanted.version and wanted.subnet_of(network)]  # type: ignore[arg-type]
            if not fitting:
                raise UsageError(f"{flag} {text}: of no --subnet")
            found[fitting[0]][key] = text
    return found


def list_networks(args: argparse.Namespace) -> int:
    """Print all."""
    from minirt.cli.formats import Column, show
    from minirt.engine.networks import listed

    networks = listed(filters(args.filter))
    ids = [one["Id"] if args.no_trunc else one["Id"][:12] for one in networks]
    if args.quiet:
        print("".join(f"{id}\n" for id in ids), end="")
        return 0
    rows = [row(one, id) for id, one in zip(ids, networks, strict=True)]
    heads = (("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope"), ("SUBNETS", "Subnets"))
    show(args.format, rows, [Column(*pair) for pair in heads])
    return 0


def row(network: dict[str, Any], id: str) -> dict[str, Any]:
    """Return a network as a row, in docker's fields; and its subnets."""
    labels = network["Labels"] or {}
    return {
        "ID": id, "Name": network["Name"], "Driver": network["Driver"], "Scope": network["Scope"],
        "IPv4": "true", "IPv6": str(network["EnableIPv6"]).lower(), "Internal": str(network["Internal"]).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())), "CreatedAt": network["Created"],
        "Subnets": " ".join(config["Subnet"] for config in network["IPAM"]["Config"]), "Label": lambda key: labels.get(key, ""),
    }  # fmt: skip


def inspect(args: argparse.Namespace) -> int:
    """Print all about some."""
    from minirt.cli.formats import show_objects
    from minirt.engine.networks import inspect as tell

    return show_objects(getattr(args, "template", ""), args.names, tell)


def remove(args: argparse.Namespace) -> int:
    """Remove each; go on after one that cannot be."""
    from minirt.engine.networks import remove as drop
    from minirt.errors import MinirtError
    from minirt.network.store import NoNetwork

    failed = 0
    for name in args.names:
        try:
            print(drop(name))
        except MinirtError as error:
            if args.force and isinstance(error, NoNetwork):
                continue
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    return failed


def prune(args: argparse.Namespace) -> int:
    """Remove those that nobody is in."""
    from minirt.engine.networks import prune as drop

    for name in drop(filters(args.filter)):
        print(name)
    return 0


def connect(args: argparse.Namespace) -> int:
    """Lead a network into a container."""
    from minirt.engine.container import find
    from minirt.engine.networks import connect as join
    from minirt.network.connect import Attachment

    join(args.name, find(args.container), Attachment(args.name, args.alias, args.ip, args.ip6, args.mac_address))
    return 0


def disconnect(args: argparse.Namespace) -> int:
    """Take a container out of a network."""
    from minirt.engine.container import find
    from minirt.engine.networks import disconnect as part
    from minirt.network.store import NetworkError, NoNetwork

    try:
        part(args.name, find(args.container))
    except NetworkError as error:
        if not args.force or isinstance(error, NoNetwork):
            raise
    return 0


def ports(args: argparse.Namespace) -> int:
    """Print published ports."""
    from minirt.engine.container import find
    from minirt.engine.networks import settings_of
    from minirt.errors import UsageError

    wanted = args.inside if not args.inside or "/" in args.inside else f"{args.inside}/tcp"
    found = settings_of(find(args.container))["Ports"]
    if wanted and not found.get(wanted):
        raise UsageError(f"port {wanted} of {args.container} is not published")
    for inside, bindings in found.items():
        for binding in bindings or ():
            if wanted in ("", inside):
                host = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
                print(f"{host}:{binding['HostPort']}" if wanted else f"{inside} -> {host}:{binding['HostPort']}")
    return 0

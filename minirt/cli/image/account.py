"""Registries themselves: login, logout, search."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.image.transfer import boolean
from minirt.cli.image.verb import verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.cli.image.verb import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Register the commands."""
    login = verb(subparsers, "login", _login, "keep a name and password for a registry (in ~/.docker/config.json)",
                 "minirt login registry.example",
                 "echo secret | minirt login -u ada --password-stdin registry.example")  # fmt: skip
    login.add_argument("registry", metavar="HOST[:PORT]", nargs="?", default="docker.io", help="docker.io if none is given")
    login.add_argument("-u", "--username", default="", metavar="NAME")
    login.add_argument("-p", "--password", default="", metavar="TEXT", help="others may see it in a list of processes")
    login.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    _add_verify(login)
    logout = verb(subparsers, "logout", _logout, "forget a registry's name and password", "minirt logout registry.example")
    logout.add_argument("registry", metavar="HOST[:PORT]", nargs="?", default="docker.io", help="docker.io if none is given")
    search = verb(subparsers, "search", _search, "look for images in a registry",
                  "minirt search debian", "minirt search localhost:5000/app",
                  "minirt search --list-tags localhost:5000/app")  # fmt: skip
    search.add_argument("term", metavar="[HOST/]TERM")
    search.add_argument("--limit", type=int, default=25, metavar="N", help="of results")
    search.add_argument("--list-tags", action="store_true", help="the tags of a repository, which TERM names")
    search.add_argument("--format", choices=("table", "json"), default="table", help="json: an object a line")
    _add_verify(search)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls-verify", type=boolean, nargs="?", const=True, default=True, metavar="true|false",
                        help="false: any certificate will do, and plain HTTP where TLS is not spoken")  # fmt: skip


def _login(args: argparse.Namespace) -> int:
    from minirt.errors import UsageError
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.login import host_of, login

    host = host_of(args.registry)
    if args.password_stdin and not args.username:
        raise UsageError("login: --password-stdin needs --username")
    user, password = args.username or _ask("Username: "), args.password
    if args.password_stdin:
        password = sys.stdin.read().rstrip("\r\n")
    elif not password:
        import getpass

        password = getpass.getpass("Password: ")
    where = login(host, Credentials(user, password), verify=args.tls_verify)
    print(f"Login Succeeded: kept in {where}")
    return 0


def _ask(text: str) -> str:
    from minirt.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("login: standard input is no terminal: give --username and --password-stdin")
    return input(text)


def _logout(args: argparse.Namespace) -> int:
    from minirt.image.remote.credentials import erase
    from minirt.image.remote.login import host_of

    host = host_of(args.registry)
    print(f"Removed login credentials for {host}" if erase(host) else f"Not logged in to {host}")
    return 0


def _search(args: argparse.Namespace) -> int:
    import json

    rows = _tags(args) if args.list_tags else _found(args)
    if args.format == "json":
        for row in rows:
            print(json.dumps(row))
    else:
        from minirt.cli.image.print import table

        titles = ["Name", "Tag"] if args.list_tags else ["Name", "Description", "Stars", "Official"]
        table([[title.upper() for title in titles], *([str(row[title]) for title in titles] for row in rows)])
    return 0


def _found(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what a search found, in the words of `docker search --format json`."""
    from minirt.image.remote.search import search

    rows = []
    for result in search(args.term, limit=args.limit, verify=args.tls_verify):
        text = result.get("description", "")
        row = {"Name": result["name"], "Description": text if args.format == "json" or len(text) < 46 else text[:44] + "…"}
        rows.append(row | {"Stars": result.get("star_count", 0), "Official": "[OK]" if result.get("is_official") else ""})
    return rows


def _tags(args: argparse.Namespace) -> list[dict[str, Any]]:
    from itertools import islice

    from minirt.image.reference import Reference
    from minirt.image.remote.registries import Registries
    from minirt.image.remote.registry import connect

    reference = Reference.parse(args.term)
    repository = connect(Registries.load().home(reference), verify=args.tls_verify)
    return [{"Name": str(repository), "Tag": tag} for tag in islice(repository.tags(), args.limit)]

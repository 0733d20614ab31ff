"""`minirt registry …`: words on the command line -> a server, or a look at its directory."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

    from minirt.registry.access import Access
    from minirt.registry.proxy import Proxy
    from minirt.registry.registry import Registry

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "registry", help="serve images to any client, as a registry", formatter_class=Help,
        description="A registry (OCI distribution-spec 1.1.1): docker, podman, skopeo and minirt push to it and pull from it.",
    )  # fmt: skip
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_serve(verbs)
    _add_gc(verbs)
    _add_passwd(verbs)


def _add_serve(verbs: Any) -> None:
    parser = verbs.add_parser(
        "serve", help="serve until told to stop", formatter_class=Help,
        description="Serve the registry in a directory, which is made if it is new. SIGTERM ends it. A browser sees it too.",
        epilog="examples:\n"
        "  minirt registry serve --root /srv/registry --listen 127.0.0.1:5000\n"
        "  minirt registry serve --root /srv/registry --listen :443 --cert chain.pem --key key.pem --htpasswd users\n"
        "  minirt registry serve --root /srv/cache --listen 127.0.0.1:5001 --proxy https://registry.example\n"
        "\nrules (--rules FILE):\n"
        '  [[rule]]\n  users = ["*"]                  # "*": everybody; "@users": who has a password\n'
        '  may = ["pull"]                 # pull, push, delete\n  repositories = ["public/*"]    # * crosses "/"',
    )  # fmt: skip
    parser.add_argument("--root", required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument("--listen", default="127.0.0.1:5000", metavar="HOST:PORT", help="address (127.0.0.1:5000); port 0 is any")
    parser.add_argument("--htpasswd", metavar="FILE", help="users and passwords, by `htpasswd -B` or `minirt registry passwd`")
    parser.add_argument("--rules", metavar="FILE", help="who may do what in which repositories (else who has a password may all)")
    parser.add_argument("--auth", choices=("token", "basic"), default="token",
                        help="ask clients for tokens, or for the password each time (token)")  # fmt: skip
    parser.add_argument("--cert", metavar="FILE", help="serve HTTPS with this certificate (PEM, with its chain)")
    parser.add_argument("--key", metavar="FILE", help="the certificate's key")
    parser.add_argument("--read-only", action="store_true", help="refuse pushes and deletions")
    parser.add_argument("--proxy", metavar="URL", help="be a cache of the registry there")
    parser.add_argument("--proxy-auth", metavar="FILE", help="a file with USER:PASSWORD for it")
    parser.add_argument("--proxy-ca", metavar="FILE", help="the certificate authority to believe there")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (one a processor, 4 at most; 1 for a cache)")
    parser.add_argument("--idle", type=float, default=120.0, metavar="SECONDS",
                        help="end connections that move less than 100 bytes a second this long (120; 0: never)")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no line for each request")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of what is printed once it listens (text)")
    parser.set_defaults(run=_serve)


def _add_gc(verbs: Any) -> None:
    parser = verbs.add_parser(
        "gc", help="remove what nothing leads to, also while it serves", formatter_class=Help,
        description="Remove abandoned uploads, links to blobs that no manifest of their repository leads to, and content "
        "without links. A server may run meanwhile: what is being pushed stays.",
        epilog="examples:\n  minirt registry gc --root /srv/registry --dry-run\n"
        "  minirt registry gc --root /srv/registry --untagged --format json",
    )  # fmt: skip
    parser.add_argument("--root", required=True, metavar="DIR", help="the registry's directory")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--untagged", action="store_true", help="manifests too that no tag leads to")
    parser.add_argument("--grace", type=float, default=3600, metavar="SECONDS",
                        help="keep blobs without a manifest this long: their push may be under way (3600)")  # fmt: skip
    parser.add_argument("--stale", type=float, default=7 * 86400, metavar="SECONDS", help="keep uploads this long (604800)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: an object a line")
    parser.set_defaults(run=_gc)


def _add_passwd(verbs: Any) -> None:
    parser = verbs.add_parser(
        "passwd", help="set a user's password", formatter_class=Help,
        description="Set a user's password in a file for --htpasswd. It is asked for on a terminal, else read from standard input.",
        epilog="examples:\n  minirt registry passwd users alice\n  pass show registry | minirt registry passwd users alice",
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("user", metavar="USER")
    parser.set_defaults(run=_passwd)


# -- the verbs


def _serve(args: argparse.Namespace) -> int:
    import asyncio
    import logging

    from minirt.registry.errors import ServeError

    try:
        from minirt.registry.server import serve
        from minirt.registry.service import Service
        from minirt.registry.workers import default_count, listen, run
    except ImportError as error:
        raise ServeError(f"the registry needs the package {error.name}: .venv/bin/pip install -e '.[serve]'") from None
    host, port = _address(args.listen)
    if args.workers < 0:
        raise ServeError(f"--workers {args.workers}: a number of processes, such as 2")
    if not 0 <= args.idle < 1e9:
        raise ServeError(f"--idle {args.idle}: seconds, such as 60, or 0")
    tls = _tls(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    access_log = None if args.quiet else logging.getLogger("aiohttp.access")

    registry = _registry(args.root).make()
    service = Service(registry, _access(args), _proxy(args, registry), read_only=args.read_only)
    listener = listen(host, port)
    address, port = listener.getsockname()[:2]
    url = f"{'https' if tls else 'http'}://{f'[{address}]' if ':' in address else address}:{port}"
    print(f'{{"url": "{url}"}}' if args.format == "json" else f"serving {args.root} at {url}", flush=True)

    def work(parent: int = -1) -> None:
        asyncio.run(serve(service, listener, tls=tls, access_log=access_log, parent=parent, limit=args.idle))

    # A cache has one process, so that two who want the same blob wait for the same download.
    count = args.workers or (1 if args.proxy else default_count())
    if count > 1:
        return run(count, work)
    work()
    return 0


def _gc(args: argparse.Namespace) -> int:
    import json

    from minirt.registry.gc import collect

    count = size = 0
    registry = _registry(args.root).must_exist()
    for found in collect(registry, grace=args.grace, stale=args.stale, untagged=args.untagged, dry_run=args.dry_run):
        count, size = count + 1, size + found.size
        if args.format == "json":
            print(json.dumps(found.as_dict()))
        else:
            where = f" of {found.repository}" if found.repository else ""
            print(f"{'would be ' if args.dry_run else ''}removed: {found.kind} {found.name}{where}")
    if args.format == "table" and count:
        print(f"{size} bytes {'would be ' if args.dry_run else ''}free")
    return 0


def _passwd(args: argparse.Namespace) -> int:
    import getpass

    from minirt.registry.errors import ServeError
    from minirt.registry.users import set_password

    if sys.stdin is not None and sys.stdin.isatty():
        password = getpass.getpass(f"password of {args.user}: ")
        if password != getpass.getpass("once more: "):
            raise ServeError("the two are not the same")
    else:
        password = (sys.stdin.readline() if sys.stdin is not None else "").rstrip("\n")
    try:
        set_password(args.file, args.user, password)
    except ImportError:
        raise ServeError("passwords need the package bcrypt: .venv/bin/pip install -e '.[serve]'") from None
    return 0


# -- what a server is made of


def _registry(root: str) -> Registry:
    import os

    from minirt.registry.registry import Registry

    return Registry(os.path.abspath(root))


def _address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[ADDRESS]:PORT` or `:PORT`."""
    from minirt.registry.errors import ServeError

    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ServeError(f"--listen {text}: not HOST:PORT, such as 127.0.0.1:5000 or [::1]:5000")
    return host.strip("[]") or "0.0.0.0", int(port)


def _tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    from minirt.registry.errors import ServeError

    if not args.cert and not args.key:
        return None
    if not (args.cert and args.key):
        raise ServeError("HTTPS needs --cert and --key")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(args.cert, args.key)
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"cannot use the certificate {args.cert} with the key {args.key}: {error.strerror or error}") from None
    return context


def _access(args: argparse.Namespace) -> Access:
    from minirt.registry.access import Access
    from minirt.registry.rules import Rules
    from minirt.registry.tokens import Tokens
    from minirt.registry.users import Users

    users = Users(args.htpasswd) if args.htpasswd else None
    rules = Rules(args.rules) if args.rules else None
    tokens = Tokens(args.root) if users is not None and args.auth == "token" else None
    return Access(users, rules, tokens)


def _proxy(args: argparse.Namespace, registry: Registry) -> Proxy | None:
    if not args.proxy:
        return None
    import ssl

    from minirt.registry.errors import ServeError
    from minirt.registry.proxy import Proxy
    from minirt.registry.upstream import Upstream

    if not args.proxy.startswith(("http://", "https://")):
        raise ServeError(f"--proxy {args.proxy}: not a URL, such as https://registry.example")
    user = password = ""
    try:
        if args.proxy_auth:
            with open(args.proxy_auth, encoding="utf-8") as stream:
                user, _, password = stream.read().strip().partition(":")
        tls = ssl.create_default_context(cafile=args.proxy_ca) if args.proxy_ca else None
    except (OSError, ssl.SSLError) as error:
        raise ServeError(f"cannot read {args.proxy_auth or args.proxy_ca}: {error.strerror or error}") from None
    return Proxy(registry, Upstream(args.proxy, user, password, tls))

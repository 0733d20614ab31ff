"""`minirt serve`: the words for a server of Docker's Engine API."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

    from minirt.api.server import Listener

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt serve &
  docker -H unix:///run/minirt/docker.sock run --rm busybox echo hello
  minirt serve -H unix:///tmp/m.sock -H tcp://0.0.0.0:2376 --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem

The containers are not the server's: it may end, be killed or begin anew, and they go on. When it begins it starts those with
--restart always, and those with unless-stopped or on-failure that nobody has stopped: after a boot, all that ran. While it runs
it does so for those whose monitor was killed; how such a container ended nobody saw, and its exit code is 255.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve", help="Docker's Engine API, for the docker command line", formatter_class=Help, epilog=EPILOG,
        description="Serve Docker's Engine API (1.40 to 1.50) until SIGTERM. Who may write to its socket is root here.",
    )  # fmt: skip
    parser.add_argument("-H", "--host", action="append", default=[], metavar="WHERE",
                        help="unix://PATH, tcp://HOST:PORT, or fd:// for systemd's sockets (unix://RUN/docker.sock)")  # fmt: skip
    parser.add_argument("--group", default="", metavar="GROUP", help="whose members may use the Unix socket too")
    parser.add_argument("--tlscacert", default="", metavar="FILE", help="over TCP: only who has a certificate by this authority")
    parser.add_argument("--tlscert", default="", metavar="FILE", help="our certificate (PEM, with its chain)")
    parser.add_argument("--tlskey", default="", metavar="FILE", help="its key")
    parser.add_argument("-q", "--quiet", action="store_true", help="no line for each request")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of what is printed once it listens (text)")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Listen, say where, and answer."""
    import json
    import logging
    import os

    from minirt.errors import MinirtError
    from minirt.paths import state_root

    try:
        from minirt.api import server
    except ImportError as error:
        raise MinirtError(f"the server needs the package {error.name}: .venv/bin/pip install -e '.[serve]'") from None
    level = logging.WARNING if args.quiet else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    listeners: list[Listener] = []
    for where in args.host or [f"unix://{os.path.join(state_root(), 'docker.sock')}"]:
        listeners += listen(where, args)

    def say(listener: Listener) -> None:
        print(json.dumps({"host": listener.name}) if args.format == "json" else f"serving at {listener.name}", flush=True)

    server.serve(listeners, say)
    return 0


def listen(where: str, args: argparse.Namespace) -> list[Listener]:
    """Return who listens at what -H names. Raises: UsageError."""
    from minirt.api.server import handed_over, on_tcp, on_unix
    from minirt.errors import UsageError

    kind, _, rest = where.partition("://")
    if kind == "unix" and rest:
        return [on_unix(rest, args.group)]
    if kind == "fd":
        return handed_over()
    if kind != "tcp":
        raise UsageError(f"-H {where}: write unix://PATH, tcp://HOST:PORT or fd://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"-H {where}: write tcp://HOST:PORT, such as tcp://127.0.0.1:2376")
    tls = tls_of(args)
    host = host.strip("[]") or "127.0.0.1"
    if tls is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise UsageError(f"-H {where}: who reaches it is root: give --tlscacert, --tlscert, --tlskey, or listen at 127.0.0.1")
    return [on_tcp(host, int(port), tls)]


def tls_of(args: argparse.Namespace) -> ssl.SSLContext | None:
    """Return what is spoken over TCP: TLS with certificates on both sides; None without. Raises: UsageError."""
    from minirt.errors import UsageError

    names = (args.tlscacert, args.tlscert, args.tlskey)
    if not any(names):
        return None
    if not all(names):
        raise UsageError("TLS needs --tlscacert, --tlscert and --tlskey: a client without a certificate would be root here")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(args.tlscacert)
        context.load_cert_chain(args.tlscert, args.tlskey)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot use {', '.join(names)}: {error.strerror or error}") from None
    return context

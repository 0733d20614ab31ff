"""From and to registries: pull, push."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.image.verb import open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers
    from minirt.image.reference import Reference
    from minirt.image.remote.credentials import Credentials

__all__ = ["add", "boolean"]


def add(verbs: Subparsers, command: str = "minirt image") -> None:
    """Add the verbs. Args: command, what they are the verbs of, for the examples."""
    pull = verb(verbs, "pull", _pull, "fetch an image from a registry and unpack it",
                f"{command} pull debian:12", f"{command} pull --platform linux/arm64 registry.example/team/app:v1",
                f"{command} pull --tls-verify=false localhost:5000/box")  # fmt: skip
    pull.add_argument("name", metavar="NAME")
    pull.add_argument("-a", "--all-tags", action="store_true", help="of the repository that NAME is, each")
    pull.add_argument("--platform", default="", metavar="OS/ARCH[/VARIANT]", help="of an index; by default this machine's")
    _add_connection(pull)
    push = verb(verbs, "push", _push, "send an image to a registry", f"{command} push registry.example/team/app:v1",
                f"{command} push box registry.example/team/box:1")  # fmt: skip
    push.add_argument("name", metavar="NAME")
    push.add_argument("-a", "--all-tags", action="store_true", help="of the repository that NAME is, each that is here")
    push.add_argument("target", metavar="TARGET", nargs="?", default="", help="its name there; by default the same")
    _add_connection(push)


def _add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a registry is spoken to, and who is told what."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of what is printed at the end")
    parser.add_argument("--tls-verify", type=boolean, nargs="?", const=True, default=True, metavar="true|false",
                        help="false: any certificate will do, and plain HTTP where TLS is not spoken")  # fmt: skip
    parser.add_argument("--creds", default="", metavar="USER[:PASSWORD]", help="in place of those that `minirt login` keeps")


def boolean(text: str) -> bool:
    """Parse the value of --tls-verify, as podman writes it."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _credentials(args: argparse.Namespace) -> Credentials | None:
    """Return what --creds says; the password is asked for where it is missing."""
    from minirt.image.remote.credentials import Credentials

    if not args.creds:
        return None
    user, colon, password = args.creds.partition(":")
    if not colon:
        import getpass

        password = getpass.getpass("Password: ")
    return Credentials(user, password)


def _pull(args: argparse.Namespace) -> int:
    for name in _tags_there(args) if args.all_tags else [args.name]:
        _pull_one(args, name)
    return 0


def _pull_one(args: argparse.Namespace, name: str) -> None:
    from minirt.cli.image.progress import Transfer
    from minirt.engine.images import tell_image
    from minirt.image.remote.platform import Platform
    from minirt.image.remote.pull import pull

    with Transfer(args.quiet) as progress:
        image = pull(open_store(), name, platform=args.platform, verify=args.tls_verify,
                     credentials=_credentials(args), progress=progress)  # fmt: skip
    tell_image("pull", image.name)
    wanted = Platform.parse(args.platform)
    if not wanted.rank(image.config):  # a name of one image alone, which is for whatever it is for
        have = "/".join(str(image.config.get(key)) for key in ("os", "architecture"))
        print(f"minirt: warning: {image.name} is for {have}, and {wanted} was wanted: there is no other", file=sys.stderr)
    _print(args, image.name, image.id, image.digest)


def _push(args: argparse.Namespace) -> int:
    from minirt.errors import UsageError

    if args.all_tags and args.target:
        raise UsageError("push: --all-tags is for names that are here: no TARGET")
    for name in _tags_here(args) if args.all_tags else [args.name]:
        _push_one(args, name)
    return 0


def _push_one(args: argparse.Namespace, name: str) -> None:
    from minirt.cli.image.progress import Transfer
    from minirt.cli.image.verb import find
    from minirt.engine.images import tell_image
    from minirt.image.remote.push import push

    store = open_store()
    with Transfer(args.quiet) as progress:
        found = find(store, name)
        reference, image = push(store, found.name or found.digest, args.target or name, verify=args.tls_verify,
                                credentials=_credentials(args), progress=progress)  # fmt: skip
    tell_image("push", str(reference))
    _print(args, str(reference), image.id, image.digest)


def _repository(args: argparse.Namespace) -> Reference:
    """Return what --all-tags is about. Raises UsageError for one that has a tag."""
    from minirt.errors import UsageError
    from minirt.image.reference import Reference

    if ":" in args.name.rpartition("/")[2] or "@" in args.name:
        raise UsageError(f"{args.name}: --all-tags is for a repository, without a tag")
    return Reference.parse(args.name)


def _is_companion(tag: str) -> bool:
    """Return whether a tag is no image's, but that of what refers to one (image-spec's fallback, and signatures)."""
    return tag.startswith(("sha256-", "sha512-"))


def _tags_there(args: argparse.Namespace) -> list[str]:
    from minirt.image.remote.registries import Registries
    from minirt.image.remote.registry import connect

    place = Registries.load().home(_repository(args))
    repository = connect(place, verify=args.tls_verify, credentials=_credentials(args))
    return [f"{args.name}:{tag}" for tag in repository.tags() if not _is_companion(tag)]


def _tags_here(args: argparse.Namespace) -> list[str]:
    from minirt.image.errors import UnknownImage
    from minirt.image.reference import Reference

    wanted = _repository(args)
    names = [Reference.parse(name) for name, _ in open_store().listed() if name]
    found = [str(one) for one in names if (one.registry, one.repository) == (wanted.registry, wanted.repository) and one.tag
             and not _is_companion(one.tag)]  # fmt: skip
    if not found:
        raise UnknownImage(f"no image named {args.name} is here, with any tag")
    return found


def _print(args: argparse.Namespace, name: str, id: str, digest: str) -> None:
    if args.format == "json":
        import json

        print(json.dumps({"Name": name, "ID": id, "Digest": digest}))
    else:
        print(id)

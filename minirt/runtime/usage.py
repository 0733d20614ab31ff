"""What `minirt oci` says of itself: its help, that of each command with examples, its version."""

from __future__ import annotations

from minirt.runtime.flags import help_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from minirt.runtime.command import Command
    from minirt.runtime.flags import Flag

__all__ = ["EXAMPLES", "print_command_help", "print_help", "print_version"]

EXAMPLES = {
    "create": ("minirt oci create --bundle /srv/box --pid-file /run/box.pid box",),
    "start": ("minirt oci start box",),
    "run": ("minirt oci run box", "minirt oci run --detach --bundle /srv/box box </dev/null >/dev/null 2>&1"),
    "state": ("minirt oci state box",),
    "exec": ("minirt oci exec -t box sh", "minirt oci exec --user 1000:1000 --cwd /tmp --env A=b box id",
             "minirt oci exec --process process.json box"),
    "kill": ("minirt oci kill box TERM", "minirt oci kill --all box KILL"),
    "delete": ("minirt oci delete box", "minirt oci delete --force box"),
    "list": ("minirt oci list --format json", "minirt oci list --quiet"),
    "ps": ("minirt oci ps box", "minirt oci ps --format json box", "minirt oci ps box -o pid,rss,args"),
    "pause": ("minirt oci pause box",),
    "resume": ("minirt oci resume box",),
    "update": ("minirt oci update --memory 64000000 --pids-limit 100 box",
               """echo '{"cpu": {"quota": 50000, "period": 100000}}' | minirt oci update -r - box"""),
    "events": ("minirt oci events --stats box", "minirt oci events --interval 10s box"),
    "spec": ("mkdir -p box/rootfs && minirt oci spec --bundle box",),
    "features": ("minirt oci features",),
    "checkpoint": ("minirt oci checkpoint --image-path /srv/images/box box",),
    "restore": ("minirt oci restore --image-path /srv/images/box --bundle /srv/box box",),
}  # fmt: skip


def print_version() -> int:
    """Print the versions, as engines parse them."""
    from minirt import __version__
    from minirt.oci import VERSION

    print(f"minirt-oci version {__version__}\nspec: {VERSION}")
    return 0


def print_help(commands: Mapping[str, Command], flags: tuple[Flag, ...]) -> int:
    """Print what there is: commands by name, and the flags before a command's name."""
    print("usage: minirt oci [FLAGS] COMMAND [FLAGS] ID ...\n\nThe OCI runtime, with runc's commands.\n\ncommands:")
    for name, command in commands.items():
        print(f"  {name:<12} {command.help}")
    print("\nflags:")
    print("\n".join(help_lines(flags)))
    print("\nexamples:\n  minirt oci spec                    write a config.json; then edit it"
          "\n  minirt oci run box                 run the bundle in this directory as box"
          "\n  podman --runtime minirt-oci run docker.io/library/busybox true"
          "\n\n`minirt oci COMMAND --help` tells more.")  # fmt: skip
    return 0


def print_command_help(name: str, command: Command, flags: tuple[Flag, ...]) -> int:
    """Print a command's flags."""
    print(f"usage: minirt oci {name} [FLAGS] {command.usage}".rstrip() + f"\n\n{command.help}\n\nflags:")
    print("\n".join(help_lines(flags)))
    print("\nexamples:\n  " + "\n  ".join(EXAMPLES[name]))
    return 0

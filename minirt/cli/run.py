"""`minirt run` and `minirt create`: docker's flags to RunOptions, and one call."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help
from minirt.cli.refused import add_refused
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.cli.image.progress import Part
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt run busybox echo hello
  minirt run -it --rm busybox sh
  minirt run --rm -v "$PWD:/src:ro" -w /src busybox ls
  minirt run --rm --memory 64m --cpus 0.5 --pids-limit 20 busybox sh -c 'cat /sys/fs/cgroup/memory.max'
  minirt run --plan busybox true                      what would be done
  minirt run --explain --rm busybox true              what is done, call by call
  minirt run --step --rm -it busybox sh               one call at a time
  minirt run --without pivot_root --rm busybox ls /   with one wall less
  minirt run --fail mount:2=EPERM --rm busybox true   with one call failing

exit status: the command's own; 128+n if signal n ended it; 125 if minirt failed, 126 if the command cannot be
run, 127 if it was not found.
"""


class Rate(argparse.Action):
    """docker's --device-read-bps DEVICE:RATE and its like, as --io-max has it."""

    def __init__(self, *names: Any, key: str = "", **more: Any) -> None:
        super().__init__(*names, **{**more, "dest": "io_max", "default": argparse.SUPPRESS})
        self.key = key

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        device, colon, rate = str(values).rpartition(":")
        if not colon:
            parser.error(f"argument {option}: {values!r}: it is written DEVICE:RATE")
        namespace.io_max = [*getattr(namespace, "io_max", ()), f"{device}:{self.key}={rate}"]


def add_parser(commands: Any) -> None:
    """Add the `run` command."""
    for name, do, help, description in (
        ("run", run, "run a command in a new container", "Run a command in a new container."),
        ("create", create, "make a container, to be started", "Make a container; `minirt start` starts it."),
    ):
        parser = commands.add_parser(
            name, help=help, description=description, add_help=False, epilog=EPILOG.replace("minirt run ", f"minirt {name} "),
            formatter_class=Help, usage=f"minirt {name} [OPTIONS] IMAGE [COMMAND [ARG...]]",
        )  # fmt: skip
        add_options(parser)
        parser.set_defaults(run=do)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add docker's flags."""

    def many(group: Any, *names: str, metavar: str, help: str) -> None:
        group.add_argument(*names, action="append", default=[], metavar=metavar, help=help)

    g = parser.add_argument_group("the container")
    g.add_argument("--name", default="", metavar="NAME", help="give it a name")
    g.add_argument("--rm", action="store_true", help="remove it, with what it changed, when it ends")
    g.add_argument("-i", "--interactive", action="store_true", help="give it our standard input")
    g.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    g.add_argument("-d", "--detach", action="store_true", help="do not stay with it; print its id")
    g.add_argument("--detach-keys", default="ctrl-p,ctrl-q", metavar="KEYS", help="leave it with these (ctrl-p,ctrl-q)")
    g.add_argument("--sig-proxy", default=True, type=truth, metavar="true|false", help="pass signals on to it (true)")
    g.add_argument("--init", action="store_true", help="an init as pid 1 that reaps orphans and passes signals on")
    g.add_argument("--restart", default="no", metavar="POLICY", help="start it again: on-failure[:N], always, unless-stopped (no)")
    g.add_argument("--stop-signal", default="", metavar="SIGNAL", help="what `minirt stop` sends it (TERM)")
    g.add_argument("--stop-timeout", type=int, default=10, metavar="SECONDS", help="before `minirt stop` kills it (10)")
    g.add_argument("--log-driver", default="json-file", metavar="NAME", help="json-file or none, for `minirt logs` (json-file)")
    many(g, "--log-opt", metavar="KEY=VALUE", help="max-size=SIZE of one file, max-file=NUMBER of them")
    add_health(g)
    g.add_argument("--cidfile", default="", metavar="FILE", help="write its id there")
    g.add_argument("--entrypoint", default=None, metavar="PROGRAM", help="instead of the image's entry point")
    many(g, "-e", "--env", metavar="NAME[=VALUE]", help="set a variable; without a value, take ours")
    many(g, "--env-file", metavar="FILE", help="set variables from a file")
    many(g, "-l", "--label", metavar="KEY=VALUE", help="annotate it")
    many(g, "--label-file", metavar="FILE", help="labels from a file")
    many(g, "--annotation", metavar="KEY=VALUE", help="annotate its config.json")
    many(g, "-a", "--attach", metavar="STREAM", help="which of stdin, stdout, stderr we are at (stdout and stderr)")
    g.add_argument("--pull", default="missing", choices=("always", "missing", "never"), help="fetch the image first (missing)")
    g.add_argument("-q", "--quiet", action="store_true", help="no progress of that")
    g.add_argument("--platform", default="", metavar="OS/ARCH", help="of an image for several (this machine's)")
    g.add_argument("--disable-content-trust", nargs="?", const=True, default=True, type=truth, dest=argparse.SUPPRESS,
                   help=argparse.SUPPRESS)  # signatures are a matter of policy.json  # fmt: skip
    g.add_argument("-w", "--workdir", default="", metavar="DIR", help="working directory, made if missing")
    g.add_argument("-u", "--user", default="", metavar="USER[:GROUP]", help="names in the image, or numbers")
    many(g, "--group-add", metavar="GROUP", help="another group")
    g.add_argument("-h", "--hostname", default="", metavar="NAME", help="host name")
    g.add_argument("--domainname", default="", metavar="NAME", help="NIS domain name")

    g = parser.add_argument_group("files")
    many(g, "-v", "--volume", metavar="[SOURCE:]TARGET[:ro]", help="a directory of the host, or a volume by its name, or a new one")
    many(g, "--mount", metavar="SPEC", help="type=bind|volume|tmpfs,source=...,target=...[,readonly]")
    many(g, "--volumes-from", metavar="CONTAINER[:ro]", help="what another container has mounted")
    g.add_argument("--volume-driver", default="", metavar="NAME", help="of new volumes: local")
    many(g, "--tmpfs", metavar="PATH[:OPTIONS]", help="an empty directory in memory")
    many(g, "--device", metavar="HOST[:CONTAINER[:rwm]]", help="a device node, or all in a directory")
    many(g, "--device-cgroup-rule", metavar="RULE", help="what devices it may use, as 'c 1:3 rwm'")
    g.add_argument("--read-only", action="store_true", help="a read-only root file system")
    g.add_argument("--shm-size", default="64m", metavar="SIZE", help="size of /dev/shm (64m)")

    g = parser.add_argument_group("namespaces")
    many(g, "--network", "--net", metavar="NETWORK",
         help="none, host, bridge, container:NAME, one of `minirt network`, name=NETWORK,alias=NAME,ip=ADDRESS (none)")  # fmt: skip
    many(g, "-p", "--publish", metavar="[[IP:]HOST:]PORT[/udp]", help="a port of the host that leads to one of it (network bridge)")
    g.add_argument("-P", "--publish-all", action="store_true", help="all that the image or --expose names, at any port of the host")
    many(g, "--expose", metavar="PORT[/udp]", help="a port that -P publishes too")
    many(g, "--network-alias", metavar="NAME", help="another name in its network")
    g.add_argument("--ip", default="", metavar="ADDRESS", help="its address there")
    g.add_argument("--ip6", default="", metavar="ADDRESS", help="its IPv6 address there")
    g.add_argument("--mac-address", default="", metavar="ADDRESS", help="its hardware address there")
    many(g, "--dns", metavar="ADDRESS", help="a name server (the host's)")
    many(g, "--dns-search", metavar="DOMAIN", help="where names are looked for; . for nowhere else (the host's)")
    many(g, "--dns-option", "--dns-opt", metavar="OPTION", help="of resolv.conf, as ndots:2 (the host's)")
    many(g, "--add-host", metavar="NAME:ADDRESS", help="a line for its /etc/hosts")
    g.add_argument("--pid", default="private", metavar="private|host|container:NAME", help="processes")
    g.add_argument("--ipc", default="private", metavar="private|shareable|none|host|container:NAME", help="shared memory, queues")
    g.add_argument("--uts", default="private", metavar="private|host", help="host name")
    g.add_argument("--cgroupns", default="private", metavar="private|host", help="view of cgroups")
    g.add_argument("--userns", default="host", metavar="host|auto", help="auto: root in it is user 100000 outside")
    many(g, "--uidmap", metavar="CONTAINER:HOST:SIZE", help="map users")
    many(g, "--gidmap", metavar="CONTAINER:HOST:SIZE", help="map groups")

    g = parser.add_argument_group("rights")
    many(g, "--cap-add", metavar="CAP", help="give a capability, or ALL")
    many(g, "--cap-drop", metavar="CAP", help="take a capability, or ALL")
    g.add_argument("--privileged", action="store_true", help="all capabilities and devices, no filter: no walls")
    many(g, "--security-opt", metavar="OPT", help="no-new-privileges, seccomp=unconfined|FILE, systempaths=unconfined ...")
    many(g, "--sysctl", metavar="NAME=VALUE", help="a kernel setting of the container's namespaces")
    many(g, "--ulimit", metavar="NAME=SOFT[:HARD]", help="a limit for each process (nofile, nproc, core ...)")
    g.add_argument("--oom-score-adj", type=int, default=None, metavar="N", help="-1000 to 1000: who goes first")

    add_limits(parser)

    g = parser.add_argument_group("looking at how it is done")
    g.add_argument("--plan", action="store_true", help="print the system calls and run nothing")
    g.add_argument("--as-shell", action="store_true", help="print a shell script that does much of the same, and run nothing")
    g.add_argument("--as-oci", default="", metavar="DIR", help="write a bundle for any OCI runtime, and run nothing")
    g.add_argument("--explain", action="store_true", help="print each call as it happens, with its reason and effect")
    g.add_argument("--step", action="store_true", help="stop before each call and ask")
    g.add_argument("--upto", default=None, metavar="STEP", help="leave out the steps after this one")
    many(g, "--without", metavar="STEP", help="leave a step out, and what needs it")
    g.add_argument("--trace", default=None, metavar="FILE", help="write what happens as JSON, an event a line")
    many(g, "--fail", metavar="CALL[:N]=ERRNO", help="let one call fail")
    g.add_argument("--format", default="table", choices=("table", "json"), help="of --plan")
    g.add_argument("--help", action="help", help="show this")

    add_refused(parser)
    parser.add_argument("image", metavar="IMAGE", help="name of an image (busybox is always there)")
    words = parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="instead of the image's own")
    words.required = False


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the flags of limits, which `update` has too."""
    g = parser.add_argument_group("resources (cgroup v2)")
    g.add_argument("-m", "--memory", default="", metavar="SIZE", help="most memory, as 64m or 1g")
    g.add_argument("--memory-swap", default="", metavar="SIZE", help="most memory and swap together; -1: any")
    g.add_argument("--memory-reservation", default="", metavar="SIZE", help="what it keeps when memory is short")
    g.add_argument("--cpus", default="", metavar="N", help="most CPUs, as 0.5")
    g.add_argument(
        "--cpu-weight", type=int, default=None, metavar="N", help="share when CPUs are short, 1 to 10000 (100)"
    )
    g.add_argument(
        "-c", "--cpu-shares", type=int, default=None, metavar="N", help="the same in cgroup v1's scale, 2 to 262144"
    )
    g.add_argument("--cpu-quota", type=int, default=None, metavar="US", help="microseconds in each period")
    g.add_argument("--cpu-period", type=int, default=None, metavar="US", help="length of a period")
    g.add_argument("--cpuset-cpus", default="", metavar="LIST", help="which CPUs, as 0-2,4")
    g.add_argument("--cpuset-mems", default="", metavar="LIST", help="which memory nodes")
    g.add_argument("--pids-limit", type=int, default=None, metavar="N", help="most processes and threads; -1: any")
    g.add_argument("--io-weight", "--blkio-weight", type=int, default=None, metavar="N", help="share of the disk, 1 to 10000")
    g.add_argument("--io-max", action="append", default=[], metavar="DEV:KEY=N,...", help="most of rbps, wbps, riops, wiops")
    for name, key in (("read-bps", "rbps"), ("write-bps", "wbps"), ("read-iops", "riops"), ("write-iops", "wiops")):
        g.add_argument(f"--device-{name}", action=Rate, key=key, metavar="DEV:N", help=f"the same as --io-max DEV:{key}=N")


HEALTH = ("health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval", "health_retries")


def add_health(g: Any) -> None:
    """Add the flags of health checks."""
    g.add_argument("--health-cmd", default="", metavar="COMMAND", help="what says by exit status 0 that it is well (the image's)")
    g.add_argument("--health-interval", default="", metavar="TIME", help="between two checks, as 10s or 1m30s (30s)")
    g.add_argument("--health-timeout", default="", metavar="TIME", help="after which a check has failed (30s)")
    g.add_argument("--health-start-period", default="", metavar="TIME", help="in which a failure does not count (0s)")
    g.add_argument("--health-start-interval", default="", metavar="TIME", help="between two checks in that (5s)")
    g.add_argument("--health-retries", type=int, default=0, metavar="N", help="failures in a row that make it unhealthy (3)")
    g.add_argument("--no-healthcheck", action="store_true", help="not even the image's")


def health_of(chosen: dict[str, Any]) -> dict[str, Any] | None:
    """Take the flags of health checks out of what was chosen, and return what they say together. Raises: UsageError."""
    texts = {key: chosen.pop(key) for key in HEALTH}
    if chosen.pop("no_healthcheck"):
        if any(texts.values()):
            raise UsageError("--no-healthcheck: the other --health flags say the contrary")
        return {"Test": ["NONE"]}
    if not any(texts.values()):
        return None
    from minirt.engine.moments import duration

    config: dict[str, Any] = {"Retries": texts["health_retries"]}
    if texts["health_cmd"]:
        config["Test"] = ["CMD-SHELL", texts["health_cmd"]]
    names = ("health_interval", "health_timeout", "health_start_period", "health_start_interval")
    for name, key in zip(names, ("Interval", "Timeout", "StartPeriod", "StartInterval"), strict=True):
        seconds = duration(texts[name]) if texts[name] else 0.0
        if seconds is None:
            raise UsageError(f"--{name.replace('_', '-')} {texts[name]}: a time is written as 10s or 1m30s")
        config[key] = round(seconds * 1e9)
    return config


def truth(text: str) -> bool:
    """Return what `true` and `false` mean after --sig-proxy."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError("true or false")
    return text.lower() in ("true", "1")


def options_of(args: argparse.Namespace) -> RunOptions:
    """Return what was asked for."""
    from minirt.engine.options import RunOptions

    chosen = {k: v for k, v in vars(args).items() if k not in ("image", "words", "run", "command", "debug", "version")}
    networks = chosen.pop("network")
    chosen["network"], chosen["networks"] = (networks or ["none"])[0], networks[1:]
    return RunOptions(args.image, args.words, healthcheck=health_of(chosen), **chosen)


def run(args: argparse.Namespace) -> int:
    """Hand the words over."""
    from minirt.engine.container import ContainerError

    options = options_of(args)
    try:
        if options.as_oci and not options.detach:
            from minirt.engine.bundle import write_bundle

            write_bundle(options, options.as_oci)
            return 0
        image = image_for(options)
        if options.detach:
            from minirt.engine.start import create as make
            from minirt.engine.start import run_detached

            print(run_detached(make(options, image)).id)
            return 0
        if not is_watched(options) and wants_monitor(options, image):
            from minirt.engine.attach import run_attached

            return run_attached(options, image)
        from minirt.engine.run import run as run_container

        return run_container(options, image)
    except (UsageError, ContainerError) as error:
        error.exit_code = 125  # as for a wrong flag, also where it names another container that is not there
        raise


def image_for(options: RunOptions, shown: Callable[[], Part] | None = None, wanted: Callable[[], bool] = lambda: True) -> Image:
    """Return the image, fetched first where --pull asks for that.

    Args:
        options: image, pull, platform, quiet, plan.
        shown: gives who is told how far it is, where it is one of several.
        wanted: asked meanwhile whether to go on.

    Raises: ImageError with exit code 125.
    """
    from minirt.engine.images import find_image, is_for
    from minirt.image.errors import BadReference, UnknownImage

    if options.pull != "always":
        try:
            image = find_image(options.image)
            if options.pull == "never" or not options.platform or is_for(image, options.platform):
                return image
        except BadReference:
            raise
        except UnknownImage as error:
            if options.pull == "never" or options.plan:
                raise
            missing = str(error)
    else:
        missing = ""
    return fetch(options, missing, shown, wanted)


def fetch(options: RunOptions, missing: str, shown: Callable[[], Part] | None, wanted: Callable[[], bool]) -> Image:
    """Pull the image. Args: missing, what was said when it was not found here. Raises: ImageError with exit code 125."""
    import sys
    from contextlib import nullcontext

    from minirt.cli.image.progress import Transfer
    from minirt.cli.image.verb import open_store
    from minirt.engine.images import find_image
    from minirt.image.errors import ImageError
    from minirt.image.remote.pull import pull

    if missing and shown is None and not options.quiet and sys.stderr.isatty():
        print(f"Unable to find image '{options.image}' locally", file=sys.stderr)
    try:
        with Transfer(options.quiet) if shown is None else nullcontext(shown()) as progress:
            name = pull(open_store(), options.image, platform=options.platform, progress=progress, wanted=wanted).name
    except ImageError as error:
        error.exit_code = 125
        raise
    return find_image(name)


def wants_monitor(options: RunOptions, image: Image) -> bool:
    """Say whether a monitor is to hold a container that we stay with: it may be left, is started again, or is looked at."""
    if options.tty or options.restart != "no":
        return True
    own = (image.config.get("config") or {}).get("Healthcheck")
    if not (options.healthcheck or own):
        return False
    from minirt.engine.health import merged

    return merged(options.healthcheck, image.config.get("config") or {}) is not None


def is_watched(options: RunOptions) -> bool:
    """Say whether somebody wants to look at how it is done: then it is done here, and not as a monitor's child."""
    plain = options.upto is None and not options.without and not options.fail and options.trace is None
    return not plain or options.plan or options.as_shell or options.explain or options.step


def create(args: argparse.Namespace) -> int:
    """Make it, and print its id."""
    from minirt.engine.container import ContainerError
    from minirt.engine.start import create as make

    options = options_of(args)
    options.detach = True
    try:
        print(make(options, image_for(options)).id)
    except (UsageError, ContainerError) as error:
        error.exit_code = 125
        raise
    return 0

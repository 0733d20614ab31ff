"""What `minirt run` can be asked for: docker's options, as plain values with docker's defaults."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RunOptions"]


class RunOptions:
    """The options of `minirt run`, by the names of its flags; texts are as typed and checked by `engine.spec`.

    Args:
        image: name of the image.
        command: the command and its arguments; by default the image's.
        **chosen: any attribute below.
    """

    def __init__(self, image: str, command: list[str] | None = None, **chosen: Any) -> None:
        self.image = image
        self.command = command or []
        # the container
        self.name = ""
        self.hostname = ""
        self.rm = False
        self.init = False
        self.entrypoint: str | None = None
        self.env: list[str] = []
        self.env_file: list[str] = []
        self.label: list[str] = []
        self.label_file: list[str] = []
        self.annotation: list[str] = []
        self.attach: list[str] = []
        self.domainname = ""
        self.add_host: list[str] = []
        self.pull = "never"
        self.quiet = False
        self.platform = ""
        self.workdir = ""
        self.user = ""
        self.group_add: list[str] = []
        self.read_only = False
        self.interactive = False
        self.stdin_once = True  # its input ends with that of the first who is attached
        self.tty = False
        self.console_size: list[int] = []  # rows and columns of that; of ours, if nobody says it
        self.detach = False
        self.detach_keys = "ctrl-p,ctrl-q"
        self.sig_proxy = True
        self.stop_signal = ""
        self.stop_timeout = 10
        self.restart = "no"
        self.healthcheck: dict[str, Any] | None = None  # as the Engine API's HealthConfig; what it does not say is the image's
        self.log_driver = "json-file"
        self.log_opt: list[str] = []
        self.cidfile = ""
        # files
        self.volume: list[str] = []
        self.mount: list[str] = []
        self.tmpfs: list[str] = []
        self.volumes_from: list[str] = []
        self.volume_driver = ""
        self.mounts: list[dict[str, Any]] | None = None  # what these became for a container that is there (engine.mounts.Request)
        self.device: list[str] = []
        self.device_cgroup_rule: list[str] = []
        self.shm_size = "64m"
        # namespaces
        self.network = "none"
        self.networks: list[str] = []  # the second --network, and more
        self.publish: list[str] = []
        self.publish_all = False
        self.expose: list[str] = []
        self.network_alias: list[str] = []
        self.ip = ""
        self.ip6 = ""
        self.mac_address = ""
        self.dns: list[str] = []
        self.dns_search: list[str] = []
        self.dns_option: list[str] = []
        self.pid = "private"
        self.ipc = "private"
        self.uts = "private"
        self.cgroupns = "private"
        self.userns = "host"
        self.uidmap: list[str] = []
        self.gidmap: list[str] = []
        # rights
        self.cap_add: list[str] = []
        self.cap_drop: list[str] = []
        self.privileged = False
        self.security_opt: list[str] = []
        self.sysctl: list[str] = []
        self.ulimit: list[str] = []
        self.oom_score_adj: int | None = None
        # resources
        self.memory = ""
        self.memory_swap = ""
        self.memory_reservation = ""
        self.cpus = ""
        self.cpu_weight: int | None = None
        self.cpu_shares: int | None = None
        self.cpu_quota: int | None = None
        self.cpu_period: int | None = None
        self.cpuset_cpus = ""
        self.cpuset_mems = ""
        self.pids_limit: int | None = None
        self.io_weight: int | None = None
        self.io_max: list[str] = []
        # looking at the plan
        self.plan = False
        self.as_shell = False
        self.as_oci = ""
        self.explain = False
        self.step = False
        self.upto: str | None = None
        self.without: list[str] = []
        self.trace: str | None = None
        self.fail: list[str] = []
        self.format = "table"
        for key, value in chosen.items():
            if not hasattr(self, key):
                raise TypeError(f"run has no option {key!r}")
            setattr(self, key, value)

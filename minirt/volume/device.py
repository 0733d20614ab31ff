"""A volume that is a mount: docker's `--driver local --opt type=tmpfs --opt device=tmpfs --opt o=size=64m`.

With o=bind the volume is a directory of the host, which containers get directly. All else is mounted on the volume's
directory in the host's mount namespace when the first container begins that uses it, and taken away with the last: who
mounts and unmounts holds the volumes' lock. What a killed minirt leaves mounted, the next container finds or `minirt gc` removes.
"""

from __future__ import annotations

import os

from minirt.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.oci.options import Mount
    from minirt.volume.store import Volume

__all__ = ["attach", "check", "detach", "is_attached", "source"]


def check(name: str, options: dict[str, str]) -> None:
    """Refuse driver options that cannot be. Raises: VolumeError."""
    from minirt.volume.store import OPTIONS, VolumeError

    for key in options:
        if key not in OPTIONS:
            raise VolumeError(f"volume {name}: the local driver has no option {key!r}; there are {', '.join(OPTIONS)}")
    if not options:
        return
    if not options.get("device"):
        raise VolumeError(f"volume {name}: device= is missing: what is to be mounted")
    if "bind" in options.get("o", "").split(",") or "rbind" in options.get("o", "").split(","):
        if not options["device"].startswith("/"):
            raise VolumeError(f"volume {name}: device={options['device']}: an absolute path of the host")
    elif not options.get("type"):
        raise VolumeError(f"volume {name}: type= is missing: tmpfs, nfs, ext4 ...; or o=bind for a directory of the host")


def entry(volume: Volume) -> Mount:
    """Return what the options mean, as an entry of config.json's mounts means it."""
    from minirt.oci.options import Mount

    options = [option for option in volume.options.get("o", "").split(",") if option]
    described = {"destination": "/volume", "type": volume.options.get("type", "none"), "options": options}
    return Mount({**described, "source": volume.options.get("device", "")}, f"volume {volume.name}")


def source(volume: Volume) -> tuple[str, list[str]]:
    """Return the directory that a container gets, and mount options that come with it."""
    if volume.options and entry(volume).bind:
        kept = [o for o in volume.options.get("o", "").split(",") if o and o not in ("bind", "rbind", "rw")]
        return volume.options["device"], kept
    return volume.data, []


def is_attached(volume: Volume) -> bool:
    """Say whether something is mounted on a volume's directory."""
    return bool(volume.options) and os.path.ismount(volume.data)


def attach(volume: Volume) -> None:
    """Mount it, if it is a mount and is not mounted; the caller holds the lock. Raises: VolumeError."""
    if not volume.options or is_attached(volume):
        return
    from minirt.plan import Plan
    from minirt.volume.store import VolumeError

    wanted = entry(volume)
    if wanted.bind:
        if not os.path.isdir(wanted.source):
            raise VolumeError(f"volume {volume.name}: device={wanted.source}: no directory of this host")
        return
    data = ",".join(wanted.data) or None
    plan = Plan().step("volume").mount(wanted.source, volume.data, wanted.kind, wanted.flags, data, why="the volume's content")
    try:
        plan.exit_group(0).run()
    except KernelError as error:
        where = f"volume {volume.name}: type={wanted.kind} device={wanted.source} o={volume.options.get('o', '')}"
        raise VolumeError(f"{where}: {os.strerror(error.errno or 0)}") from None


def detach(volume: Volume) -> None:
    """Take it away, if it is mounted; the caller holds the lock."""
    if is_attached(volume):
        from minirt.linux import constants as k
        from minirt.plan import Plan

        Plan().umount2(volume.data, k.MNT_DETACH, why="no container uses it").exit_group(0).run()

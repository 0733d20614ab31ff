"""One entry of config.json's `mounts`, read: which flags, which of them cleared, what spreads, what is data.

runtime-spec config.md#linux-mount-options names them; a name that is not there is the file system's own (`data`).
What a combination means to a bind mount is `Mount.attributes`.
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError
from minirt.linux import constants as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.plan.record import Load, Slot

__all__ = ["OPTIONS", "PROPAGATION", "Mount", "read_mounts"]

# option -> flag of mount(2) that it sets; with a leading "-" the flag that it clears; of two that contradict each
# other the later one counts.
FLAGS = {
    "ro": "MS_RDONLY", "rw": "-MS_RDONLY", "nosuid": "MS_NOSUID", "suid": "-MS_NOSUID", "nodev": "MS_NODEV",
    "dev": "-MS_NODEV", "noexec": "MS_NOEXEC", "exec": "-MS_NOEXEC", "nosymfollow": "MS_NOSYMFOLLOW",
    "symfollow": "-MS_NOSYMFOLLOW", "noatime": "MS_NOATIME", "atime": "-MS_NOATIME", "nodiratime": "MS_NODIRATIME",
    "diratime": "-MS_NODIRATIME", "relatime": "MS_RELATIME", "norelatime": "-MS_RELATIME",
    "strictatime": "MS_STRICTATIME", "nostrictatime": "-MS_STRICTATIME", "sync": "MS_SYNCHRONOUS",
    "async": "-MS_SYNCHRONOUS", "dirsync": "MS_DIRSYNC", "mand": "MS_MANDLOCK", "nomand": "-MS_MANDLOCK",
    "lazytime": "MS_LAZYTIME", "nolazytime": "-MS_LAZYTIME", "silent": "MS_SILENT", "loud": "-MS_SILENT",
    "iversion": "MS_I_VERSION", "noiversion": "-MS_I_VERSION", "acl": "MS_POSIXACL", "noacl": "-MS_POSIXACL",
    "remount": "MS_REMOUNT",
}  # fmt: skip
# The same for the whole tree below, by mount_setattr(2) with AT_RECURSIVE.
RECURSIVE = {
    "rro": "MOUNT_ATTR_RDONLY", "rrw": "-MOUNT_ATTR_RDONLY", "rnosuid": "MOUNT_ATTR_NOSUID",
    "rsuid": "-MOUNT_ATTR_NOSUID", "rnodev": "MOUNT_ATTR_NODEV", "rdev": "-MOUNT_ATTR_NODEV",
    "rnoexec": "MOUNT_ATTR_NOEXEC", "rexec": "-MOUNT_ATTR_NOEXEC", "rnosymfollow": "MOUNT_ATTR_NOSYMFOLLOW",
    "rsymfollow": "-MOUNT_ATTR_NOSYMFOLLOW", "rnodiratime": "MOUNT_ATTR_NODIRATIME",
    "rdiratime": "-MOUNT_ATTR_NODIRATIME",
}  # fmt: skip
# How access times are kept is one value, not a bit each: it is cleared as a whole before another is set.
ACCESS_TIMES = {
    "rnoatime": "MOUNT_ATTR_NOATIME", "rstrictatime": "MOUNT_ATTR_STRICTATIME", "rrelatime": "", "ratime": "",
    "rnorelatime": "", "rnostrictatime": "",
}  # fmt: skip
PROPAGATION = {
    "private": "MS_PRIVATE", "rprivate": "MS_PRIVATE", "slave": "MS_SLAVE", "rslave": "MS_SLAVE",
    "shared": "MS_SHARED", "rshared": "MS_SHARED", "unbindable": "MS_UNBINDABLE", "runbindable": "MS_UNBINDABLE",
}  # fmt: skip
SPECIAL = ("bind", "rbind", "defaults", "tmpcopyup", "idmap", "ridmap")
PLAIN = ("proc", "sysfs", "tmpfs", "devpts", "mqueue")  # types that `Mount.plain` entries may have
PLAIN_MOST = 256
# What `minirt oci features` may say of config.json's mount options.
OPTIONS = (*FLAGS, *RECURSIVE, *ACCESS_TIMES, *PROPAGATION, *SPECIAL)


class Mount:
    """One entry, read.

    Args:
        entry: as in config.json.
        where: its JSON path, for messages.

    Raises: MinirtError for what cannot be.
    """

    __slots__ = (
        "bind", "cleared", "copy_up", "data", "flags", "gids", "idmap", "kind", "made_by", "namespace", "recursive",
        "recursive_clear", "recursive_set", "source", "spread", "subpath", "target", "tree", "uids",
    )  # fmt: skip

    def __init__(self, entry: dict[str, Any], where: str) -> None:
        # A relative destination counts from the root (runtime-spec 1.3 config.md#mounts).
        self.target = os.path.normpath("/" + entry["destination"].lstrip("/"))
        self.source: str = entry.get("source") or ""
        self.subpath: str = entry.get("subpath") or ""  # the engine's own: the part of `source` that is bound
        self.namespace: int = entry.get("namespace") or 0  # the engine's own: pid of a process in whose mounts `source` is found
        self.kind: str = entry.get("type") or "none"
        self.flags = self.cleared = 0  # MS_*
        self.recursive_set = self.recursive_clear = 0  # MOUNT_ATTR_*
        self.spread: list[int] = []  # MS_SHARED ..., with MS_REC or without; in the order written
        self.data: list[str] = []
        self.copy_up = False
        self.bind = self.kind == "bind"
        self.recursive = False  # rbind: with what is mounted below
        self.idmap = ""
        self.uids: list[dict[str, int]] = entry.get("uidMappings") or []
        self.gids: list[dict[str, int]] = entry.get("gidMappings") or []
        self.tree: Slot | Load | None = None  # the descriptor of a detached mount to attach
        self.made_by = ""  # the step that makes it
        for option in entry.get("options") or ():
            self._read(option)
        if (self.uids or self.gids) and not self.idmap:
            self.idmap = "idmap"
        if self.idmap and not self.bind:
            raise MinirtError(f"{where}.options: {self.idmap} is for bind mounts; this one has type {self.kind!r}")
        if bool(self.uids) != bool(self.gids):
            raise MinirtError(f"{where}: uidMappings and gidMappings must be given together")

    def _read(self, option: str) -> None:
        name = FLAGS.get(option)
        if name is not None:
            if name[0] == "-":
                bit = getattr(k, name[1:])
                self.flags &= ~bit
                self.cleared |= bit
            else:
                bit = getattr(k, name)
                self.flags |= bit
                self.cleared &= ~bit
        elif option in PROPAGATION:
            self.spread.append(getattr(k, PROPAGATION[option]) | (k.MS_REC if option[0] == "r" else 0))
        elif option in SPECIAL:
            self._read_special(option)
        elif option in RECURSIVE or option in ACCESS_TIMES:
            self._read_recursive(option)
        else:
            self.data.append(option)

    def _read_special(self, option: str) -> None:
        if option in ("bind", "rbind"):
            self.bind = True
            self.recursive = self.recursive or option == "rbind"
        elif option == "tmpcopyup":
            self.copy_up = True
        elif option != "defaults":
            self.idmap = option

    def _read_recursive(self, option: str) -> None:
        if option in ACCESS_TIMES:
            name = ACCESS_TIMES[option]
            self.recursive_clear |= k.MOUNT_ATTR__ATIME
            self.recursive_set = self.recursive_set & ~k.MOUNT_ATTR__ATIME | (getattr(k, name) if name else 0)
            return
        name = RECURSIVE[option]
        bit = getattr(k, name.lstrip("-"))
        if name[0] == "-":
            self.recursive_clear |= bit
            self.recursive_set &= ~bit
        else:
            self.recursive_set |= bit
            self.recursive_clear &= ~bit

    @property
    def plain(self) -> bool:
        """Whether it is one of the kernel's own file systems, new, with options that its mount(2) takes, and nothing else."""
        special = self.remount or self.bind or self.copy_up or self.spread or self.recursive_set or self.recursive_clear
        return self.kind in PLAIN and not special and not (self.uids or self.gids or self.subpath or self.namespace)

    @property
    def remount(self) -> bool:
        """Whether it changes what is mounted at the target already."""
        return bool(self.flags & k.MS_REMOUNT)

    def attributes(self, keep: bool = False) -> tuple[int, int]:
        """Return what mount_setattr(2) is to set and to clear on a bind mount's top, as MOUNT_ATTR_*.

        A bind mount begins with its source's flags. As soon as one option says something of them, the mount has
        what the options say and nothing else: what `mount --bind -o` means to runc and crun.

        Args:
            keep: leave the flags that no option names as they are (`remount`; and locked ones, see `mounts.attach`).
        """
        lockable = k.MS_RDONLY | k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC  # the same bits as MOUNT_ATTR_*
        times = k.MS_NOATIME | k.MS_NODIRATIME | k.MS_RELATIME | k.MS_STRICTATIME
        named = lockable | times | k.MS_NOSYMFOLLOW
        if not (self.flags | self.cleared) & named:
            return 0, 0
        wanted = self.flags & lockable | (k.MOUNT_ATTR_NOSYMFOLLOW if self.flags & k.MS_NOSYMFOLLOW else 0)
        if keep:
            cleared = self.cleared & lockable
            cleared |= k.MOUNT_ATTR_NOSYMFOLLOW if self.cleared & k.MS_NOSYMFOLLOW else 0
        else:
            cleared = (lockable | k.MOUNT_ATTR_NOSYMFOLLOW) & ~wanted
        if self.flags & times or self.cleared & k.MS_NOATIME:
            # do_mount: strictatime wins, then noatime; relatime is what there is without either.
            cleared |= k.MOUNT_ATTR__ATIME
            if self.flags & k.MS_STRICTATIME:
                wanted |= k.MOUNT_ATTR_STRICTATIME
            elif self.flags & k.MS_NOATIME:
                wanted |= k.MOUNT_ATTR_NOATIME
        if self.flags & k.MS_NODIRATIME:
            wanted |= k.MOUNT_ATTR_NODIRATIME
        elif self.cleared & k.MS_NODIRATIME or self.flags & times:
            cleared |= k.MOUNT_ATTR_NODIRATIME
        return wanted, cleared


def read_mounts(config: dict[str, Any], alone: bool = False) -> list[Mount]:
    """Return the entries of config.json's mounts, in their order.

    Args:
        config: config.json.
        alone: whether what is read is this container's alone, and may be changed. Else a plain entry, of which most containers
            have the same few, is read once for all of them.

    Raises: MinirtError.
    """
    entries = config.get("mounts") or ()
    found = []
    for i, entry in enumerate(entries):
        key = None if alone else key_of(entry)
        mount = _plain.get(key) or Mount(entry, f"config.json: mounts[{i}]")
        if key is not None and mount.plain and len(_plain) < PLAIN_MOST:
            _plain[key] = mount
        found.append(mount)
    return found


_plain: dict[tuple[str, ...] | None, Mount] = {}


def key_of(entry: dict[str, Any]) -> tuple[str, ...] | None:
    """Return all that an entry says which has the usual four fields and no others, else None."""
    if len(entry) == 4 and "type" in entry and "source" in entry and "options" in entry:
        return (entry["destination"], entry["type"], entry["source"], *(entry["options"] or ()))
    return None

"""Why a system call usually fails here: one sentence for each (call, errno) that people meet.

The man pages list every cause; these are the likely ones, in a container's birth. Loaded only on failure.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EBUSY, EEXIST, EINVAL, ELOOP, ENODEV, ENOENT, ENOEXEC, ENOSPC, ENOSYS, ENOTDIR, EPERM, EUSERS, EXDEV

__all__ = ["barring_directory", "usual_cause"]

CAUSES: dict[tuple[str, int], str] = {
    ("mount", EPERM): "mounting needs CAP_SYS_ADMIN in the user namespace that owns this mount namespace; "
    "in a user namespace, /proc and /sys also need to be fully visible already",
    ("mount", EINVAL): "overlay refuses a layer that is missing, on an unsuitable file system, or in use; "
    "without a type: the target is no mount point, as / of a chroot",
    ("mount", ENOENT): "the source, the target or a layer does not exist",
    ("mount", ENOTDIR): "a directory can only be mounted on a directory, a file on a file",
    ("mount", EBUSY): "an upper or work directory is in use by another overlay mount",
    (
        "pivot_root",
        EINVAL,
    ): "the new root must be a mount point, and no mount on the way may be shared (man 2 pivot_root)",
    ("pivot_root", EBUSY): "the new root is the current root",
    ("clone3", EPERM): "new namespaces need root, or a user namespace that this system lets users make "
    "(sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
    ("clone3", ENOSPC): "a limit in /proc/sys/user/max_*_namespaces is reached",
    ("clone3", EUSERS): "user namespaces are nested too deep",
    ("clone3", EBUSY): "a cgroup with controllers for its children may hold no process itself",
    ("unshare", EPERM): "new namespaces need CAP_SYS_ADMIN, or a new user namespace first",
    ("sethostname", EPERM): "needs CAP_SYS_ADMIN in the user namespace that owns this UTS namespace",
    ("mknodat", EPERM): "device nodes cannot be made in a user namespace: bind the host's instead",
    ("prlimit64", EPERM): "raising a hard limit needs CAP_SYS_RESOURCE on the host",
    ("setgroups", EPERM): "in a user namespace without a map of groups setgroups is denied",
    ("setresuid", EINVAL): "this user is not mapped in the user namespace",
    ("setresgid", EINVAL): "this group is not mapped in the user namespace",
    ("seccomp", EACCES): "loading a filter needs CAP_SYS_ADMIN, or no_new_privs",
    ("seccomp", EINVAL): "the kernel found the filter, or a flag, not valid",
    ("capset", EPERM): "a process cannot give itself capabilities that it does not have",
    ("prctl", EPERM): "a capability that is not permitted cannot become ambient",
    ("execve", ENOENT): "no such file in the container, or its interpreter (#! or dynamic loader) is missing there",
    ("execve", EACCES): "not executable, or on a mount with noexec, or a directory on the way may not be searched",
    ("execve", ENOEXEC): "not a program for this machine (a script needs a #! line)",
    ("openat", EACCES): "file permissions, or a user namespace that maps neither owner nor group",
    ("openat", ENOENT): "no such file here",
    ("openat", ENOTDIR): "an ordinary directory is wanted here, and the image has a link or a file",
    ("openat2", ELOOP): "a link in the image leads to another process's files (/proc/PID/root, /proc/PID/fd/N) or in a circle",
    ("openat2", ENOTDIR): "a directory can only be mounted on a directory, a file on a file",
    ("openat2", EXDEV): "something else is mounted over this file of /proc",
    ("check", EEXIST): "another file is at the device's path already",
    ("check", ENODEV): "/dev/null in the container is not the null device: it cannot cover what should be hidden",
    ("check", ENOTDIR): "an ordinary directory is wanted here, and the image has a link or a file",
    ("check", EPERM): "this is not procfs as the kernel made it: a setting written there would go elsewhere",
    ("mkdirat", EEXIST): "something else has this name",
    ("chdir", ENOENT): "the working directory does not exist in the container",
    ("chdir", ENOTDIR): "the working directory is not a directory",
    ("chdir", EACCES): "the container's user may not enter the working directory",
    ("move_mount", EINVAL): "the mount is not a detached one of this mount namespace",
    ("mount_setattr", ENOSYS): "needs Linux 5.12",
}


def usual_cause(call: str, errno: int) -> str:
    """Return what usually causes this failure in a container's birth; empty where nothing is known."""
    return CAUSES.get((call, errno), "")


def barring_directory(path: str, uid: int, gid: int) -> str:
    """Return the first directory on the way to a file that a user may not pass; empty where none bars the way.

    Simplified: the mode alone is read (man 7 path_resolution); access control lists may say otherwise.

    Args:
        path: absolute.
        uid, gid: who goes, in the host's numbers; without other groups and without capabilities.
    """
    parts = path.strip("/").split("/")
    for depth in range(len(parts)):
        directory = "/" + "/".join(parts[:depth])
        try:
            status = os.stat(directory)
        except OSError:
            return ""  # it is gone, or we may not look either
        mine = stat.S_IXUSR if status.st_uid == uid else stat.S_IXGRP if status.st_gid == gid else stat.S_IXOTH
        if not status.st_mode & mine:
            return directory
    return ""

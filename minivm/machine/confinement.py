"""Which system calls a machine's process still makes once it is built: the profile of its seccomp filter. And its connector's.

As Firecracker's filters (resources/seccomp in its source): a list of what is needed, arguments included where they decide,
and death for the rest, for a call that is not on the list is somebody else's. Opening files, which an interpreter tries
for its own reasons, is refused rather than punished: the root is empty anyway.

Simplified: one filter for all threads; Firecracker has one for the vCPUs, which need still less.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["connector_profile", "profile"]

# Of files that are open: the console, disks, eventfds, the trace. (The C library's fstat is newfstatat without a path.)
FILES = ("read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "lseek", "fstat",
         "newfstatat", "fdatasync", "fsync", "fallocate", "ftruncate", "close", "poll", "ppoll", "epoll_wait", "epoll_pwait",
         "epoll_ctl", "eventfd2", "pipe2", "select", "pselect6")  # fmt: skip
# Of sockets that are open: passt's, virtiofsd's; clients of a console's ports, and of virtio-vsock, are taken in.
SOCKETS = ("sendmsg", "recvmsg", "sendto", "recvfrom", "accept4", "getsockname", "getsockopt", "shutdown")
# Of memory and threads: what malloc, pthread_create and the interpreter do.
THREADS = ("brk", "munmap", "mremap", "madvise", "futex", "set_robust_list", "rseq", "gettid", "getpid", "getppid", "sched_yield",
           "sched_getaffinity", "clock_gettime", "clock_nanosleep", "nanosleep", "getrandom", "rt_sigaction", "rt_sigprocmask",
           "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group", "getrusage", "times", "wait4")  # fmt: skip
# Refused with an errno.
REFUSED = ("open", "openat", "openat2", "stat", "lstat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
           "getcwd", "getdents64", "socket", "socketpair", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo",
           "unlink", "unlinkat")  # fmt: skip
# Requests of ioctl to KVM and to a tap that a running machine makes, by their names in minivm.kvm.lib; and to a terminal or socket.
KVM = ("KVM_RUN", "KVM_IRQ_LINE", "KVM_GET_REGS", "KVM_GET_SREGS", "KVM_KVMCLOCK_CTRL", "TUNSETOFFLOAD",
       "TUNSETVNETHDRSZ")  # fmt: skip
TERMINAL = {"TCGETS": 0x5401, "TCSETS": 0x5402, "TCSETSW": 0x5403, "TCSETSF": 0x5404, "TIOCGWINSZ": 0x5413,
            "FIONBIO": 0x5421}  # asm-generic/ioctls.h; the last of a socket that Python makes of an accepted descriptor
# Those by which a debugger, or the writer of a dump, looks at the guest's processors and changes their state.
LOOKING = ("KVM_GET_MSRS", "KVM_GET_FPU", "KVM_GET_MP_STATE", "KVM_TRANSLATE", "KVM_SET_GUEST_DEBUG", "KVM_SET_REGS",
           "KVM_SET_SREGS", "KVM_SET_FPU", "KVM_SET_MP_STATE")  # fmt: skip
# Of the process that makes the guest's connections (connector.py): those, and what the interpreter does of itself.
CONNECTS = ("recvfrom", "sendto", "sendmsg", "connect", "close", "brk", "munmap", "mremap", "madvise", "futex", "clock_gettime",
            "getsockname", "rt_sigreturn", "rt_sigaction", "rt_sigprocmask", "restart_syscall", "exit", "exit_group")  # fmt: skip
CLONE_THREAD, PROT_EXEC, AF_UNIX = 0x10000, 4, 1  # linux/sched.h, asm-generic/mman-common.h, linux/socket.h
EACCES, ENOSYS = 13, 38


def profile(pid: int, looked_at: bool = False) -> dict[str, Any]:
    """Return it, in the OCI's form (runtime-spec config-linux.md#seccomp).

    Args:
        pid: of the process, which may send signals to itself alone.
        looked_at: whether a debugger or a dump is asked for: more of KVM's requests, to the machine's own processors.
    """
    from minivm.kvm import lib

    requests = [getattr(lib, name) for name in KVM + LOOKING * looked_at] + list(TERMINAL.values())
    return _or_death(
        _allow(FILES + SOCKETS + THREADS),
        *(_allow(("ioctl",), _equal(1, request)) for request in requests),
        _allow(("mmap", "mprotect"), _bits(2, PROT_EXEC, 0)),  # no new code
        _allow(("clone",), _bits(0, CLONE_THREAD, CLONE_THREAD)),  # no new process
        _refuse(("clone3",), ENOSYS),  # its flags are in memory, where a filter cannot look: the C library takes clone then
        _allow(("tgkill", "kill"), _equal(0, pid)),
        _allow(("fcntl",), {"index": 1, "value": 5, "op": "SCMP_CMP_LT"}),  # F_DUPFD to F_SETFL
        _allow(("prctl",), _equal(0, 15)),  # PR_SET_NAME, of threads
        _refuse(REFUSED, EACCES),
    )


def connector_profile() -> dict[str, Any]:
    """Return that of the connector, in the same form."""
    return _or_death(
        _allow(CONNECTS),
        _allow(("socket",), _equal(0, AF_UNIX)),
        _allow(("mmap", "mprotect"), _bits(2, PROT_EXEC, 0)),
    )


def _or_death(*syscalls: dict[str, Any]) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(syscalls)}


def _allow(names: tuple[str, ...], *args: dict[str, Any]) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW"} | ({"args": list(args)} if args else {})


def _refuse(names: tuple[str, ...], errno: int) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": errno}


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _bits(index: int, mask: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}

"""The kernel takes the filters, and calls made under them end as the profile says.

Each test forks, loads a filter in the child and tries calls there. With no_new_privs anyone may do that
(man 2 seccomp), so no root is needed.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
import time

import pytest

from minirt.linux import seccomp
from minirt.linux.seccomp import tables

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER = 38, 1
NR = tables.numbers(tables.native().column)
OK = errno.errorcode | {0: "OK"}


class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load(made):
    """seccomp(SECCOMP_SET_MODE_FILTER, …): the listener's fd or 0; in a child only."""
    program = Program(made.instructions, made.program)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    result = libc.syscall(NR["seccomp"], SET_MODE_FILTER, made.flags, ctypes.byref(program))
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return result


def call(name, *args):
    """Make a system call; return "OK" or its errno's name."""
    ctypes.set_errno(0)
    result = libc.syscall(NR[name], *[ctypes.c_ulong(arg) for arg in args])
    return OK[ctypes.get_errno() if result == -1 else 0]


def under(made, body):
    """Run `body` in a child under the filter: what it returns as text, or the signal that it died of."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            load(made)
            os.write(writer, repr(body()).encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else text


def allow_but(*entries, **more):
    """A filter that allows all but some entries of `syscalls`."""
    return seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(entries), **more})


def entry(action, *names, **more):
    """An entry of `syscalls`."""
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


DEFAULT = seccomp.compile_default(["CAP_CHOWN", "CAP_KILL"])


def test_the_default_filter_lets_a_program_work():
    def body():
        with open("/proc/self/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        return fields["Seccomp"].strip(), fields["NoNewPrivs"].strip(), os.listdir("/proc/self/fd") != []

    assert under(DEFAULT, body) == "('2', '1', True)"


def test_a_program_runs_through_execve_under_the_default_filter():
    pid = os.fork()
    if pid == 0:
        try:
            load(DEFAULT)
            os.execv("/bin/sh", ["sh", "-c", "test $(ls / | wc -l) -gt 3 && date > /dev/null && exit 7"])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


@pytest.mark.parametrize(
    ("name", "args", "result"),
    [
        ("kexec_load", (0, 0, 0, 0), "EPERM"),  # denied by name
        ("swapon", (0, 0), "EPERM"),
        ("userfaultfd", (0,), "EPERM"),
        ("bpf", (0, 0, 0), "EPERM"),  # wants CAP_SYS_ADMIN
        ("settimeofday", (0, 0), "EPERM"),  # wants CAP_SYS_TIME
        ("add_key", (0, 0, 0, 0, 0), "ENOSYS"),  # in no list
        ("io_uring_setup", (1, 0), "ENOSYS"),
        ("personality", (0xFFFFFFFF,), "OK"),
        ("personality", (0x40000,), "ENOSYS"),  # ADDR_NO_RANDOMIZE
        ("personality", (1 << 32 | 8,), "ENOSYS"),  # the upper half counts
        ("socket", (2, 1, 0), "OK"),
        ("socket", (16, 3, 9), "EINVAL"),  # audit netlink wants CAP_AUDIT_WRITE
        ("socket", (16, 3, 0), "OK"),
        ("clone", (0x10000, 0, 0, 0, 0), "EINVAL"),  # let through: CLONE_THREAD alone is the kernel's to refuse
        ("getpid", (), "OK"),
    ],
)
def test_the_default_filter_decides_as_the_profile_says(name, args, result):
    if name not in NR:
        pytest.skip(f"{name} does not exist on {platform.machine()}")
    assert under(DEFAULT, lambda: call(name, *args)) == repr(result)


def test_capabilities_open_calls():
    made = seccomp.compile_default(["CAP_SYS_ADMIN"])
    assert under(made, lambda: call("bpf", 99, 0, 0)) != "'EPERM'" or os.geteuid() != 0


@pytest.mark.parametrize(("given", "result"), [(None, "EPERM"), (71, "EPROTO"), (0, "OK"), (4095, 4095)])
def test_errnoret_is_what_the_caller_sees(given, result):
    more = {} if given is None else {"errnoRet": given}

    def body():
        ctypes.set_errno(0)
        libc.syscall(NR["mkdirat"], -100, b"/nowhere/to", 0)
        return OK.get(ctypes.get_errno(), ctypes.get_errno())

    assert under(allow_but(entry("ERRNO", "mkdirat", **more)), body) == repr(result)


@pytest.mark.parametrize("action", ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"])
def test_killing_actions_end_in_sigsys(action):
    assert under(allow_but(entry(action, "mkdirat")), lambda: call("mkdirat", 0, 0, 0)) == "SIGSYS"


def test_log_lets_the_call_pass():
    assert under(allow_but(entry("LOG", "getppid")), lambda: call("getppid")) == "'OK'"


def test_trace_without_a_tracer_gives_enosys():
    assert under(allow_but(entry("TRACE", "getppid")), lambda: call("getppid")) == "'ENOSYS'"


def test_a_trapped_program_can_see_which_call_it_was():
    def body():
        seen = []
        signal.signal(signal.SIGSYS, lambda number, frame: seen.append(number))
        call("mkdirat", 0, 0, 0)
        return seen == [signal.SIGSYS]

    assert under(allow_but(entry("TRAP", "mkdirat")), body) == "True"


OPERATORS = {
    "EQ": [5],
    "NE": [0, 4, 6, 2**32, 2**32 + 5, 2**33, 2**64 - 1],
    "LT": [0, 4],
    "LE": [0, 4, 5],
    "GT": [6, 2**32, 2**32 + 5, 2**33, 2**64 - 1],
    "GE": [5, 6, 2**32, 2**32 + 5, 2**33, 2**64 - 1],
}


@pytest.mark.parametrize(("operator", "matching"), OPERATORS.items())
def test_arguments_are_compared_in_all_their_64_bits(operator, matching):
    rule = {"index": 0, "value": 5, "op": f"SCMP_CMP_{operator}"}
    made = allow_but(entry("ERRNO", "epoll_create1", errnoRet=71, args=[rule]))
    tried = [0, 4, 5, 6, 2**32, 2**32 + 5, 2**33, 2**64 - 1]
    found = under(made, lambda: [value for value in tried if call("epoll_create1", value) == "EPROTO"])
    assert found == repr(matching)


def test_a_masked_comparison_sees_chosen_bits():
    """As moby keeps containers from making namespaces: clone with any CLONE_NEW* bit."""
    rule = {"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [entry("ERRNO", "unshare", errnoRet=71, args=[rule])],
    }
    made = seccomp.compile(profile)
    passed = under(made, lambda: [call("unshare", flags) for flags in (0x10000000 | 0x1, 0x00000400, 0)])
    assert passed == repr(["EINVAL", "EPROTO", "EPROTO"])  # a user namespace with a bad flag; CLONE_FILES


def test_vsock_can_be_kept_out_as_moby_does():
    af_vsock = {"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}
    made = allow_but(entry("ERRNO", "socket", args=[af_vsock]))
    assert under(made, lambda: [call("socket", family, 1, 0) for family in (1, 40)]) == repr(["OK", "EPERM"])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 numbers exist on x86_64 only")
def test_an_x32_number_kills_where_x32_is_not_listed():
    made = allow_but(entry("ERRNO", "mkdirat"))
    assert under(made, lambda: libc.syscall(tables.X32_BIT | NR["getpid"])) == "SIGSYS"
    listed = allow_but(entry("ERRNO", "getpid", errnoRet=71), architectures=["SCMP_ARCH_X32"])

    def body():
        libc.syscall(tables.X32_BIT | NR["getpid"])
        return OK[ctypes.get_errno()]

    assert under(listed, body) == repr("EPROTO")


def int80(number, *args):
    """Machine code that makes an i386 call with int 0x80 and returns eax."""
    registers = [0xB8, 0xBB, 0xB9, 0xBA]  # mov eax, ebx, ecx, edx, imm32
    moves = b"".join(
        bytes([op]) + struct.pack("<I", value) for op, value in zip(registers, [number, *args], strict=False)
    )
    return b"\x53" + moves + b"\xcd\x80\x5b\xc3"  # push rbx; …; int 0x80; pop rbx; ret


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is x86")
def test_i386_calls_are_judged_by_i386_numbers():
    def calling(number, *args):
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(int80(number, *args))
        view = ctypes.c_char.from_buffer(page)  # keeps the page mapped
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(view))()

    i386 = tables.numbers("x86")
    probe = allow_but(entry("ERRNO", "mkdirat"), architectures=["SCMP_ARCH_X86"])
    here = under(probe, lambda: calling(i386["getppid"]) > 0)
    if here != "True":
        pytest.skip(f"this kernel has no i386 calls (CONFIG_IA32_EMULATION): {here}")
    made = allow_but(entry("ERRNO", "socket", errnoRet=71), architectures=["SCMP_ARCH_X86"])
    by_gate = under(made, lambda: calling(i386["socketcall"], 1, 0))
    by_number = under(made, lambda: calling(i386["socket"], 1, 1, 0))
    other = under(made, lambda: calling(i386["socketcall"], 2, 0))
    assert (by_gate, by_number, other) == ("-71", "-71", "-14")  # EFAULT: socketcall(2) itself was let through
    assert under(allow_but(entry("ERRNO", "socket")), lambda: calling(i386["getppid"])) == "SIGSYS"


def test_a_listener_hears_of_a_call_and_answers_for_it():
    """The fd that seccomp(2) returns, and its two ioctls (man 2 seccomp_unotify)."""
    made = allow_but(entry("NOTIFY", "mkdirat"))
    assert made.notifies
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            socket.send_fds(theirs, [b"x"], [load(made)])
            theirs.send(call("mkdirat", 7, 0, 0o700).encode())
        finally:
            os._exit(0)
    _, (listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
    heard = bytearray(80)  # struct seccomp_notif: u64 id, u32 pid, u32 flags, struct seccomp_data
    fcntl.ioctl(listener, 0xC0502100, heard)  # SECCOMP_IOCTL_NOTIF_RECV
    number, asking, _, nr, _, _, first = struct.unpack_from("=QIIiIQQ", heard)
    assert (asking, nr, first) == (pid, NR["mkdirat"], 7)
    fcntl.ioctl(listener, 0xC0182101, struct.pack("=QqiI", number, 0, -errno.EXDEV, 0))  # SECCOMP_IOCTL_NOTIF_SEND
    assert ours.recv(100) == b"EXDEV"
    os.close(listener)
    os.waitpid(pid, 0)


def test_a_filter_as_large_as_the_limit_loads():
    names = [name for name in NR if name not in ("read", "write", "seccomp", "prctl", "exit_group", "futex", "close")]
    syscalls = [
        entry("ERRNO", name, errnoRet=at, args=[{"index": at % 6, "value": 2**40 + at, "op": "SCMP_CMP_EQ"}])
        for at, name in enumerate(names, 1)
    ]
    made = allow_but(*syscalls)
    assert 1500 < made.instructions < 4096
    assert under(made, lambda: call("getpid")) == "'OK'"


def test_the_filter_costs_an_allowed_call_little():
    """The kernel's bitmap of always-allowed calls (5.11) applies: the program is not run for them at all.

    Processor time, which has no waiting in it: 1.1 to 1.3 times that without a filter, on a machine with a dozen others that ran.
    """

    def body():
        start = time.process_time()
        for _ in range(20000):
            os.getppid()
        return time.process_time() - start

    free = min(body() for _ in range(3))
    filtered = min(float(under(DEFAULT, body)) for _ in range(3))
    assert filtered < free * 2

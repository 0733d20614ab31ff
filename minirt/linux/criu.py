"""CRIU, which saves processes to files and brings them back: its service as a child of ours, asked over a socket.

    with Criu() as criu:
        criu.ask(DUMP, {"images_dir_fd": fd, "pid": 4711, "leave_running": True})

Why the service (`criu swrk`, as runc uses it) and not the command line: it alone says when namespaces are there and who
was restored, before the processes go on; it makes them our children; and it hands over a terminal's master. A request is
a protobuf message, of which a few kinds of field are enough: so they are written here, and no library is loaded.

    field = number << 3 | kind, as a varint: 7 bits a byte, the lowest first
    kind 0: a number, as a varint       kind 2: a length as a varint, then a text or a message

Sources: https://criu.org/RPC; criu's images/rpc.proto; https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as _socket
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Notify = Callable[[str, int, int], None]
else:
    import _socket  # the C half of `socket`, whose other half costs 10 ms of start-up

__all__ = ["CHECK", "DUMP", "PRE_DUMP", "RESTORE", "Criu", "CriuError", "decode", "encode"]

DUMP, RESTORE, CHECK, PRE_DUMP, NOTIFY, VERSION = 1, 2, 3, 4, 6, 10  # criu_req_type
IGNORE, SOFT, FULL, STRICT, DEFAULT = 0, 3, 4, 5, 6  # criu_cg_mode
IPTABLES, NFTABLES = 1, 2  # criu_network_lock_method
MODES = {"": DEFAULT, "soft": SOFT, "full": FULL, "strict": STRICT, "ignore": IGNORE}
OPTIONS = {  # criu_opts
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6,
    "shell_job": 7, "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13,
    "parent_img": 14, "track_mem": 15, "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "ext_mnt": 23,
    "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27, "manage_cgroups_mode": 34, "external": 37,
    "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46, "orphan_pts_master": 50,
    "config_file": 51, "lsm_profile": 53, "lsm_mount_context": 63, "network_lock": 64,
}  # fmt: skip
SOCKET = 3  # descriptor of the service's end; 0, 1, 2 are what a restored program inherits
LONGEST = 1 << 16  # bytes of an answer
MISSING = "criu is not installed: apt-get install criu (Debian 13 has it), or put it into PATH"


class CriuError(MinirtError):
    """CRIU is not there, or did not do what it was asked for; `said`: its first lines about that, the log has more."""

    exit_code = 1

    def __init__(self, text: str, said: bytes = b"") -> None:
        super().__init__(text)
        self.said = said.decode(errors="replace")


# -- protobuf ----------------------------------------------------------------------------------------------


def encode(fields: Sequence[tuple[int, Any]]) -> bytes:
    """Return a message: numbers of fields, and ints, bools, texts, bytes, or lists of pairs, which are messages."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value & (1 << 64) - 1)
            continue
        data = value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, bytes) else encode(value)
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def varint(value: int) -> bytes:
    """Return a number below 2**64, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def decode(data: bytes) -> dict[int, Any]:
    """Return a message's fields by number: an int, or bytes; of several the last. Raises: CriuError."""
    fields: dict[int, Any] = {}
    at = 0
    try:
        while at < len(data):
            tag, at = _varint_at(data, at)
            value, at = _varint_at(data, at)
            if tag & 7 == 2:
                if at + value > len(data):
                    raise IndexError
                fields[tag >> 3], at = data[at : at + value], at + value
            elif tag & 7 == 0:
                fields[tag >> 3] = value
            else:
                raise CriuError("criu's answer has a field of a kind that its protocol does not have")
    except IndexError:
        raise CriuError("criu's answer is cut short") from None
    return fields


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


# -- the service -------------------------------------------------------------------------------------------


class Criu:
    """The service, one request at most. A context manager: at the end it is gone.

    Args:
        stdio: descriptors that become its 0, 1, 2.
        more: descriptors that it gets besides, from 4 on (for `inherit_fd`).

    Raises: CriuError where it is not installed.
    """

    def __init__(self, stdio: Sequence[int] = (0, 1, 2), more: Sequence[int] = ()) -> None:
        from fcntl import F_DUPFD_CLOEXEC, fcntl

        self.socket, theirs = _pair()
        # Each is moved away first, as its number may be one that another is to get.
        high = [fcntl(fd, F_DUPFD_CLOEXEC, 64 + len(more)) for fd in (*stdio, theirs.fileno(), *more)]
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(high)]
        try:
            self.pid = os.posix_spawnp("criu", ["criu", "swrk", str(SOCKET)], os.environ, file_actions=actions)
        except FileNotFoundError:
            self.socket.close()
            raise CriuError(MISSING) from None
        finally:
            theirs.close()
            for fd in high:
                os.close(fd)
        self.said = b""

    def ask(self, kind: int, options: Mapping[str, Any], notify: Notify | None = None) -> dict[int, Any]:
        """Make a request and wait for what comes of it.

        Args:
            kind: DUMP, RESTORE, CHECK, PRE_DUMP, VERSION.
            options: fields of criu_opts by name; a list is a repeated field.
            notify: called with a stage's name (post-restore, orphan-pts-master ...), the process's pid or 0, and the
                descriptor that came along or -1, which becomes the callee's. What it raises ends the request.

        Returns: criu_resp. Raises: CriuError.
        """
        fields: list[tuple[int, Any]] = [(1, kind)]
        repeated = {key: value if isinstance(value, list) else [value] for key, value in options.items()}
        listed = [(OPTIONS[key], item) for key, values in repeated.items() for item in values]
        if listed:
            fields.append((2, listed))
        self.send(encode(fields))
        while True:
            answer, fd = self.receive()
            if answer.get(1) != NOTIFY or not answer.get(2):
                break
            stage = decode(answer.get(5, b""))
            if notify is not None:
                notify(stage.get(1, b"").decode(), stage.get(2, 0), fd)
            elif fd >= 0:
                os.close(fd)
            self.send(encode([(1, NOTIFY), (3, True)]))
        if answer.get(1) != kind or not answer.get(2):
            errno = answer.get(7, 0)
            raise CriuError(f"criu failed{f': {os.strerror(errno)}' if errno else ''}", answer.get(9, b""))
        return answer

    def send(self, message: bytes) -> None:
        """Send a message. Raises: CriuError."""
        try:
            self.socket.send(message)
        except OSError as error:
            raise CriuError(f"criu has ended: {error.strerror}") from None

    def receive(self) -> tuple[dict[int, Any], int]:
        """Return the next message, and the descriptor that came with it or -1. Raises: CriuError."""
        data, rights, _, _ = self.socket.recvmsg(LONGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        fd = int.from_bytes(rights[0][2][:4], "little") if rights else -1
        if not data:
            raise CriuError("criu has ended without an answer")
        return decode(data), fd

    def wait(self) -> int:
        """Let it end; return its exit status, -n where signal n ended it."""
        self.socket.close()
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()


def _pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends of a socket that keeps messages apart."""
    ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return ends[0], ends[1]

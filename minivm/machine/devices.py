"""What a machine's virtio devices are asked to be: plain data, a class a kind, and the words that they are read from.

Each has `kind`, the Linux `module` that drives it, and `kicked`: which of its queues have an eventfd for the driver's
notifications, since a thread serves them (minivm/devices/virtio/path.py).
"""

from __future__ import annotations

import os

from minirt.errors import nearest
from minivm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LEGACY_KINDS", "MOST_PORTS", "Balloon", "Console", "Disk", "Hotplug", "Net", "Rng", "Share", "Vsock", "is_mac", "is_port_name",
    "is_socket_path", "is_tag", "is_tap_name", "is_vsock_path",
    "parse_disk", "parse_net", "parse_port", "parse_rate", "parse_share", "parse_vsock",
]  # fmt: skip

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
BURST = 100_000_000  # ns in which a bucket of a rate limit fills: a burst is a tenth of a second's worth
MOST_RATE = 10**15  # a second: more is no limit
LEGACY_KINDS = ("balloon", "blk", "console", "net", "rng")  # older than the specification: old drivers know them (4.1.2.1)
MOST_QUEUES = 16
MOST_PORTS = 6  # of a virtio-console, besides the console itself
LONGEST_TAG = 36  # bytes (VIRTIO 1.2, 5.11.4)
LONGEST_PATH = 107  # bytes of a socket's name (man 7 unix, sun_path)
LONGEST_TAP = 15  # bytes of a network device's name (linux/if.h, IFNAMSIZ)


class Disk:
    """A file or block device of the host that is to be a disk of the guest."""

    kind, module = "blk", "virtio_blk"
    __slots__ = ("base", "form", "overlay", "path", "queues", "rate", "read_only", "requests")

    def __init__(
        self, path: str, read_only: bool = False, queues: int = 1, *, overlay: str | None = None, form: str = "raw",
        rate: int = 0, requests: int = 0, base: str = "",
    ) -> None:  # fmt: skip
        self.path = path
        self.read_only = read_only
        self.queues = queues  # each has a thread
        self.overlay = overlay  # what is written goes there, and path is only read; "" is a file that ends with the machine
        self.form = form  # "raw" or "qcow2"
        self.base = base  # what a qcow2 may stand on that lies elsewhere: a file or a directory (qcow2.py)
        self.rate, self.requests = rate, requests  # bytes and requests a second; 0: no limit

    @property
    def kicked(self) -> Sequence[int]:
        return range(self.queues)

    @property
    def plain(self) -> bool:
        """Whether nothing is asked for but a file, and perhaps that it stays as it is."""
        return all(getattr(self, name) == getattr(Disk(""), name) for name in self.__slots__ if name not in ("path", "read_only"))

    @property
    def shared(self) -> bool:
        """Whether others may use path at the same time."""
        return self.read_only or self.overlay is not None


class Rng:
    """Random bytes from the host."""

    kind, module, kicked = "rng", "virtio_rng", ()


class Balloon:
    """Memory that the guest does not need goes back to the host."""

    kind, module, kicked = "balloon", "virtio_balloon", ()
    __slots__ = ("size",)

    def __init__(self, size: int = 0) -> None:
        self.size = size  # bytes that it is to hold from the start


class Hotplug:
    """Memory that comes and goes while the guest runs."""

    kind, module, kicked = "mem", "virtio_mem", ()
    __slots__ = ("requested", "size")

    def __init__(self, size: int, requested: int = 0) -> None:
        self.size = size  # bytes that there may be at most, beside the memory from the start
        self.requested = requested  # bytes that there are to be at first


class Console:
    """A console for people, and ports for programs."""

    kind, module = "console", "virtio_console"
    __slots__ = ("ports",)

    def __init__(self, ports: Sequence[tuple[str, str]] = ()) -> None:
        self.ports = ports  # (name in the guest, path of the socket on the host)

    @property
    def kicked(self) -> Sequence[int]:
        """All but the console's output, which a vCPU's own thread serves (path_prompt in csrc/kvm/path.c)."""
        return [0, *range(2, 4 + 2 * len(self.ports) if self.ports else 2)]


class Net:
    """A network card."""

    kind, module, kicked = "net", "virtio_net", range(2)
    __slots__ = ("incoming", "mac", "outgoing", "tap")

    def __init__(self, tap: str = "", *, mac: str = "", incoming: int = 0, outgoing: int = 0) -> None:
        self.tap = tap  # name of a tap of the host; "" is a network of user mode, by passt
        self.mac = mac  # "52:54:..."; "" is a random one
        self.incoming, self.outgoing = incoming, outgoing  # bytes a second into and out of the guest; 0: no limit


class Vsock:
    """Sockets between guest and host without a network."""

    kind, module, kicked = "vsock", "vmw_vsock_virtio_transport", range(3)
    __slots__ = ("cid", "path")

    def __init__(self, path: str, cid: int = 3) -> None:
        self.path = path  # of the host's socket; those of the host's programs are PATH_PORT
        self.cid = cid  # the guest's address


class Share:
    """A directory of the host that the guest may mount."""

    kind, module, kicked = "fs", "virtiofs", range(2)
    __slots__ = ("path", "read_only", "tag")

    def __init__(self, path: str, tag: str, read_only: bool = False) -> None:
        self.path = path
        self.tag = tag  # what the guest calls it; where the initramfs is made here, an absolute path is where it is mounted
        self.read_only = read_only


def bucket(rate: int) -> tuple[int, int]:
    """Return (size, ns to fill) of the bucket of tokens for so many a second; (0, 0) for no limit.

    A bucket holds the tokens of BURST ns, and fills evenly (csrc/kvm/bucket.c):

        tokens(now) = min(size, tokens(last) + (now - last) * size / BURST)       size = max(1, rate * BURST / 10^9)

    so that in the mean there are `rate` a second, and after a pause at most a tenth of a second's worth at once.
    """
    if not rate:
        return 0, 0
    size = max(1, rate * BURST // 10**9)
    return size, size * 10**9 // rate


def split(text: str, flag: str, known: Sequence[str], what: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the options of `FILE,option,name=value`, and the options; a file may have commas too.

    Raises UsageError.
    """
    words: dict[str, str] = {}
    while "," in text:
        rest, _, word = text.rpartition(",")
        name, _, value = word.partition("=")
        if name not in known:
            _check_stray(text, flag, known)
            break
        text, words[name] = rest, value if "=" in word else ""
    if not text:
        raise UsageError(f"{flag} {text!r}: no {what} is named")
    return text, words


def _check_stray(text: str, flag: str, known: Sequence[str]) -> None:
    """Refuse what looks like an option and is none, rather than take it for the end of a name. Raises UsageError."""
    if os.path.exists(text):
        return
    rest, _, word = text.rpartition(",")
    name, equals, value = word.partition("=")
    near = nearest(name, known)
    if near or os.path.exists(rest) or (equals and name.isalpha() and "/" not in value):
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
        raise UsageError(f"{flag} {text!r}: no option {name!r}; {hint}")


def number(flag: str, name: str, text: str, most: int) -> int:
    """Return a whole number from 1 on. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise UsageError(f"{flag}: {name}={text}: write a number from 1 to {most}")
    return int(text)


def parse_rate(flag: str, name: str, text: str) -> int:
    """Return how many a second `10m` means: units k, m and g are thousands. Raises UsageError."""
    digits = text.lower().rstrip("kmg")
    unit = text.lower()[len(digits) :]
    if not (digits.isascii() and digits.isdigit() and unit in UNITS and 0 < int(digits) * UNITS[unit] <= MOST_RATE):
        raise UsageError(f"{flag}: {name}={text}: write so many a second, as 500, 200k or 10m")
    return int(digits) * UNITS[unit]


DISK_WORDS = ("ro", "rw", "queues", "overlay", "qcow2", "raw", "base", "rate", "iops")


def parse_disk(text: str) -> Disk:
    """Return the disk that `FILE[,ro][,overlay[=FILE]][,qcow2][,base=PATH][,queues=N][,rate=N][,iops=N]` means.

    Raises UsageError.
    """
    path, words = split(text, "--disk", DISK_WORDS, "file")
    if "overlay" in words and "ro" in words:
        raise UsageError(f"--disk {text!r}: a disk with an overlay is there to be written to; leave out ro")
    form = "qcow2" if "qcow2" in words or (path.endswith(".qcow2") and "raw" not in words) else "raw"
    if "base" in words and (form == "raw" or not words["base"]):
        raise UsageError(f"--disk {text!r}: base=PATH is what a qcow2 disk stands on; a raw one holds all of itself")
    return Disk(
        path,
        "ro" in words,
        number("--disk", "queues", words.get("queues", "1"), MOST_QUEUES),
        overlay=words.get("overlay"),
        form=form,
        base=words.get("base", ""),
        rate=parse_rate("--disk", "rate", words["rate"]) if "rate" in words else 0,
        requests=parse_rate("--disk", "iops", words["iops"]) if "iops" in words else 0,
    )


def parse_net(text: str) -> Net:
    """Return the card that `tap:NAME` or `user`, with `[,mac=M][,in=RATE][,out=RATE]`, means. Raises UsageError."""
    where, words = split(text, "--net", ("mac", "in", "out"), "network")
    kind, _, name = where.partition(":")
    if not (where == "user" or (kind == "tap" and is_tap_name(name))):
        raise UsageError(f"--net {text!r}: write tap:NAME, for a tap of this host, or user")
    mac = words.get("mac", "")
    if "mac" in words and not is_mac(mac):
        raise UsageError(f"--net {text!r}: write mac= as six bytes, the first of them even: 52:54:00:12:34:56")
    rates = {word: parse_rate("--net", word, words[word]) for word in ("in", "out") if word in words}
    return Net(name, mac=mac, incoming=rates.get("in", 0), outgoing=rates.get("out", 0))


def parse_port(text: str) -> tuple[str, str]:
    """Return (name, path) of the port that `NAME=PATH` means. Raises UsageError."""
    name, _, path = text.partition("=")
    if not is_port_name(name) or not is_socket_path(path):
        raise UsageError(f"--port {text!r}: write NAME=PATH: a name for the guest, and where the host's socket is to be")
    return name, path


def parse_vsock(text: str) -> Vsock:
    """Return the device that `PATH[,cid=N]` means. Raises UsageError."""
    path, words = split(text, "--vsock", ("cid",), "path")
    if not is_vsock_path(path):
        raise UsageError(f"--vsock {text!r}: PATH_PORT would be longer than the 107 bytes that a socket's name may have")
    cid = number("--vsock", "cid", words.get("cid", "3"), (1 << 32) - 2)
    if cid < 3:
        raise UsageError(f"--vsock {text!r}: cid={cid} is the host's; a guest's is 3 or more")
    return Vsock(path, cid)


def parse_share(text: str) -> Share:
    """Return the share that `DIR[:TAG][,ro]` means; the tag is the directory's name unless it is given. Raises UsageError."""
    where, words = split(text, "--share", ("ro", "rw"), "directory")
    path, colon, tag = where.rpartition(":")
    path, tag = (path, tag) if colon else (where, os.path.basename(os.path.abspath(where)))
    if not os.path.isdir(path):
        raise UsageError(f"--share {text!r}: {path!r} is no directory")
    if not is_tag(tag):
        raise UsageError(f"--share {text!r}: the tag {tag!r} must have 1 to {LONGEST_TAG} bytes and no comma: say DIR:TAG")
    return Share(path, tag, "ro" in words)


def is_tap_name(text: str) -> bool:
    """Say whether a network device of the host may have this name."""
    return 0 < len(os.fsencode(text)) <= LONGEST_TAP and "/" not in text and not any(letter.isspace() for letter in text)


def is_port_name(text: str) -> bool:
    """Say whether /dev/virtio-ports of a guest may have this name."""
    return bool(text) and "/" not in text


def is_socket_path(text: str) -> bool:
    """Say whether a socket of the host may have this name."""
    return 0 < len(os.fsencode(text)) <= LONGEST_PATH


def is_vsock_path(text: str) -> bool:
    """The same, with the largest _PORT behind it."""
    return bool(text) and is_socket_path(f"{text}_{(1 << 32) - 1}")


def is_tag(text: str) -> bool:
    """Say whether a share may be called this."""
    return 0 < len(os.fsencode(text)) <= LONGEST_TAG and "," not in text and text.isprintable()


def is_mac(text: str) -> bool:
    """Say whether it is the address of one card: six bytes, bit 0 of the first (a group of cards) not set."""
    parts = text.split(":")
    hexadecimal = all(len(part) == 2 and set(part.lower()) <= set("0123456789abcdef") for part in parts)
    return len(parts) == 6 and hexadecimal and not int(parts[0], 16) & 1

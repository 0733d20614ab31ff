"""A share: virtiofsd behind a virtio-fs, asked for files in FUSE's words, as a guest's kernel would (linux/fuse.h)."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import AREA, EVENT_IDX, INDIRECT, LIMIT, RAM, VERSION_1, Driver, Memory, until

from minivm.devices.virtio.fs import Fs
from minivm.devices.virtio.mmio import F_RING_PACKED
from minivm.devices.virtio.vhost_user import Backend
from minivm.errors import MinivmError, UsageError
from minivm.machine import host, shares
from minivm.machine.devices import parse_share


def served() -> str:
    """Return why there can be no virtiofsd here, or ""."""
    try:
        shares.find()
    except MinivmError as error:
        return str(error)
    return "" if os.geteuid() == 0 else "QEMU's virtiofsd is root's"


real = pytest.mark.skipif(bool(served()), reason=served())
LOOKUP, OPEN, READ, WRITE, INIT = 1, 14, 15, 16, 26
ROOT = 1


class Guest(Driver):
    """A driver whose memory virtiofsd maps, with an eventfd for each queue's notifications."""

    def __init__(self, fd, features=VERSION_1 | EVENT_IDX | INDIRECT):
        self.shared, self.unique = host.shared_memory(RAM), 0
        memory = Memory(self.shared)
        super().__init__(Fs(Backend(fd, "virtiofsd"), "t", [(0, memory.pages)]), features, begin=False, memory=memory)
        self.kicks = [os.eventfd(0, os.EFD_NONBLOCK) for _ in self.queues]
        for number, kick in enumerate(self.kicks):
            self.mmio.kick(number, kick)
        self.write(0x70, 1 | 2 | 8 | 4)

    def close(self):
        super().close()
        for fd in (self.shared, *self.kicks):
            os.close(fd)

    def again(self, features):
        """Set the device up once more after a reset, with empty queues."""
        self.memory.bytes[AREA : AREA * 3] = bytes(AREA * 2)
        self.negotiate(features)
        self.rings = {number: self.set_up(number) for number in self.queues}
        self.write(0x70, 1 | 2 | 8 | 4)

    def fuse(self, opcode, node=ROOT, payload=b"", room=4096):
        """Ask, and return (errno, the answer)."""
        self.unique += 1
        header = struct.pack("<IIQQIIIHH", 40 + len(payload), opcode, self.unique, node, 0, 0, 0, 0, 0)
        _, (answer,) = self.ask([header + payload, 16 + room], queue=1)
        length, error, unique = struct.unpack_from("<IiQ", answer)
        assert unique == self.unique
        return -error, answer[16:length]

    def begin(self):
        error, _ = self.fuse(INIT, 0, struct.pack("<IIII", 7, 31, 1 << 17, 0))
        assert error == 0

    def look_up(self, name):
        error, answer = self.fuse(LOOKUP, payload=name + b"\0")
        return error, struct.unpack_from("<Q", answer)[0] if not error else 0


@pytest.fixture
def server(tmp_path):
    """virtiofsd for a directory: (the program, the socket)."""
    helper, fd = shares.serve(str(tmp_path), False)
    yield helper, fd
    os.close(fd)
    helper.stop()


@pytest.fixture
def guest(server):
    with Guest(server[1]) as guest:
        guest.begin()
        yield guest


@real
def test_a_file_of_the_host_is_read_into_the_guests_memory(guest, tmp_path):
    secret = secrets.token_bytes(3000)
    (tmp_path / "file").write_bytes(secret)
    error, node = guest.look_up(b"file")
    assert error == 0 and guest.read(0x60) & 1, "InterruptStatus says that there are used buffers"
    _, answer = guest.fuse(OPEN, node, struct.pack("<II", os.O_RDONLY, 0))
    handle = struct.unpack_from("<Q", answer)[0]
    assert guest.fuse(READ, node, struct.pack("<QQIIQII", handle, 0, 4096, 0, 0, 0, 0)) == (0, secret)
    assert guest.pulses > 0, "virtiofsd raises interrupts by itself"


@real
def test_what_the_guest_writes_is_in_the_hosts_file(guest, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    _, node = guest.look_up(b"file")
    _, answer = guest.fuse(OPEN, node, struct.pack("<II", os.O_WRONLY, 0))
    data = secrets.token_bytes(500)
    words = struct.pack("<QQIIQII", struct.unpack_from("<Q", answer)[0], 0, len(data), 0, 0, 0, 0)
    assert guest.fuse(WRITE, node, words + data)[0] == 0
    assert (tmp_path / "file").read_bytes() == data


@real
@pytest.mark.parametrize("name", ["a,b", "a,sandbox=chroot", "a\\b", "\\054", "a b", "a=b", "-o"])
def test_a_directory_may_have_any_name(tmp_path, name):
    """In the options of QEMU's virtiofsd a comma separates, and a backslash quotes."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "here").touch()
    helper, fd = shares.serve(str(tmp_path / name), False)
    try:
        with Guest(fd) as guest:
            guest.begin()
            assert guest.look_up(b"here")[0] == 0
    finally:
        os.close(fd)
        helper.stop()


@real
def test_no_name_leads_out_of_the_share(guest, tmp_path):
    (tmp_path / "up").symlink_to("/etc")
    error, above = guest.look_up(b"..")
    assert error or guest.fuse(LOOKUP, above, b"up\0")[0] == 0, "above the share's top is the share's top"
    assert guest.look_up(b"../etc")[0] == errno.EINVAL and guest.look_up(b"/etc")[0] == errno.EINVAL
    error, node = guest.look_up(b"up")
    assert error == 0 and guest.fuse(LOOKUP, node, b"passwd\0")[0] in (errno.ENOTDIR, errno.ELOOP)  # the guest's to follow


@real
def test_a_driver_that_begins_again_is_served_again(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with Guest(server[1]) as guest:
        guest.begin()
        guest.write(0x70, 0)
        assert guest.read(0x70) == 0
        guest.again(VERSION_1 | EVENT_IDX)
        guest.begin()
        assert guest.look_up(b"file")[0] == 0


@real
def test_virtiofsds_end_is_told_to_the_driver_and_ends_nothing_else(server):
    with Guest(server[1]) as guest:
        guest.begin()
        server[0].stop()
        until(lambda: guest.read(0x70) & 0x40)  # DEVICE_NEEDS_RESET
        guest.write(0x70, 0)
        guest.again(VERSION_1)  # the driver tries again: nobody serves it, and nothing of ours breaks
        guest.notify(1)
        assert guest.read(0x00) == int.from_bytes(b"virt", "little")


@real
def test_a_directory_that_cannot_be_served_is_one_line(tmp_path):
    with pytest.raises(MinivmError, match=r"virtiofsd cannot serve .*: \S"):
        shares.serve(str(tmp_path / "absent"), False)


@real
def test_a_notification_before_the_driver_is_ready_reaches_nobody(server):
    with Guest(server[1]) as guest:
        guest.write(0x70, 0)
        guest.notify(0)
        guest.notify(1)
        assert guest.read(0x70) == 0


# --- a back-end that is none ---


class Impostor:
    """Answers each request with the bytes that it is given, and then hangs up, or only listens."""

    def __init__(self, answers, stays=False):
        self.stays = stays
        self.ours, self.theirs = socket.socketpair()
        self.answers = list(answers)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        with self.theirs, contextlib.suppress(OSError):
            for answer in self.answers:
                if not self.theirs.recv(4096):
                    return
                self.theirs.sendall(answer)
            while self.stays and self.theirs.recv(4096):
                pass

    def __enter__(self):
        return self.ours.fileno()

    def __exit__(self, *_):
        self.ours.close()
        self.thread.join(LIMIT)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_a_back_end_that_speaks_nonsense_is_refused_in_one_line(answers):
    with Impostor(answers) as fd, pytest.raises(MinivmError, match="impostor"):
        Backend(fd, "impostor", limit=0.05).say(1)


def test_packed_rings_of_a_back_end_are_not_offered():
    """vhost-user: SET_VRING_BASE is the index alone for split rings; for packed ones it has the wrap counters, too."""
    with Impostor([struct.pack("<IIIQ", 1, 1 | 1 << 2, 8, VERSION_1 | F_RING_PACKED)], stays=True) as fd:
        assert Fs(Backend(fd, "impostor"), "t", []).ring_features == VERSION_1


# --- words ---


def test_words_of_a_share(tmp_path):
    inside = tmp_path / "a:b"
    inside.mkdir()
    share = parse_share(str(tmp_path))
    assert (share.path, share.tag, share.read_only) == (str(tmp_path), tmp_path.name, False)
    assert parse_share(f"{inside}:data,ro").tag == "data" and parse_share(f"{inside}:data,ro").read_only
    assert parse_share(f"{inside}:/mnt/data").path == str(inside)
    for wrong in ("", f"{tmp_path}/absent", f"{tmp_path}:", f"{tmp_path}:{'x' * 37}", f"{tmp_path}:a\tb"):
        with pytest.raises(UsageError):
            parse_share(wrong)

"""Names, numbers and masks of capabilities, and docker's arithmetic with them."""

import ctypes
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux import capabilities
from minirt.linux.capabilities import DEFAULT, NAMES, CapabilityError

some = st.sets(st.sampled_from(NAMES))


@given(st.integers(0, 2**41 - 1))
def test_a_mask_survives_being_spelled_out(bits):
    assert capabilities.mask(capabilities.names(bits)) == bits


@given(some)
def test_names_survive_being_packed_into_a_mask(chosen):
    assert set(capabilities.names(capabilities.mask(chosen))) == chosen


@given(st.sampled_from(NAMES), st.booleans(), st.booleans())
def test_a_name_may_be_written_short_and_small(name, short, small):
    written = name.removeprefix("CAP_") if short else name
    assert capabilities.normalise(written.lower() if small else written) == name


def test_numbers_are_those_of_prctl():
    prctl = pytest.importorskip("prctl")
    for name in NAMES:
        if hasattr(prctl, name):
            assert capabilities.number(name) == getattr(prctl, name), name


def test_numbers_are_those_of_the_header():
    try:
        with open("/usr/include/linux/capability.h") as file:
            lines = [line.split() for line in file if line.startswith("#define CAP_")]
    except FileNotFoundError:
        pytest.skip("linux/capability.h is not installed (linux-libc-dev)")
    defined = {line[1]: int(line[2]) for line in lines if len(line) > 2 and line[2].isdecimal()}
    assert defined == {name: at for at, name in enumerate(NAMES)}


def test_a_newer_bit_is_told_by_its_number():
    assert capabilities.names(1 << 63 | 1) == ["CAP_CHOWN", "63"]


def test_docker_leaves_fourteen():
    assert len(set(DEFAULT)) == 14 and set(DEFAULT) < set(NAMES)
    assert capabilities.mask(DEFAULT) == 0xA80425FB  # CapEff of docker run alpine grep Cap /proc/self/status


def test_without_flags_the_default_stays():
    assert set(capabilities.add_and_drop()) == set(DEFAULT)


def test_all_dropped_leaves_what_is_added():
    assert capabilities.add_and_drop(["chown", "kill"], ["ALL"]) == ["CAP_CHOWN", "CAP_KILL"]


def test_all_added_loses_what_is_dropped_by_name():
    assert set(capabilities.add_and_drop(["all"], ["net_admin", "ALL"])) == set(NAMES) - {"CAP_NET_ADMIN"}


def test_all_means_what_the_caller_has():
    assert capabilities.add_and_drop(["ALL"], everything=["CAP_KILL"]) == ["CAP_KILL"]


@given(some, some)
def test_added_beats_dropped_and_dropped_beats_default(add, drop):
    kept = set(capabilities.add_and_drop(add, drop))
    assert kept == (set(DEFAULT) - drop) | add


@given(some, some)
def test_the_order_of_flags_does_not_count(add, drop):
    forward = capabilities.add_and_drop(sorted(add), sorted(drop))
    assert forward == capabilities.add_and_drop(sorted(add, reverse=True), sorted(drop, reverse=True))
    assert forward == sorted(forward, key=NAMES.index)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("CAP_NET_ADMN", "CAP_NET_ADMIN"), ("sys-admin", "CAP_SYS_ADMIN"), ("chwon", "CAP_CHOWN")],
)
def test_a_misspelt_capability_gets_a_proposal(wrong, near):
    with pytest.raises(CapabilityError, match=rf"^unknown capability '{wrong}'; did you mean {near}\?$"):
        capabilities.add_and_drop([wrong])


def test_nonsense_gets_no_proposal():
    with pytest.raises(CapabilityError, match=r"^unknown capability 'frobnicate'$"):
        capabilities.normalise("frobnicate")


def test_all_has_no_number():
    with pytest.raises(CapabilityError):
        capabilities.number("ALL")


def test_the_kernel_reads_what_is_packed():
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(capabilities.pack_header(), 8)
    data = ctypes.create_string_buffer(24)
    assert libc.capget(header, data) == 0
    mine = capabilities.of_process()
    packed = capabilities.pack_sets(mine["effective"], mine["permitted"], mine["inheritable"])
    assert data.raw == packed
    assert libc.capset(header, packed) == 0  # what one has already may always be set


def test_what_is_permitted_is_what_proc_says():
    assert capabilities.permitted() == capabilities.of_process()["permitted"]


@given(*[st.integers(0, 2**64 - 1)] * 3)
def test_packing_puts_low_halves_first(effective, permitted, inheritable):
    words = struct.unpack("=6I", capabilities.pack_sets(effective, permitted, inheritable))
    assert [low | high << 32 for low, high in zip(words[:3], words[3:], strict=True)] == [
        effective,
        permitted,
        inheritable,
    ]


def test_a_process_has_five_sets():
    sets = capabilities.of_process()
    assert list(sets) == ["inheritable", "permitted", "effective", "bounding", "ambient"]
    assert sets["effective"] & ~sets["permitted"] == 0


def test_the_kernel_knows_no_fewer_than_it_says():
    assert 36 <= capabilities.last_cap() < 64
    assert capabilities.of_process()["bounding"] >> (capabilities.last_cap() + 1) == 0

"""Requests to CRIU as bytes: what protobuf's own examples say, what is written is read again, and no answer breaks the reader."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux.criu import OPTIONS, CriuError, decode, encode, varint


def test_the_examples_of_the_encoding_s_description() -> None:
    """https://protobuf.dev/programming-guides/encoding: 150 as field 1; "testing" as field 2; the first in field 3."""
    assert varint(150) == bytes.fromhex("9601")
    assert encode([(1, 150)]) == bytes.fromhex("089601")
    assert encode([(2, "testing")]) == bytes.fromhex("120774657374696e67")
    assert encode([(3, [(1, 150)])]) == bytes.fromhex("1a03089601")
    assert encode([(1, -2)]) == bytes.fromhex("08feffffffffffffffff01") and encode([(1, True)]) == bytes.fromhex("0801")


fields = st.dictionaries(st.integers(1, 1 << 20), st.integers(0, (1 << 64) - 1) | st.binary(max_size=300), max_size=6)


@given(fields)
def test_what_is_written_is_read_again(message: dict[int, Any]) -> None:
    assert decode(encode(list(message.items()))) == message


@given(fields, st.integers(0, 400))
def test_an_answer_that_is_cut_short_is_no_answer(message: dict[int, Any], cut: int) -> None:
    data = encode(list(message.items()))[:cut]
    try:
        assert decode(data).items() <= message.items()
    except CriuError:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode(data), dict)
    except CriuError as error:
        assert "criu's answer" in str(error)


def test_no_two_options_have_a_number() -> None:
    assert len(set(OPTIONS.values())) == len(OPTIONS)


@pytest.mark.parametrize("data", ["0d00000000", "08", "0a05aa", "80"])
def test_what_its_protocol_does_not_have_is_an_error(data: str) -> None:
    with pytest.raises(CriuError):
        decode(bytes.fromhex(data))

"""The device filter's program against what the rules mean, said a second time; both without the kernel.

The interpreter knows only the instructions of linux/bpf.h by their numbers. tests/system asks the kernel.
"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux.device_filter import DEFAULT, DeviceFilterError, listing, parse, program

TYPES = {1: "b", 2: "c"}
BITS = {1: "m", 2: "r", 4: "w"}

number = st.one_of(st.none(), st.sampled_from([-1, 0, 1, 5, 10, 136, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
rule = st.fixed_dictionaries(
    {"allow": st.booleans(), "access": st.sets(st.sampled_from("rwm"), min_size=1).map("".join)},
    optional={"type": st.sampled_from("abc"), "major": number, "minor": number},
)
known = st.sampled_from([0, 1, 3, 5, 10, 136, 200, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
request = st.tuples(st.sampled_from([1, 2]), st.integers(1, 7), known, known)


def run(code, kind, access, major, minor):
    """Run a program as the machine of Documentation/bpf/standardization/instruction-set.rst does; return r0."""
    context = struct.pack("<III", access << 16 | kind, major, minor)
    registers, at = [None, "context"] + [None] * 9, 0
    program_ = list(struct.iter_unpack("<BBhi", code))
    for _ in range(len(program_) + 1):
        op, both, offset, value = program_[at]
        to, source, value = both & 15, both >> 4, value & 0xFFFFFFFF
        at += 1
        if op == 0x61:
            assert registers[source] == "context" and 0 <= offset <= 8
            (registers[to],) = struct.unpack_from("<I", context, offset)
        elif op == 0xB4:
            registers[to] = value
        elif op == 0xBC:
            registers[to] = registers[source]
        elif op == 0x54:
            registers[to] &= value
        elif op == 0x74:
            registers[to] >>= value
        elif op in (0x16, 0x56, 0x46):
            left = registers[to]
            assert offset >= 0
            at += offset if {0x16: left == value, 0x56: left != value, 0x46: left & value}[op] else 0
        elif op == 0x05:
            assert offset >= 0
            at += offset
        elif op == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unknown instruction {op:#x}")
    raise AssertionError("it does not end")


def allowed(rules, kind, access, major, minor):
    """What the rules mean: for each access, the last one that names it and the device decides; none: denied."""
    for bit, letter in BITS.items():
        verdict = False
        for entry in rules:
            names = entry.get("type", "a") in ("a", TYPES[kind]) and letter in entry["access"]
            if names and all(entry.get(key) in (None, -1, is_) for key, is_ in (("major", major), ("minor", minor))):
                verdict = entry["allow"]
        if access & bit and not verdict:
            return False
    return True


@given(st.lists(rule, max_size=8), st.lists(request, min_size=1, max_size=8))
def test_the_program_says_what_the_rules_mean(rules, requests):
    code = program(parse(rules, default=False))
    for asked in requests:
        assert run(code, *asked) == allowed(rules, *asked)


@given(st.lists(rule, max_size=4), st.sampled_from(DEFAULT), known)
def test_what_every_container_may_use_no_rule_takes_away(rules, default, free):
    kind, major, minor, access = default
    major, minor = (free if n == -1 else n for n in (major, minor))
    bits = sum(bit for bit, letter in BITS.items() if letter in access)
    assert run(program(parse(rules)), {"b": 1, "c": 2}[kind], bits, major, minor) == 1


@given(st.lists(rule, max_size=8))
def test_every_instruction_can_be_reached(rules):
    """The kernel's verifier refuses a program with one that cannot."""
    program_ = list(struct.iter_unpack("<BBhi", program(parse(rules, default=False))))
    reached, open_ = set(), [0]
    while open_:
        at = open_.pop()
        if at not in reached:
            reached.add(at)
            op, _, offset, _ = program_[at]
            goes_on = [] if op in (0x95, 0x05) else [at + 1]
            open_ += [*goes_on, at + 1 + offset] if op in (0x05, 0x16, 0x56, 0x46) else goes_on
    assert reached == set(range(len(program_)))


@given(st.lists(rule, max_size=5))
def test_the_listing_has_a_line_an_instruction(rules):
    lines = [line for line in listing(parse(rules)) if not line.startswith(";")]
    assert [int(line.partition(":")[0]) for line in lines] == list(range(len(program(parse(rules))) // 8))


def test_the_listing_can_be_read():
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "r"}]
    lines = listing(parse(rules, default=False))
    assert lines[7:] == [
        "; allow c 10:* r", "   6: if w2 != 2 goto 10", "   7: if w4 != 10 goto 10", "   8: w3 &= 0x5",
        "   9: if w3 == 0 goto 12", "; nothing allows the rest: EPERM", "  10: w0 = 0", "  11: exit",
        "; all of it is allowed", "  12: w0 = 1", "  13: exit",
    ]  # fmt: skip


def test_a_rule_that_allows_all_of_a_device_compares_no_accesses():
    rules = [{"allow": True, "type": "c", "major": 10, "access": "rwm"}, {"allow": True, "access": "rwm"}]
    assert listing(parse(rules[:1], default=False))[7:] == [
        "; allow c 10:* rwm", "   6: if w2 != 2 goto 9", "   7: if w4 != 10 goto 9", "   8: goto 11",
        "; nothing allows the rest: EPERM", "   9: w0 = 0", "  10: exit",
        "; all of it is allowed", "  11: w0 = 1", "  12: exit",
    ]  # fmt: skip
    # Where it is of every device the end behind it must be reached all the same: the kernel refuses a dead one.
    assert "   6: w3 &= 0x0" in listing(parse(rules, default=False))


@pytest.mark.parametrize(("entry", "said"), [
    ({"allow": True, "access": ""}, "access ''"),
    ({"allow": True, "access": "rx"}, "access 'rx'"),
    ({"allow": True}, "access ''"),
    ({"allow": True, "type": "p", "access": "r"}, "type 'p'"),
    ({"allow": True, "type": "c", "major": -2, "access": "r"}, "major -2"),
    ({"allow": True, "type": "c", "minor": 1 << 32, "access": "r"}, "minor 4294967296"),
])  # fmt: skip
def test_a_rule_that_means_nothing_is_told_with_its_place(entry, said):
    with pytest.raises(DeviceFilterError, match=rf"^linux.resources.devices\[1\]\.{said}"):
        parse([{"allow": False, "access": "rwm"}, entry])


def test_more_rules_than_can_be_jumped_over_are_refused():
    rules = [{"allow": True, "type": "c", "major": n, "access": "r"} for n in range(5001)]
    with pytest.raises(DeviceFilterError, match="5001 rules, at most 5000"):
        program(parse(rules, default=False))
    assert len(program(parse(rules[:5000], default=False))) == 8 * (6 + 5000 * 4 + 4)

"""Our reader and writer of JSON beside the standard library's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.documents import BadDocument, dumps, loads, pretty

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_what_the_standard_library_reads(value):
    assert json.loads(dumps(value)) == value
    assert json.loads(pretty(value)) == value


@given(VALUES, st.sampled_from([None, 1]))
def test_what_the_standard_library_writes_is_read(value, indent):
    assert loads(" \n" + json.dumps(value, indent=indent) + "\t") == value


@given(st.text(alphabet='{}[]",:truefalsn0123456789.eE+- \n\\u"', max_size=30))
def test_both_agree_on_what_is_json(text):
    def refuse(name):
        raise ValueError(name)

    try:
        want = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(BadDocument):
            loads(text)
    else:
        assert loads(text) == want


def test_nested_too_deep_is_an_error_in_one_line():
    with pytest.raises(BadDocument, match="nested"):
        loads("[" * 100_000)


def test_neither_re_nor_json_is_loaded():
    code = "from minirt.documents import *; import sys; loads(dumps({})); print(*{'re', 'json', 'enum'} & set(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.parametrize("text", ["{", '{"a"', '{"a": 1,}', '"open', '{"a" 1}', "[1,", '"\\x"', "{1: 2}"])
def test_what_is_wrong_is_told_in_a_process_that_has_no_json_module(text: str) -> None:
    """The C half takes its exception from the Python half, if that is loaded; else it has none."""
    code = (
        "import sys; from minirt.documents import BadDocument, loads\n"
        "assert 'json' not in sys.modules\n"
        "try: loads(sys.argv[1], 'config.json')\n"
        "except BadDocument as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("config.json: not JSON: ") and "line 1" in done.stdout

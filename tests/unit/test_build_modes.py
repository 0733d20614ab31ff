"""--chmod: the program chmod, asked the same, does the same."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.build.errors import BuildError
from minirt.build.modes import parse_mode

CLAUSES = st.builds(
    lambda who, operator, letters: who + operator + letters,
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "ugo"]), st.sampled_from("+-="), st.text("rwxXst", max_size=3),
)  # fmt: skip
OCTAL = st.integers(0, 0o7777).map(lambda mode: f"{mode:04o}")


@settings(max_examples=80, deadline=None)
@given(st.lists(CLAUSES, min_size=1, max_size=3).map(",".join), st.integers(0, 0o7777), st.booleans())
def test_letters_change_a_mode_as_chmod_does(text, mode, directory):
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "it")
        os.mkdir(path) if directory else open(path, "w").close()
        os.chmod(path, mode)
        before = os.stat(path).st_mode
        subprocess.run(["chmod", text, path], check=True)
        change = parse_mode(text)
        assert change is not None and oct(change(before)) == oct(stat.S_IMODE(os.stat(path).st_mode))
        os.chmod(path, 0o700)


@given(OCTAL)
def test_digits_are_the_mode(text):
    change = parse_mode(text)
    assert change is not None and change(stat.S_IFREG | 0o644) == int(text, 8)


@pytest.mark.parametrize("text", ["8", "77777", "u", "z+x", "u+q", "+", "u=rwX;", "0755,u+x"])
def test_what_is_no_mode_is_refused(text):
    if text == "+":
        assert parse_mode(text)(0o644) == 0o644
        return
    with pytest.raises(BuildError):
        parse_mode(text)


def test_without_anybody_named_it_is_everybody():
    assert parse_mode("+x")(0o600) == 0o711

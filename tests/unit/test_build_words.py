"""Quotes and variables: a shell, asked the same, says the same."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.build.words import BadWord, expand, split

VARIABLES = {"A": "x.tar.gz", "EMPTY": "", "B": "a b", "STAR": "*"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A", "x.tar.gz"), ("${A}b", "x.tar.gzb"), ("$Ab", ""), ("a$", "a$"), ("$", "$"), ("\\$A", "$A"), ("\\\\$A", "\\x.tar.gz"),
        ("'$A'", "$A"), ('"$A"', "x.tar.gz"), ('"\\$A \\n"', "$A \\n"), ("a'b'\"c\"", "abc"), ("'a\\'", "a\\"),
        ("${EMPTY:-d}", "d"), ("${EMPTY-d}", ""), ("${NONE-d$A}", "dx.tar.gz"), ("${NONE:-${EMPTY:-${A}}}", "x.tar.gz"),
        ("${A:+y}", "y"), ("${EMPTY:+y}", ""), ("${EMPTY+y}", "y"), ("${NONE+y}", ""), ("${A:?no}", "x.tar.gz"),
        ("${NONE:-'a}b'}", "a}b"), ("${A#*.}", "tar.gz"), ("${A##*.}", "gz"), ("${A%.*}", "x.tar"), ("${A%%.*}", "x"),
        ("${A#q}", "x.tar.gz"), ("${A%gz}", "x.tar."), ("${STAR#\\*}", ""), ("${A/a/b}", "x.tbr.gz"), ("${A//./-}", "x-tar-gz"),
        ("${A/r}", "x.ta.gz"), ("${A/?/$EMPTY}", ".tar.gz"), ("$1", ""), ("$1x", "x"), ("${B}", "a b"),
    ],
)  # fmt: skip
def test_a_word(text, value):
    assert expand(text, VARIABLES) == value


@pytest.mark.parametrize(
    "text", ["${A", "${", "${}", "${A:x}", "${A!b}", "'a", '"a', "${A:-b", "${NONE:?is needed}", "${NONE?}", "${A/b"]
)
def test_what_is_no_word_is_refused(text):
    with pytest.raises(BadWord):
        expand(text, VARIABLES)


PIECES = st.sampled_from([
    "a", ".", "$A", "${A}", "${B}", "${EMPTY:-d}", "${NONE-e}", "${A:+f}", "${NONE:+f}", "${A#*.}", "${A##*.}", "${A%.*}",
    "${A%%.*}", "\\$", "\\\\", "'$A'", '"$A"', '"\\$A"', "'\\'", '"\\q"', "${EMPTY+g}", "${NONE:-${A%.*}}",
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=6))
def test_a_shell_says_the_same(pieces):
    text = "".join(pieces)
    sets = "; ".join(f"{name}={shlex.quote(value)}" for name, value in VARIABLES.items())
    said = subprocess.run(["dash", "-c", f"set -f; IFS=; {sets}; printf %s {text}"], capture_output=True, text=True, timeout=10)
    if said.returncode == 0:
        assert expand(text, VARIABLES) == said.stdout


@given(st.lists(st.text("ab'\"\\ \t$", min_size=1, max_size=6), max_size=5))
def test_parting_words_keeps_every_character_but_the_blanks(words):
    text = " ".join(words)
    try:
        parts = split(text)
    except BadWord:
        return
    assert "".join(parts).replace(" ", "").replace("\t", "") == text.replace(" ", "").replace("\t", "")


def test_the_escape_character_may_be_another():
    assert expand("a`$A\\b", VARIABLES, "`") == "a$A\\b"


def test_in_a_here_document_quotes_are_characters():
    assert expand("'$A' \"${A}\" \\$A \\n", VARIABLES, keep_quotes=True) == "'x.tar.gz' \"x.tar.gz\" $A \\n"

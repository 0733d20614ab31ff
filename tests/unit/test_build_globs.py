"""Patterns: those of Go's documentation of filepath.Match, and those of docker's of .dockerignore."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.build.globs import Ignored, regular


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["a", "", "a.b"], ["a/b"]),
        ("hom?.txt", ["home.txt"], ["hom.txt", "hom/.txt"]),
        ("a*/b", ["abc/b", "a/b"], ["a/c/b"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x", "/x"]),
        ("[^a-c]x", ["dx"], ["ax", "/x"]),
        ("a[[]b", ["a[b"], ["ab"]),
        (r"\*", ["*"], ["a"]),
        (r"[\]a]", ["]", "a"], ["b"]),
    ],
)  # fmt: skip
def test_patterns_of_copy(pattern, yes, no):
    match = regular(pattern).match
    assert all(match(text) for text in yes) and not any(match(text) for text in no)


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "[z-a]", "a\\", "[-x]", "[a-]"])
def test_a_malformed_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match=r".+"):
        regular(pattern)


@given(st.text("ab*?.", max_size=6), st.text("ab.", max_size=6))
def test_without_slashes_it_is_a_shell_pattern(pattern, name):
    assert bool(regular(pattern).match(name)) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize(
    ("text", "out", "kept"),
    [
        ("# comment\n*/temp*\n", ["d/temporary.txt", "d/temp/x"], ["temp", "d/e/temp"]),
        ("*/*/temp*", ["d/sub/temporary.txt"], ["d/temp"]),
        ("temp?", ["tempa", "tempb"], ["temp"]),
        ("**/*.go", ["a.go", "x/y/b.go"], ["a.gone"]),
        ("*.md\n!README.md", ["x.md"], ["README.md"]),
        ("*.md\n!README*.md\nREADME-secret.md", ["README-secret.md", "a.md"], ["README.md", "README-x.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", ["a.md"], ["README.md", "README-secret.md"]),
        ("/build/\n", ["build", "build/x"], ["src/build"]),
        ("node_modules\n!node_modules/keep", ["node_modules/x", "node_modules"], ["node_modules/keep", "node_modules/keep/a"]),
        ("*\n!src/**", ["a", "docs/x"], ["src/a", "src/a/b"]),
        ("a/../b", ["b"], ["a"]),
        (".\n/\n\n", [], ["a"]),
    ],
)
def test_dockerignore(text, out, kept):
    ignored = Ignored(text)
    assert [path for path in out if not ignored(path)] == [] and [path for path in kept if ignored(path)] == []


def test_a_malformed_rule_is_told_with_its_line():
    with pytest.raises(ValueError, match="line 2"):
        Ignored("a\n[\n")

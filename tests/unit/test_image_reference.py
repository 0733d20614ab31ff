"""Image names: docker's grammar and short forms, over many generated names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.image.errors import BadReference
from minirt.image.reference import Reference

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=6)
components = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([".", "_", "__", "-", "---"]).map(lambda separator: separator.join(parts))
)
hosts = st.one_of(
    st.just("localhost"),
    st.builds("{}.{}".format, words, words),
    st.builds("{}:{}".format, words, st.integers(1, 65535)),
    st.just("[2001:db8::1]:5000"),
)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)


@st.composite
def names(draw):
    text = "/".join(draw(st.lists(components, min_size=1, max_size=3)))
    if draw(st.booleans()):
        text = draw(hosts) + "/" + text
    if draw(st.booleans()):
        text += ":" + draw(tags)
    if draw(st.booleans()):
        text += "@" + draw(digests)
    return text


@given(names())
def test_every_form_of_a_name_means_the_same(text):
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference
    assert Reference.parse(reference.familiar).familiar == reference.familiar


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_is_refused_in_one_line(text):
    try:
        assert Reference.parse(text).repository
    except BadReference as error:
        assert "\n" not in str(error)


@given(names(), st.sampled_from(["", " ", "/", ":", "@", "A", "..", "\n", "é", "/..", "@sha256:12", "---"]), st.data())
def test_what_is_accepted_never_holds_a_path_out_of_a_directory(text, junk, data):
    at = data.draw(st.integers(0, len(text)))
    try:
        reference = Reference.parse(text[:at] + junk + text[at:])
    except BadReference:
        return
    for component in reference.repository.split("/"):
        assert component not in ("", ".", "..")
    assert not set(str(reference)) & set("\0\n \\")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("registry.example.com/team/app", "registry.example.com/team/app:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("busybox@sha256:" + "a" * 64, "docker.io/library/busybox@sha256:" + "a" * 64),
        ("busybox:1@sha256:" + "a" * 64, "docker.io/library/busybox:1@sha256:" + "a" * 64),
        ("app:5000/x", "app:5000/x:latest"),  # a host with a port, not a tag
        ("HOST/x", "HOST/x:latest"),  # a capital makes it a host, as in distribution/reference
    ],
)
def test_short_names_are_filled_in_as_docker_does(text, full):
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize(
    "text",
    ["", "Busybox", "a//b", "/a", "a/", "a:", "a:b:c", "a@", "a@sha256:12", "a__.b", "a..b", "-a", "a-", "../a",
     "a b", "a:" + "x" * 129, "a" * 256, "a" * 64, "h_st.com/a", "a.b:port/x", "a:tag@", "a\n", "a:tag\n"],
)  # fmt: skip
def test_what_docker_refuses_is_refused(text):
    with pytest.raises(BadReference):
        Reference.parse(text)

"""`--change`: instructions applied to an image's configuration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.image.change import BadChange, apply, words


def changed(*texts: str) -> dict:
    config: dict = {}
    for text in texts:
        apply(config, text)
    return config


@pytest.mark.parametrize(
    ("text", "config"),
    [
        ('CMD ["sh", "-l"]', {"Cmd": ["sh", "-l"]}),
        ("cmd echo $HOME", {"Cmd": ["/bin/sh", "-c", "echo $HOME"]}),
        ("ENTRYPOINT []", {"Entrypoint": []}),
        ('ENV A=b C="d e" E=f\\ g', {"Env": ["A=b", "C=d e", "E=f g"]}),
        ("ENV A the rest = here", {"Env": ["A=the rest = here"]}),
        ("EXPOSE 80 53/udp 7000-7001", {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}}}),
        ('LABEL a=1 "b c"=2', {"Labels": {"a": "1", "b c": "2"}}),
        ("ONBUILD RUN make", {"OnBuild": ["RUN make"]}),
        ("STOPSIGNAL SIGQUIT", {"StopSignal": "SIGQUIT"}),
        ("USER 1000:1000", {"User": "1000:1000"}),
        ('VOLUME ["/a", "/b c"]', {"Volumes": {"/a": {}, "/b c": {}}}),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ("WORKDIR a/../b", {"WorkingDir": "/b"}),
    ],
)
def test_an_instruction_sets_its_field(text, config):
    assert changed(text) == config


def test_the_last_value_of_a_variable_counts_and_a_relative_workdir_goes_on():
    config = changed("ENV A=1 B=2", "ENV A=3", "WORKDIR /srv", "WORKDIR www")
    assert config == {"Env": ["B=2", "A=3"], "WorkingDir": "/srv/www"}


@pytest.mark.parametrize(
    "text",
    ["", "CMD", "RUN make", "FROM x", "ENV A", "ENV =b", "ENV A=b C", 'ENV A="b', "EXPOSE 0", "EXPOSE 80/icmp",
     "EXPOSE a", "EXPOSE 1-99999", "USER a b", "LABEL", "CMD \0"],
)  # fmt: skip
def test_what_is_no_instruction_is_refused(text):
    with pytest.raises(BadChange):
        changed(text)


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))))
def test_quoted_words_come_back(texts):
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"' for text in texts]
    assert words(" ".join(quoted)) == texts


@given(st.text(max_size=60), st.sampled_from(["CMD", "ENV", "LABEL", "EXPOSE", "VOLUME", "WORKDIR", "USER", "ONBUILD"]))
def test_any_text_changes_a_configuration_that_json_can_hold_or_is_refused(text, name):
    try:
        config = changed(f"{name} {text}")
    except BadChange:
        return
    assert json.loads(json.dumps(config)) == config

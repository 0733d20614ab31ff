"""A Dockerfile's form: what was written comes back, instruction by instruction, with its lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.build.errors import DockerfileError
from minirt.build.lines import parse

NAMES = st.sampled_from(["RUN", "run", "COPY", "ENV", "LABEL", "CMD"])
LETTERS = st.characters(codec="utf-8", exclude_characters="\"'", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
WORDS = st.text(LETTERS, min_size=1, max_size=8).filter(
    lambda word: not word.startswith(("#", "-")) and "<<" not in word and word[-1] not in "\\`"
)
BETWEEN = st.lists(st.sampled_from(["# a comment", "   # indented", "", "  \t"]), max_size=2)
DOCUMENT = st.lists(st.text("ab \t\\`#$<", max_size=6).filter(lambda line: line.strip("\t") != "END"), max_size=3)


@st.composite
def files(draw):
    """A Dockerfile's lines, and what they say: (name, words, first line, last line, here-document or None)."""
    escape = draw(st.sampled_from("\\`"))
    lines = [f"# escape={escape}"] if escape == "`" or draw(st.booleans()) else []
    lines += draw(st.sampled_from([[], [""], ["# no directive"]]))
    said = []
    for _ in range(draw(st.integers(1, 5))):
        name, words = draw(NAMES), draw(st.lists(WORDS, min_size=1, max_size=4))
        first = len(lines) + 1
        text = draw(st.sampled_from(["", "  "])) + name
        for word in words:
            if draw(st.booleans()):
                lines.append(f"{text} {escape}{draw(st.sampled_from(['', ' ', chr(9)]))}")
                lines += draw(BETWEEN)
                text = f"  {word}"
            else:
                text += f" {word}"
        document = draw(st.none() | DOCUMENT) if name.upper() in ("RUN", "COPY") else None
        if document is not None:
            lines += [f"{text} <<END", *document, "END"]
        else:
            lines.append(text)
        said.append((name.upper(), words, first, len(lines), document))
        lines += draw(BETWEEN)
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n"])), said


@settings(max_examples=300, deadline=None)
@given(files())
def test_what_was_written_is_read(case):
    text, said = case
    found = parse(text).instructions
    assert len(found) == len(said)
    for instruction, (name, words, first, last, document) in zip(found, said, strict=True):
        assert (instruction.name, instruction.line, instruction.last) == (name, first, last)
        assert instruction.text.split() == words + (["<<END"] if document is not None else [])
        assert [doc.content for doc in instruction.heredocs] == \
            ([] if document is None else ["".join(line + "\n" for line in document)])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.text("RUNCOPYFM \n\r\t\\`#=<->\"'$ab\0", max_size=60))
def test_any_text_is_read_or_refused_with_a_line_that_it_has(text):
    try:
        found = parse(text).instructions
    except DockerfileError as error:
        assert 1 <= error.line <= text.count("\n") + 1
    else:
        lines = [one.line for one in found]
        assert lines == sorted(set(lines)) and all(one.line <= one.last for one in found)


def test_directives_stand_at_the_top_and_nowhere_else():
    found = parse("#  Syntax = docker/dockerfile:1\n#escape=`\nRUN a `\n b\n")
    assert found.directives == {"syntax": "docker/dockerfile:1", "escape": "`"} and found.instructions[0].text == "a  b"
    assert parse("# hello\n# escape=`\nRUN a").directives == {}
    assert parse("\n# escape=`\nRUN a").directives == {}
    assert parse("# unknown=1\n# escape=`\nRUN a").directives == {}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("# escape=x\nRUN a", 1, "escape"),
        ("# escape=`\n# escape=`\nRUN a", 2, "twice"),
        ("FROM a\n\nRUN cat <<EOF\na\n", 3, "EOF"),
        ("FROM a\nRUN --mount='x a", 2, "quote"),
        ("FROM a\nRUN --=x a", 2, "flag"),
        ("FROM a\nRUN a\0", 2, "NUL"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text, line, word):
    with pytest.raises(DockerfileError, match=word) as caught:
        parse(text)
    assert caught.value.line == line and str(caught.value).startswith(f"Dockerfile:{line}: ")


def test_here_documents_of_one_instruction_follow_each_other():
    (found,) = parse("COPY <<a <<-\"b\" /d/\n$X\na\n\tone\n\t\ttwo\n\tb\n").instructions
    assert [(doc.name, doc.expand, doc.strip, doc.content, doc.line) for doc in found.heredocs] == \
        [("a", True, False, "$X\n", 2), ("b", False, True, "one\ntwo\n", 4)]  # fmt: skip


def test_a_here_document_may_hold_anything():
    (run, after) = parse("RUN <<EOF\n# no comment \\\nFROM x\n<<EOF\n\nEOF\nCMD a").instructions
    assert run.heredocs[0].content == "# no comment \\\nFROM x\n<<EOF\n\n" and after.line == 7


def test_what_only_looks_like_a_here_document_is_none():
    for text in ("RUN echo $((1<<2))", "RUN cat <<<word", 'CMD ["<<a"]', 'RUN ["cat", "<<a"]', "ENV A=<<b"):
        (found,) = parse(text).instructions
        assert found.heredocs == [], text


def test_flags_are_taken_off_with_their_quotes():
    (found,) = parse("RUN --mount=type=bind,target='/a b' --network=\"none\" --x echo --no").instructions
    assert found.flags == [("mount", "type=bind,target=/a b"), ("network", "none"), ("x", None)] and found.text == "echo --no"


def test_an_escape_twice_continues_nothing():
    first, _ = parse("RUN echo \\\\\nCMD a\n").instructions
    assert first.text == "echo \\\\"


def test_a_test_of_the_shell_is_no_json_array():
    run, after = parse("RUN [ -e /a ] || cat <<EOF\nx\nEOF\nCMD a\n").instructions
    assert [doc.content for doc in run.heredocs] == ["x\n"] and after.line == 4

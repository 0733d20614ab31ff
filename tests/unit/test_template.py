"""Go's templates: what they make of an object, and that anything else is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.template import Template, TemplateError

pytestmark = pytest.mark.timeout(300)

BOX = {
    "Id": "abc",
    "Names": ["one", "two"],
    "Count": 3,
    "Size": 1.5,
    "Up": True,
    "Down": False,
    "Nothing": None,
    "Config": {"Labels": {"team": "blue", "com.x": "y"}, "Env": ["A=1", "B=2"], "Cmd": None},
    "NetworkSettings": {
        "Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.0.0.1"}},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None},
    },
    "Label": lambda key: f"<{key}>",
}

# template, what text/template makes of it (checked with docker inspect and docker ps --format)
GOOD = [
    ("{{.Id}}", "abc"),
    ("x{{.Id}}y", "xabcy"),
    ("{{ .Id }}", "abc"),
    ("{{.Count}} {{.Size}} {{.Up}}", "3 1.5 true"),
    ("{{.Names}}", "[one two]"),
    ("{{json .Names}}", '["one","two"]'),
    ("{{json .}}", None),
    ('{{join .Names ","}}', "one,two"),
    ("{{.Nothing}}", "<no value>"),
    ("{{.Config.Labels}}", "map[com.x:y team:blue]"),
    ("{{.Config.Labels.team}}", "blue"),
    ("{{.Config.Labels.no}}", "<no value>"),
    ('{{index .Config.Labels "com.x"}}', "y"),
    ('{{index .Config.Labels "no"}}', ""),
    ("{{range .Names}}{{.}};{{end}}", "one;two;"),
    ("{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}", "0=one 1=two "),
    ("{{range $n, $x := .NetworkSettings.Networks}}{{$n}}={{$x.IPAddress}} {{end}}", "a=10.0.0.1 b=10.0.0.2 "),
    ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
    (
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{if $c}} -> {{(index $c 0).HostPort}}{{end}};{{end}}",
        "80/tcp -> 8080;81/tcp;",
    ),
    ("{{if .Up}}yes{{else}}no{{end}}", "yes"),
    ("{{if .Down}}yes{{else if .Up}}second{{else}}no{{end}}", "second"),
    ("{{with .Config}}{{.Env}}{{end}}", "[A=1 B=2]"),
    ("{{with .Nothing}}x{{else}}none{{end}}", "none"),
    ("{{range .Config.Cmd}}x{{else}}empty{{end}}", "empty"),
    ("{{len .Names}}{{len .Id}}", "23"),
    ('{{.Id | upper | printf "%s-%d" | print}}', None),
    ('{{upper .Id}}{{lower "ABC"}}{{title "ab cd"}}', "ABCabcAb Cd"),
    ('{{printf "%-5s|%5d|%05d|%q|%v|%t|%x|%%" .Id 42 7 .Id .Names .Up 255}}', 'abc  |   42|00007|"abc"|[one two]|true|ff|%'),
    ('{{printf "%.2f %6.1f" .Size .Size}}', "1.50    1.5"),
    ('{{println "a" 1 2 "b"}}', "a 1 2 b\n"),
    ('{{print "a" 1 2 "b"}}', "a1 2b"),
    ('{{and .Up .Id}} {{or .Down "x"}} {{not .Up}}', "abc x false"),
    ("{{eq .Count 3}} {{ne .Count 3}} {{lt 1 2}} {{ge 1 2}}", "true false true false"),
    ('{{eq .Id "x" "abc"}}', "true"),
    ("{{slice .Id 1 2}}{{index .Names 1}}", "btwo"),
    ('{{split "a.b" "."}}', "[a b]"),
    ('{{pad "x" 1 2}}|{{truncate "hello" 2}}', " x  |he"),
    ("a {{- .Id -}} b", "aabcb"),
    ("{{/* comment */}}x{{- /* c */ -}} y", "xy"),
    ('{{$x := .Id}}{{$x}}{{$x = "z"}}{{$x}}{{$.Count}}', "abcz3"),
    ('{{range .Names}}{{if eq . "two"}}{{break}}{{end}}{{.}}{{end}}', "one"),
    ('{{range .Names}}{{if eq . "one"}}{{continue}}{{end}}{{.}}{{end}}', "two"),
    ('{{`raw "x"`}}{{"t\\t"}}', 'raw "x"t\t'),
    ('{{.Label "k"}} {{"z" | .Label}}', "<k> <z>"),
    ("{{1e6}} {{1000000.5}} {{0.1}} {{1e21}} {{0.00001}}", "1e+06 1.0000005e+06 0.1 1e+21 1e-05"),
    ("{{'a'}} {{0x10}} {{1_000}}", "97 16 1000"),
    ('{{html "<a>"}}{{urlquery "a b"}}', "&lt;a&gt;a+b"),
    ("{{range 3}}{{.}}{{end}}", "012"),
]


@pytest.mark.parametrize(("text", "want"), [pair for pair in GOOD if pair[1] is not None])
def test_what_a_template_makes(text: str, want: str) -> None:
    assert Template(text).run(BOX) == want


def test_json_is_in_one_line_and_can_be_read_again() -> None:
    data = {key: value for key, value in BOX.items() if not callable(value)}
    made = Template("{{json .}}").run(data)
    assert json.loads(made) == data and "\n" not in made and ": " not in made


BAD = [
    "{{",
    "{{.",
    "{{.Id",
    "{{.Nope}}",
    "{{nope}}",
    "{{if .Up}}",
    "{{end}}",
    "{{else}}",
    "{{range}}",
    "{{.Id.More}}",
    "{{(.Id}}",
    "{{.Id)}}",
    "{{.Id | }}",
    "{{| upper}}",
    "{{index .Names 5}}",
    "{{index .Names -1}}",
    '{{index .Names "x"}}',
    "{{len 3}}",
    '{{eq 1 "a"}}',
    '{{lt 1 "a"}}',
    "{{upper 3}}",
    "{{upper}}",
    "{{upper .Id .Id}}",
    "{{$x}}",
    "{{$x = 1}}",
    "{{break}}",
    "{{.Id .Id}}",
    "{{range .Id}}{{end}}",
    '{{template "x"}}',
    '{{define "x"}}{{end}}',
    '{{"unfinished}}',
    "{{'ab'}}",
    "{{join .Names}}",
    "{{.Id.}}",
    "{{1 2}}",
    "{{nil}}",
    "{{/* comment }}",
    '{{"\\q"}}',
    "{{.Nothing.X}}",
    "{{.Id}}{{end}}",
    "{{" + "(" * 200 + "1" + ")" * 200 + "}}",
    "{{if 1}}" * 200 + "{{end}}" * 200,
    "{{.Label 3}}",
    "{{1|2}}",
    "{{=}}",
]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_template_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(TemplateError) as error:
        Template(text).run(BOX)
    assert str(error.value).startswith("--format: ") and "\n" not in str(error.value)


pieces = st.sampled_from(
    [
        "{{",
        "}}",
        "{{-",
        "-}}",
        ".Id",
        ".Names",
        ".Config",
        ".",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        " ",
        "if",
        "else",
        "end",
        "range",
        "with",
        "len",
        "index",
        "json",
        "printf",
        '"%d"',
        '"a"',
        "0",
        "1.5",
        "true",
        "nil",
        ",",
        "break",
        "`",
        "'",
        "\\",
        "\n",
        "text",
        "/*",
        "*/",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(pieces, max_size=14).map("".join) | st.text(max_size=30) | st.lists(pieces, max_size=10).map(" ".join))
def test_any_text_is_run_or_refused_in_words(text: str) -> None:
    try:
        assert isinstance(Template(text).run(BOX), str)
    except TemplateError as error:
        assert str(error).strip()


def test_json_has_what_is_there_and_not_what_is_called() -> None:
    assert json.loads(Template("{{json .}}").run(BOX)) == {key: value for key, value in BOX.items() if key != "Label"}


# -- docker's own templates: its command line evaluates them over its own version without any server ---------------------

CLIENT = ["Version", "DefaultAPIVersion", "GitCommit", "Os", "Arch", "Context"]
values = st.sampled_from([f".Client.{name}" for name in CLIENT] + ['"a-b"', '"x y"', '""', "3", "0", "2.5", "true", "false", "-7"])
texts = st.sampled_from([f".Client.{name}" for name in CLIENT] + ['"a-b"', '"Hello wOrld"', '""', '"é"'])
plain_texts = texts.filter(str.isascii)  # docker's cuts fall between bytes, ours between letters
verbs = st.sampled_from(["%s", "%v", "%d", "%5v", "%-8v", "%q", "%x", "%t", "%05d", "%.3s", "%6.2f", "%T"])
expression = st.one_of(
    values,
    st.builds(
        "{} {}".format, st.sampled_from(["upper", "lower", "title", "len", "json", "not", "print", "html", "urlquery"]), texts
    ),
    st.builds('printf "{}" {}'.format, verbs, values),
    st.builds("{} {} {}".format, st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), texts, texts),
    st.builds("{} {} {}".format, st.sampled_from(["and", "or", "print", "println"]), values, values),
    st.builds('split {} "."'.format, texts),
    st.builds('join (split {} ".") "/"'.format, texts),
    st.builds('index (split {} ".") {}'.format, texts, st.integers(0, 1)),
    st.builds("pad {} 1 2".format, texts),
    st.builds("truncate {} {}".format, plain_texts, st.integers(0, 9)),
    st.builds("{} | upper | len".format, texts),
    st.builds("slice {} 0 {}".format, plain_texts, st.integers(0, 2)),
)
action = st.one_of(
    st.builds("{{{{{}}}}}".format, expression),
    st.builds("{{{{- {} -}}}} ".format, expression),
    st.builds("{{{{if {}}}}}yes{{{{else}}}}no{{{{end}}}}".format, expression),
    st.builds("{{{{with {}}}}}[{{{{.}}}}]{{{{else}}}}none{{{{end}}}}".format, values),
    st.builds('{{{{range $i, $e := split {} "."}}}}{{{{$i}}}}={{{{$e}}}} {{{{else}}}}none{{{{end}}}}'.format, texts),
    st.builds("{{{{$x := {}}}}}{{{{$x}}}}".format, values),
    st.sampled_from([" ", "text", "{{/* c */}}", "|"]),
)


def docker(template: str) -> tuple[str, str]:
    """Return what docker prints of its version by a template, and what it says."""
    words = ["docker", "--host", "unix:///nonexistent", "version", "--format", template]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout, done.stderr


@pytest.mark.skipif(not shutil.which("docker"), reason="there is no command docker")
@settings(max_examples=150, deadline=None)
@given(st.lists(action, min_size=1, max_size=4).map("".join))
def test_docker_makes_the_same_of_a_template(text: str) -> None:
    client = {"Client": json.loads(docker("{{json .Client}}")[0])}
    want, said = docker(text)
    refused = "template" in said and "parsing error" in said
    try:
        mine = Template(text).run(client) + "\n"
    except TemplateError:
        assert refused or want.rstrip("\n") == "" or "template" in said or not want.endswith("\n\n"), (text, want, said)
        return
    assert not refused, (text, mine, said)
    assert mine == want, (text, mine, want, said)


@pytest.mark.skipif(not shutil.which("docker"), reason="there is no command docker")
def test_docker_prints_each_value_by_each_verb_as_we_do() -> None:
    shown = ['"a-b"', '""', '"é\'\\"\\\\"', r'"\u0003\n"', "3", "0", "39", "92", "233", "2.5", "true", "-7", "1114112"]
    ways = ["%s", "%v", "%5v", "%-8v|", "%d", "%05d", "%+d", "%q", "%6q", "%x", "%X", "%o", "%b", "%c", "%t", "%T"]
    ways += ["%.3s", "%.s", "%.f", "%6.2f", "%g", "%e", "%z"]
    odd = ['"%*d" 5 3', '"%*d" -5 3', '"%*d" "a" 3', '"%.*f" 2 2.5', '"%.*f" -2 2.5', '"%*d" 3', '"%d"', '"%d" 3 4']
    templates = [f"{{{{printf {words}}}}}" for words in [*(f'"{way}" {value}' for way in ways for value in shown), *odd]]
    theirs = docker("@@".join(templates))[0].rstrip("\n").split("@@")
    assert dict(zip(templates, theirs, strict=True)) == {text: Template(text).run({}) for text in templates}

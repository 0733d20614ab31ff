"""The words of --disk, --net and --virtio."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivm.cli import plain
from minivm.cli import words as words_of_run
from minivm.cli.config import config_of
from minivm.errors import UsageError
from minivm.machine.config import parse_hotplug
from minivm.machine.devices import bucket, parse_disk, parse_net, parse_share, parse_vsock


def test_a_disk_is_a_file_with_options():
    disk = parse_disk("a,b.img,ro,queues=2")
    assert (disk.path, disk.read_only, disk.queues, disk.overlay, disk.form) == ("a,b.img", True, 2, None, "raw")
    disk = parse_disk("x.qcow2,overlay=/tmp/o,rate=10m,iops=200")
    assert (disk.path, disk.overlay, disk.form, disk.rate, disk.requests) == ("x.qcow2", "/tmp/o", "qcow2", 10_000_000, 200)
    disk = parse_disk("x.qcow2,base=/a/c.img,ro")
    assert (disk.base, disk.read_only, parse_disk("x,qcow2,base=b").base) == ("/a/c.img", True, "b")
    assert parse_disk("x.qcow2,raw").form == "raw" and parse_disk("x,overlay").overlay == "" and parse_disk("x,overlay").shared


def test_a_card_is_on_a_tap_or_in_user_mode():
    net = parse_net("tap:vm0,mac=52:54:00:00:00:01,in=1g,out=100k")
    assert (net.tap, net.mac, net.incoming, net.outgoing) == ("vm0", "52:54:00:00:00:01", 10**9, 10**5)
    assert parse_net("user").tap == ""


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_disk, text) for text in ("", ",ro", "x,queues=0", "x,queues=17", "x,rate=0", "x,rate=1t", "x,ro,overlay")),
        (parse_disk, "x,rate=1000001g"),
        *((parse_disk, text) for text in ("x,base=y", "x.qcow2,raw,base=y", "x.qcow2,base", "x.qcow2,base=")),
        *((parse_net, text) for text in ("", "tap", "tap:", "tap:a/b", "tap:0123456789012345", "user:x", "bridge:x")),
        *((parse_net, f"user,mac={mac}") for mac in ("", "01:00:00:00:00:00", "52:54:00:00:00", "52:54:00:00:00:0g", "5254:0:0:0")),
    ],
)
def test_other_words_are_refused(parse, text):
    with pytest.raises(UsageError):
        parse(text)


@pytest.mark.parametrize(
    ("words", "flag", "kind"),
    [(["--hotplug", "2m"], "--hotplug", "mem"), (["--vsock", "/v"], "--vsock", "vsock"),
     (["--share", "/:r"], "--share (-v)", "fs")],
)  # fmt: skip
def test_what_old_drivers_do_not_know_is_refused_for_them(words, flag, kind):
    known = ["--disk", "d", "--net", "user", "--console", "virtio", "--rng", "--balloon"]
    assert not machine(known + words).legacy and machine([*known, "--virtio", "legacy"]).legacy
    with pytest.raises(UsageError) as caught:
        machine([*known, *words, "--virtio=legacy"])
    assert str(caught.value) == f"{flag} needs --virtio modern: virtio-{kind} has no legacy interface"


def machine(given):
    """Return the machine that the words of `minivm run` describe."""
    return config_of(plain.read(words_of_run.declare, given, command="run", debug=False))


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_disk, "nofile,overlai=/tmp/o", "no option 'overlai'; did you mean overlay?"),
        (parse_disk, "nofile,rw=3,cache=none", "no option 'cache'; there are ro, rw, queues, "),
        (parse_disk, "/dev/null,snapshot", "no option 'snapshot'"),
        (parse_net, "user,mc=52:54:00:00:00:01", "no option 'mc'; did you mean mac?"),
        (parse_vsock, "v,port=3", "no option 'port'; there are cid"),
        (parse_share, "/tmp:x,readonly", "no comma: say DIR:TAG"),
        (parse_hotplug, "1g,plug=2m", "--hotplug size '1g,plug=2m': write a number"),
    ],
)
def test_what_looks_like_an_option_and_is_none_is_not_taken_for_a_name(parse, text, said):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert said in str(error.value)


def test_a_file_that_is_there_may_be_called_like_an_option(tmp_path):
    (tmp_path / "disk").touch()
    (tmp_path / "disk,cache=none").touch()
    assert parse_disk(f"{tmp_path}/disk,cache=none,ro").path == f"{tmp_path}/disk,cache=none"


@given(st.integers(1, 10**11))
def test_a_bucket_gives_as_many_a_second_as_were_asked_for(rate):
    size, ns = bucket(rate)
    assert size >= 1 and abs(size * 10**9 / ns - rate) <= rate * 0.001 + 1

"""Disks that are made: read back by blkid, qemu-img and pycdlib; and a seed's files as cloud-init would read them."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.errors import UsageError
from minivm.images.seed import network, seed, user_data

LIMIT = 60
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@host"


def disk(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "disk", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input="", timeout=LIMIT, cwd=cwd)


def test_a_raw_disk_is_sparse_and_never_overwrites(tmp_path):
    assert disk("create", "a.img", "--size", "3g", cwd=tmp_path).returncode == 0
    status = (tmp_path / "a.img").stat()
    assert (status.st_size, status.st_blocks) == (3 << 30, 0)
    done = disk("create", "a.img", "--size", "1m", cwd=tmp_path)
    assert done.returncode == 125 and "not overwritten" in done.stderr and (tmp_path / "a.img").stat().st_size == 3 << 30


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-utils is not installed")
def test_a_qcow2_disk_may_begin_as_another_whose_format_is_written_down(tmp_path):
    assert disk("create", "base.img", "--size", "64m", cwd=tmp_path).returncode == 0
    assert disk("create", "top.qcow2", "--format", "qcow2", "--base", "base.img", cwd=tmp_path).returncode == 0
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", tmp_path / "top.qcow2"], timeout=LIMIT))
    assert (info["format"], info["virtual-size"], info["backing-filename-format"]) == ("qcow2", 64 << 20, "raw")
    assert info["backing-filename"] == str(tmp_path / "base.img")
    assert disk("create", "own.qcow2", "--format", "qcow2", "--size", "1g", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "text", "status"),
    [
        (["create", "x"], "--size is needed", 2),
        (["create", "x", "--base", "y"], "for --format qcow2", 2),
        (["create", "x", "--image", "i", "--format", "qcow2"], "--image makes a raw disk", 2),
        (["create", "x", "--size", "9q"], "a number and a unit", 2),
        (["create", "x", "--size", "0"], "disk size '0' is too small", 2),
        (["create", "x", "--size", "9999999t"], "disk size '9999999t' is too large: 4398046511104m is the most", 2),
        (["create", "x", "--format", "qcow2", "--base", "none"], "cannot read --base 'none': No such file", 125),
        (["seed", "x", "--key", "/nonexistent"], "neither a public key nor a file", 2),
        (["seed", "x", "--user", "no body"], "letters, digits", 2),
        (["seed", "x", "--user=-r"], "letters, digits", 2),
        (["seed", "x", "--net", "10.0.0.1"], "/24", 2),
        (["seed", "x", "--net", "10.0.0.1/33"], "write dhcp, none", 2),
        (["seed", "x", "--hostname", "my box"], "letters, digits and -", 2),
        (["seed", "x", "-H", "a_b"], "letters, digits and -", 2),
        (["seed", "x", "-H", "a" * 64], "at most 63", 2),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line_and_leaves_nothing(words, text, status, tmp_path):
    done = disk(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1) and text in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_seed_is_an_iso_with_cloud_inits_label_and_its_three_files(tmp_path):
    import pycdlib

    (tmp_path / "id.pub").write_text(f"{KEY}\n")
    words = ["--user", "me", "--key", "id.pub", "--hostname", "box", "--net", "10.9.8.7/24,10.9.8.1,9.9.9.9", "--run", "touch /x"]
    done = disk("seed", "seed.iso", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    asks = ["/sbin/blkid", "-p", "-s", "LABEL", "-o", "value", tmp_path / "seed.iso"]
    label = subprocess.check_output(asks, text=True, timeout=LIMIT)
    assert label == "cidata\n"
    iso, files = pycdlib.PyCdlib(), {}
    iso.open(str(tmp_path / "seed.iso"))
    for name in ("meta-data", "user-data", "network-config"):
        files[name] = BytesIO()
        iso.get_file_from_iso_fp(files[name], rr_path=f"/{name}")
    iso.close()
    user = files["user-data"].getvalue().decode()
    assert user.startswith("#cloud-config\n"), "else cloud-init takes it for something else"
    account = json.loads(user.partition("\n")[2])["users"][0]
    assert (account["name"], account["ssh_authorized_keys"]) == ("me", [KEY]) and "NOPASSWD" in account["sudo"]
    meta = json.loads(files["meta-data"].getvalue())
    assert meta["local-hostname"] == "box" and meta["instance-id"].startswith("iid-")
    card = json.loads(files["network-config"].getvalue())["ethernets"]["eth0"]
    assert card["addresses"] == ["10.9.8.7/24"] and card["routes"] == [{"to": "0.0.0.0/0", "via": "10.9.8.1"}]
    assert card["nameservers"] == {"addresses": ["9.9.9.9"]}
    again = json.loads(disk("seed", "-", "--print", *words, cwd=tmp_path).stdout)
    assert again["user-data"] == user and json.loads(again["meta-data"])["instance-id"] != meta["instance-id"]


@given(st.text(max_size=30))
@settings(deadline=None)
def test_a_network_is_right_or_refused(text):
    try:
        made = network(text)
    except UsageError:
        return
    assert made["version"] == 2
    for card in made["ethernets"].values():
        assert card.get("dhcp4") or ipaddress.ip_interface(card["addresses"][0])


def test_a_card_has_the_name_that_all_but_netplan_look_for():
    """cloud-init's ifupdown, networkd, NetworkManager and sysconfig do not know `match: name`: what it stands below is the card."""
    for text in ("dhcp", "10.0.0.2/24"):
        assert list(network(text)["ethernets"]) == ["eth0"]


def test_a_default_route_is_written_so_that_each_cloud_init_knows_it():
    """Only netplan takes `default`; cloud-init's other ways to set up a network fail on it before 25.3."""
    for text, to in (("10.0.0.2/24,10.0.0.1", "0.0.0.0/0"), ("fd00::2/64,fd00::1", "::/0")):
        (route,) = network(text)["ethernets"]["eth0"]["routes"]
        assert route["to"] == to and ipaddress.ip_address(route["via"]) in ipaddress.ip_network(network_of(text))


def network_of(text: str) -> str:
    return str(ipaddress.ip_interface(text.partition(",")[0]).network)


def test_a_file_whose_name_begins_as_a_key_does_is_read(tmp_path):
    """As ssh-key-2026.pub, which some clouds name it."""
    (tmp_path / "ssh-me.pub").write_text(f"{KEY}\n")
    done = disk("seed", "-", "--print", "--key", "ssh-me.pub", "--key", KEY, cwd=tmp_path)
    user = json.loads(done.stdout)["user-data"]
    assert json.loads(user.partition("\n")[2])["ssh_authorized_keys"] == [KEY, KEY]
    assert disk("seed", "-", "--print", "--key", "ssh-none.pub", cwd=tmp_path).returncode == 2


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12))
@settings(deadline=None)
def test_a_reader_of_yaml_gets_each_character_of_a_command(text):
    """JSON says those beyond 16 bits in two halves, which YAML does not put together."""
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(seed(commands=[text])["user-data"])["runcmd"] == [text]


def test_a_disk_that_is_full_leaves_no_half_of_a_seed(tmp_path):
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    command = [sys.executable, "-c", f"{code}; from minivm.cli.main import main; sys.exit(main())", "disk", "seed", "x.iso"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr.count("\n")) == (125, 1) and "too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_a_user_the_images_own_gets_the_key():
    assert user_data("", [KEY], []) == {"ssh_authorized_keys": [KEY]} and user_data("", [], []) == {}

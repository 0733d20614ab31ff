"""A seed of files that somebody has: they are in it as they were, or with what the flags say beside them; or why not, in a line."""

from __future__ import annotations

import email
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivm.errors import UsageError
from minivm.images.given import join
from minivm.images.seed import is_hostname

yaml = pytest.importorskip("yaml")
LIMIT = 60
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@host"
CONFIG = "#cloud-config\n# ours\npackages: [nginx]\nusers:\n- name: bob\n"
SCRIPT = "#!/bin/sh\necho hello\n"


def seed(*words: object, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minivm", "disk", "seed", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, input=text, timeout=LIMIT, cwd=cwd)


def files(*words: object, cwd: Path, text: str = "") -> dict[str, str]:
    done = seed("--print", "none", *words, cwd=cwd, text=text)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def parts(text: str) -> list[tuple[str, str]]:
    """Return the subtype and the content of each part, as cloud-init finds them."""
    message: Any = email.message_from_string(text)
    return [(part.get_content_subtype(), part.get_payload(decode=True).decode()) for part in message.get_payload()]


def test_the_words_of_cloud_localds_put_files_in_as_they_are(tmp_path):
    (tmp_path / "user").write_text(CONFIG)
    (tmp_path / "meta").write_text("instance-id: i-7 # mine\n")
    (tmp_path / "net").write_text("version: 2\nethernets: {ens3: {dhcp4: true}}\n")
    (tmp_path / "vendor").write_text(SCRIPT)
    made = files("user", "meta", "-N", "net", "-V", "vendor", "-H", "box", cwd=tmp_path)
    assert made["user-data"] == CONFIG and made["vendor-data"] == SCRIPT
    assert made["network-config"] == (tmp_path / "net").read_text()
    assert json.loads(made["meta-data"]) == {"instance-id": "i-7", "local-hostname": "box"}
    named = files("--user-data", "user", "--meta-data", "meta", cwd=tmp_path)
    assert named["user-data"] == CONFIG == files("--cloud-init", "-", cwd=tmp_path, text=CONFIG)["user-data"]
    assert json.loads(named["meta-data"]) == {"instance-id": "i-7"} and "vendor-data" not in named


def test_a_script_and_a_key_are_two_parts_of_a_message(tmp_path):
    (tmp_path / "script").write_text(SCRIPT)
    made = files("script", "--user", "anna", "--key", KEY, cwd=tmp_path)
    (kind, config), script = parts(made["user-data"])
    assert kind == "cloud-config" and script == ("x-shellscript", SCRIPT)
    (account,) = yaml.safe_load(config)["users"]
    assert (account["name"], account["ssh_authorized_keys"]) == ("anna", [KEY])


def test_users_of_a_file_and_of_the_flags_are_added_to_each_other(tmp_path):
    """cloud-init takes one list for another unless each part says how they are merged."""
    (tmp_path / "user").write_text(CONFIG)
    made = files("user", "--user", "anna", "--run", "date", cwd=tmp_path)
    assert [kind for kind, _ in parts(made["user-data"])] == ["cloud-config", "cloud-config"]
    message: Any = email.message_from_string(made["user-data"])
    assert all("list(append)" in part["Merge-Type"] for part in message.get_payload())


def test_what_netplan_wraps_in_network_is_unwrapped(tmp_path):
    (tmp_path / "net").write_text("network:\n  version: 2\n  ethernets:\n    e: {match: {macaddress: '52:54:00:12:34:56'}}\n")
    made = json.loads(files("--network-config", "net", cwd=tmp_path)["network-config"])
    assert made == {"version": 2, "ethernets": {"e": {"match": {"macaddress": "52:54:00:12:34:56"}}}}


@pytest.mark.parametrize(
    ("words", "content", "text"),
    [
        (["{}"], b"users: []\n", "begins with 'users: []'"),
        (["{}"], b"# cloud-config\nusers: []\n", "begins with '# cloud-config'"),
        (["{}"], b"\xef\xbb\xbf#cloud-config\n", r"begins with '\ufeff#cloud-config'"),
        (["{}"], b"", "is empty"),
        (["{}"], b"#cloud-config\nusers:\n\t- bob\n", "line 3: "),
        (["{}"], b"#cloud-config\n- bob\n", "not `name: value` lines"),
        (["{}"], b"#cloud-config\na: \xff\n", "user-data"),
        (["-V", "{}"], b"x\n", "vendor-data"),
        (["--meta-data", "{}"], b"- 1\n", "not `name: value` lines"),
        (["-N", "{}"], b"ethernets: {}\n", "`version: 2` is missing"),
        (["-N", "{}"], b"network: [\n", "network-config"),
        (["-N", "{}", "--net", "dhcp"], b"version: 2\n", "leave one out"),
        (["{}", "--user-data", "{}"], b"#!/bin/sh\n", "named twice"),
        (["{}", "--key", KEY], gzip.compress(b"#!/bin/sh\n"), "compressed"),
        (["{}", "--user", "me"], b"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\n", "MIME"),
        (["absent"], b"", "cannot read user-data 'absent': No such file"),
        (["."], b"", "cannot read user-data '.': Is a directory"),
    ],
)
def test_what_cloud_init_would_ignore_is_said_in_one_line(words, content, text, tmp_path):
    (tmp_path / "file").write_bytes(content)
    done = seed("x.iso", *(word.format("file") for word in words), cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and text in done.stderr, done.stderr
    assert not (tmp_path / "x.iso").exists()


def test_compressed_and_mime_user_data_goes_in_as_it_is(tmp_path):
    import pycdlib

    data = gzip.compress(CONFIG.encode())
    (tmp_path / "user").write_bytes(data)
    assert seed("x.iso", "user", cwd=tmp_path).returncode == 0
    iso = pycdlib.PyCdlib()
    iso.open(str(tmp_path / "x.iso"))
    iso.get_file_from_iso(str(tmp_path / "back"), rr_path="/user-data")
    iso.close()
    assert (tmp_path / "back").read_bytes() == data


def test_a_script_that_speaks_of_mime_is_not_taken_for_a_message(tmp_path):
    """cloud-init looks for that header in the first 4096 bytes, whatever they begin with."""
    text = f"{SCRIPT}printf 'MIME-Version: 1.0' | mail me\n"
    (tmp_path / "script").write_text(text)
    assert parts(files("script", cwd=tmp_path)["user-data"]) == [("x-shellscript", text)]


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_a_part_is_the_users_bytes_whatever_they_are(data):
    message: Any = email.message_from_bytes(join(b"#cloud-config\n{}", b"#!" + data))
    own, theirs = message.get_payload()
    assert own.get_payload(decode=True) == b"#cloud-config\n{}" and theirs.get_payload(decode=True) == b"#!" + data


@given(st.text(max_size=20))
def test_what_is_in_no_form_is_refused_before_it_is_joined(text):
    assert not is_hostname(f"{text} ") and not is_hostname(f"-{text}") and not is_hostname("")
    with pytest.raises(UsageError):
        join(b"#cloud-config\n{}", b"MIME-Version: 1.0\n" + text.encode(errors="replace"))

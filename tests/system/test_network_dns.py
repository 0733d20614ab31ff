"""Names of containers: asked for by busybox's nslookup, and by messages of our own on the wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from network_host import NEEDS, Host, answering, get, host, serve  # noqa: F401

dnslib = pytest.importorskip("dnslib")
pytestmark = NEEDS
# Answers each question for an address with 192.0.2.53, by both protocols; the first line of its output: it listens.
UPSTREAM = """
import sys, threading
from dnslib import *
from dnslib.server import BaseResolver, DNSServer
class R(BaseResolver):
    def resolve(self, request, handler):
        reply = request.reply()
        if request.q.qtype == QTYPE.A: reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A('192.0.2.53'), ttl=60))
        if request.q.qtype == QTYPE.TXT: [reply.add_answer(RR(request.q.qname, QTYPE.TXT, rdata=TXT(f'{i}' * 200), ttl=1)) for i in range(9)]
        return reply
for tcp in (False, True):
    DNSServer(R(), address='0.0.0.0', port=53, tcp=tcp, logger=type('L', (), {'__getattr__': lambda *_: lambda *_: None})()).start_thread()
print(flush=True)
threading.Event().wait()
"""  # noqa: E501


def ask(host: Host, container: str, name: str, kind: str = "A", tcp: bool = False, server: str = "10.89.0.1") -> dnslib.DNSRecord:
    """Ask from a container's network namespace, with a message of our own."""
    (found,) = json.loads(host.good("inspect", container))
    code = "import sys, dnslib; sys.stdout.buffer.write(dnslib.DNSRecord.question(sys.argv[1], sys.argv[2])" \
           ".send(sys.argv[3], 53, tcp=sys.argv[4] == 'True', timeout=20))"  # fmt: skip
    words = [*host.at(found["State"]["Pid"]), sys.executable, "-c", code, name, kind, server, str(tcp)]
    return dnslib.DNSRecord.parse(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)


def addresses(reply: dnslib.DNSRecord) -> list[str]:
    return sorted(str(record.rdata) for record in reply.rr)


def keepers(host: Host) -> list[int]:
    """The processes that listen at port 53 of the host, as the kernel has them."""
    out = host.run(host.host, "ss", "-Hlunp", "sport = 53")
    return sorted({int(part.split(",")[0]) for part in out.split("pid=")[1:]})


def is_over(pid: int) -> bool:
    """Say whether a process has ended, though nobody may have waited for it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def back(host: Host) -> Host:
    """A network `back` with IPv6, and `first` in it."""
    host.good("network", "create", "--ipv6", "--subnet", "fd00:7::/64", "back")
    host.good("run", "-d", "--name", "first", "--network", "back", "busybox", "sleep", "1000")
    return host


def test_containers_of_a_network_know_each_other_by_name_and_alias(back: Host) -> None:
    serve(back, "--name", "db", "--hostname", "db", "--network", "back", "--network-alias", "store")
    assert back.good("exec", "first", "sh", "-c", "wget -qO- db/hostname; wget -qO- store/hostname") == "db\ndb\n"
    said = back.good("exec", "first", "nslookup", "store")
    assert "10.89.0.3" in said and "fd00:7::3" in said and "10.89.0.1:53" in said
    back.good("rm", "-f", "db")
    done = back.minirt("exec", "first", "sh", "-c", "timeout 20 nslookup store.back")
    assert done.returncode != 0 and "10.89.0.3" not in done.stdout


def test_answers_on_the_wire(back: Host) -> None:
    for name in ("first", "FIRST", "first.back", "first.BACK"):
        assert addresses(ask(back, "first", name)) == ["10.89.0.2"]
    assert addresses(ask(back, "first", "first", "AAAA")) == ["fd00:7::2"]
    assert addresses(ask(back, "first", "first", tcp=True)) == ["10.89.0.2"]
    assert addresses(ask(back, "first", "first", "MX")) == [] and ask(back, "first", "first", "MX").header.rcode == 0
    assert addresses(ask(back, "first", "2.0.89.10.in-addr.arpa", "PTR")) == ["first.back."]
    digits = ".".join(reversed("fd000007000000000000000000000002"))
    assert addresses(ask(back, "first", f"{digits}.ip6.arpa", "PTR")) == ["first.back."]


def test_an_alias_of_several_gives_them_all(back: Host) -> None:
    for _ in range(3):
        back.good("run", "-d", "--network", "back", "--network-alias", "all", "busybox", "sleep", "1000")
    assert addresses(ask(back, "first", "all")) == ["10.89.0.3", "10.89.0.4", "10.89.0.5"]


def test_names_of_other_networks_are_not_told_and_of_all_ones_own_are(back: Host) -> None:
    back.good("network", "create", "other")
    back.good("run", "-d", "--name", "db", "--network", "other", "--dns", "127.0.0.1", "busybox", "sleep", "1000")
    assert ask(back, "first", "db", server="10.89.0.1").rr == []
    back.good("network", "connect", "--alias", "here", "back", "db")
    assert addresses(ask(back, "db", "first", server="10.89.1.1")) == ["10.89.0.2"]
    assert addresses(ask(back, "first", "here")) == ["10.89.0.3"]
    back.good("network", "disconnect", "back", "db")
    assert ask(back, "first", "here").rr == []


def test_all_else_is_asked_of_the_servers_that_were_given(back: Host) -> None:
    with answering(back.world, UPSTREAM):
        back.good("run", "-d", "--name", "box", "--network", "back", "--dns", "192.0.2.2", "--dns-search", "example.org",
                  "--dns-option", "timeout:3", "busybox", "sleep", "1000")  # fmt: skip
        text = back.good("exec", "box", "cat", "/etc/resolv.conf")
        assert text == "search example.org\nnameserver 10.89.0.1\noptions timeout:3 ndots:0\n"
        assert addresses(ask(back, "box", "www.example.org")) == ["192.0.2.53"]
        assert addresses(ask(back, "box", "www.example.org", tcp=True)) == ["192.0.2.53"]
        assert len(ask(back, "box", "long.example.org", "TXT", tcp=True).rr) == 9
        assert "192.0.2.53" in back.good("exec", "box", "nslookup", "-type=a", "www.example.org")


def test_an_internal_network_asks_nobody(back: Host) -> None:
    with answering(back.world, UPSTREAM):
        back.good("network", "create", "--internal", "shut")
        back.good("run", "-d", "--name", "box", "--network", "shut", "--dns", "192.0.2.2", "busybox", "sleep", "1000")
        said = ask(back, "box", "www.example.org", server="10.89.1.1")
        assert said.rr == [] and said.header.rcode == dnslib.RCODE.SERVFAIL
        assert addresses(ask(back, "box", "box", server="10.89.1.1")) == ["10.89.1.2"]


def test_the_default_network_has_no_names_and_the_host_s_servers(host: Host) -> None:
    options = ("--network", "bridge", "--dns", "192.0.2.2", "--dns-search", ".")
    text = host.good("run", "--rm", *options, "busybox", "cat", "/etc/resolv.conf")
    assert text.splitlines()[0] == "nameserver 192.0.2.2" and "search" not in text and keepers(host) == []


def test_a_resolver_that_only_the_host_can_ask_is_asked_by_the_host(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    bind = f"mount --bind {file} /etc/resolv.conf; test ! -e /run/systemd/resolve/resolv.conf; exec \"$@\""
    host.minirt.program[3:3] = ["unshare", "-m", "sh", "-ec", bind, "sh"]
    with answering(host.host, UPSTREAM):
        host.good("run", "-d", "--name", "box", "--network", "bridge", "busybox", "sleep", "1000")
        assert host.good("exec", "box", "cat", "/etc/resolv.conf").splitlines()[0] == "nameserver 10.89.0.1"
        assert addresses(ask(host, "box", "www.example.org")) == ["192.0.2.53"]


def test_a_renamed_container_is_known_by_its_new_name(back: Host) -> None:
    back.good("rename", "first", "one")
    assert addresses(ask(back, "one", "one")) == ["10.89.0.2"] and ask(back, "one", "first.back").rr == []


def test_the_keeper_comes_with_the_first_and_ends_with_the_last(back: Host) -> None:
    (first,) = keepers(back)
    back.good("run", "-d", "--name", "second", "--network", "back", "busybox", "sleep", "1000")
    assert keepers(back) == [first]
    back.good("rm", "-f", "first")
    assert keepers(back) == [first]
    back.good("rm", "-f", "second")
    assert keepers(back) == [] and is_over(first)


def test_a_killed_keeper_is_there_again_after_the_next_command(back: Host) -> None:
    (first,) = keepers(back)
    os.kill(first, signal.SIGKILL)
    while not is_over(first):
        time.sleep(0.01)
    back.good("run", "--rm", "--network", "bridge", "busybox", "true")  # another network's
    (second,) = keepers(back)
    assert second != first and addresses(ask(back, "first", "first")) == ["10.89.0.2"]


def test_a_port_53_that_is_taken_is_gone_around(host: Host) -> None:
    code = "import socket, threading; s=socket.socket(2, 2); s.bind(('0.0.0.0', 53)); print(flush=True); threading.Event().wait()"
    with answering(host.host, code):
        host.good("network", "create", "back")
        host.good("run", "-d", "--name", "first", "--network", "back", "busybox", "sleep", "1000")
        assert addresses(ask(host, "first", "first")) == addresses(ask(host, "first", "first", tcp=True)) == ["10.89.0.2"]


def test_noise_is_not_answered_and_ends_nothing(back: Host) -> None:
    (first,) = keepers(back)
    code = "import socket, os; s=socket.socket(2, 2); [s.sendto(os.urandom(n), ('10.89.0.1', 53)) for n in range(0, 600, 7)]"
    back.run(back.host, sys.executable, "-c", code)
    code = "import socket; s=socket.create_connection(('10.89.0.1', 53)); s.sendall(b'\\xff\\xff' + b'x' * 99); s.close()"
    back.run(back.host, sys.executable, "-c", code)
    assert addresses(ask(back, "first", "first")) == ["10.89.0.2"] and keepers(back) == [first]


def test_names_are_right_while_containers_come_and_go(back: Host) -> None:
    for i in range(5):
        back.good("run", "-d", "--name", f"box{i}", "--network", "back", "busybox", "sleep", "1000")
        assert addresses(ask(back, "first", f"box{i}")) == [back.address(f"box{i}", "back")]
        back.good("rm", "-f", f"box{i}")
        reply = ask(back, "first", f"box{i}.back", "AAAA", tcp=True)
        assert reply.rr == []


def test_the_others_are_reached_by_name(back: Host) -> None:
    serve(back, "--name", "db", "--hostname", "db", "--network", "back")
    assert back.good("run", "--rm", "--network", "back", "busybox", *get("db")) == "db\n"

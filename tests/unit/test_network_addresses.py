"""Addresses, ports and rules of networks, without a kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.errors import UsageError
from minirt.network.addresses import (
    POOL,
    Address,
    Ipam,
    free_address,
    free_subnet,
    free_subnet6,
    hardware_address,
    parse_address,
    parse_hardware,
    parse_ipam,
)
from minirt.network.ports import Port, exposed_ports, parse_ports
from minirt.network.store import NetworkConflict, NetworkError, Store

SUBNETS = st.builds(
    lambda number, size: IPv4Network((number >> (32 - size) << (32 - size), size)), st.integers(0, 2**32 - 1), st.integers(8, 30)
)
PORTS = st.integers(1, 65535)


@given(st.lists(SUBNETS, max_size=20))
def test_a_free_subnet_overlaps_none(taken: list[IPv4Network]) -> None:
    try:
        found = free_subnet(taken)
    except UsageError:
        assert all(any(subnet.overlaps(other) for other in taken) for subnet in POOL.subnets(new_prefix=24))
        return
    assert found.subnet_of(POOL) and not any(found.overlaps(other) for other in taken)


@st.composite
def ipams(draw: st.DrawFn) -> Ipam:
    """A small subnet, its gateway anywhere, and the part that is given out any of it."""
    subnet: IPv4Network | IPv6Network = draw(st.sampled_from([IPv4Network("10.89.0.0/24"), IPv6Network("fd00::/120")]))
    subnet = draw(st.sampled_from(list(subnet.subnets(new_prefix=draw(st.integers(subnet.prefixlen, subnet.max_prefixlen - 2))))))
    part = draw(st.sampled_from(list(subnet.subnets(new_prefix=draw(st.integers(subnet.prefixlen, subnet.max_prefixlen))))))
    gateway = draw(st.sampled_from(list(subnet.hosts())))
    return parse_ipam(str(subnet), str(gateway), str(part))


@given(ipams(), st.data())
def test_addresses_are_given_once_and_all_of_them(ipam: Ipam, data: st.DataObject) -> None:
    own = {ipam.gateway, ipam.subnet.network_address}
    if ipam.version == 4:
        own.add(ipam.subnet.broadcast_address)
    taken: set[Address] = set()
    last = None
    for _ in range(len(set(ipam.range) - own)):
        last = free_address(ipam, taken, last)
        assert last in ipam.range and last not in taken | own
        taken.add(last)
    with pytest.raises(UsageError):
        free_address(ipam, taken, last)
    if taken:
        back = data.draw(st.sampled_from(sorted(taken)))
        assert free_address(ipam, taken - {back}, last) == back


def test_an_address_that_was_given_back_is_not_the_next() -> None:
    ipam = parse_ipam("10.89.0.0/24")
    assert free_address(ipam, (), IPv4Address("10.89.0.2")) == IPv4Address("10.89.0.3")
    wide = parse_ipam("fd00::/64")  # and nobody counts to its end
    assert free_address(wide, (), ip_address("fd00::2")) == ip_address("fd00::3")


def test_a_subnet_of_ipv6_is_of_those_for_ones_own_use() -> None:
    found = {free_subnet6() for _ in range(20)}
    assert len(found) == 20 and all(one.prefixlen == 64 and one.subnet_of(IPv6Network("fd00::/8")) for one in found)


@pytest.mark.parametrize(
    ("subnet", "gateway", "part"),
    [("10.0.0.0/33", "", ""), ("10.0.0.1/24", "", ""), ("10.0.0.0/31", "", ""), ("fd00::/127", "", ""), ("x", "", ""),
     ("10.0.0.0/24", "10.0.1.1", ""), ("10.0.0.0/24", "10.0.0.255", ""), ("10.0.0.0/24", "fd00::1", ""),
     ("10.0.0.0/24", "", "10.0.1.0/25"), ("10.0.0.0/24", "", "10.0.0.0/23"), ("10.0.0.0/24", "", "y")],
)  # fmt: skip
def test_what_is_no_network_is_refused(subnet: str, gateway: str, part: str) -> None:
    with pytest.raises(UsageError, match=r"--(subnet|gateway|ip-range)"):
        parse_ipam(subnet, gateway, part)


def test_a_container_does_not_get_the_gateway_s_address_though_it_asks() -> None:
    with pytest.raises(UsageError, match="gateway"):
        parse_address("10.0.0.9", parse_ipam("10.0.0.0/24", "10.0.0.9"))
    assert parse_address("10.0.0.1", parse_ipam("10.0.0.0/24", "10.0.0.9")) == ip_address("10.0.0.1")


@pytest.mark.parametrize("text", ["", "02:42", "01:00:5e:00:00:01", "02:42:0a:59:00:zz", "02:42:0a:59:00:100"])
def test_what_is_no_hardware_address_of_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mac-address"):
        parse_hardware(text)
    assert parse_hardware("02-42-0A-59-00-02") == "02:42:0a:59:00:02"


def test_a_hardware_address_says_the_address() -> None:
    assert hardware_address(IPv4Address("10.89.0.2")) == "02:42:0a:59:00:02"


ADDRESSES = st.sampled_from(["", "127.0.0.1", "192.0.2.7", "[::1]", "[fd00::7]"])
PROTOCOLS = st.sampled_from(["tcp", "udp", "sctp"])


@given(ADDRESSES, st.one_of(st.just(0), PORTS), PORTS, PROTOCOLS)
def test_a_port_is_read_as_it_is_written(address: str, host: int, inside: int, protocol: str) -> None:
    text = f"{address}:{host or ''}:{inside}/{protocol}" if address else f"{f'{host}:' if host else ''}{inside}/{protocol}"
    assert parse_ports(text) == [Port(address.strip("[]"), host, inside, protocol)]


def test_a_range_of_the_host_s_for_one_port_is_any_of_them() -> None:
    assert parse_ports("8000-8010:80") == [Port("", 8000, 80, "tcp", 8010)]
    with pytest.raises(UsageError, match="brackets"):
        parse_ports("[127.0.0.1]:80:80")


def test_exposed_ports_are_read_once() -> None:
    found = exposed_ports(["80", "80/tcp", "53/udp", "90-92"])
    assert [(port.inside, port.protocol) for port in found] == [(80, "tcp"), (53, "udp"), (90, "tcp"), (91, "tcp"), (92, "tcp")]


@given(st.integers(1, 65000), st.integers(1, 65000), st.integers(0, 20))
def test_ranges_go_side_by_side(host: int, inside: int, more: int) -> None:
    found = parse_ports(f"{host}-{host + more}:{inside}-{inside + more}")
    assert [(port.host, port.inside) for port in found] == [(host + i, inside + i) for i in range(more + 1)]


@given(st.text("0123456789:-/.tcpudx []", max_size=20))
def test_any_text_is_ports_or_refused_in_a_line(text: str) -> None:
    try:
        assert all(1 <= port.inside <= 65535 and 0 <= port.host <= 65535 for port in parse_ports(text))
    except UsageError as error:
        assert str(error).count("\n") == 0 and "-p" in str(error)


def test_a_change_that_fails_is_not_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path))
    with pytest.raises(NetworkError), Store() as store:
        store.add_network("one", "minirt0", parse_ipam("10.89.0.0/24"))
        store.add_network("one", "minirt1", parse_ipam("10.89.1.0/24"))
    with Store() as store:
        assert store.networks() == []


def test_a_database_of_version_one_is_brought_along(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from minirt.network.schema import MIGRATIONS
    from minirt.state.database import Database

    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path))
    with Database("network.sqlite", MIGRATIONS[:1]) as old:
        for name, link, subnet in (("one", "minirt0", "10.89.0.0/24"), ("two", "minirt1", "10.89.1.0/24")):
            row = (name, link, subnet)
            old.execute("INSERT INTO network (name, bridge, subnet, internal, created) VALUES (?, ?, ?, 0, 0)", row)
        for i, (name, address) in enumerate((("one", "10.89.0.2"), ("two", "10.89.1.2"))):
            row = (name, "c" * 64, "box", address, f"mv{'c' * 10}{i}")
            old.execute("INSERT INTO endpoint (network, container, name, address, interface) VALUES (?, ?, ?, ?, ?)", row)
    with Store() as store:
        assert [(end.inside, end.seq) for end in store.endpoints()] == [("eth0", 0), ("eth1", 1)]
        ids = {network.id for network in store.networks()}
        assert len(ids) == 2 and all(len(id) == 64 for id in ids)
        assert str(store.network("one").ipam.gateway) == "10.89.0.1" and store.network("two").ipam6 is None


def test_a_port_of_one_address_or_family_does_not_take_another_s(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path))
    with Store() as store:
        for text in ("127.0.0.1:80:80", "127.0.0.2:80:80", "[::1]:80:80", "81:80", "80:80/udp"):
            store.add_port("a", *parse_ports(text))
        for text in ("80:1", "127.0.0.1:80:1", "[::]:80:1", "[::1]:81:1", "0.0.0.0:81:1"):
            with pytest.raises(NetworkConflict):
                store.add_port("b", *parse_ports(text))

"""Addresses, ports and rules of networks, without a kernel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.errors import UsageError
from minirt.network.addresses import POOL, free_address, free_subnet, gateway_of, hardware_address
from minirt.network.ports import Port, parse_ports
from minirt.network.store import NetworkError, Store

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


@given(st.integers(24, 30), st.data())
def test_addresses_are_given_once_and_all_of_them(size: int, data: st.DataObject) -> None:
    subnet = IPv4Network(f"10.89.0.0/{size}")
    taken: set[IPv4Address] = set()
    last = None
    room = subnet.num_addresses - 3  # without the network, the gateway, broadcast
    for _ in range(room):
        last = free_address(subnet, taken, last)
        assert last in subnet and last not in {*taken, subnet.network_address, subnet.broadcast_address, gateway_of(subnet)}
        taken.add(last)
    with pytest.raises(UsageError):
        free_address(subnet, taken, last)
    back = data.draw(st.sampled_from(sorted(taken)))
    assert free_address(subnet, taken - {back}, last) == back


def test_an_address_that_was_given_back_is_not_the_next() -> None:
    subnet = IPv4Network("10.89.0.0/24")
    assert free_address(subnet, (), IPv4Address("10.89.0.2")) == IPv4Address("10.89.0.3")


def test_a_hardware_address_says_the_address() -> None:
    assert hardware_address(IPv4Address("10.89.0.2")) == "02:42:0a:59:00:02"


ADDRESSES, PROTOCOLS = st.sampled_from(["", "127.0.0.1", "192.0.2.7"]), st.sampled_from(["tcp", "udp", "sctp"])


@given(ADDRESSES, st.one_of(st.just(0), PORTS), PORTS, PROTOCOLS)
def test_a_port_is_read_as_it_is_written(address: str, host: int, inside: int, protocol: str) -> None:
    text = f"{address}:{host or ''}:{inside}/{protocol}" if address else f"{f'{host}:' if host else ''}{inside}/{protocol}"
    assert parse_ports(text) == [Port(address, host, inside, protocol)]


@given(st.integers(1, 65000), st.integers(1, 65000), st.integers(0, 20))
def test_ranges_go_side_by_side(host: int, inside: int, more: int) -> None:
    found = parse_ports(f"{host}-{host + more}:{inside}-{inside + more}")
    assert [(port.host, port.inside) for port in found] == [(host + i, inside + i) for i in range(more + 1)]


@given(st.text("0123456789:-/.tcpudx ", max_size=20))
def test_any_text_is_ports_or_refused_in_a_line(text: str) -> None:
    try:
        assert all(1 <= port.inside <= 65535 and 0 <= port.host <= 65535 for port in parse_ports(text))
    except UsageError as error:
        assert str(error).count("\n") == 0 and "-p" in str(error)


def test_a_change_that_fails_is_not_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path))
    with pytest.raises(NetworkError), Store() as store:
        store.add_network("one", "minirt0", IPv4Network("10.89.0.0/24"), False, {})
        store.add_network("one", "minirt1", IPv4Network("10.89.1.0/24"), False, {})
    with Store() as store:
        assert store.networks() == []

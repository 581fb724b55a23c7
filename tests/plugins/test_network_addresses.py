"""Which addresses are public, by a table of cases and by the law that Python's own knowledge is never exceeded."""

from __future__ import annotations

import tomllib
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.network_addresses import Address, first_forbidden, special_range

DATA = tomllib.loads((Path(__file__).parent / "data" / "network_addresses.toml").read_text())


@pytest.mark.parametrize("address", DATA["public"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert special_range(ip_address(address)) is None


@pytest.mark.parametrize(("address", "words"), DATA["special"].items())
def test_a_special_address_is_told_with_its_range(address: str, words: str) -> None:
    special = special_range(ip_address(address))
    assert special is not None
    assert words in special


@given(st.ip_addresses())
def test_no_address_is_public_that_python_does_not_hold_for_global(address: Address) -> None:
    if special_range(address) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_no_way_of_carrying_an_ipv4_address_is_public(address: Address) -> None:
    number = int(address)
    mapped, compatible, nat64 = (prefix | number for prefix in (0xFFFF << 32, 0, 0x64FF9B << 96))
    six_to_four, teredo = 0x2002 << 112 | number << 80, 0x20010000 << 96 | (number ^ 0xFFFFFFFF)
    for carrying in (mapped, compatible, nat64, six_to_four, teredo):
        assert special_range(IPv6Address(carrying)) is not None


def test_one_forbidden_address_among_public_ones_is_found() -> None:
    forbidden = first_forbidden(["1.1.1.1", "10.0.0.1", "8.8.8.8"], ())
    assert forbidden == ("10.0.0.1", "private (10.0.0.0/8)")
    assert first_forbidden(["1.1.1.1", "8.8.8.8"], ()) is None


def test_a_network_that_was_opened_opens_itself_alone() -> None:
    assert first_forbidden(["10.1.2.3"], ("10.1.0.0/16",)) is None
    assert first_forbidden(["10.2.2.3"], ("10.1.0.0/16",)) is not None
    assert first_forbidden(["10.1.2.3", "127.0.0.1"], ("10.1.0.0/16",)) == ("127.0.0.1", "loopback (127.0.0.0/8)")
    assert first_forbidden(["::ffff:10.1.2.3"], ("10.1.0.0/16",)) is not None
    assert first_forbidden(["fd00::1", "1.1.1.1"], ("10.1.0.0/16", "fd00::/8")) is None


@given(st.ip_addresses(), st.integers(0, 32))
def test_whatever_lies_in_an_opened_network_is_not_forbidden(address: Address, bits: int) -> None:
    block = str(ip_network((address, bits), strict=False))
    assert first_forbidden([str(address)], (block,)) is None

"""Which addresses are the public internet's, and which a plugin reaches only where the operator says so.

A table of IANA's special-purpose registries (IPv4, IPv6) rather than `ipaddress.is_global`, which differs between
releases of Python and lets transition mechanisms through. Addresses that carry an IPv4 address in them (mapped, 6to4,
NAT64, Teredo) are refused as such, whatever they carry: who looks into them has to know every way of writing one.
Of IPv6 only what is allocated to the internet (2000::/3) is public; the table names the rest where it has a name.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Each block with what it is; where one lies in another, the smaller stands first.
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(block), what)
    for block, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "the platform of a cloud"),  # Azure's: public by its number alone
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)

_PUBLIC_IPV6: Final = IPv6Network("2000::/3")


def special_range(address: Address) -> str | None:
    """What an address is that is not the public internet's, like `loopback (127.0.0.0/8)`; None for one that is."""
    for block, what in _SPECIAL:
        if address in block:
            return f"{what} ({block})"
    if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
        return f"reserved (outside {_PUBLIC_IPV6})"
    return None


def first_forbidden(addresses: Iterable[str], private_networks: tuple[str, ...]) -> tuple[str, str] | None:
    """The first address that is neither public nor in one of the networks, and what it is."""
    for text in addresses:
        address = ip_address(text)
        if any(address in network for network in _networks(private_networks)):
            continue
        if special := special_range(address):
            return text, special
    return None


@lru_cache(maxsize=256)
def _networks(blocks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(ip_network, blocks))

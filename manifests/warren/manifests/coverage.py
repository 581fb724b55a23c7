"""Whether all that one pattern describes is described by another: what is asked for is within what is allowed.

One walk serves file globs, the names in them and topics, for all three are sequences in which one sign stands for any
number of items, and another for one. The pattern asked about is read as if its own signs were items: `many` is met by
nothing but `many` of the other, `one` by either. Whatever those signs may stand for, the other then describes it, too.

So a yes is always right. A no may be wrong (`*.#` and `#.*` are the same topics), and then less is granted than could
be: what cannot be shown is not allowed. Rejected: automata, which would be right both ways and three times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_network
from typing import Final

from .permissions import split_port, stands_for
from .topics import TopicPattern

#: A name in a path that `**` at a glob's end has to find: `data/**` is what lies in `data`, and not `data` itself.
_ANY_NAME: Final = "/"


def covers_host(allowed: str, asked: str) -> bool:
    """Both as `permissions.network_host` writes them. The port is part of what is asked for, and so is its absence."""
    (host, port), (wanted, wanted_port) = split_port(allowed), split_port(asked)
    return port == wanted_port and stands_for(host, wanted)


def covers_glob(allowed: str, asked: str) -> bool:
    """Both as `permissions.relative_glob` writes them. One that ends in `/` may be a folder and all there is in it."""
    if allowed == asked:
        return True
    if allowed.endswith("/"):
        return False
    if asked.endswith("/"):
        return covers_glob(allowed, asked[:-1]) and covers_glob(allowed, f"{asked}**")
    names = allowed.split("/")
    if names[-1] == "**":
        names.append(_ANY_NAME)
    return _covers(names, asked.split("/"), "**", _covers_name)


def covers_topic(allowed: TopicPattern, asked: TopicPattern) -> bool:
    """Whether every topic that `asked` matches is one that `allowed` matches."""
    return _covers(allowed.text.split("."), asked.text.split("."), "#", _covers_word)


def covers_network(allowed: str, asked: str) -> bool:
    """Both are CIDR blocks."""
    block, wanted = ip_network(allowed), ip_network(asked)
    if block.version == 4 and wanted.version == 4:
        return wanted.subnet_of(block)
    return block.version == 6 and wanted.version == 6 and wanted.subnet_of(block)


def _covers(pattern: Sequence[str], asked: Sequence[str], many: str, fits: Callable[[str, str], bool]) -> bool:
    """Each run of items as early as it fits, and from the last `many` on again where it fits no more."""
    at = place = 0
    after_many: int | None = None
    found_from = 0
    while place < len(asked):
        if at < len(pattern) and pattern[at] == many:
            at += 1
            after_many, found_from = at, place
        elif at < len(pattern) and fits(pattern[at], asked[place]):
            at += 1
            place += 1
        elif after_many is not None:
            found_from += 1
            at, place = after_many, found_from
        else:
            return False
    return all(item == many for item in pattern[at:])


def _covers_name(pattern: str, asked: str) -> bool:
    if pattern in (_ANY_NAME, asked):
        return True
    if asked == "**":
        return False
    if pattern == "*":
        return True
    if "[" in pattern or "[" in asked:  # a set of characters; nobody compares those
        return False
    return _covers(pattern, asked, "*", _covers_character)


def _covers_character(pattern: str, asked: str) -> bool:
    return pattern == asked or (pattern == "?" and asked != "*")


def _covers_word(pattern: str, asked: str) -> bool:
    return pattern == asked or (pattern == "*" and asked != "#")

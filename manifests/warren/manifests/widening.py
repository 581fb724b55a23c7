"""What an upgrade would get and its predecessor did not: a pure function of two grants, as data that can be kept.

A power is more when nothing that the old one had covers it: `api.example.com` is no more than `*.example.com`, and a
limit is more when it is higher. What it asked for and is not granted is nothing that it would get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from pydantic import StrictStr

from .coverage import covers_glob, covers_host, covers_network, covers_topic
from .manifest import Capability, Glob, Host, Name, Section, TopicField, Variable
from .policy import Grant, Limits

T = TypeVar("T")


class Powers(Section):
    """What a plugin may do, and how much of it; `calls` are the plugins that it may call.

    `subscribe` is all that it may hear, from the start or once it asks for it.
    """

    capabilities: tuple[Capability, ...]
    read_files: tuple[Glob, ...]
    write_files: tuple[Glob, ...]
    network_hosts: tuple[Host, ...]
    private_networks: tuple[StrictStr, ...]
    environment_vars: tuple[Variable, ...]
    publish: tuple[TopicField, ...]
    subscribe: tuple[TopicField, ...]
    calls: tuple[Name, ...]
    limits: Limits

    @classmethod
    def of(cls, grant: Grant) -> Powers:
        return cls(
            capabilities=tuple(sorted(grant.capabilities)),
            read_files=grant.read_files,
            write_files=grant.write_files,
            network_hosts=grant.network_hosts,
            private_networks=grant.private_networks,
            environment_vars=grant.environment_vars,
            publish=grant.publish,
            subscribe=(*grant.subscribe, *grant.may_subscribe),
            calls=tuple(one.name for one in grant.dependencies),
            limits=grant.limits,
        )


NO_POWERS = Powers(
    capabilities=(),
    read_files=(),
    write_files=(),
    network_hosts=(),
    private_networks=(),
    environment_vars=(),
    publish=(),
    subscribe=(),
    calls=(),
    limits=Limits(0, 0, 0, 0, 0, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Widening:
    """One power that is new, or a limit that is higher than `before`."""

    power: str
    value: str
    before: str | None = None

    def __str__(self) -> str:
        return f"{self.power} {self.value}" if self.before is None else f"{self.power} {self.value}, not {self.before}"


def widening(old: Powers, new: Powers) -> tuple[Widening, ...]:
    """What `new` has that `old` has not, in the order of the fields of `Powers`."""
    return (
        *_more("capabilities", old.capabilities, new.capabilities, str.__eq__),
        *_more("read_files", old.read_files, new.read_files, covers_glob),
        *_more("write_files", old.write_files, new.write_files, covers_glob),
        *_more("network_hosts", old.network_hosts, new.network_hosts, covers_host),
        *_more("private_networks", old.private_networks, new.private_networks, covers_network),
        *_more("environment_vars", old.environment_vars, new.environment_vars, str.__eq__),
        *_more("publish", old.publish, new.publish, covers_topic),
        *_more("subscribe", old.subscribe, new.subscribe, covers_topic),
        *_more("calls", old.calls, new.calls, str.__eq__),
        *_higher(old.limits, new.limits),
    )


def _more(power: str, old: Sequence[T], new: Sequence[T], covers: Callable[[T, T], bool]) -> Iterator[Widening]:
    for one in new:
        if not any(covers(other, one) for other in old):
            yield Widening(power, str(one))


def _higher(old: Limits, new: Limits) -> Iterator[Widening]:
    before = asdict(old)
    for limit, value in asdict(new).items():
        if value > before[limit]:
            yield Widening(limit, f"{value:,.16g}", f"{before[limit]:,.16g}")

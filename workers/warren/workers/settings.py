"""What an operator sets for a worker. The command line, or whoever embeds a worker, fills it in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from warren.bus import DEFAULT_DELIVERY_LIMIT, DEFAULT_MAX_REQUEST_BYTES, DEFAULT_PREFIX, Names

#: Unsettled deliveries per mailbox, and so runs at once. Measured with a real broker: 10 gives 5,700 requests/s,
#: 100 gives 14,500, 500 gives 19,600; each run under way may hold its plugin's whole memory limit.
DEFAULT_PREFETCH: Final = 100

#: Plugins a message may pass through before it is taken for a loop.
DEFAULT_HOP_LIMIT: Final = 16

#: Whoever would be probed from elsewhere, as in a container, names another address.
DEFAULT_HEALTH_HOST: Final = "127.0.0.1"


#: What a host function answered is in a recording. Who reads dead letters is the operator's choice; who calls is not.
DEFAULT_RECORD: Final = frozenset({"dead-letters"})


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """`policy` is the operator's, without which plugins get what `Policy()` allows.

    `grace_s` is how long runs in flight may take to end once the worker is told to stop.

    A request that comes again within `dedup_window_s` of having been answered is dropped, where that is not 0.

    With `hot_reload` the worker follows its folder of plugins; else it serves what it finds there at the start.
    Without `orders` it answers questions on the control exchange, and refuses to change anything.

    `host_functions` names those of installed distributions that plugins can call. `audit` says where it goes, besides
    the counters: `logs`, `exchange`. With `foreign_replies` a request may name any queue for its result, and not only
    one of this installation. `record` says where recordings of runs go: `dead-letters` have that of their run, and
    `callers` who ask for one get it with the result.

    Plugins that may use files have a directory each below `data`; where it is None, below `data_folder()` of
    `warren.plugins`. `storage` is the URL of what plugins store; None: `WARREN_STORAGE`, or a file of the user's own.
    `secrets` are the folders that plugins' settings may name files of.

    At `health_host` and `health_port` probes and scrapes are answered: at no port where it is None, at any free one
    where it is 0.
    """

    plugins: Path
    broker: str
    prefix: str = DEFAULT_PREFIX
    prefetch: int = DEFAULT_PREFETCH
    processes: int = 1
    grace_s: float = 30.0
    delivery_limit: int = DEFAULT_DELIVERY_LIMIT
    max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES
    hop_limit: int = DEFAULT_HOP_LIMIT
    max_plugins: int = 100
    hot_reload: bool = False
    dedup_window_s: float = 0.0
    orders: bool = True
    host_functions: tuple[str, ...] = ()
    audit: frozenset[str] = frozenset({"logs"})
    foreign_replies: bool = False
    record: frozenset[str] = DEFAULT_RECORD
    health_host: str = DEFAULT_HEALTH_HOST
    health_port: int | None = None
    data: Path | None = None
    storage: str | None = None
    policy: Path | None = None
    secrets: tuple[Path, ...] = ()

    @property
    def names(self) -> Names:
        return Names(self.prefix)

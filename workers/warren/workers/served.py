"""The mailboxes that a worker serves: those of the plugins that are loaded, whichever these are just now.

    a plugin appears              its mailbox is declared, its topics are bound, and it is consumed
    its last version goes         it is no longer consumed; what came and has not begun goes back to the broker
    its versions' topics change   those that none has any more are unbound, new ones are bound

On the broker a mailbox and its bindings belong to all workers. So a mailbox stays there when its plugin goes: other
workers may serve it, and what comes waits for one that does. Whoever is done with a plugin for good deletes its queue.
A topic is unbound as soon as one worker has seen the last version go that had it, though others may still have the
older manifest: the newest word holds, and they follow when their folder does. Until then such a worker binds it anew
when it starts or has lost the broker, and unbinds it in its turn when it sees the new manifest. (Rejected: to unbind
only when no worker wants a topic. Nobody can know that, and a plugin would be sent for ever what it no longer reads.)

What a plugin subscribes to at run time is bound by the worker whose run it was, once, for all workers, and stays with
the broker: over restarts, outages and reloads, until a run anywhere unsubscribes. A worker that bound it unbinds it,
too, when no version grants it any more; one that did not cannot know of it, and rejects what still comes by it. (See
`Worker`. Rejected: to have workers tell each other, or keep a list; the broker has one, and a second may be wrong.)

Nothing is kept of what has happened, only of what there is: after each change what is served is compared with what is
loaded, plugin by plugin, and made the same; while the broker is away, again and again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, repeat
from typing import Final

from warren.bus import Binding, BusError, Delivery, Topology, Transport, mailbox_topology
from warren.manifests import TopicPattern
from warren.plugins import LifecycleEvent, PluginManager, PluginRefused, TopicChange

from .answers import TooManyTopics
from .mailbox import Mailbox, Served
from .metrics import WorkerMetrics
from .settings import WorkerSettings

_log = logging.getLogger(__name__)

#: Between attempts to do what the broker would not have done; the last one from then on.
RETRY_PAUSES_S: Final = (0.2, 1.0, 5.0)

#: Serves deliveries from the mailbox of the plugin of that name.
ServePlugin = Callable[[str, Sequence[Delivery]], Sequence[Served]]

Patterns = frozenset[str]

NO_PATTERNS: Final[Patterns] = frozenset()

#: Patterns that one plugin's mailbox may be bound to at run time from here: each is a binding in the broker's memory.
MAX_RUN_TIME_TOPICS: Final = 1_000


class ServedPlugins:
    """Consumes the mailbox of every plugin that `manager` has, from `start` to `drain`."""

    def __init__(
        self,
        transport: Transport,
        manager: PluginManager,
        settings: WorkerSettings,
        serve: ServePlugin,
        *,
        metrics: WorkerMetrics,
        under_way: set[asyncio.Future[None]],
    ) -> None:
        self._transport = transport
        self._manager = manager
        self._settings = settings
        self._names = settings.names
        self._serve = serve
        self._metrics = metrics
        self._under_way = under_way
        self._mailboxes: dict[str, Mailbox] = {}
        #: Topics that each mailbox was bound to from here, and may still be.
        self._bound: dict[str, Patterns] = {}
        #: Patterns it was bound to at run time from here, and those of them that its plugin is no longer granted.
        self._at_run_time: dict[str, set[str]] = {}
        self._withdrawn: dict[str, set[str]] = {}
        self._troubles: dict[str, BusError] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._is_open = False
        self._stop_observing: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Serve what is loaded, and follow it from now on. Raises `BusError`."""
        self._stop_observing = self._manager.observe(self._on_change)
        wanted = self._wanted()
        await self._declare(wanted)
        for name in wanted:
            await self._open(name)
        self._is_open = True
        for name in self._wanted().keys() | self._mailboxes.keys():  # it may have changed meanwhile
            self._follow(name)

    def impediment(self) -> str | None:
        """What keeps a plugin from being served as it is loaded, in words; None while nothing does."""
        wanted = self._wanted()
        for name in sorted(wanted.keys() | self._mailboxes.keys()):
            if self._is_behind(name, wanted):
                trouble = self._troubles.get(name)
                return f"the mailbox of {name} is not yet as its plugin is" + (f": {trouble}" if trouble else "")
        return None

    async def change_topics(self, plugin_name: str, changes: Sequence[TopicChange]) -> None:
        """Do what a run asked for. Raises `BusError`, and `TooManyTopics` before anything is done."""
        by_name: dict[str, dict[str, bool]] = {}
        for change in changes:
            by_name.setdefault(change.plugin or plugin_name, {})[change.topic] = change.subscribed
        for name, wanted in by_name.items():
            if len(self._with_changes(name, wanted)) > MAX_RUN_TIME_TOPICS:
                raise TooManyTopics(name, MAX_RUN_TIME_TOPICS)
        for name, wanted in by_name.items():
            # Before it is done: if the broker's answer is lost, it may be done all the same.
            self._at_run_time[name] = self._with_changes(name, wanted)
            of_manifest = self._bound.get(name, NO_PATTERNS)
            coming = [pattern for pattern, subscribed in wanted.items() if subscribed and pattern not in of_manifest]
            going = [pattern for pattern, subscribed in wanted.items() if not subscribed and pattern not in of_manifest]
            await self._transport.bind(*(self._binding(name, pattern) for pattern in coming))
            await self._transport.unbind(*(self._binding(name, pattern) for pattern in going))

    def _with_changes(self, name: str, wanted: Mapping[str, bool]) -> set[str]:
        kept = self._at_run_time.get(name, set()) - wanted.keys()
        return kept.union(pattern for pattern, subscribed in wanted.items() if subscribed)

    async def drain(self, limit_s: float) -> None:
        """Take nothing more, and follow nothing more; see `Mailbox.drain`."""
        self._stop_observing()
        self._is_open = False
        if following := tuple(self._following.values()):
            for task in following:
                task.cancel()
            await asyncio.wait(following)
        await asyncio.gather(*(mailbox.drain(limit_s) for mailbox in self._mailboxes.values()))

    def _on_change(self, event: LifecycleEvent) -> None:
        if isinstance(event, PluginRefused):
            return
        name = event.plugin.name
        if name in self._mailboxes and name not in self._wanted():
            self._mailboxes[name].hold()  # at once: there is nothing left to serve its deliveries with
        self._withdraw(name)
        self._follow(name)

    def _withdraw(self, name: str) -> None:
        """Note what was bound at run time, and no version of the plugin is granted any more."""
        grants = [plugin.grant for plugin in self._manager.plugins() if plugin.name == name]
        if not grants:  # it is gone, and its mailbox stays as it is
            return
        patterns = {pattern: TopicPattern.parse(pattern) for pattern in self._at_run_time.get(name, ())}
        gone = {text for text, pattern in patterns.items() if not any(grant.may_bind(pattern) for grant in grants)}
        if gone:
            self._at_run_time[name] -= gone
            self._withdrawn.setdefault(name, set()).update(gone)

    def _wanted(self) -> dict[str, Patterns]:
        """The plugins that are loaded, each with the topics of all its versions."""
        wanted: dict[str, Patterns] = {}
        for plugin in self._manager.plugins():
            patterns = frozenset(map(str, plugin.grant.subscribe))
            wanted[plugin.name] = wanted.get(plugin.name, NO_PATTERNS) | patterns
        return wanted

    def _is_behind(self, name: str, wanted: dict[str, Patterns]) -> bool:
        mailbox = self._mailboxes.get(name)
        if mailbox is None or name not in wanted:
            return mailbox is not None or name in wanted
        is_bound = wanted[name] == self._bound.get(name) and name not in self._withdrawn
        return mailbox.is_draining or name in self._troubles or not is_bound

    def _follow(self, name: str) -> None:
        if self._is_open and name not in self._following and self._is_behind(name, self._wanted()):
            self._following[name] = asyncio.create_task(self._catch_up(name))

    async def _catch_up(self, name: str) -> None:
        pauses = chain(RETRY_PAUSES_S, repeat(RETRY_PAUSES_S[-1]))
        try:
            while self._is_behind(name, wanted := self._wanted()):
                try:
                    await self._step(name, wanted.get(name))
                    self._troubles.pop(name, None)
                except BusError as error:
                    self._troubles[name] = error
                    _log.warning("the mailbox of %s is not yet as its plugin is, trying again: %s", name, error)
                    await asyncio.sleep(next(pauses))
        finally:
            del self._following[name]

    async def _step(self, name: str, wanted: Patterns | None) -> None:
        """Towards what is wanted; None: not to be served. Raises `BusError`."""
        mailbox = self._mailboxes.get(name)
        if mailbox is not None and mailbox.is_draining:
            await self._close(name, mailbox)
        if wanted is None:
            return
        withdrawn = self._withdrawn.get(name, set())
        gone = sorted(self._bound.get(name, NO_PATTERNS).union(withdrawn) - wanted)
        await self._declare({name: wanted})
        if gone:
            await self._transport.unbind(*(self._binding(name, pattern) for pattern in gone))
            _log.info("%s no longer subscribes to %s", name, ", ".join(gone))
        self._bound[name] = wanted
        self._withdrawn.pop(name, None)
        if name not in self._mailboxes:
            await self._open(name)
            _log.info("serving %s", name)

    async def _declare(self, wanted: dict[str, Patterns]) -> None:
        topology = Topology()
        for name, patterns in wanted.items():
            self._metrics.expect(name)
            # Whatever the broker's answer is, and if there is none: they may be bound from now on.
            self._bound[name] = self._bound.get(name, NO_PATTERNS) | patterns
            topology += mailbox_topology(
                self._names, name, tuple(sorted(patterns)), delivery_limit=self._settings.delivery_limit
            )
        await self._transport.declare(topology)

    def _binding(self, name: str, pattern: str) -> Binding:
        return Binding(self._names.mailbox(name), self._names.events, pattern)

    async def _open(self, name: str) -> None:
        # It is known before it is open: its plugin may go meanwhile.
        mailbox = self._mailboxes[name] = Mailbox(
            self._transport,
            self._names.mailbox(name),
            partial(self._serve, name),
            prefetch=self._settings.prefetch,
            metrics=self._metrics,
            under_way=self._under_way,
        )
        try:
            await mailbox.start()
        except BusError:
            del self._mailboxes[name]
            raise

    async def _close(self, name: str, mailbox: Mailbox) -> None:
        await mailbox.drain(self._settings.grace_s)
        del self._mailboxes[name]
        self._transport.forget(self._names.mailbox(name))
        _log.info("no longer serving %s; its mailbox stays on the broker", name)

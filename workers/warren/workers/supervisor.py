"""Worker processes: one that serves until it is told to stop, or several under a parent that replaces those that die.

Cores are used by processes: a worker is one event loop. The parent holds no connection and runs no plugin; it starts
its children anew (`spawn`: an engine does not survive a fork), passes on the signal to stop, and waits. It hears from
each child every second how it is, and answers probes and scrapes for all of them. A child whose parent has died drains
and ends, so that no process is left behind.

The first signal to stop drains, the second ends everything at once; the broker then gives what was under way to others.
Children count none but the first: a terminal, or systemd, signals the parent and them, and the parent passes it on.

An order to drain, over the broker, ends the one process that it is for. Its exit code says so to the parent, who starts
no other in its place, and ends when the last has gone.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, NoReturn

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop  # type: ignore[assignment]

from warren.bus import BrokerUnreachable, BusError, connect
from warren.manifests import PolicyError
from warren.plugins import PluginError, PluginManager, enabled_functions, read_policy

from .control import Control
from .health import CannotListen, answering_probes
from .otel_metrics import export_metrics
from .pulse import Pulse, hear, telling
from .roster import Roster, new_worker_name
from .settings import WorkerSettings
from .telemetry import telemetry
from .vitals import Tell, Vitals
from .worker import Worker

_log = logging.getLogger(__name__)

DRAINED: Final = 0
MISCONFIGURED: Final = 2
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

#: Of a child, to its parent: it was drained by order, and is not to be replaced.
DRAINED_BY_ORDER: Final = 10

#: A child that dies is replaced after this long, doubled each time up to the longest, and forgiven after a good run.
FIRST_RESTART_S: Final = 0.5
LONGEST_RESTART_S: Final = 30.0
GOOD_RUN_S: Final = 60.0

#: A child that has not ended so long after its grace period hangs, and is killed.
HANGING_S: Final = 10.0

#: Objects that may have come into being, and not gone, before the garbage collector looks through them.
YOUNG_OBJECTS: Final = 20_000

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_worker(settings: WorkerSettings, configure_logging: Callable[[], None] = lambda: None) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit code. `configure_logging` is called in every process.

    0: drained, by a signal or by order. 2: there is nothing to serve and without hot reload nothing will come, the
    policy is wrong, the broker refuses what is to be declared, or the port for probes cannot be had. 4: the broker
    could not be reached at start; with several processes it is tried again instead. 130: ended at once by a second
    signal, which does not return from here.
    """
    configure_logging()
    vitals = Vitals(settings.processes)
    try:
        with _probes(settings, vitals):
            if settings.processes == 1:
                code = _run(_serve_until_stopped(settings, partial(vitals.heard, 0)))
                return DRAINED if code == DRAINED_BY_ORDER else code
            return asyncio.run(_Supervisor(settings, vitals, configure_logging).run())
    except CannotListen as error:
        _log.error("%s", error)
        return MISCONFIGURED


@contextmanager
def _probes(settings: WorkerSettings, vitals: Vitals) -> Iterator[None]:
    if settings.health_port is None:
        yield
        return
    with answering_probes(vitals, settings.health_host, settings.health_port) as port:
        _log.info("answering probes and scrapes at %s port %d", settings.health_host, port)
        yield


def _run_child(settings: WorkerSettings, configure_logging: Callable[[], None], parent: Connection) -> None:
    async def serve() -> int:
        async with telling(parent) as tell:
            return await _serve_until_stopped(settings, tell)

    configure_logging()
    raise SystemExit(_run(serve()))


def _run(serving: Coroutine[Any, Any, int]) -> int:
    """Run a worker on uvloop's event loop, where it is installed."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(serving)


async def _serve_until_stopped(settings: WorkerSettings, tell: Tell) -> int:
    stopped = _stop_event()
    try:
        with Pulse(tell) as pulse, telemetry() as wanted:
            async with PluginManager(
                settings.plugins,
                max_plugins=settings.max_plugins,
                hot_reload=settings.hot_reload,
                host_functions=enabled_functions(settings.host_functions),
                data=settings.data,
                secrets=settings.secrets,
                storage=settings.storage,
                policy=None if settings.policy is None else read_policy(settings.policy),
            ) as manager:
                if not manager.plugins() and not settings.hot_reload:
                    _log.error("no plugin could be loaded from %s", settings.plugins)
                    return MISCONFIGURED
                transport = await connect(settings.broker, name="warren worker")
                try:
                    roster = Roster(new_worker_name())
                    worker = Worker(transport, manager, settings, roster=roster, export_spans=wanted.export_spans)
                    if wanted.meter is not None:
                        export_metrics(worker.metrics, wanted.meter)
                    await worker.start()
                    ordered = asyncio.Event()
                    control = Control(
                        transport, settings.names, worker, manager, roster, obeys=settings.orders, stop=ordered.set
                    )
                    async with control:
                        pulse.serves(worker)
                        _settle_down()
                        loaded = ", ".join(f"{one.name} {one.version}" for one in manager.plugins())
                        _log.info("serving %s", loaded or f"nothing yet: waiting for plugins in {settings.plugins}")
                        await _first(stopped, ordered)
                        _log.info("stopping: what is under way has %g s to end", settings.grace_s)
                        control.changed()
                        given_back = await worker.drain()
                    _log.info("drained; %d requests went back to the broker", given_back)
                finally:
                    await transport.close()
    except (PluginError, PolicyError) as error:
        _log.error("%s", error)
        return MISCONFIGURED
    except BrokerUnreachable as error:
        _log.error("%s", error)
        return UNREACHABLE
    except BusError as error:  # a queue that stands there with other settings, most likely: starting again is no cure
        _log.error("%s", error)
        return MISCONFIGURED
    return DRAINED if stopped.is_set() else DRAINED_BY_ORDER


def _settle_down() -> None:
    """Have the garbage collector leave alone what is not garbage."""
    # What is here now stays. It need not look through it again, for 30 ms each time.
    gc.collect()
    gc.freeze()
    # Nor what is under way, which is a few thousand objects at a time.
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def _first(*events: asyncio.Event) -> None:
    """Return when one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _stop_event() -> asyncio.Event:
    """Set by a signal to stop, and by the death of the parent process. A second signal ends all that have no parent."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    parent = multiprocessing.parent_process()

    def stop() -> None:
        if stopped.is_set() and parent is None:
            _end_at_once()
        stopped.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    if parent is not None:
        loop.add_reader(parent.sentinel, _parent_died, loop, parent.sentinel, stopped)
    return stopped


def _end_at_once() -> NoReturn:
    _log.warning("told a second time to stop: ending at once")
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(INTERRUPTED)


def _parent_died(loop: asyncio.AbstractEventLoop, sentinel: int, stopped: asyncio.Event) -> None:
    loop.remove_reader(sentinel)
    stopped.set()


class _Supervisor:
    """Keeps `processes` children alive until it is told to stop."""

    def __init__(self, settings: WorkerSettings, vitals: Vitals, configure_logging: Callable[[], None]) -> None:
        self._settings = settings
        self._vitals = vitals
        self._configure_logging = configure_logging
        self._misconfigured = False

    async def run(self) -> int:
        stopped = _stop_event()
        self._stopped = stopped
        await asyncio.gather(*(self._keep_alive(number) for number in range(self._settings.processes)))
        return MISCONFIGURED if self._misconfigured else DRAINED

    async def _keep_alive(self, number: int) -> None:
        delay_s = FIRST_RESTART_S
        while not self._stopped.is_set():
            started = time.monotonic()
            process, pipe = self._start(number)
            hearing = asyncio.ensure_future(hear(pipe, partial(self._vitals.heard, number)))
            await self._end_of(process)
            await hearing
            if self._stopped.is_set():
                break
            if process.exitcode == DRAINED_BY_ORDER:
                _log.info("%s was drained by order; no other one starts in its place", process.name)
                break
            if process.exitcode == MISCONFIGURED:
                self._misconfigured = True
                self._stopped.set()
                break
            self._vitals.ended(number)
            if time.monotonic() - started > GOOD_RUN_S:
                delay_s = FIRST_RESTART_S
            _log.warning("%s %s; another one starts in %g s", process.name, _ending(process.exitcode), delay_s)
            await _wait(self._stopped, delay_s)
            delay_s = min(delay_s * 2, LONGEST_RESTART_S)
        self._vitals.ended(number, for_good=True)

    def _start(self, number: int) -> tuple[SpawnProcess, Connection]:
        """A child, and the pipe through which it tells how it is."""
        context = multiprocessing.get_context("spawn")
        to_read, to_write = context.Pipe(duplex=False)
        process = context.Process(
            target=_run_child, args=(self._settings, self._configure_logging, to_write), name=f"worker {number + 1}"
        )
        process.start()
        to_write.close()  # the child has its own; the pipe ends with that one
        return process, to_read

    async def _end_of(self, process: SpawnProcess) -> None:
        """Wait for a child's end; tell it to end once we are told to."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        try:
            await _first(self._stopped, ended)
            if not ended.is_set():
                process.terminate()
                await _wait(ended, self._settings.grace_s + HANGING_S)
            if not ended.is_set():
                _log.error("%s does not end, and is killed", process.name)
                process.kill()
            await ended.wait()
        finally:
            loop.remove_reader(process.sentinel)
        process.join()


def _ending(code: int | None) -> str:
    """How a child ended, in words; a negative code is the number of the signal that killed it."""
    if code == UNREACHABLE:
        return "could not reach the broker"
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), timeout_s)
    except TimeoutError:
        return

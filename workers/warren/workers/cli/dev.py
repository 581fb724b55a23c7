"""`warren dev`: a plugin under its author's hands, built and run anew after each change.

After a build that is good the plugins are loaded into a second embedded bus, and only when that serves is the first one
closed: neither a compiler's error nor an `initialize` that fails takes away what ran. Rejected: the hot reload that
workers have, which cannot tell by whom a version was loaded that has not changed its number.

The project's cases are tried after each build that is good, and when they have changed themselves; another change ends
that, for it begins anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.text import Text

from warren.bus import CallTimeout, Client, Listener
from warren.manifests import ManifestError
from warren.plugins import PluginError, enabled_functions

from ..embedded import Embedded, embedded
from ..kit.building import BUILT, Built, build
from ..kit.case_runs import Surroundings, try_all
from ..kit.cases import PATTERN, find_cases
from ..kit.errors import KitError
from ..kit.watching import AuthorsOwn, watch
from ..text import printable
from .build import told
from .case_view import print_counts, print_tried
from .exit_codes import ExitCode
from .json_data import json_text
from .listen import event_for_people, result_for_people
from .logs import configure_logging
from .output import print_error, print_note, stdout
from .policy import chosen_policy

STDIN: Final = 0
_READ_BYTES: Final = 1 << 16

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Session:
    """What the command line asked for."""

    project: Path
    plugins: Path | None
    policy: Path | None = None
    secrets: tuple[Path, ...] = ()
    host_functions: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.plugins or self.project / BUILT


@dataclass(frozen=True, slots=True)
class Request:
    """One line of stdin: an action, and its data."""

    action: str
    data: Any

    @classmethod
    def parse(cls, line: str) -> Request:
        """Raises ValueError for data that is not JSON."""
        action, _, data = line.partition(" ")
        return cls(action, json.loads(data) if data.strip() else None)


def run(session: Session, log_level: str) -> ExitCode:
    """Build, run, watch; until Ctrl-C, which is how it is meant to end."""
    configure_logging(log_level)
    with suppress(KeyboardInterrupt):
        asyncio.run(_Dev(session).run())
    return ExitCode.OK


@dataclass(slots=True)
class _Dev:
    """What runs at the moment, and what it has been asked. `outdated`: it is older than its sources."""

    session: Session
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    outdated: bool = True
    serving: asyncio.Lock = field(default_factory=asyncio.Lock)
    running: AsyncExitStack | None = None
    here: Embedded | None = None
    plugin: str = ""
    asked: list[Request] = field(default_factory=list)

    async def run(self) -> None:
        mine = AuthorsOwn(self.session.project, *filter(None, [self.session.plugins]))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch(mine, self._notice))
                tasks.create_task(read_lines(self._hear))
                tasks.create_task(self._follow())
        finally:
            if self.running is not None:
                await self.running.aclose()

    def _notice(self, changes: Sequence[Path]) -> None:
        self.outdated = self.outdated or not all(path.match(PATTERN) for path in changes)
        self.changed.set()

    async def _follow(self) -> None:
        while True:
            self.changed.clear()
            if not self.outdated or await self._rebuild():
                await self._try_cases_until_changed()
            print_note("waiting for changes; Ctrl-C ends it")
            await self.changed.wait()

    async def _rebuild(self) -> bool:
        """Whether what runs now is what was written."""
        session = self.session
        self.outdated = False  # by what is changed from now on
        try:
            policy = chosen_policy(session.policy)
            built = await asyncio.to_thread(build, session.project, plugins=session.plugins, debug=True, policy=policy)
            stdout().print(told(built), soft_wrap=True)
            async with self.serving:
                await self._replace(built)
                for request in self.asked:
                    await self._ask(request)
        except (KitError, ManifestError, PluginError) as error:
            self.outdated = True
            print_error(str(error), getattr(error, "hint", None))
            print_note("the last good build is still running" if self.here else "nothing runs yet")
        return not self.outdated

    async def _try_cases_until_changed(self) -> None:
        trying, changing = asyncio.create_task(self._try_cases()), asyncio.create_task(self.changed.wait())
        try:
            await asyncio.wait((trying, changing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            trying.cancel()
            await asyncio.wait((trying, changing))
        if not trying.cancelled():
            trying.result()

    async def _try_cases(self) -> None:
        """One line when all hold; what does not, with what differs."""
        session = self.session
        policy = None if session.policy is None else chosen_policy(session.policy)
        functions = tuple(enabled_functions(session.host_functions))
        tried = failed = 0
        try:
            files = await asyncio.to_thread(find_cases, session.project)
            async for one in try_all(files, Surroundings(session.folder, policy, session.secrets, functions)):
                tried += 1
                if one.mismatches:
                    failed += 1
                    print_tried(one, session.project)
        except (KitError, ManifestError, PluginError) as error:
            print_error(str(error), getattr(error, "hint", None))
        else:
            print_counts(tried - failed, failed)

    async def _replace(self, built: Built) -> None:
        """Raises `PluginError` when the plugin cannot be loaded; what ran before runs on."""
        session = self.session
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(
                embedded(
                    session.folder,
                    policy=chosen_policy(session.policy),
                    host_functions=enabled_functions(session.host_functions),
                    secrets=session.secrets,
                )
            )
            for failure in here.manager.failures:
                raise failure
            await stack.enter_async_context(_shown(here.client))
            before, self.running = self.running, stack.pop_all()
        self.here, self.plugin = here, built.manifest.name
        if before is not None:
            await before.aclose()

    async def _hear(self, line: str) -> None:
        """Ask what was typed, and remember it. An empty line asks everything again."""
        try:
            requests = [Request.parse(line)] if line else list(self.asked)
        except ValueError as error:
            print_error(f"the data is not JSON: {error}", 'type an action and its data: greet {"name": "Ada"}')
            return
        async with self.serving:
            self.asked += (request for request in requests if request not in self.asked)
            if self.here is None:
                print_note("asked as soon as something runs")
                return
            for request in requests:
                await self._ask(request)

    async def _ask(self, request: Request) -> None:
        assert self.here is not None  # noqa: S101 - the callers hold `serving`, and something runs
        try:
            result = await self.here.client.call(self.plugin, request.action, request.data)
        except (ValueError, CallTimeout) as error:
            print_error(str(error))
            return
        stdout().print(
            Text.assemble(("→ ", "dim"), (printable(request.action), "bold"), f" {json_text(request.data)}"),
            soft_wrap=True,
        )
        result_for_people(result)


@asynccontextmanager
async def _shown(client: Client) -> AsyncIterator[None]:
    """Print what plugins publish, and the results of what that led to, for as long as the block lasts."""
    async with client.events("#") as events, client.results("#") as results:
        printing = [
            asyncio.create_task(_print_each(events, event_for_people)),
            asyncio.create_task(_print_each(results, result_for_people)),
        ]
        try:
            yield
        finally:
            for task in printing:
                task.cancel()
            await asyncio.wait(printing)


async def _print_each(heard: Listener[Item], show: Callable[[Item], None]) -> None:
    async for item in heard:
        show(item)


async def read_lines(hear: Callable[[str], Awaitable[None]]) -> None:
    """Hand over the lines of stdin as they come, without their ends, until it ends.

    A terminal or a pipe is read when it has something: a thread that waits in a read would outlive Ctrl-C, and a
    terminal that does not block would not for stdout either. A file can be read at once.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        chunk = os.read(STDIN, _READ_BYTES)
        chunks.put_nowait(chunk)
        if not chunk:
            loop.remove_reader(STDIN)

    try:
        loop.add_reader(STDIN, read)
    except PermissionError:  # epoll's word for a file
        while chunk := os.read(STDIN, _READ_BYTES):
            chunks.put_nowait(chunk)
        chunks.put_nowait(b"")
    pending = b""
    try:
        while chunk := await chunks.get():
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                await hear(line.decode(errors="replace").strip())
        if pending:
            await hear(pending.decode(errors="replace").strip())
    finally:
        loop.remove_reader(STDIN)

"""What `warren dead` does: list, show, replay and discard, for the letters that were chosen."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from warren.bus import (
    DeadLetter,
    DeadLetterFilter,
    DeadQueue,
    DeliveryLost,
    HeldLetter,
    MalformedMessage,
    Names,
    PublishRefused,
    QueueNotFound,
    Unroutable,
    connect,
    read_request,
    revived,
    settle_each,
)

from ..text import printable
from .dead_view import heading, letter_data, letter_id, line, page, page_data
from .exit_codes import ExitCode
from .failures import WrongUsage
from .json_data import print_json
from .logs import configure_logging
from .output import print_note, stderr, stdout
from .place import Place

#: Reasons for staying that the summary names.
REASONS_NAMED: Final = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that are meant: those that the filter admits and, where there are ids, that have one of them."""

    ids: tuple[str, ...]
    filter: DeadLetterFilter

    async def of(self, letters: AsyncIterator[HeldLetter]) -> AsyncIterator[HeldLetter]:
        """Those among `letters`, as they come; with ids, when all have come. Raises `WrongUsage` for ids."""
        now_ms = time.time_ns() // 1_000_000
        admitted = (held async for held in letters if self.filter.admits(held.letter, now_ms))
        if not self.ids:
            async for held in admitted:
                yield held
            return
        for held in named(self.ids, [held async for held in admitted if letter_id(held.letter).startswith(self.ids)]):
            yield held


def choice(
    ids: list[str] | None = None,
    plugins: list[str] | None = None,
    outcomes: list[str] | None = None,
    older_than_ms: int | None = None,
    newer_than_ms: int | None = None,
) -> Choice:
    """What the options say. Raises `WrongUsage` for an id that is empty: every id begins with it."""
    if ids and "" in ids:
        raise WrongUsage("an id is empty", "`warren dead list` shows those there are")
    chosen = DeadLetterFilter(frozenset(plugins or ()), frozenset(outcomes or ()), older_than_ms, newer_than_ms)
    return Choice(tuple(ids or ()), chosen)


def needed_choice(
    ids: list[str] | None,
    plugins: list[str] | None,
    outcomes: list[str] | None,
    older_than_ms: int | None,
    newer_than_ms: int | None,
    *,
    everything: bool,
) -> Choice:
    """What the options say, if they say anything. Raises `WrongUsage`."""
    chosen = choice(ids, plugins, outcomes, older_than_ms, newer_than_ms)
    if everything and ids:
        raise WrongUsage("--all means every dead letter, and ids mean some; give one of them")
    if not everything and chosen == choice():
        hint = "name their ids, or --plugin, --outcome, --older-than or --newer-than, or --all"
        raise WrongUsage("which dead letters?", hint)
    return chosen


def named(ids: Iterable[str], letters: list[HeldLetter]) -> list[HeldLetter]:
    """The letters that `ids` name, wholly or by how they begin; an id that several letters share names all of them.

    Raises `WrongUsage` for an id that names none, or that fits several messages.
    """
    found: dict[HeldLetter, None] = {}
    for one in ids:
        fitting = {letter_id(held.letter) for held in letters if letter_id(held.letter).startswith(one)}
        if not fitting:
            raise WrongUsage(f"there is no dead letter {one!r}", "`warren dead list` shows those there are")
        if len(fitting) > 1 and one not in fitting:
            raise WrongUsage(f"{one!r} is how several ids begin: {', '.join(sorted(fitting)[:5])}", "give more of it")
        meant = one if one in fitting else fitting.pop()
        found.update(dict.fromkeys(held for held in letters if letter_id(held.letter) == meant))
    return list(found)


def run_list(place: Place, chosen: Choice, limit: int | None, *, as_json: bool) -> ExitCode:
    """Print them as they come; how many that were is said on stderr."""
    configure_logging("warning", as_json=as_json)
    return asyncio.run(_at(place, lambda queue: list_letters(queue, chosen, limit, as_json=as_json)))


async def list_letters(queue: DeadQueue, chosen: Choice, limit: int | None, *, as_json: bool) -> ExitCode:
    console = stdout()
    listed = 0
    async for held in chosen.of(queue.letters()):
        if as_json:
            print_json(letter_data(held.letter))
        else:
            if listed == 0:
                console.print(heading(), soft_wrap=True)
            _print_line(console, line(held.letter))
        listed += 1
        if listed == limit:
            break
    print_note(f"{listed:,} of {queue.depth:,} dead letters")
    if listed != limit:
        _note_unseen(queue)
    return ExitCode.OK


def _print_line(console: Console, text: Text) -> None:
    """On a terminal one line; whole where a program reads it."""
    if console.is_terminal:
        console.print(text, no_wrap=True, overflow="ellipsis")
    else:
        console.print(text, soft_wrap=True)


def run_show(place: Place, chosen: Choice, recording: Path | None, *, as_json: bool) -> ExitCode:
    """Print all there is of one message's dead letters: one, mostly. The `recording` in the last is written there."""
    configure_logging("warning", as_json=as_json)
    return asyncio.run(_at(place, lambda queue: show_letters(queue, chosen, recording, as_json=as_json)))


async def show_letters(queue: DeadQueue, chosen: Choice, recording: Path | None = None, *, as_json: bool) -> ExitCode:
    last: DeadLetter | None = None
    async for held in chosen.of(queue.letters()):
        last = held.letter
        if as_json:
            print_json(page_data(held.letter))
        else:
            stdout().print(page(held.letter), soft_wrap=True)
    if recording is not None and last is not None:
        save_recording(last, recording)
    return ExitCode.OK


def save_recording(letter: DeadLetter, path: Path) -> None:
    """Write the recording in a letter. Raises `WrongUsage` where it has none, or none that can be read; and OSError."""
    from warren.plugins import RecordingUnreadable, unpack_recording  # noqa: PLC0415 - this alone needs the sandbox

    from .replay import save  # noqa: PLC0415

    if letter.recording is None:
        hint = "there was no run, or it has no room; and a worker can be told to make none (--record '')"
        raise WrongUsage(f"the dead letter {letter_id(letter)} has no recording", hint)
    try:
        recording = unpack_recording(letter.recording)
        request = read_request(revived(letter), letter.plugin, max_bytes=len(letter.message.body))
    except (RecordingUnreadable, MalformedMessage) as error:
        raise WrongUsage(f"the recording in the dead letter {letter_id(letter)}: {error}") from error
    save(recording.with_request(request.body), path)


def run_replay(place: Place, chosen: Choice, *, as_json: bool) -> ExitCode:
    """Replay them; what could not be replayed stays, and fails the command."""
    configure_logging("warning", as_json=as_json)
    return _settle(place, chosen, DeadQueue.replay, Tally("replayed"), as_json=as_json)


def run_discard(place: Place, chosen: Choice, *, yes: bool, as_json: bool) -> ExitCode:
    """Discard them, once the user has confirmed it."""
    configure_logging("warning", as_json=as_json)
    if not yes and not _confirmed(place, chosen):
        print_note("nothing was discarded")
        return ExitCode.FAILED
    return _settle(place, chosen, DeadQueue.discard, Tally("discarded"), as_json=as_json)


def _confirmed(place: Place, chosen: Choice) -> bool:
    """Ask with nothing held: the user may take an hour, and a consumer has half of one."""
    if not sys.stdin.isatty():
        raise WrongUsage("discarding is for good, and there is no terminal to ask at", "--yes discards without asking")

    async def depth(queue: DeadQueue) -> int:
        return queue.depth

    waiting = asyncio.run(_at(place, depth))
    which = "all" if chosen == choice() else "the chosen ones of the"
    try:
        answer = stderr().input(Text(f"Discard for good {which} {waiting:,} dead letters? [y/N] "))
    except EOFError:
        return False
    return answer.strip().lower() in {"y", "yes"}


@dataclass(slots=True)
class Tally:
    """How many letters were meant, how many of these are settled, and why the others stay."""

    done: str
    meant: int = 0
    settled: int = 0
    stay: Counter[str] = field(default_factory=Counter[str])

    async def settle(self, act: Callable[[HeldLetter], Awaitable[None]], held: HeldLetter) -> None:
        try:
            await act(held)
        except DeliveryLost:
            return  # the broker has it back, and gives it again
        except (Unroutable, PublishRefused, MalformedMessage, ValueError) as reason:
            self.stay[str(reason)] += 1
        else:
            self.settled += 1
        self.meant += 1

    def __str__(self) -> str:
        """`replayed 1,000 of 1,002; 2 stay: no queue takes …`."""
        parts = [f"{self.done} {self.settled:,} of {self.meant:,}"]
        for reason, count in self.stay.most_common(REASONS_NAMED):
            parts.append(f"{count:,} {'stays' if count == 1 else 'stay'}: {reason}")
        if len(self.stay) > REASONS_NAMED:
            parts.append("others stay for other reasons")
        return "; ".join(parts)


def _settle(
    place: Place,
    chosen: Choice,
    act: Callable[[DeadQueue, HeldLetter], Awaitable[None]],
    tally: Tally,
    *,
    as_json: bool,
) -> ExitCode:
    try:
        asyncio.run(_at(place, lambda queue: settle_letters(queue, chosen, act, tally)))
    except BaseException:
        if tally.meant:  # what is done is done, though it went no further
            _print_tally(tally, as_json=as_json)
        raise
    _print_tally(tally, as_json=as_json)
    return ExitCode.FAILED if tally.stay else ExitCode.OK


def _print_tally(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        print_json({tally.done: tally.settled, "of": tally.meant, "stay": dict(tally.stay)})
    else:
        stdout().print(Text(printable(str(tally))), soft_wrap=True)


async def settle_letters(
    queue: DeadQueue, chosen: Choice, act: Callable[[DeadQueue, HeldLetter], Awaitable[None]], tally: Tally
) -> None:
    """Have each of the chosen letters replayed or discarded, and counted."""
    async with _progress(queue) as letters:
        await settle_each(chosen.of(letters), lambda held: tally.settle(lambda one: act(queue, one), held))
    _note_unseen(queue)


@asynccontextmanager
async def _progress(queue: DeadQueue) -> AsyncIterator[AsyncIterator[HeldLetter]]:
    """The letters of `queue`, with a bar that says how far they are, where stderr is a terminal."""
    console = stderr()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("dead letters"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=queue.depth)

        async def letters() -> AsyncIterator[HeldLetter]:
            async for held in queue.letters():
                yield held
                progress.advance(bar)

        yield letters()


def _note_unseen(queue: DeadQueue) -> None:
    if queue.is_full:
        print_note(
            f"{queue.unseen:,} more were not looked at: the letters before them are as many as can be held. "
            "Replay or discard some of those first"
        )
    elif queue.unseen:
        print_note(f"{queue.unseen:,} of {queue.depth:,} did not come: somebody else holds them, or has settled them")


async def _at(place: Place, work: Callable[[DeadQueue], Awaitable[T]]) -> T:
    """Connect, work, and disconnect."""
    transport = await connect(place.broker, timeout_s=place.timeout_s, name="warren dead")
    try:
        async with DeadQueue(transport, Names(place.prefix), publish_limit_s=place.timeout_s) as queue:
            return await work(queue)
    except QueueNotFound as missing:
        hint = "it is made by the first worker or client that connects; --prefix names another installation"
        raise WrongUsage(str(missing), hint) from missing
    finally:
        await transport.close()

"""`warren dead`: the commands for dead letters, with their arguments, options and help. `dead_work` is what they do."""
# ruff: noqa: PLC0415 - see `app`: the bus takes a while to import

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from .options import DEFAULT_PREFIX, DEFAULT_TIMEOUT_S, AsJson, NeededBroker, Prefix, Timeout
from .place import Place

dead = typer.Typer(
    no_args_is_help=True, help="Dead letters: requests and messages that were given up, whole and with the reason."
)

_AGE: Final = re.compile(r"(\d{1,9})([smhd])")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def _age_ms(age: str) -> int:
    matched = _AGE.fullmatch(age)
    if matched is None:
        raise typer.BadParameter(f"{age!r} is no age: 45s, 30m, 12h and 7d are")
    return int(matched[1]) * _UNIT_MS[matched[2]]


def _checked_outcomes(outcomes: list[str] | None) -> list[str] | None:
    if not outcomes:
        return outcomes
    from warren.bus import BROKER_REASONS, OutcomeKind

    known = dict.fromkeys([*map(str, OutcomeKind), *BROKER_REASONS, "unknown"])
    for outcome in outcomes:
        if outcome not in known:
            raise typer.BadParameter(f"{outcome!r} is no outcome; there are {', '.join(known)}")
    return outcomes


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids, as `list` shows them, or how they begin.")]
OfPlugin = Annotated[
    list[str] | None, typer.Option("--plugin", metavar="NAME", help="Of this plugin; repeat it for several.")
]
WithOutcome = Annotated[
    list[str] | None,
    typer.Option(
        "--outcome",
        metavar="OUTCOME",
        callback=_checked_outcomes,
        help="With this outcome: trap, say, or delivery_limit or expired; repeat it for several.",
    ),
]
OlderThan = Annotated[int | None, typer.Option(metavar="AGE", parser=_age_ms, help="Dead for longer: 30m, 12h, 7d.")]
NewerThan = Annotated[int | None, typer.Option(metavar="AGE", parser=_age_ms, help="Dead for less than that.")]
Everything = Annotated[bool, typer.Option("--all", help="All there are.")]


@dead.command("list")
def list_(
    *,
    broker: NeededBroker,
    plugin: OfPlugin = None,
    outcome: WithOutcome = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="List no more than so many.")] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """List dead letters, the oldest first; with --json as a line of JSON each."""
    from .dead_work import choice, run_list

    chosen = choice(None, plugin, outcome, older_than, newer_than)
    return run_list(Place(broker, prefix, timeout), chosen, limit, as_json=as_json)


@dead.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="An id, as `list` shows it, or how it begins.")],
    *,
    broker: NeededBroker,
    recording: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Write the recording of its run there, for warren replay."),
    ] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Show all of a dead letter: what happened, and the message with its properties, headers and body."""
    from .dead_work import choice, run_show

    return run_show(Place(broker, prefix, timeout), choice([letter_id]), recording, as_json=as_json)


@dead.command()
def replay(
    ids: Ids = None,
    *,
    broker: NeededBroker,
    everything: Everything = False,
    plugin: OfPlugin = None,
    outcome: WithOutcome = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Publish messages again, as they were first, to the exchange and with the key that they had.

    To run one again here instead, and see why it died: show ID --recording FILE, and warren replay FILE.

    A letter is forgotten once the broker has confirmed its message. What no queue takes stays a dead letter.
    """
    from .dead_work import needed_choice, run_replay

    chosen = needed_choice(ids, plugin, outcome, older_than, newer_than, everything=everything)
    return run_replay(Place(broker, prefix, timeout), chosen, as_json=as_json)


@dead.command()
def discard(
    ids: Ids = None,
    *,
    broker: NeededBroker,
    everything: Everything = False,
    plugin: OfPlugin = None,
    outcome: WithOutcome = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Forget dead letters for good."""
    from .dead_work import needed_choice, run_discard

    chosen = needed_choice(ids, plugin, outcome, older_than, newer_than, everything=everything)
    return run_discard(Place(broker, prefix, timeout), chosen, yes=yes, as_json=as_json)

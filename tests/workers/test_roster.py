"""The roster: who is remembered, for how long, and when everybody is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from warren.bus import Announcement, WorkerState
from warren.manifests import VersionReq
from warren.workers import roster as roster_module
from warren.workers.roster import MISSED, Roster, Whereabouts, new_worker_name

PERIOD_S = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def roster(clock: Clock) -> Roster:
    return Roster("me", period_s=PERIOD_S, clock=clock)


def announced(worker: str, state: WorkerState = WorkerState.SERVING, **plugins: tuple[str, ...]) -> Announcement:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return Announcement(
        worker=worker, host="host", pid=1, started=started, warren="0.3.0", state=state, plugins=plugins
    )


def names(roster: Roster) -> set[str]:
    return {peer.worker for peer in roster.peers()}


def test_a_worker_is_remembered_until_it_was_not_heard_three_times(roster: Roster, clock: Clock) -> None:
    roster.heard(announced("other"), 100)
    clock.now += MISSED * PERIOD_S
    assert names(roster) == {"other"}
    clock.now += 0.1
    assert names(roster) == set()


def test_a_worker_that_says_goodbye_is_forgotten_at_once(roster: Roster) -> None:
    roster.heard(announced("other"), 100)
    roster.heard(announced("other", WorkerState.GONE), 100)
    assert names(roster) == set()


def test_a_worker_is_no_peer_of_its_own(roster: Roster) -> None:
    roster.heard(announced("me", digest=("1.0.0",)), 100)
    assert names(roster) == set()


def test_everybody_is_known_when_it_has_heard_itself_for_a_period(roster: Roster, clock: Clock) -> None:
    known = [roster.complete]
    roster.heard(announced("me"), 100)
    known.append(roster.complete)
    clock.now += PERIOD_S
    known.append(roster.complete)
    assert known == [False, False, True]


def test_after_a_gap_everybody_has_to_be_heard_again(roster: Roster, clock: Clock) -> None:
    known: list[bool] = []
    roster.heard(announced("me"), 100)
    for passed_s in (
        PERIOD_S,
        MISSED * PERIOD_S + 1,
        PERIOD_S,
    ):  # in the second the process was frozen, or the broker away
        clock.now += passed_s
        known.append(roster.complete)
        roster.heard(announced("me"), 100)
    assert known == [True, False, True]


@pytest.mark.parametrize(
    ("requirement", "fitting"), [(None, 2), ("^1", 1), ("=1.2.0", 1), ("^2", 1), ("^3", 0), (">=1, <2", 1)]
)
def test_versions_are_found_by_requirement(roster: Roster, requirement: str | None, fitting: int) -> None:
    roster.heard(announced("one", digest=("1.0.0", "1.2.0")), 100)
    roster.heard(announced("two", digest=("2.0.0",)), 100)
    roster.heard(announced("three", other=("1.0.0",)), 100)
    wanted = None if requirement is None else VersionReq.parse(requirement)
    assert roster.whereabouts("digest", wanted) == Whereabouts(serving=2, fitting=fitting)


def test_a_worker_that_drains_takes_no_requests(roster: Roster) -> None:
    roster.heard(announced("one", WorkerState.DRAINING, digest=("1.0.0",)), 100)
    assert roster.whereabouts("digest", None) == Whereabouts(0, 0)


def test_a_version_that_is_none_fits_no_requirement(roster: Roster) -> None:
    roster.heard(announced("one", digest=("newest", "1.0")), 100)
    assert roster.whereabouts("digest", VersionReq.parse("*")) == Whereabouts(1, 0)


def test_what_is_remembered_is_bounded_and_what_was_missed_makes_room(
    roster: Roster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster_module, "MAX_BYTES", 250)
    assert roster.heard(announced("one"), 100)
    assert roster.heard(announced("one"), 200)  # in the place of the first
    assert not roster.heard(announced("two"), 100)
    assert names(roster) == {"one"}
    clock.now += MISSED * PERIOD_S + 0.1
    assert roster.heard(announced("two"), 100)
    assert names(roster) == {"two"}


def test_no_two_workers_of_a_process_have_one_name() -> None:
    assert len({new_worker_name() for _ in range(20)}) > 15

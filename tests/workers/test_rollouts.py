"""Where rollouts begin and end, and what each version gets: real plugins, outcomes as data, a clock by hand."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.guests import answering, write_plugin
from warren.bus import Message, Request
from warren.manifests import VersionReq, parse_version
from warren.plugins import LoadFailed, Outcome, PluginManager, PluginNotFound
from warren.workers.metrics import ROLLOUT_DECISIONS, ROLLOUT_PERCENT, WorkerMetrics
from warren.workers.rollout import State
from warren.workers.rollouts import RolloutChange, RolloutRefused, Rollouts, RolloutStatus
from warren.workers.trial import Trial

ROLLOUT = "[rollout]\npercent = 50\nmin_requests = 20\nwindow_s = 60\n"


@dataclass
class Bench:
    """The rollouts of plugin `mole`, in a folder of its versions."""

    folder: Path
    manager: PluginManager
    metrics: WorkerMetrics
    now: float = 1000.0
    changes: list[RolloutChange] = field(default_factory=list)
    published: int = 0

    def __post_init__(self) -> None:
        self.rollouts = Rollouts(self.manager, self.metrics, clock=lambda: self.now)
        self.rollouts.on_change = self.changes.append

    async def load(self, version: str, extra: str = "", wasm: bytes | None = None) -> None:
        stem = version.replace(".", "_")
        await self.manager.load_plugin(write_plugin(self.folder, "mole", wasm, extra, version=version, stem=stem))

    def choose(
        self, requirement: str | None = None, *, prefer: str | None = None, **properties: Any
    ) -> tuple[str, Trial | None]:
        """The version that the next request gets."""
        self.published += 1
        message = Message(b"{}", **{"message_id": f"m-{self.published}", **properties})
        request = Request("mole", "do", b"{}", message, requirement, None, 1, 0, None)
        parsed = None if requirement is None else VersionReq.parse(requirement)
        if (route := self.rollouts.routes.get("mole")) is None:
            return self.manager.find("mole", parsed, prefer=prefer).version, None
        plugin, trial = route.choose(request, parsed, prefer=prefer)
        return plugin.version, trial

    def versions(self, requirement: str | None = None, **properties: Any) -> set[str]:
        """Those that a hundred requests get."""
        return {self.choose(requirement, **properties)[0] for _ in range(100)}

    def serve(self, requests: int, *, bad: str = "", attempt: int = 1) -> None:
        """So many requests; those that version `bad` gets trap."""
        for _ in range(requests):
            version, trial = self.choose()
            plugin = next(one for one in self.manager.plugins() if one.version == version)
            request = Request("mole", "do", b"{}", Message(b"{}"), None, None, attempt, 0, None)
            if trial is not None:
                trial.ran(plugin, request, Outcome("trap" if version == bad else "ok", fuel=100))

    @property
    def status(self) -> RolloutStatus:
        (one,) = self.rollouts.status()
        return one

    @property
    def decisions(self) -> list[str]:
        return [change.decision for change in self.changes]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with PluginManager() as manager:
        bench = Bench(tmp_path, manager, WorkerMetrics(in_flight=lambda: 0))
        bench.rollouts.open()
        yield bench
        await bench.rollouts.close()


async def test_a_version_without_a_rollout_gets_all_at_once_and_costs_no_route(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0")
    assert bench.versions() == {"2.0.0"}
    assert (bench.rollouts.routes, bench.rollouts.status()) == ({}, ())


async def test_a_first_version_is_not_rolled_out_since_there_is_nothing_beside_it(bench: Bench) -> None:
    await bench.load("1.0.0", ROLLOUT)
    assert bench.versions() == {"1.0.0"}
    assert bench.rollouts.status() == ()


async def test_a_rollout_begins_with_its_version_beside_the_highest_other(bench: Bench) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0-rc.1"):
        await bench.load(version)
    await bench.load("2.0.0", ROLLOUT)
    assert bench.versions() == {"1.1.0", "2.0.0"}
    assert bench.changes == [RolloutChange("mole", "2.0.0", "1.1.0", "started", "its manifest says so")]
    assert (bench.status.state, bench.status.new.version, bench.status.old.version) == (State.CANARY, "2.0.0", "1.1.0")


async def test_what_is_loaded_already_is_rolled_out_at_the_start(tmp_path: Path) -> None:
    for version, extra in (("1.0.0", ""), ("2.0.0", ROLLOUT)):
        write_plugin(tmp_path, "mole", None, extra, version=version, stem=version.replace(".", "_"))
    async with PluginManager(tmp_path) as manager:
        bench = Bench(tmp_path, manager, WorkerMetrics(in_flight=lambda: 0))
        bench.rollouts.open()
        assert bench.versions() == {"1.0.0", "2.0.0"}
        await bench.rollouts.close()


async def test_a_pre_release_gets_its_share_and_everything_once_it_is_promoted(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0-rc.1", ROLLOUT)
    assert bench.versions() == {"1.0.0", "2.0.0-rc.1"}
    assert bench.versions(">=1") == {"1.0.0"}, "which does not admit pre-releases"
    bench.rollouts.promote("mole")
    assert (bench.versions(), bench.versions(">=1")) == ({"2.0.0-rc.1"}, {"1.0.0"})


async def test_a_version_that_does_not_initialise_never_starts(bench: Bench) -> None:
    await bench.load("1.0.0")
    broken = answering("no").replace(b"handle_request", b"handle_requezt")
    with pytest.raises(LoadFailed):
        await bench.load("2.0.0", ROLLOUT, broken)
    assert (bench.versions(), bench.changes) == ({"1.0.0"}, [])


@pytest.mark.parametrize(
    ("requirement", "given"),
    [
        ("^1", {"1.1.0"}),
        ("^2", {"2.0.0"}),
        ("=1.0.0", {"1.0.0"}),
        (">=1", {"1.1.0", "2.0.0"}),
        ("*", {"1.1.0", "2.0.0"}),
    ],
)
async def test_a_requests_own_requirement_always_wins(bench: Bench, requirement: str, given: set[str]) -> None:
    for version in ("1.0.0", "1.1.0"):
        await bench.load(version)
    await bench.load("2.0.0", ROLLOUT)
    assert bench.versions(requirement) == given
    with pytest.raises(PluginNotFound, match=r"no version of plugin 'mole' matches '\^7'"):
        bench.choose("^7")
    bench.rollouts.promote("mole")
    assert bench.versions(requirement) == (given if len(given) == 1 else {"2.0.0"})
    bench.rollouts.roll_back("mole")
    assert bench.versions(requirement) == (given if len(given) == 1 else {"1.1.0"})


@pytest.mark.parametrize("shadow", [False, True])
async def test_no_request_gets_a_version_that_it_does_not_admit_whatever_was_decided(
    bench: Bench, *, shadow: bool
) -> None:
    for version in ("1.0.0", "1.2.0", "2.0.0-rc.1", "2.0.0"):
        await bench.load(version)
    await bench.load("3.0.0", ROLLOUT + f"shadow = {str(shadow).lower()}\n")
    orders: list[Callable[[], None]] = [
        lambda: None,
        lambda: bench.rollouts.promote("mole"),
        lambda: bench.rollouts.roll_back("mole"),
        lambda: bench.rollouts.start("mole", "1.0.0"),
        lambda: bench.rollouts.promote("mole"),
    ]
    loaded = [plugin.manifest.version for plugin in bench.manager.plugins()]
    for order in orders:
        order()
        for requirement in ("*", "1", "~1.0", "=1.2.0", "<2", ">1.0.0, <3", "=2.0.0-rc.1", ">=2", "3", "4", "<1"):
            parsed = VersionReq.parse(requirement)
            for prefer in (None, "1.2.0", "3.0.0", "7.0.0"):
                if any(map(parsed.matches, loaded)):
                    given = {bench.choose(requirement, prefer=prefer)[0] for _ in range(20)}
                    assert all(parsed.matches(parse_version(version)) for version in given)
                else:
                    with pytest.raises(PluginNotFound):
                        bench.choose(requirement, prefer=prefer)


async def test_only_requests_that_both_could_serve_count_each_once(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    assert [bench.choose(requirement)[1] for requirement in ("^1", "^2")] == [None, None]
    assert bench.choose(message_id=None) == ("1.0.0", None), "without a key nothing is drawn"
    bench.serve(10, attempt=2)
    assert (bench.status.new.requests, bench.status.old.requests) == (0, 0)
    bench.serve(10)
    assert bench.status.new.requests + bench.status.old.requests == 10


async def test_a_caller_and_each_retry_stay_on_one_side(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT + 'sticky = "x-user"\n')
    sides = {user: bench.versions(headers={"x-user": user}) for user in map(str, range(50))}
    assert {len(side) for side in sides.values()} == {1}
    assert set.union(*sides.values()) == {"1.0.0", "2.0.0"}
    assert bench.versions() == {"1.0.0"}, "who has no such header stays"


async def test_a_retry_that_stays_on_its_version_is_not_drawn_again(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    for version in ("1.0.0", "2.0.0"):
        assert bench.versions(prefer=version) == {version}
    assert bench.versions("^1", prefer="2.0.0") == {"1.0.0"}
    bench.rollouts.roll_back("mole")
    assert bench.versions(prefer="2.0.0") == {"1.0.0"}, "not on one that was found bad"


async def test_one_that_fails_more_is_rolled_back_at_once_with_the_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    bench.serve(100, bad="2.0.0")
    assert (bench.status.state, bench.versions()) == (State.ROLLED_BACK, {"1.0.0"})
    assert "100.0 % of 20 runs failed (trap) against 0.0 % of " in bench.changes[-1].reason
    assert "rolled back mole 2.0.0: 100.0 % of 20 runs" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
    counted = bench.metrics.snapshot()
    assert counted[ROLLOUT_DECISIONS.name]["mole", "rolled_back"] == 1
    assert counted[ROLLOUT_PERCENT.name] == {("mole", "2.0.0"): 0}


async def test_a_good_one_is_promoted_when_the_window_is_over_and_not_before(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    assert bench.metrics.snapshot()[ROLLOUT_PERCENT.name] == {("mole", "2.0.0"): 50}
    bench.serve(200)
    assert (bench.status.state, bench.status.reason) == (State.CANARY, "0 of 60 s have gone by")
    bench.now += 60
    bench.serve(1)
    assert (bench.status.state, bench.versions(), bench.rollouts.routes) == (State.PROMOTED, {"2.0.0"}, {})
    assert bench.decisions == ["started", "promoted"]
    assert bench.metrics.snapshot()[ROLLOUT_PERCENT.name] == {("mole", "2.0.0"): 100}


async def test_one_that_waits_for_an_order_is_ready_and_watched_on(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT + 'promote = "order"\n')
    bench.serve(200)
    bench.now += 60
    bench.serve(1)
    assert (bench.status.state, bench.status.ready, bench.status.new.requests) == (State.CANARY, True, 0)
    bench.serve(200, bad="2.0.0")
    assert bench.status.state is State.ROLLED_BACK
    bench.rollouts.promote("mole")
    assert bench.versions() == {"2.0.0"}, "an order is an order"


async def test_one_that_was_rolled_back_stays_so_until_it_is_another_or_an_order_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    bench.serve(100, bad="2.0.0")
    await bench.manager.reload_plugin("mole", "2.0.0")
    assert bench.versions() == {"1.0.0"}
    await bench.manager.unload_plugin("mole", "2.0.0")
    assert bench.rollouts.status() == ()
    await bench.load("2.0.0", ROLLOUT)
    assert (bench.status.state, bench.versions()) == (State.ROLLED_BACK, {"1.0.0"})
    assert bench.decisions == ["started", "rolled_back"]
    bench.rollouts.start("mole")
    assert bench.versions() == {"1.0.0", "2.0.0"}
    bench.rollouts.roll_back("mole", "a feeling\nERROR of mine")
    assert bench.status.reason == "a feeling\nERROR of mine"
    assert r"rolled back mole 2.0.0: a feeling\nERROR of mine" in caplog.messages, "in one line"
    await bench.load("2.0.0", ROLLOUT + '[settings]\nmended = "yes"\n')
    assert (bench.status.state, bench.versions()) == (State.CANARY, {"1.0.0", "2.0.0"})


async def test_one_that_was_rolled_back_is_given_only_to_who_admits_nothing_else(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    bench.rollouts.roll_back("mole")
    assert (bench.versions(">=1"), bench.versions("^2")) == ({"1.0.0"}, {"2.0.0"})
    await bench.load("3.0.0", ROLLOUT)
    assert bench.versions() == {"1.0.0", "3.0.0"}, "what was rolled back is nothing to compare with"
    assert bench.versions(">=1, <3") == {"1.0.0"}
    await bench.manager.unload_plugin("mole", "1.0.0")
    assert bench.versions() == {"3.0.0"}
    await bench.manager.unload_plugin("mole", "3.0.0")
    assert bench.versions() == {"2.0.0"}, "there is nothing else"


async def test_a_candidate_that_is_overtaken_by_another_gets_nothing_more(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    await bench.load("3.0.0", ROLLOUT)
    assert bench.versions() == {"1.0.0", "3.0.0"}
    assert [(one.version, one.decision) for one in bench.changes] == [
        ("2.0.0", "started"),
        ("2.0.0", "rolled_back"),
        ("3.0.0", "started"),
    ]
    await bench.load("4.0.0")
    assert (bench.versions(), bench.decisions[-1]) == ({"4.0.0"}, "ended"), "of which nothing was said"
    assert bench.rollouts.status() == ()


async def test_what_was_rolled_back_is_forgotten_with_its_version_also_where_a_newer_one_waits(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    bench.rollouts.roll_back("mole")
    await bench.manager.unload_plugin("mole", "1.0.0")
    await bench.load("3.0.0", ROLLOUT)
    assert bench.versions() == {"3.0.0"}, "there is nothing sound to compare it with"
    await bench.manager.unload_plugin("mole", "2.0.0")
    assert (bench.versions(), bench.rollouts.status(), bench.rollouts.routes) == ({"3.0.0"}, (), {})
    assert bench.metrics.snapshot()[ROLLOUT_PERCENT.name] == {}


async def test_a_rollout_ends_when_either_version_goes(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    await bench.manager.unload_plugin("mole", "1.0.0")
    assert (bench.versions(), bench.changes[-1].reason) == ({"2.0.0"}, "1.0.0 was unloaded, and nothing else is there")
    await bench.load("1.0.0")
    assert bench.versions() == {"1.0.0", "2.0.0"}, "it begins again: nothing was decided"
    await bench.manager.unload_plugin("mole", "2.0.0")
    assert (bench.versions(), bench.changes[-1].reason) == ({"1.0.0"}, "it was unloaded")
    await bench.manager.unload_plugin("mole")
    assert (bench.rollouts.routes, bench.metrics.snapshot()[ROLLOUT_PERCENT.name]) == ({}, {})


async def test_runs_under_way_when_a_rollout_ends_change_nothing(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT + "")
    trials = [trial for _, trial in (bench.choose() for _ in range(100)) if trial is not None]
    candidate = trials[0].candidate
    await bench.manager.unload_plugin("mole", "2.0.0")
    request = Request("mole", "do", b"{}", Message(b"{}"), None, None, 1, 0, None)
    for trial in trials:
        trial.ran(candidate, request, Outcome("trap"))
    assert bench.decisions == ["started", "ended"]


async def test_counts_begin_anew_when_the_old_version_is_another(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0", ROLLOUT)
    bench.serve(100)
    await bench.manager.reload_plugin("mole", "1.0.0")
    assert bench.status.old.requests > 0, "the same content is the same"
    await bench.load("1.1.0")
    assert (bench.status.old.version, bench.status.old.requests, bench.status.new.requests) == ("1.1.0", 0, 0)
    assert bench.versions() == {"1.1.0", "2.0.0"}


async def test_an_order_can_roll_out_any_version_with_any_policy(bench: Bench) -> None:
    await bench.load("1.0.0")
    await bench.load("2.0.0")
    bench.rollouts.start("mole", "1.0.0", percent=90.0)
    assert bench.versions() == {"1.0.0", "2.0.0"}
    assert json.loads(json.dumps(asdict(bench.status)))["policy"]["percent"] == 90, "it is data"
    bench.rollouts.promote("mole", "2.0.0 is slow")
    assert bench.versions() == {"1.0.0"}
    await bench.load("3.0.0")
    assert bench.versions() == {"3.0.0"}, "the next version is not held up by it"


async def test_an_ordered_rollout_is_not_displaced_by_what_was_decided_before(bench: Bench) -> None:
    for version, extra in (("1.0.0", ""), ("2.0.0", ""), ("3.0.0", ROLLOUT)):
        await bench.load(version, extra)
    bench.rollouts.roll_back("mole")
    bench.rollouts.start("mole", "1.0.0")
    await bench.manager.reload_plugin("mole", "2.0.0")
    assert (bench.status.new.version, bench.versions()) == ("1.0.0", {"1.0.0", "2.0.0"})


async def test_an_order_for_another_version_takes_back_what_is_being_rolled_out(bench: Bench) -> None:
    for version, extra in (("1.0.0", ""), ("2.0.0", ""), ("3.0.0", ROLLOUT)):
        await bench.load(version, extra)
    bench.rollouts.start("mole", "1.0.0")
    assert bench.versions() == {"1.0.0", "2.0.0"}
    await bench.manager.reload_plugin("mole", "2.0.0")
    assert bench.versions() == {"1.0.0", "2.0.0"}
    assert [(one.version, one.decision) for one in bench.changes] == [
        ("3.0.0", "started"),
        ("3.0.0", "rolled_back"),
        ("1.0.0", "started"),
    ]


async def test_an_order_that_makes_no_sense_is_refused_with_a_sentence(bench: Bench) -> None:
    def refused(order: str, *arguments: str) -> str:
        with pytest.raises(RolloutRefused) as error:
            getattr(bench.rollouts, order)("mole", *arguments)
        return str(error.value)

    assert refused("start") == "mole: no version of it is loaded"
    await bench.load("1.0.0")
    assert refused("start", "2.0.0") == "mole: version 2.0.0 is not loaded; loaded: 1.0.0"
    assert refused("start", "1.0.0") == "mole: no other version is loaded that 1.0.0 could be compared with"
    assert refused("promote") == refused("roll_back") == "mole: nothing is rolled out; start a rollout first"
    await bench.load("2.0.0", ROLLOUT)
    bench.rollouts.promote("mole")
    assert refused("promote") == "mole: 2.0.0 is promoted already"
    bench.rollouts.roll_back("mole")
    assert refused("roll_back") == "mole: 2.0.0 is rolled back already"
    assert bench.decisions == ["started", "promoted", "rolled_back"]

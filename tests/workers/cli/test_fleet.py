"""The commands for a fleet, as far as they need none: usage, tables, the picture, and strange answers."""

from __future__ import annotations

from typing import Any, Final

import pytest
from rich.cells import cell_len

from tests.workers.cli.commands import NO_BROKER, warren
from tests.workers.cli.fleet_sample import NOW, PICTURE, fleet, picture, text, view
from warren.bus import Answer, Drain, Heard, Problem, Reload, StepRollout, Unload
from warren.workers.cli.exit_codes import ExitCode
from warren.workers.cli.fleet_view import answer_line, inspected, rates, rollouts_view, survey_view
from warren.workers.cli.fleet_work import verdict
from warren.workers.cli.place import Place
from warren.workers.cli.survey import survey_data

PLACE = Place("amqp://host", "warren", 2.0)


def test_the_picture_in_the_readme_is_what_the_command_draws() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture()


@pytest.mark.parametrize("width", [80, 120])
def test_three_workers_and_their_plugins_fit_the_terminal_with_nothing_cut_off(width: int) -> None:
    shown = text(view(width), width)
    assert max(map(cell_len, shown.splitlines())) <= width
    assert "…" not in shown
    assert ("fuel p99" in shown) is (width == 120)


def test_a_worker_with_a_long_name_makes_room_itself() -> None:
    shown = text(view(80, silent=f"warren-worker-{'x' * 60}"), 80)
    assert max(map(cell_len, shown.splitlines())) <= 80
    assert "warren-worker-xxxxx" not in shown
    assert "1,239,957" in shown


def test_those_with_the_most_to_do_come_first_for_who_watches_and_names_are_sorted_for_who_looks_once() -> None:
    first = [line.split()[0] for line in text(view(120), 120).splitlines() if line.startswith("burrow")]
    assert first == ["burrow-1-4712-03be", "burrow-1-4711-9f3a", "burrow-2-391-c77d"]
    once = text(survey_view(fleet(1), 120, now=NOW), 120)
    assert [line.split()[0] for line in once.splitlines() if line.startswith("burrow")] == sorted(first)
    assert "req/s" not in once


def test_a_worker_that_was_started_anew_in_between_has_no_rate_below_nothing() -> None:
    assert set(rates(fleet(1), fleet(0)).workers.values()) == {0}


def test_the_json_of_a_look_has_every_worker_and_every_queue() -> None:
    data = survey_data(fleet(1, silent="lost"))
    assert set(data) == {"workers", "queues", "dead_letters", "unrouted", "problems", "silent"}
    assert [worker["worker"] for worker in data["workers"]] == sorted(fleet(1).workers)
    assert set(data["workers"][0]) == {
        "worker", "host", "pid", "started", "warren", "state", "orders", "in_flight", "counters", "plugins",
    }  # fmt: skip
    assert set(data["workers"][0]["plugins"][0]) == {
        "name", "version", "description", "status", "execution_count", "failure_count", "load_count", "last_loaded",
        "last_error", "fuel_p50", "fuel_p99", "memory_bytes_p50", "memory_bytes_p99",
    }  # fmt: skip
    assert data["silent"] == ["lost"]


def failing(worker: str, problem: Problem) -> Answer:
    return Answer(worker=worker, problem=problem, error=f"{worker} says no")


@pytest.mark.parametrize(
    ("answers", "expected", "code", "says"),
    [
        ([], [], ExitCode.USAGE, "no worker answers on this broker under the prefix 'warren'"),
        ([Answer(worker="a", answer={})], ["a"], ExitCode.OK, ""),
        ([Answer(worker="a", answer={})], ["a", "b"], ExitCode.TIMED_OUT, "b: no answer within 2 s"),
        ([], ["a"], ExitCode.TIMED_OUT, "a: no answer within 2 s"),
        ([Answer(worker="a", answer={}), failing("b", Problem.NOT_FOUND)], ["a", "b"], ExitCode.OK, ""),
        ([failing("a", Problem.NOT_FOUND)], ["a"], ExitCode.FAILED, "a: a says no"),
        ([failing("a", Problem.NOT_FOUND)], ["a", "b"], ExitCode.FAILED, "b: no answer"),
        ([Answer(worker="a", answer={}), failing("b", Problem.FAILED)], ["a", "b"], ExitCode.FAILED, "b: b says no"),
        ([failing("a", Problem.REFUSED)], ["a", "b"], ExitCode.FAILED, "b: no answer within 2 s"),
    ],
)
def test_how_it_ended_is_said_and_is_the_exit_code(
    answers: list[Answer], expected: list[str], code: ExitCode, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(PLACE, Heard({one.worker: one for one in answers}, set(expected))) == code
    said = capsys.readouterr().err
    assert says in said
    assert bool(said) is bool(says)


ROLLOUT: Final[dict[str, Any]] = {
    "plugin": "a",
    "state": "canary",
    "reason": "40 of 50 requests yet",
    "elapsed_s": 75.0,
    "policy": {"percent": 10.0},
    "new": {"version": "2.0.0", "requests": 40, "failures": 3, "mean_fuel": 1234.5},
    "old": {"version": "1.0.0", "requests": 360, "failures": 1, "mean_fuel": None},
}


def test_rollouts_are_shown_for_each_worker() -> None:
    told = [
        Answer(worker="w-1", answer={"rollouts": [ROLLOUT]}),
        Answer(worker="w-2", answer={"rollouts": []}),
        Answer(worker="w-3", answer={"rollouts": [{"plugin": "\x1b[2J"}]}),
    ]
    assert rollouts_view(told).plain.splitlines() == [
        "w-1",
        "  a 2.0.0: canary, 10 % for 1 min",
        "  2.0.0         40 requests, 3 failed, 1,234 fuel each",
        "  1.0.0         360 requests, 1 failed",
        "  reason        40 of 50 requests yet",
        "w-2  nothing is rolled out",
        "w-3  what it tells makes no sense",
    ]


@pytest.mark.parametrize(
    ("order", "answer", "line"),
    [
        (Reload(plugin="digest"), {"plugin": "digest", "version": "1.0.0"}, "reloaded digest 1.0.0"),
        (Unload(plugin="a"), {"unloaded": [{"plugin": "a", "version": "1.0.0"}]}, "unloaded a 1.0.0"),
        (Drain(), {"in_flight": 3}, "drains; 3 under way"),
        (
            StepRollout(plugin="a", step="start"),
            {"rollouts": [ROLLOUT]},
            "a 2.0.0 is tried, beside 1.0.0",
        ),
        (StepRollout(plugin="a", step="start"), {"rollouts": [{"plugin": "a"}]}, "what it tells makes no sense"),
        (Reload(plugin="digest"), {"plugin": "\x1b[2J", "version": "1"}, "reloaded \\u001b[2J 1"),
        (Drain(), {"in_flight": "many"}, "what it tells makes no sense"),
        (Unload(plugin="a"), {"unloaded": [7]}, "what it tells makes no sense"),
    ],
)
def test_what_a_worker_did_is_one_line_that_cannot_act(order: Any, answer: dict[str, Any], line: str) -> None:
    assert answer_line(order, Answer(worker="w-1", answer=answer)).plain == f"w-1  {line}"


@pytest.mark.parametrize("versions", [[{}], [{"version": 7, "grant": "none"}], [{"grant": {"limits": []}}], ["x"], 7])
def test_an_answer_that_makes_no_sense_is_shown_as_one(versions: Any) -> None:
    shown = inspected([Answer(worker="w-1", answer={"versions": versions})], 0.0)
    assert "what it tells makes no sense" in shown.plain


@pytest.mark.parametrize("command", [("ps",), ("top",), ("inspect", "a"), ("reload", "a"), ("unload", "a"), ("drain",)])
def test_on_the_memory_bus_there_is_no_fleet(command: tuple[str, ...]) -> None:
    ended = warren(*command, "--broker", "memory://")
    assert ended.code == ExitCode.USAGE
    assert "on memory:// there is no fleet" in ended.err


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (("drain",), "which worker?"),
        (("drain", "w-1", "--all"), "--all means every worker, and a name means one"),
        (("reload", "No Such"), "'No Such' cannot be meant by an order to reload"),
        (("unload", "digest", ""), "cannot be meant by an order to unload"),
        (("inspect", "digest", "--worker", "x" * 300), "cannot be meant by an order to inspect"),
    ],
)
def test_orders_that_cannot_be_given_are_wrong_usage(command: tuple[str, ...], complaint: str) -> None:
    ended = warren(*command, "--broker", NO_BROKER)
    assert ended.code == ExitCode.USAGE
    assert complaint in ended.err


def test_a_broker_that_is_not_there_is_said_to_be_so() -> None:
    ended = warren("ps", "--broker", NO_BROKER)
    assert ended.code == ExitCode.UNREACHABLE

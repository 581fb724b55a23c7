"""A plugin whose runs are refused too often is run no more, until it is loaded again by order."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.guests import OK, answering, ask, calling, log_answer, needing, wat, write_plugin
from warren.manifests import Policy, Quarantine
from warren.plugins import AuditEvent, Outcome, PluginManager, RequestRejected
from warren.plugins.files import Identity
from warren.plugins.quarantine import RefusedRuns

POLICY: Final = Policy(quarantine=Quarantine(refused_runs=3, window_s=600.0))

CALL, DATA = ask("send_message", '{"topic": "secret", "payload": 1}')

#: A guest that publishes where it may not.
GREEDY: Final = wat(log_answer(CALL), more=DATA)


def refused(plugin: str | None = None) -> Outcome:
    return Outcome("denied", audit=(AuditEvent("warning", "publish", "secret", "no", 0, plugin),))


def used() -> Outcome:
    return Outcome("ok", audit=(AuditEvent("debug", "publish", "open", None, 0),))


class Clock:
    """Stands until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_refused_runs_within_the_window_are_too_many() -> None:
    runs = RefusedRuns(Quarantine(3, 10.0), clock := Clock())
    assert [runs.are_too_many_with(refused()) for _ in range(2)] == [False, False]
    clock.now = 10.0
    assert runs.are_too_many_with(refused())
    assert runs.sentence(Identity("a", "1.0.0")) == (
        "a 1.0.0 is in quarantine: 3 runs were refused what it may not do within 10 s, the last publish 'secret': no; "
        "`warren reload a 1.0.0` runs it again"
    )


def test_refused_runs_that_are_further_apart_are_not() -> None:
    runs = RefusedRuns(Quarantine(3, 10.0), clock := Clock())
    for clock.now in (0.0, 9.0, 10.5, 20.5, 30.0):
        assert not runs.are_too_many_with(refused())
    clock.now = 30.5
    assert runs.are_too_many_with(refused())


def test_a_power_that_was_used_and_what_a_called_plugin_was_refused_do_not_count() -> None:
    runs = RefusedRuns(Quarantine(1, 10.0), Clock())
    assert not runs.are_too_many_with(used())
    assert not runs.are_too_many_with(refused("helper"))
    assert runs.are_too_many_with(refused())
    assert "one run was refused" in runs.sentence(Identity("a", "1.0.0"))


async def denied(manager: PluginManager, times: int) -> None:
    for _ in range(times):
        assert (await manager.find("a").run(b"{}")).kind == "denied"


async def test_a_plugin_in_quarantine_is_run_no_more_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "a", GREEDY)
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        await denied(manager, 3)
        outcome = await manager.find("a").run(b"{}")
        assert (outcome.kind, outcome.fuel) == ("rejected", 0)
        assert str(outcome.error).startswith("a 1.0.0 is in quarantine: 3 runs were refused")
        (info,) = manager.list_plugins()
        assert (info.status, info.last_error) == ("quarantined", outcome.error)
        assert not (await manager.health_check("a")).healthy
        with pytest.raises(RequestRejected, match="in quarantine"):
            await manager.execute_plugin("a", "do")
    assert caplog.text.count("is in quarantine") == 1


async def test_without_a_rule_for_it_nobody_is_put_in_quarantine(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", GREEDY)
    async with PluginManager(tmp_path) as manager:
        await denied(manager, 12)


async def test_it_ends_with_an_order_to_reload_and_counts_anew(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", GREEDY)
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        await denied(manager, 3)
        assert (await manager.find("a").run(b"{}")).kind == "rejected"
        await manager.reload_plugin("a")
        assert manager.list_plugins()[0].status == "loaded"
        await denied(manager, 3)
        assert (await manager.find("a").run(b"{}")).kind == "rejected"


async def test_other_files_of_the_same_version_do_not_end_it(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", GREEDY)
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        await denied(manager, 3)
        write_plugin(tmp_path, "a", answering('{"success":true,"result":2,"error":null}'))
        await manager.discover_and_load()
        assert manager.list_plugins()[0].load_count == 2
        assert (await manager.find("a").run(b"{}")).kind == "rejected"


async def test_what_a_called_plugin_does_is_for_that_one_to_answer(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a", GREEDY)
    write_plugin(tmp_path, "caller", calling("a"), needing("a"))
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        for _ in range(4):
            await manager.find("caller").run(b"{}")
        assert {info.name: info.status for info in manager.list_plugins()} == {"a": "quarantined", "caller": "loaded"}


async def test_a_guest_in_quarantine_is_not_run_for_its_shutdown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown = '(func (export "shutdown") (result i32) (i32.const 7))'
    write_plugin(tmp_path, "a", wat(log_answer(CALL), more=DATA + shutdown))
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        await denied(manager, 3)
    assert "did not shut down well" not in caplog.text


async def test_runs_that_are_refused_nothing_go_on_for_ever(tmp_path: Path) -> None:
    write_plugin(tmp_path, "a")
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        assert [(await manager.find("a").run(b"{}")).response for _ in range(10)] == [OK] * 10

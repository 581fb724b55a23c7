"""What a worker tells of upgrades that are parked and of plugins in quarantine, and how orders end both."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import pytest

from tests.fleet import LIMIT_S, member
from tests.guests import ask, log_answer, wat, write_plugin
from warren.bus import Answer, Client, Fleet, Heard, Inspect, ListPlugins, Names, Order, Problem, Reload, connect
from warren.manifests import Powers
from warren.plugins import read_policy
from warren.plugins.approvals import Approval, Approvals
from warren.plugins.checks import check_plugin
from warren.plugins.files import PluginFiles
from warren.workers.cli.fleet_view import inspected
from warren.workers.cli.reports import WorkerReport
from warren.workers.cli.survey import Survey

POLICY: Final = """
[quarantine]
refused_runs = 2
[[rules]]
plugins = ["*"]
publish = ["open.#"]
"""
MORE: Final = '[bus]\npublish = ["open.#"]\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


async def answer(fleet: Fleet, order: Order) -> Answer:
    [answered] = (await fleet.ask(order, timeout_s=LIMIT_S)).answers.values()
    return answered


def told(answered: Answer) -> dict[str, Any]:
    assert answered.answer is not None, answered.error
    return answered.answer


def statuses(answered: Answer) -> dict[str, str]:
    survey = Survey({"one": WorkerReport.model_validate(told(answered))}, Heard({}, set()))
    return {line.version: line.status for line in survey.plugins()}


async def test_a_parked_upgrade_is_told_of_and_comes_with_an_order_once_it_is_approved(
    policy: Path, tmp_path: Path, prefix: str
) -> None:
    url, plugins = f"memory://{token_hex(6)}", tmp_path / "plugins"
    write_plugin(plugins, "greeter", stem="old")
    upgrade = write_plugin(plugins, "greeter", manifest_extra=MORE, version="1.1.0", stem="new")
    transport = await connect(url)
    async with (
        member(plugins, url, prefix, policy=policy) as one,
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
        Fleet(transport, Names(prefix)) as fleet,
    ):
        assert statuses(await answer(fleet, ListPlugins())) == {"1.0.0": "loaded", "1.1.0": "parked"}
        assert one.control is not None
        inspection = await answer(fleet, Inspect(plugin="greeter"))
        page = inspected([inspection], 0.0).plain
        assert "status        parked: it has not been run" in page
        assert "it would get more than 1.0.0 was granted: publish open.#" in page
        assert (await client.call("greeter", "do")).version == "1.0.0"

        refused = await answer(fleet, Reload(plugin="greeter", version="1.1.0"))
        assert refused.problem is Problem.FAILED
        assert "`warren approve greeter 1.1.0` lets it in" in str(refused.error)
        checked = check_plugin(PluginFiles.beside(upgrade), read_policy(policy))
        Approvals(tmp_path / "approvals").add(
            Approval(plugin="greeter", version="1.1.0", digest=checked.digest.hex(), powers=Powers.of(checked.grant))
        )
        assert told(await answer(fleet, Reload(plugin="greeter", version="1.1.0")))["version"] == "1.1.0"
        assert (await client.call("greeter", "do")).version == "1.1.0"
    await transport.close()


async def test_a_plugin_in_quarantine_answers_rejected_and_comes_out_by_an_order(
    policy: Path, tmp_path: Path, prefix: str
) -> None:
    call, data = ask("send_message", '{"topic": "secret", "payload": 1}')
    url, plugins = f"memory://{token_hex(6)}", tmp_path / "plugins"
    write_plugin(plugins, "greeter", wat(log_answer(call), more=data))
    transport = await connect(url)
    async with (
        member(plugins, url, prefix, policy=policy),
        Client(url, prefix=prefix, timeout_s=LIMIT_S) as client,
        Fleet(transport, Names(prefix)) as fleet,
    ):
        outcomes = [(await client.call("greeter", "do")).outcome for _ in range(3)]
        assert outcomes == ["denied", "denied", "rejected"]
        assert "greeter 1.0.0 is in quarantine" in str((await client.call("greeter", "do")).error)
        assert statuses(await answer(fleet, ListPlugins())) == {"1.0.0": "quarantined"}
        told(await answer(fleet, Reload(plugin="greeter")))
        assert statuses(await answer(fleet, ListPlugins())) == {"1.0.0": "loaded"}
        assert (await client.call("greeter", "do")).outcome == "denied"
    await transport.close()

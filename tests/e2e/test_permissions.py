"""The permissions that `bus/CONTROL.md` prints are enough for who has them, and let no application give orders."""

from __future__ import annotations

import re
from pathlib import Path
from secrets import token_hex
from typing import Final

import pytest

from tests.broker import Broker
from tests.fleet import LIMIT_S, member, until
from tests.guests import write_plugin
from warren.bus import Client, Drain, Fleet, Names, OrderNotAllowed, Ping, connect

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]

PAGE: Final = (Path(__file__).parents[2] / "bus" / "CONTROL.md").read_text()
PRINTED: Final = re.findall(r"rabbitmqctl set_permissions (\w+) +'(\S+)' '(\S+)' '(\S+)'", PAGE)


async def user(broker: Broker, role: str, prefix: str) -> str:
    """The URL of a user with the permissions that the page prints for `role`, where `prefix` is the installation's."""
    [printed] = [permissions for name, *permissions in PRINTED if name == role]
    name = f"{role}-{token_hex(3)}"
    await broker.ctl("add_user", name, "secret")
    await broker.ctl("set_permissions", name, *(one.replace("warren", prefix) for one in printed))
    return broker.url.replace("guest:guest", f"{name}:secret")


async def test_a_worker_has_all_it_needs_and_an_application_all_but_orders(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    write_plugin(tmp_path, "plain")
    names = Names(prefix)
    worker, application = await user(broker, "worker", prefix), await user(broker, "application", prefix)
    async with (
        member(tmp_path, worker, prefix) as one,
        Client(application, prefix=prefix, timeout_s=LIMIT_S) as client,
        client.results() as results,
    ):
        assert (await client.call("plain", "do")).ok
        await client.publish("news.today", 1)
        await client.send("plain", "news.today", 1)
        assert (await anext(aiter(results))).plugin == "plain"
        await until(lambda: one.roster.complete)

        operators, applications = await connect(worker), await connect(application)
        async with Fleet(operators, names) as fleet:
            assert list((await fleet.ask(Ping(), timeout_s=LIMIT_S)).answers) == [one.name]
        async with Fleet(applications, names) as fleet:
            with pytest.raises(OrderNotAllowed, match="it may not write to"):
                await fleet.ask(Drain(), timeout_s=LIMIT_S)
        assert not one.told_to_stop.is_set()
        await operators.close()
        await applications.close()


async def test_a_worker_that_may_not_announce_itself_serves_and_says_so_seldom(
    broker: Broker, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "plain")
    url = await user(broker, "worker", prefix)
    name = re.findall(r"//([\w-]+):", url)[0]
    everything_else = f"^{prefix}\\.(?!control$)|^amq\\.default$"
    await broker.ctl("set_permissions", name, f"^{prefix}\\.", everything_else, f"^{prefix}\\.")
    async with member(tmp_path, url, prefix), Client(broker.url, prefix=prefix, timeout_s=LIMIT_S) as client:
        await until(lambda: "could not announce itself" in caplog.text)
        for _ in range(20):
            assert (await client.call("plain", "do")).ok
    assert caplog.text.count("could not announce itself") == 1

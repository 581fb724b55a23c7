"""What the fault tests share: a broker that may be ill-treated, and both ways in which Warren speaks AMQP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker import Broker, PrivateNode
from tests.faults.digger import write_digger
from tests.faults.proxy import Proxy


@pytest.fixture
def node(broker: Broker) -> PrivateNode:
    """A broker of this run's own: these tests stop it, starve it and look into its queues."""
    if not isinstance(broker, PrivateNode):
        pytest.skip("this needs a private node: unset WARREN_TEST_AMQP_URL, stop Docker, install rabbitmq-server")
    return broker


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[Proxy]:
    async with Proxy(broker.url).listening() as proxy:
        yield proxy


@pytest.fixture(params=["fast", "plain"])
def amqp_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How transports frame what they say, here and in processes started from here: by themselves, or by aio-pika."""
    path = str(request.param)
    monkeypatch.setenv("WARREN_AMQP_PATH", path)
    return path


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder with the plugin `digger` in it."""
    write_digger(tmp_path / "plugins")
    return tmp_path / "plugins"

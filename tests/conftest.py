"""What all tests share: a real broker and a real Redis, started once and only when a test asks for one, and names of a
test's own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.broker import Broker, NoBroker, any_broker
from tests.redis_server import NoRedis, RedisServer, any_redis
from warren.plugins.artefacts import CACHE_VARIABLE

# How long an example takes is the machine's affair.
settings.register_profile("warren", deadline=None)
settings.load_profile("warren")


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A RabbitMQ for this test run. Without one, tests are skipped, except in CI, where that is a failure."""
    try:
        with any_broker(tmp_path_factory.mktemp("broker") / "node") as found:
            yield found
    except NoBroker as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for this test run; without one it is as without a broker."""
    try:
        with any_redis(tmp_path_factory.mktemp("redis") / "server") as found:
            yield found
    except NoRedis as reason:
        if os.environ.get("CI"):
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session", autouse=True)
def cache_of_compiled_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compile, here and in the processes they start, is kept for this run and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def prefix() -> str:
    """A topology prefix that nobody else uses. What is declared under it is left behind."""
    return f"test-{secrets.token_hex(6)}"

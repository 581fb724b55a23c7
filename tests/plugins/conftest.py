"""What the tests of plugins share: one engine, sandboxes of any module, and the check that no guest is left over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from warren.manifests import Grant, Limits, Runtime, TopicPattern
from warren.plugins.checks import AS_FOUND, check_module
from warren.plugins.engine import Engine
from warren.plugins.guest import guests
from warren.plugins.host import STANDARD_FUNCTIONS, Caps, HostFunction
from warren.plugins.sandbox import Sandbox

MIB = 1 << 20

#: `await make_sandbox(wasm, functions=..., caps=..., config=..., runtime=..., **limits)`; it may publish on `ok.#`.
MakeSandbox = Callable[..., Awaitable[Sandbox]]


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine()


@pytest.fixture(autouse=True)
async def no_guest_is_left_over() -> AsyncIterator[None]:
    """Every store is freed, whatever became of its run."""
    yield
    assert not guests


@pytest.fixture
def make_sandbox(engine: Engine) -> MakeSandbox:
    async def make(
        wasm: bytes,
        functions: Mapping[str, HostFunction] | None = None,
        caps: Caps | None = None,
        config: bytes = b"{}",
        runtime: Runtime = AS_FOUND,
        **limits: Any,
    ) -> Sandbox:
        granted = Limits(**{"memory_bytes": MIB, "timeout_s": 10.0, **limits})
        abi, prepared = check_module(wasm, granted.memory_bytes, runtime)
        grant = Grant("tested", frozenset(), granted, publish=(TopicPattern.parse("ok.#"),))
        every_function = {**STANDARD_FUNCTIONS, **(functions or {})}
        return Sandbox(await abi.compile(engine, prepared), abi, grant, config, every_function, caps=caps or Caps())

    return make

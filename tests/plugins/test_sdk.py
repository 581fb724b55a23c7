"""The SDKs: what a plugin written with each can do is the same, whatever the language.

`sdk/` has one plugin for each language, which uses all that its SDK has; `sdk/cases.json` says what must come of it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.plugins.guest_builds import build
from warren.plugins import LoadFailed, Outcome, Plugin, PluginManager, host_function
from warren.plugins.component_abi import LIFECYCLE
from warren.plugins.component_binary import is_component, read_component
from warren.plugins.module import read_module

PROBES: Final = Path(__file__).parent / "sdk"

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(600)]

MANIFEST: Final = """
[plugin]
name = "probe"
version = "1.0.0"
[capabilities]
required = ["compute"]
[bus]
publish = ["ok.#"]
[settings]
word = "{word}"
"""


@dataclass(frozen=True)
class Case:
    """A request, and what comes of it: a result, an error with these words in it, or a trap with these in its log.

    Of a component, a bug is an exception, and an error; what is no request does not reach it; its world has no level
    below `debug`. `of` is the language that the case is for, if it is not for all.
    """

    case: str
    of: str | None = None
    action: str = ""
    data: Any = None
    raw: str | None = None
    result: Any = None
    error: str | None = None
    trap: str | None = None
    logs: list[str] | None = None
    messages: list[Any] = field(default_factory=list)

    @property
    def request(self) -> bytes:
        return (self.raw or json.dumps({"action": self.action, "data": self.data}, ensure_ascii=False)).encode()

    def __str__(self) -> str:
        return self.case


CASES: Final = [Case(**case) for case in json.loads((PROBES / "cases.json").read_text())]


@host_function(changes_nothing=True)
def add(a: int, b: int) -> int:
    return a + b


@host_function(changes_nothing=True)
async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


#: Folder of the sources, and variables for its build: AssemblyScript's memory is managed in one of two ways.
BUILDS: Final[dict[str, tuple[Path, dict[str, str]]]] = {
    **{folder.name: (folder, {}) for folder in sorted(PROBES.iterdir()) if folder.is_dir()},
    "assemblyscript, collecting": (PROBES / "assemblyscript", {"ASC_RUNTIME": "incremental"}),
}


@pytest.fixture(scope="module", params=BUILDS)
def probe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module of one language, built."""
    folder, variables = BUILDS[request.param]
    return build(folder, tmp_path_factory, **variables) / f"{folder.name}.wasm"


async def load(manager: PluginManager, probe: Path, word: str) -> Plugin:
    probe.with_suffix(".toml").write_text(MANIFEST.format(word=word))
    return await manager.load_plugin(probe)


def assert_as_promised(outcome: Outcome, case: Case, abi: str) -> None:
    if case.trap is not None:
        assert outcome.kind == ("failed" if abi == "component" else "trap")
        assert any(case.trap in line.text for line in outcome.logs), outcome.logs
        return
    if case.raw is not None and abi == "component":
        assert outcome.kind == "rejected"
        assert str(case.error) in str(outcome.error)
        return
    answer = json.loads(outcome.response)
    assert outcome.kind == ("ok" if case.error is None else "failed"), outcome.error
    if case.error is None:
        assert answer == {"success": True, "result": case.result, "error": None}
    else:
        assert (answer["success"], answer.get("result")) == (False, None)
        assert case.error in answer["error"]
    if case.logs is not None:
        logs = [line for line in case.logs if abi != "component" or not line.startswith("trace ")]
        assert [f"{line.level} {line.text}" for line in outcome.logs] == logs
    assert [[sent.to, sent.topic, json.loads(sent.payload)] for sent in outcome.messages] == case.messages


async def test_each_sdk_does_what_the_cases_say(probe: Path, subtests: pytest.Subtests) -> None:
    async with PluginManager(host_functions=[add, add_later]) as manager:
        plugin = await load(manager, probe, "rabbit")
        for case in (case for case in CASES if case.of in (None, probe.stem)):
            with subtests.test(case.case):
                assert_as_promised(await plugin.run(case.request), case, plugin.abi)


async def test_a_configuration_that_is_not_taken_fails_the_load_and_says_why(probe: Path) -> None:
    probe.with_suffix(".toml").write_text('[plugin]\nname = "probe"\nversion = "1.0.0"\n')
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match="initialize"):
            await manager.load_plugin(probe)


@pytest.fixture
def checked_probe(probe: Path) -> Path:
    """The module of a language whose SDK has a health check."""
    wasm = probe.read_bytes()
    exports = read_component(wasm)[0].exports if is_component(wasm) else read_module(wasm).exports
    if "health_check" not in exports and LIFECYCLE not in exports:
        pytest.skip("this SDK has no health check")
    return probe


async def test_who_says_that_it_is_ill_is_not_loaded(checked_probe: Path) -> None:
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match=r"health.check"):
            await load(manager, checked_probe, "ill")

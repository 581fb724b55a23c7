"""The sample plugins, and the smallest template: what is committed answers as promised, and as its sources do.

`examples.json` holds requests with all that must come of them. Rebuilding needs a plugin's compiler; modules built by
another version of it differ in bytes, so what is compared is imports, exports and behaviour.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.plugins.guest_builds import ROOT, build
from warren.plugins import Outcome, PluginManager
from warren.plugins.module import ModuleInfo, read_module


@dataclass(frozen=True)
class Case:
    """A request to one plugin, and how its run ends; `plugin` is a path without its suffix."""

    plugin: str
    case: str
    request: Any
    kind: str
    response: Any
    messages: list[Any]

    def __str__(self) -> str:
        return f"{Path(self.plugin).name}: {self.case}"


CASES: Final = [Case(**case) for case in json.loads(Path(__file__).with_name("examples.json").read_text())]

#: Every committed plugin. The template's module lies there twice, once for each form of its manifest.
PLUGINS: Final = sorted({case.plugin for case in CASES})
SOURCES: Final = [plugin for plugin in PLUGINS if not plugin.endswith("_manifest")]


@pytest.fixture(scope="module", params=SOURCES, ids=lambda plugin: Path(plugin).name)
def rebuilt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A plugin, and where the same plugin lies built anew."""
    plugin = str(request.param)
    out = build((ROOT / plugin).parent, tmp_path_factory)
    shutil.copy(ROOT / f"{plugin}.toml", out)
    return plugin, out / Path(plugin).name


def module(plugin: Path) -> ModuleInfo:
    return read_module(plugin.with_suffix(".wasm").read_bytes())


async def run(plugin: Path, case: Case) -> Outcome:
    async with PluginManager() as manager:
        loaded = await manager.load_plugin(plugin.with_suffix(".wasm"))
        return await loaded.run(json.dumps(case.request).encode())


def assert_as_promised(outcome: Outcome, case: Case) -> None:
    messages = [{"topic": sent.topic, "payload": json.loads(sent.payload)} for sent in outcome.messages]
    assert outcome.kind == case.kind, outcome.error
    assert (json.loads(outcome.response) if outcome.response else None) == case.response
    assert messages == case.messages


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_committed_module_imports_the_hosts_functions_and_nothing_else(plugin: str) -> None:
    imports = {(one.module, one.name) for one in module(ROOT / plugin).imports}
    assert imports <= {("warren_v1", "log"), ("warren_v1", "host_call")}


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_committed_plugin_answers_as_promised(case: Case) -> None:
    assert_as_promised(await run(ROOT / case.plugin, case), case)


def test_the_template_is_one_module_under_two_manifests() -> None:
    template = Path(__file__).parent / "template"
    assert (template / "text_processor_manifest.wasm").read_bytes() == (template / "example_plugin.wasm").read_bytes()


@pytest.mark.toolchain
@pytest.mark.timeout(600)
def test_a_rebuilt_module_has_the_imports_and_exports_of_the_committed_one(rebuilt: tuple[str, Path]) -> None:
    plugin, path = rebuilt
    committed, anew = module(ROOT / plugin), module(path)
    assert set(anew.imports) == set(committed.imports)
    assert anew.exports == committed.exports


@pytest.mark.toolchain
@pytest.mark.timeout(600)
async def test_a_rebuilt_plugin_answers_as_the_committed_one(rebuilt: tuple[str, Path]) -> None:
    plugin, path = rebuilt
    for case in CASES:
        if case.plugin == plugin:
            committed, anew = await run(ROOT / plugin, case), await run(path, case)
            assert (anew.kind, anew.response, anew.messages) == (committed.kind, committed.response, committed.messages)

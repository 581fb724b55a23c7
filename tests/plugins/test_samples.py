"""word_count in every language: what is built answers as promised, and so do its sources.

The samples in `plugins/samples` are one plugin, so `samples.json` holds for each of them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.plugins.guest_builds import ROOT, build
from warren.plugins import PluginManager

SAMPLES: Final = sorted((ROOT / "plugins" / "samples").glob("word_count_*/word_count_*.toml"))
BUILT: Final = [manifest for manifest in SAMPLES if manifest.with_suffix(".wasm").exists()]


@dataclass(frozen=True)
class Case:
    """A text, and what is answered: a result, or an error."""

    case: str
    data: Any
    result: Any = None
    error: str | None = None


CASES: Final = [Case(**case) for case in json.loads(Path(__file__).with_name("samples.json").read_text())]


async def assert_as_promised(plugin: Path) -> None:
    async with PluginManager() as manager:
        loaded = await manager.load_plugin(plugin.with_suffix(".wasm"))
        for case in CASES:
            outcome = await loaded.run(json.dumps({"action": "count", "data": case.data}).encode())
            assert outcome.kind == ("ok" if case.error is None else "failed"), outcome.error
            expected = {"success": case.error is None, "result": case.result, "error": case.error}
            assert json.loads(outcome.response) == expected, case.case


@pytest.mark.parametrize("manifest", BUILT, ids=lambda manifest: manifest.stem)
async def test_a_built_sample_answers_as_promised(manifest: Path) -> None:
    await assert_as_promised(manifest)


@pytest.mark.toolchain
@pytest.mark.timeout(600)
@pytest.mark.parametrize("manifest", SAMPLES, ids=lambda manifest: manifest.stem)
async def test_a_rebuilt_sample_answers_as_promised(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = build(manifest.parent, tmp_path_factory)
    shutil.copy(manifest, out)
    await assert_as_promised(out / manifest.name)

"""The JavaScript SDK: what takes more than one request to see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.plugins.guest_builds import ROOT, build
from warren.plugins import PluginManager


@pytest.mark.toolchain
async def test_no_two_requests_draw_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each begins with what the build left, and QuickJS's own seed is of that."""
    module = build(ROOT / "tests" / "plugins" / "sdk" / "javascript", tmp_path_factory) / "javascript.wasm"
    manifest = '[plugin]\nname = "probe"\nversion = "1.0.0"\n[settings]\nword = "rabbit"\n'
    module.with_suffix(".toml").write_text(manifest)
    drawn: list[Any] = []
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(module)
        for _ in range(2):
            outcome = await plugin.run(b'{"action": "draw", "data": null}')
            drawn += json.loads(outcome.response)["result"]
    assert len(set(drawn)) == 4

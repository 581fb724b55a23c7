"""The plugin template of a newcomer: an answer as a bare pointer, and manifests with more in them than Warren reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warren.manifests import Policy
from warren.plugins import PluginManager

TEMPLATE = Path(__file__).parent / "template"


@pytest.mark.parametrize(
    ("stem", "name"), [("example_plugin", "example_plugin"), ("text_processor_manifest", "text_processor")]
)
async def test_the_template_loads_and_runs_under_either_manifest(stem: str, name: str) -> None:
    async with PluginManager(policy=Policy()) as manager:
        plugin = await manager.load_plugin(TEMPLATE / f"{stem}.wasm")
        assert plugin.name == name
        request = {"action": "process_data", "data": {"text": "Grüße, \U0001f407!"}}
        outcome = await plugin.run(json.dumps(request).encode())
        assert outcome.kind == "ok", outcome
        assert json.loads(outcome.response)["success"] is True
        outcome = await plugin.run(b'{"action":"no_such_action","data":null}')
        assert outcome.kind == "failed"

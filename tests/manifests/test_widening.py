"""What an upgrade would get and its predecessor was not granted."""

from __future__ import annotations

import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from warren.manifests import NO_POWERS, Grant, Limits, Policy, Powers, Version, grant, parse_manifest, widening

CASES = tomllib.loads((Path(__file__).parent / "data" / "widening.toml").read_text())["case"]

#: A field of a grant, by the name it has among powers, where that is another; and what is no power at all.
RENAMED = {"dependencies": "calls", "may_subscribe": "subscribe"}
NO_POWER = {"plugin", "withheld"}


def powers(written: dict[str, Any]) -> Powers:
    limits = replace(NO_POWERS.limits, **written.get("limits", {}))
    return Powers.model_validate(NO_POWERS.model_dump() | written | {"limits": limits})


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_what_is_more_is_named(case: dict[str, Any]) -> None:
    assert list(map(str, widening(powers(case["old"]), powers(case["new"])))) == case["more"]


def test_whatever_a_grant_may_hold_is_compared_in_a_case() -> None:
    granted = {RENAMED.get(field.name, field.name) for field in fields(Grant)} - NO_POWER
    compared = {str(more).split(" ")[0] for case in CASES for more in case["more"]}
    assert set(Powers.model_fields) == granted
    assert granted - {"limits"} <= compared


@pytest.mark.parametrize("limit", [field.name for field in fields(Limits)])
def test_every_limit_is_compared(limit: str) -> None:
    higher = powers({"limits": {limit: 7}})
    assert list(map(str, widening(NO_POWERS, higher))) == [f"{limit} 7, not 0"]


def test_the_powers_of_a_grant_can_be_kept_as_json() -> None:
    manifest = parse_manifest((Path(__file__).parent / "data" / "everything.toml").read_bytes())
    everything = Policy(capabilities=frozenset({"network", "filesystem", "compute", "storage"}))
    kept = Powers.of(grant(manifest, everything, Version(9, 9, 9)))
    assert all([kept.network_hosts, kept.publish, kept.read_files])
    assert list(map(str, kept.subscribe)) == ["text.processed.#", "rooms.*"], "what it may ask for counts, too"
    assert Powers.model_validate_json(kept.model_dump_json()) == kept

"""The published JSON Schema accepts what the parser accepts, and refuses what is wrong in form."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest

from warren.manifests.plugin_schema import FILE_NAME, plugin_schema, schema_text

ROOT: Final = Path(__file__).parents[2]
DATA: Final = Path(__file__).parent / "data"
SOUND: Final = [
    *(DATA / name for name in ("everything.toml", "flat.toml", "sectioned.toml", "template.toml")),
    *sorted(path.with_suffix(".toml") for path in (ROOT / "plugins" / "examples").glob("*/*.wasm")),
    *sorted((ROOT / "tests" / "plugins" / "template").glob("*_*.toml")),
]
REFUSED: Final = tomllib.loads((DATA / "refused.toml").read_text())["case"]

#: What only the parser refuses: a schema has no words for it, or bad ones.
PARSERS_OWN: Final = tomllib.loads((DATA / "beyond_schema.toml").read_text())["names"]


@pytest.fixture(scope="module")
def schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(plugin_schema())


def accepts(schema: jsonschema_rs.Draft202012Validator, text: str) -> bool:
    """A document that is no TOML, or has values JSON has not, is not for a schema to judge; it is refused."""
    try:
        return schema.is_valid(json.loads(json.dumps(tomllib.loads(text), allow_nan=False)))
    except (tomllib.TOMLDecodeError, TypeError, ValueError):
        return False


def test_the_published_file_is_the_schema_of_the_models() -> None:
    published = (files("warren.manifests") / FILE_NAME).read_text(encoding="utf-8")
    assert published == schema_text(), "make it anew: warren schema > manifests/warren/manifests/plugin.schema.json"


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.name)
def test_a_sound_manifest_fits(schema: jsonschema_rs.Draft202012Validator, path: Path) -> None:
    schema.validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_the_parser_refuses_does_not_fit_unless_only_the_parser_can_know(
    schema: jsonschema_rs.Draft202012Validator, case: dict[str, Any]
) -> None:
    assert accepts(schema, case["manifest"]) == (case["name"] in PARSERS_OWN)


def test_every_exception_is_the_name_of_a_case() -> None:
    assert set(PARSERS_OWN) <= {case["name"] for case in REFUSED}

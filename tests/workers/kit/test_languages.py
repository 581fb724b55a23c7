"""The folders of the SDKs: each has what `plugins/sdk/README.md` says a language is made of."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

import pytest

from hatch_build import sdks
from warren.manifests import parse_manifest
from warren.workers.kit.errors import KitError
from warren.workers.kit.languages import Language, language, languages

ROOT: Final = Path(__file__).parents[3]
SDK: Final = ROOT / "plugins" / "sdk"
WORLDS: Final = sorted(SDK.glob("*/warren/**/plugin.wit"))
LANGUAGES: Final = languages()

every_language = pytest.mark.parametrize("one", LANGUAGES, ids=lambda one: one.name)


@every_language
def test_a_language_has_a_page_and_says_what_git_is_to_ignore(one: Language) -> None:
    assert (one.folder / "README.md").is_file()
    ignored = (one.template / ".gitignore").read_text().splitlines()
    assert {"/build/", "/.build/"} <= set(ignored)


@every_language
def test_a_template_manifest_has_the_actions_of_all_and_names_the_schema_that_new_writes(one: Language) -> None:
    text = (one.template / "plugin.toml").read_text()
    manifest = parse_manifest(text.replace("{{name}}", "hello").encode())
    assert text.startswith("#:schema .warren/plugin.schema.json\n")
    assert manifest.name == "hello"
    assert {"greet", "count"} <= set(manifest.actions)


@every_language
def test_the_wheel_carries_a_language_whole(one: Language) -> None:
    packed = {path for path in sdks(ROOT) if path.is_relative_to(one.folder)}
    assert {one.folder / "toolchain.toml", one.template / ".gitignore", one.template / "plugin.toml"} <= packed


@pytest.mark.parametrize("copy", WORLDS, ids=lambda copy: copy.relative_to(SDK).parts[0])
def test_an_sdk_of_components_carries_the_world_as_it_is(copy: Path) -> None:
    assert copy.read_text() == (SDK / "wit" / "plugin.wit").read_text()


def test_an_unknown_language_is_told_which_there_are() -> None:
    with pytest.raises(KitError, match="there is no language 'cobol'") as refused:
        language("cobol")
    assert refused.value.hint == f"there are: {', '.join(one.name for one in LANGUAGES)}"


def test_every_folder_of_the_kit_is_a_language() -> None:
    folders = {path.name for path in SDK.iterdir() if path.is_dir()}
    assert folders == {one.name for one in LANGUAGES} | {"wit"}
    for one in LANGUAGES:
        assert tomllib.loads((one.folder / "toolchain.toml").read_text())["language"] == one.toolchain.language

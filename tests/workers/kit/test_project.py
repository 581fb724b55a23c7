"""Projects from templates: whole or not at all, and over nothing that is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from warren.manifests import parse_manifest
from warren.manifests.plugin_schema import plugin_schema
from warren.workers.kit.errors import KitError
from warren.workers.kit.languages import Language, languages
from warren.workers.kit.project import create_project
from warren.workers.kit.toolchain import read_toolchain

LANGUAGES = languages()


@pytest.mark.parametrize("one", LANGUAGES, ids=lambda one: one.name)
def test_a_project_has_no_placeholder_left_and_says_its_name(one: Language, tmp_path: Path) -> None:
    project = tmp_path / "some" / "where"
    create_project("big-hello", one, project)
    assert parse_manifest((project / "plugin.toml").read_bytes()).name == "big-hello"
    assert read_toolchain(project / "toolchain.toml") == one.toolchain
    assert json.loads((project / ".warren" / "plugin.schema.json").read_text()) == plugin_schema()
    files = [path for path in project.rglob("*") if path.is_file()]
    assert [path for path in files if "{{" in path.name or "{{name}}" in path.read_text()] == []
    assert list(project.parent.iterdir()) == [project]


@pytest.mark.parametrize("name", ["Hello", "1st", "", "a b", "../up", "ä", "x" * 64])
def test_a_name_that_no_plugin_can_have_makes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(KitError, match="cannot name a plugin: a plugin's name has 1 to 63"):
        create_project(name, LANGUAGES[0], tmp_path / "project")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    mine = tmp_path / "hello" / "plugin.toml"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(KitError, match="is there already, and nothing is written over"):
        create_project("hello", LANGUAGES[0], mine.parent)
    assert [path.read_text() for path in mine.parent.iterdir()] == ["mine"]


def test_a_link_in_the_projects_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "hello").symlink_to(elsewhere)
    with pytest.raises(KitError, match="is there already"):
        create_project("hello", LANGUAGES[0], tmp_path / "hello")
    assert list(elsewhere.iterdir()) == []


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    create_project("hello", LANGUAGES[0], tmp_path / "made")
    (tmp_path / "empty").mkdir()
    create_project("hello", LANGUAGES[0], tmp_path / "empty")
    assert (tmp_path / "empty" / "plugin.toml").is_file()

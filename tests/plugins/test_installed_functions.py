"""Host functions of installed distributions: only what is named is imported, and each thing wrong has its sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributions import install
from tests.guests import ask, log_answer, wat, write_plugin
from warren.plugins import HostFunctionRefused, PluginManager, enabled_functions, installed_functions

WEATHER = """
from warren.plugins import host_function

@host_function(needs="network")
def forecast(city: str, days: int = 1) -> list[str]:
    return [f"rain in {city}"] * days

@host_function()
def moon() -> str:
    return "full"

not_one = 5
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that distributions are installed into; what is imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_nothing_that_was_not_named_is_imported(site: Path) -> None:
    install(site, "weather", WEATHER, moon="weather_code:moon")
    install(site, "bomb", "raise SystemError('imported')", bang="bomb_code:bang")
    assert [one.name for one in enabled_functions(["moon"])] == ["moon"]
    assert "bomb_code" not in sys.modules


async def test_an_enabled_function_is_called_by_guests(site: Path, tmp_path: Path) -> None:
    install(site, "weather", WEATHER, moon="weather_code:moon")
    body, segment = ask("moon")
    async with PluginManager(host_functions=enabled_functions(["moon", "moon"])) as manager:
        plugin = await manager.load_plugin(write_plugin(tmp_path, "asking", wat(log_answer(body), more=segment)))
        outcome = await plugin.run(b"{}")
    assert json.loads(outcome.logs[0].text) == {"ok": "full"}


def test_one_that_is_not_installed_is_refused_with_those_that_are(site: Path) -> None:
    install(site, "weather", WEATHER, moon="weather_code:moon", forecast="weather_code:forecast")
    with pytest.raises(
        HostFunctionRefused, match=r"'mono': no installed distribution has it .*; there are forecast, moon"
    ):
        enabled_functions(["mono"])


def test_none_at_all_is_said(site: Path) -> None:
    with pytest.raises(HostFunctionRefused, match="there are none at all"):
        enabled_functions(["moon"])


def test_two_of_one_name_are_refused_with_both_owners(site: Path) -> None:
    install(site, "weather", WEATHER, moon="weather_code:moon")
    install(site, "astronomy", WEATHER, moon="astronomy_code:moon")
    with pytest.raises(HostFunctionRefused, match=r"astronomy 1\.0 and weather 1\.0 both have one of this name"):
        enabled_functions(["moon"])


def test_one_whose_module_fails_is_refused_with_the_reason(site: Path) -> None:
    install(site, "broken", "import nowhere", moon="broken_code:moon")
    reason = r"broken_code:moon of broken 1\.0 cannot be imported: ModuleNotFoundError: No module named 'nowhere'"
    with pytest.raises(HostFunctionRefused, match=reason):
        enabled_functions(["moon"])


def test_one_that_is_not_there_is_refused(site: Path) -> None:
    install(site, "weather", WEATHER, sun="weather_code:sun")
    with pytest.raises(
        HostFunctionRefused, match=r"weather_code:sun of weather 1\.0 cannot be imported: AttributeError"
    ):
        enabled_functions(["sun"])


def test_what_is_no_host_function_is_refused(site: Path) -> None:
    install(site, "weather", WEATHER, not_one="weather_code:not_one")
    with pytest.raises(HostFunctionRefused, match="is no host function: decorate it with `@host_function"):
        enabled_functions(["not_one"])


def test_one_under_another_name_is_refused(site: Path) -> None:
    """Or an operator would enable one thing, and guests call another."""
    install(site, "weather", WEATHER, harmless="weather_code:forecast")
    with pytest.raises(HostFunctionRefused, match="is called 'forecast' by guests; name the entry point so"):
        enabled_functions(["harmless"])


def test_a_list_of_all_says_what_is_wrong_with_each(site: Path) -> None:
    install(site, "weather", WEATHER, moon="weather_code:moon", forecast="weather_code:forecast")
    install(site, "astronomy", WEATHER, moon="astronomy_code:moon")
    install(site, "broken", "import nowhere", bang="broken_code:bang")
    told = [(one.name, one.distribution, one.error and one.error[:30]) for one in installed_functions()]
    assert told == [
        ("bang", "broken 1.0", "broken_code:bang of broken 1.0"),
        ("forecast", "weather 1.0", None),
        ("moon", "astronomy 1.0", "others of this name are instal"),
        ("moon", "weather 1.0", "others of this name are instal"),
    ]

"""`warren plugins functions`, and `--host-functions`: what is offered is listed, what is named is enabled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.distributions import install
from tests.guests import ask, log_answer, wat, write_plugin
from warren.workers.cli.exit_codes import ExitCode

MOON = '''
from warren.plugins import HostRun, host_function

@host_function(needs="network", changes_nothing=True)
def moon(run: HostRun, month: int = 1) -> str:
    """How the moon is.

    From the almanac.
    """
    return "full"
'''

ONLINE = '[capabilities]\noptional = ["network"]\n'


def warren_with(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, with a folder that distributions are installed into."""
    environment = os.environ | {"PYTHONPATH": str(site), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "warren.workers.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_what_is_offered_is_listed_with_its_needs(tmp_path: Path) -> None:
    install(tmp_path, "almanac", MOON, moon="almanac_code:moon")
    listed = warren_with(tmp_path, "plugins", "functions")
    assert listed.returncode == ExitCode.OK, listed.stderr
    assert listed.stdout.splitlines() == [
        "moon(month: int = 1) -> str",
        "  How the moon is.",
        "  needs         network",
        "  shadows       may call it",
        "  from          almanac 1.0",
    ]
    [data] = json.loads(warren_with(tmp_path, "plugins", "functions", "--json").stdout)["functions"]
    assert data == {
        "name": "moon",
        "distribution": "almanac 1.0",
        "signature": "moon(month: int = 1) -> str",
        "needs": ["network"],
        "changes_nothing": True,
        "description": "How the moon is.",
        "error": None,
    }


def test_one_that_cannot_be_enabled_is_listed_with_the_reason(tmp_path: Path) -> None:
    install(tmp_path, "broken", "import nowhere", moon="broken_code:moon")
    listed = warren_with(tmp_path, "plugins", "functions")
    assert listed.returncode == ExitCode.FAILED
    assert "moon: broken_code:moon of broken 1.0 cannot be imported: ModuleNotFoundError" in listed.stderr


def test_nothing_offered_is_said(tmp_path: Path) -> None:
    listed = warren_with(tmp_path, "plugins", "functions")
    assert listed.returncode == ExitCode.OK
    assert "no installed distribution offers host functions" in listed.stderr


def test_a_call_here_has_the_functions_that_are_named(tmp_path: Path) -> None:
    site, plugins = tmp_path / "site", tmp_path / "plugins"
    site.mkdir()
    install(site, "almanac", MOON.replace('needs="network", ', ""), moon="almanac_code:moon")
    body, segment = ask("moon")
    write_plugin(plugins, "mole", wat(log_answer(body), more=segment))
    call = ("call", "mole", "do", "--plugins", str(plugins), "--log-level", "info")
    assert "full" in warren_with(site, *call, "--host-functions", "moon").stderr
    assert "unknown_function" in warren_with(site, *call).stderr


def test_a_call_that_is_refused_says_so_in_the_log(tmp_path: Path) -> None:
    site, plugins = tmp_path / "site", tmp_path / "plugins"
    site.mkdir()
    install(site, "almanac", MOON, moon="almanac_code:moon")
    body, segment = ask("moon")
    write_plugin(plugins, "mole", wat(log_answer(body), more=segment), ONLINE)
    ended = warren_with(site, "call", "mole", "do", "--plugins", str(plugins), "--host-functions", "moon")
    assert "warren.audit: mole 1.0.0 was refused network: moon: the plugin may not call 'moon'" in ended.stderr


def test_a_worker_whose_function_is_not_installed_ends_at_once(tmp_path: Path) -> None:
    write_plugin(tmp_path / "plugins", "mole")
    ended = warren_with(tmp_path, "worker", "--plugins", str(tmp_path / "plugins"), "--host-functions", "moon")
    assert ended.returncode == ExitCode.USAGE
    assert "host function 'moon': no installed distribution has it" in ended.stderr

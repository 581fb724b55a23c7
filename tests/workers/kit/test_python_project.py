"""What is of a project in Python alone: tests of its functions beside Warren itself, and the world that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from warren.workers.kit.languages import language
from warren.workers.kit.project import create_project

#: Of a project, and so apart from this process, whose `warren_plugin` would be another's.
TESTS: Final = """
import pytest
from warren.plugins.testing import PluginTestFramework
from warren_plugin import HostError, action, host_call
from plugin import count, greet, on_message


def test_functions_answer_and_log(capfd, plugin_test_framework):
    assert greet({"name": "Ada"}) == {"greeting": "Hello, Ada!"}
    assert capfd.readouterr().err == "info greeting Ada\\n"
    assert isinstance(plugin_test_framework, PluginTestFramework)


def test_there_is_no_host():
    with pytest.raises(HostError, match="there is no host here to call send_message of") as refused:
        on_message({"from": "a", "to": None, "topic": "people.new", "payload": {"name": "Ada"}, "timestamp": ""})
    assert refused.value.code == "unavailable"


def test_what_is_no_json_is_not_sent():
    for wrong in ({1, 2}, float("nan")):
        with pytest.raises((TypeError, ValueError)):
            host_call("storage_set", {"key": "k", "value": wrong})


def test_an_action_has_one_function():
    assert action("other-count")(count) is count
    with pytest.raises(ValueError, match="there are two functions for the action 'count'"):
        action(count)


def test_an_action_does_not_wait():
    async def wait(data):
        return data

    with pytest.raises(TypeError, match="the function for the action 'wait' is async"):
        action(wait)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    create_project("hello", language("python"), tmp_path / "hello")
    return tmp_path / "hello"


def run(project: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_a_projects_tests_need_no_sandbox_and_have_warren_beside_its_sdk(project: Path) -> None:
    with (project / "test_plugin.py").open("a") as tests:
        tests.write(TESTS)
    ran = run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "6 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.toolchain
@pytest.mark.timeout(120)
def test_a_function_of_another_world_fails_the_build_and_says_what_to_name(project: Path) -> None:
    with (project / "plugin.py").open("a") as source:
        source.write("\n\nfrom warren_plugin import initialize\n\ninitialize(print)\n")
    built = run(project, Path(sys.executable).with_name("warren"), "build", ".")
    if "is missing, which builds" in built.stderr:
        pytest.skip(built.stderr.strip())
    assert built.returncode == 1
    assert "@initialize is of the world plugin-with-lifecycle: name that after `-w` in toolchain.toml" in built.stderr

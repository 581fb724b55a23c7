"""Running cases: those in `cases/` hold, or do not, with real plugins in the real sandbox."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest
from pydantic_core import from_json

from tests.guests import answering, asking_what_it_is_asked, write_plugin
from tests.plugins.test_virtual_time import WHILE_NS, sleeping
from tests.plugins.test_wasi import clock_subscription
from warren.manifests import ManifestError, Policy
from warren.plugins import PluginNotFound
from warren.workers.kit.case_runs import Surroundings, Tried, try_all
from warren.workers.kit.cases import Cases, find_cases, read_cases
from warren.workers.kit.errors import KitError

CASES: Final = Path(__file__).parent / "cases"

ASKER: Final = """
[capabilities]
required = ["storage"]
optional = ["network"]
[permissions]
network_hosts = ["*.example.com"]
environment_vars = ["KEY", "WHO"]
[settings]
kept = true
unit = "K"
who = "manifest"
key = "env:KEY"
"""

#: Tells its configuration to the log.
CONFIGURED: Final = """
  (func (export "initialize") (param $at i32) (param $length i32) (result i32)
    (call $log (i32.const 2) (local.get $at) (local.get $length)) (i32.const 0))"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    write_plugin(folder, "asker", asking_what_it_is_asked(CONFIGURED), ASKER)
    write_plugin(folder, "sleeper", sleeping(clock_subscription(WHILE_NS)), '[runtime]\nstreams = "text"\n')
    return folder


async def tried(files: tuple[Cases, ...], around: Surroundings) -> list[Tried]:
    return [one async for one in try_all(files, around)]


async def test_these_cases_hold(plugins: Path, subtests: pytest.Subtests) -> None:
    began = time.monotonic()
    for one in await tried(find_cases(CASES / "holds"), Surroundings(plugins)):
        with subtests.test(one.case.name):
            assert one.mismatches == ()
    assert time.monotonic() - began < WHILE_NS / 1e9  # the sleepers did not wait


async def test_these_do_not_and_it_is_told_what_does_not(plugins: Path, subtests: pytest.Subtests) -> None:
    for one in await tried(find_cases(CASES / "fails"), Surroundings(plugins)):
        with subtests.test(one.case.name):
            assert [mismatch.what for mismatch in one.mismatches] == [one.case.name]


def one_case(text: str, plugin: str = "asker") -> tuple[Cases, ...]:
    return (read_cases(f'plugin = "{plugin}"\n[[cases]]\nname = "a"\n{text}\n'.encode(), Path("a.case.toml")),)


GET_TIME: Final = 'action = "get_time"\n'


@pytest.mark.parametrize(
    ("given", "policy", "reason"),
    [
        ('environment = { KEY = "k" }', None, "requires the capability 'storage', which is not granted here"),
        ("storage = {}", None, "the variable KEY is not granted"),
        ('environment = { KEY = "k" }, storage = {}, http = []', Policy(), "requires the capability 'storage'"),
    ],
    ids=["storage that is not faked", "a variable that is not given", "a policy decides, whatever is faked"],
)
async def test_what_is_not_granted_keeps_it_from_being_loaded(
    plugins: Path, given: str, policy: Policy | None, reason: str
) -> None:
    (one,) = await tried(one_case(f"{GET_TIME}given = {{ {given} }}"), Surroundings(plugins, policy))
    (mismatch,) = one.mismatches
    assert (mismatch.what, mismatch.expected) == ("outcome", "ok")
    assert mismatch.actual.startswith("not_loaded: ")
    assert reason in mismatch.actual


async def test_a_policy_grants_what_is_not_faked(plugins: Path) -> None:
    policy = Policy(frozenset({"storage"}), frozenset({"KEY"}))
    case = one_case(GET_TIME + 'given = { environment = { KEY = "k" } }')
    (one,) = await tried(case, Surroundings(plugins, policy))
    assert one.mismatches == ()


async def test_a_clock_that_sleeps_beyond_its_end_is_told(plugins: Path) -> None:
    steps = """
        given.time = 2199-12-31T23:59:30Z
        steps = [{ action = "sleep" }, { action = "sleep", after_seconds = 15 }]"""
    with pytest.raises(KitError, match=r"a\.case\.toml: a: a clock ends with the year 2199"):
        await tried(one_case(steps, "sleeper"), Surroundings(plugins))


async def test_a_web_that_is_not_mentioned_is_the_real_one(tmp_path: Path) -> None:
    network = '[capabilities]\nrequired = ["network"]\n[permissions]\nnetwork_hosts = ["localhost"]\n'
    write_plugin(tmp_path, "asker", asking_what_it_is_asked(), network)
    case = 'action = "http_request"\ndata = { url = "http://localhost/" }\n'
    real = Surroundings(tmp_path, Policy(frozenset({"network"})))
    (one,) = await tried(one_case(case), real)
    assert one.ended.kind == "denied"  # its real address is nobody's business
    (one,) = await tried(one_case(case + 'given = { http = [{ url = "*" }] }'), real)
    assert one.ended.kind == "ok"


async def test_a_clock_that_is_not_mentioned_is_the_machine_s(plugins: Path) -> None:
    case = one_case(GET_TIME + 'given = { environment = { KEY = "k" }, storage = {} }')
    (one,) = await tried(case, Surroundings(plugins))
    assert abs(from_json(one.ended.outcome.response)["result"]["ok"]["timestamp"] - time.time()) < 60


async def test_of_several_versions_the_highest_release_is_tried(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1"):
        answer = f'{{"success":true,"result":"{version}","error":null}}'
        write_plugin(tmp_path, "many", answering(answer), version=version, stem=version)
    (one,) = await tried(one_case('action = "go"\nexpect = { result = "1.10.0" }', "many"), Surroundings(tmp_path))
    assert one.mismatches == ()


async def test_a_plugin_that_is_not_there_and_one_beside_it_that_is_broken_are_told(tmp_path: Path) -> None:
    write_plugin(tmp_path, "there")
    with pytest.raises(PluginNotFound, match="absent"):
        await tried(one_case('action = "go"', "absent"), Surroundings(tmp_path))
    write_plugin(tmp_path, "broken", manifest_extra="colour = 1\n")
    with pytest.raises(ManifestError, match=r"broken\.toml:4"):
        await tried(one_case('action = "go"', "there"), Surroundings(tmp_path))

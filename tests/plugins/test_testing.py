"""The test kit for plugin authors, with real guests: the guide's three tests, and what is faked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.guests import ask, asking, data, echoing, needing, relaying, wat, write_plugin
from warren.manifests import Policy
from warren.plugins import LoadFailed, ResourceLimit, SecurityViolation, host_function
from warren.plugins.testing import (
    NotFaked,
    PluginRequest,
    PluginTestFramework,
    RecordedCall,
    SentMessage,
    SyncPluginUnderTest,
)

GO: Final = PluginRequest("go")
URL: Final = "https://api.example.com/v1/things"
NETWORK: Final = '[capabilities]\nrequired = ["network"]\n[permissions]\nnetwork_hosts = ["api.example.com"]\n'
STORAGE: Final = '[capabilities]\nrequired = ["storage"]\n'

GROWING: Final = wat("(drop (memory.grow (i32.const 512))) unreachable")


def framework(folder: Path, wasm: bytes, manifest: str = "") -> PluginTestFramework:
    return PluginTestFramework().plugin_path(write_plugin(folder, "tested", wasm, manifest))


def call(plugin: SyncPluginUnderTest, request: PluginRequest = GO) -> Any:
    return plugin.call_plugin_function("handle_request", request).result


# As the guide has them.


async def test_plugin_basic_functionality(tmp_path: Path) -> None:
    wasm = write_plugin(tmp_path, "test_plugin", echoing())
    test_framework = await PluginTestFramework().plugin_path(wasm).manifest_path(tmp_path / "test_plugin.toml").build()
    await test_framework.initialize_plugin({"test_mode": True, "config": {"key": "value"}})
    request = PluginRequest(action="process_data", data={"input": "test data"})
    response = await test_framework.call_plugin_function("handle_request", request)
    assert response.success
    assert response.result["data"]["input"] == "test data"


async def test_plugin_security_restrictions(tmp_path: Path) -> None:
    built = framework(tmp_path, asking("http_request", {"url": URL}), NETWORK)
    test_framework = await built.security_policy(Policy(strict=True)).deny_capability("network").build()
    with pytest.raises(SecurityViolation, match="does not have the capability 'network'"):
        await test_framework.call_plugin_function("handle_request", PluginRequest("make_http_request"))
    assert [event.refusal is not None for event in test_framework.audit] == [True]


async def test_plugin_resource_limits(tmp_path: Path) -> None:
    built = framework(tmp_path, GROWING)
    test_framework = await built.memory_limit(16 * 1024 * 1024).timeout_duration(timedelta(seconds=5)).build()
    with pytest.raises(ResourceLimit) as caught:
        await test_framework.call_plugin_function("handle_request", PluginRequest("allocate", {"size_mb": 32}))
    assert caught.value.limit == "out_of_memory"


# Limits and settings.


@pytest.mark.parametrize(("limit", "told"), [("fuel", "out_of_fuel"), ("time", "deadline_exceeded")])
def test_fuel_and_time_end_a_run(tmp_path: Path, limit: str, told: str) -> None:
    built = framework(
        tmp_path, wat("(loop $again (br $again)) (i64.const 0)"), '[capabilities]\nrequired = ["compute"]\n'
    )
    built = built.fuel_limit(5_000) if limit == "fuel" else built.timeout_duration(0.005)
    with built.build_sync() as plugin, pytest.raises(ResourceLimit) as caught:
        call(plugin)
    assert caught.value.limit == told


def test_initialize_gets_the_settings_and_may_fail(tmp_path: Path) -> None:
    refusing = '(func (export "initialize") (param i32 i32) (result i32) (i32.gt_u (local.get 1) (i32.const 2000)))'
    with framework(tmp_path, wat(more=refusing)).build_sync() as plugin:
        plugin.initialize_plugin({"short": True})
        with pytest.raises(LoadFailed, match="initialize"):
            plugin.initialize_plugin({"long": "x" * 2_000})
        assert call(plugin) == 1  # what was loaded before is there still


CONFIG: Final = """
  (func (export "initialize") (param $at i32) (param $length i32) (result i32)
    (call $log (i32.const 2) (local.get $at) (local.get $length)) (i32.const 0))"""


def test_settings_go_over_the_manifest_s_and_variables_are_the_test_s_own(tmp_path: Path) -> None:
    manifest = '[permissions]\nenvironment_vars = ["KEY", "HOME"]\n[settings]\nunit = "C"\nkey = "env:KEY"\n'
    built = framework(tmp_path, wat(more=CONFIG), manifest).settings({"unit": "F"}).environment({"KEY": "no secret"})
    with built.build_sync() as plugin:
        call(plugin)
        config = json.loads(plugin.plugin.logs[0].text)
        assert config["settings"] == {"unit": "F", "key": "***"}
        assert config["environment"] == {"KEY": "***"}


def test_a_secret_in_a_file_has_to_be_in_a_folder_that_the_test_names(tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "token"
    secret.parent.mkdir()
    secret.write_text("no secret")
    built = framework(tmp_path, wat(), f'[settings]\ntoken = "file:{secret}"\n')
    with built.build_sync() as plugin, pytest.raises(LoadFailed, match="--secrets"):
        call(plugin)
    with built.secret_folders(secret.parent).build_sync() as plugin:
        assert call(plugin) == 1


# Other plugins.


def test_the_plugins_beside_it_can_be_called_on_the_same_clock(tmp_path: Path) -> None:
    write_plugin(tmp_path, "callee", asking("get_time"))
    built = framework(tmp_path, relaying("callee"), needing("callee")).other_plugins(tmp_path).start_time(1_000)
    with built.build_sync() as plugin:
        assert call(plugin)["ok"]["ok"]["timestamp"] == 1_000
        plugin.initialize_plugin({"again": True})
        assert call(plugin)["ok"]["ok"]["timestamp"] == 1_000


def test_beside_others_it_is_loaded_anew_with_other_settings_too(tmp_path: Path) -> None:
    with framework(tmp_path, wat(more=CONFIG)).other_plugins(tmp_path).build_sync() as plugin:
        for number in (1, 2):
            plugin.initialize_plugin({"number": number})
            call(plugin)
            assert json.loads(plugin.plugin.logs[0].text)["settings"] == {"number": number}


def test_one_that_it_may_call_and_cannot_be_loaded_is_told_and_others_do_not_matter(tmp_path: Path) -> None:
    write_plugin(tmp_path, "other", b"\0asm")
    with framework(tmp_path, wat()).other_plugins(tmp_path).build_sync() as plugin:
        assert call(plugin) == 1
    built = framework(tmp_path, wat(), needing("other", optional=True)).other_plugins(tmp_path)
    with built.build_sync() as plugin, pytest.raises(LoadFailed, match=r"other\.wasm"):
        call(plugin)


# HTTP.


def test_a_faked_url_is_answered_and_asked_for_by_the_plugin_s_own_request(tmp_path: Path) -> None:
    built = framework(tmp_path, asking("http_request", {"url": URL}), NETWORK)
    built.fake_http("GET", "https://api.example.com/*", "any").fake_http("GET", URL, {"n": 1}, headers={"X-A": "b"})
    with built.build_sync() as plugin:
        answer = call(plugin)["ok"]
        assert (answer["status"], answer["body"], answer["headers"]) == (200, '{"n":1}', {"x-a": ["b"]})
        assert [(request.method, request.url) for request in plugin.plugin.http_requests] == [("GET", URL)]


def test_a_url_that_is_not_faked_fails_the_test(tmp_path: Path) -> None:
    built = framework(tmp_path, asking("http_request", {"url": URL}), NETWORK).fake_http("POST", URL, "")
    with built.build_sync() as plugin, pytest.raises(NotFaked, match=f"GET {URL}: give it an answer"):
        call(plugin)


@pytest.mark.parametrize("url", ["https://evil.example/", "http://127.0.0.1/", "https://api.example.com:8443/"])
def test_a_fake_is_no_permission(tmp_path: Path, url: str) -> None:
    built = framework(tmp_path, asking("http_request", {"url": url}), NETWORK).fake_http("*", "*", "")
    with built.build_sync() as plugin:
        with pytest.raises(SecurityViolation):
            call(plugin)
        assert plugin.plugin.http_requests == ()


def test_a_redirect_to_where_the_plugin_may_not_go_is_refused(tmp_path: Path) -> None:
    built = framework(tmp_path, asking("http_request", {"url": URL}), NETWORK).fake_http("*", "*", "")
    built.fake_http("GET", URL, status=302, headers={"location": "https://evil.example/"})
    with built.build_sync() as plugin, pytest.raises(SecurityViolation, match="evil"):
        call(plugin)


def test_the_web_may_be_the_real_one(tmp_path: Path) -> None:
    manifest = NETWORK.replace("api.example.com", "localhost")
    built = framework(tmp_path, asking("http_request", {"url": "http://localhost/"}), manifest)
    with built.fake_http("*", "*", "faked").build_sync() as plugin:
        assert call(plugin)["ok"]["body"] == "faked"
    with built.live_http().build_sync() as plugin:
        with pytest.raises(SecurityViolation, match="localhost"):  # its real address is nobody's business
            call(plugin)
        with pytest.raises(ValueError, match=r"live_http\(\)"):
            _ = plugin.plugin.http_requests


# Storage and time.


def test_storage_begins_with_what_is_given_and_shows_what_was_written(tmp_path: Path) -> None:
    store, segment = ask("storage_set", '{"key":"k","value":[1]}')
    built = framework(tmp_path, wat(f"(drop {store}) (call $answer)", more=segment), STORAGE)
    with built.fake_storage({"old": {"a": None}}).build_sync() as plugin:
        call(plugin)
        assert plugin.plugin.stored == {"k": [1], "old": {"a": None}}


def test_time_stands_still_until_it_is_moved_and_entries_expire_by_it(tmp_path: Path) -> None:
    store, segment = ask("storage_set", '{"key":"k","value":1,"ttl_s":60}')
    with framework(tmp_path, wat(f"(drop {store}) (call $answer)", more=segment), STORAGE).build_sync() as plugin:
        call(plugin)
        plugin.plugin.clock.advance(59)
        assert plugin.plugin.stored == {"k": 1}
        plugin.plugin.clock.advance(1)
        assert plugin.plugin.stored == {}
    with framework(tmp_path, asking("get_time")).start_time(1_000).build_sync() as plugin:
        assert call(plugin)["ok"] == {"timestamp": 1_000, "unix_ms": 1_000_000}
        plugin.plugin.clock.advance(1.5)
        assert call(plugin)["ok"] == {"timestamp": 1_001, "unix_ms": 1_001_500}
        with pytest.raises(ValueError, match="goes forward"):
            plugin.plugin.clock.advance(-1)


# What a run did.


def test_host_calls_and_messages_are_told_with_their_arguments(tmp_path: Path) -> None:
    send, sent = ask("send_message", '{"topic":"ok.now","payload":{"n":1}}')
    wrong, said = ask("nothing", "[2]", at=2048)
    body = wat(f"(drop {send}) (drop {wrong}) (call $answer)", more=sent + said)
    with framework(tmp_path, body, '[bus]\npublish = ["ok.#"]\n').build_sync() as plugin:
        call(plugin)
        first, second = plugin.plugin.host_calls
        assert first == RecordedCall("send_message", {"topic": "ok.now", "payload": {"n": 1}})
        assert (second.name, second.arguments, second.answer) == ("nothing", [2], None)
        assert second.error is not None
        assert "there is no host function" in second.error
        assert plugin.plugin.messages == (SentMessage(None, "ok.now", {"n": 1}),)


def test_the_log_of_the_last_run_is_there(tmp_path: Path) -> None:
    logging = wat("(call $say (i32.const 1024) (i32.const 5)) (call $answer)", more=data(1024, "hello"))
    with framework(tmp_path, logging).build_sync() as plugin:
        call(plugin)
        assert [line.text for line in plugin.plugin.logs] == ["hello"]


@host_function(changes_nothing=True)
def add(a: int, b: int) -> int:
    return a + b


def test_host_functions_of_the_embedder_s_can_be_called(tmp_path: Path) -> None:
    built = framework(tmp_path, asking("add", {"a": 1, "b": 2})).host_functions(add)
    with built.build_sync() as plugin:
        assert call(plugin)["ok"] == 3


# What cannot be.


def test_what_makes_no_sense_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plugin_path\(\)"):
        PluginTestFramework().build_sync()
    with pytest.raises(LoadFailed, match=r"nowhere\.wasm"):
        PluginTestFramework().plugin_path(tmp_path / "nowhere.wasm").build_sync()
    with pytest.raises(ValueError, match="more than nothing"):
        PluginTestFramework().fuel_limit(0)
    with pytest.raises(ValueError, match="is no capability"):
        PluginTestFramework().deny_capability("flying")  # type: ignore[arg-type]
    with (
        framework(tmp_path, wat()).build_sync() as plugin,
        pytest.raises(ValueError, match="'handle_request', and by no 'other'"),
    ):
        plugin.call_plugin_function("other", GO)


# pytest.

THEIRS: Final = """
import sys
from pathlib import Path

def test_nothing_is_imported_for_who_does_not_use_it():
    assert not {"wasmtime", "warren.plugins"} & sys.modules.keys()

def test_by_the_fixture(plugin_test_framework):
    from warren.plugins.testing import PluginRequest
    plugin = plugin_test_framework.plugin_path(Path(__file__).with_name("tested.wasm")).build_sync()
    assert plugin.call_plugin_function("handle_request", PluginRequest("go")).result == 1
"""


def test_the_fixture_is_there_for_an_author_s_tests_and_costs_others_nothing(tmp_path: Path) -> None:
    write_plugin(tmp_path, "tested")
    (tmp_path / "test_theirs.py").write_text(THEIRS)
    plugins = ["-p", "warren.workers.kit.pytest_plugin", "-p", "no:cacheprovider"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout

"""Variables and secrets: who is given what, and that nothing of it is told."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.guests import answering, ask, data, log_answer, needing, relaying, wat, write_plugin
from warren.manifests import Grant, Limits, Manifest, Policy, parse_manifest
from warren.plugins import HostCall, LoadFailed, LogLine, Outcome, PluginManager, host_function
from warren.plugins.artefacts import CACHE_VARIABLE
from warren.plugins.outcome import AuditEvent, Callee
from warren.plugins.secrets import MAX_SECRET_BYTES, NO_SECRETS, Secrets, SecretUnavailable, give

VALUE = "p4ss \"w\u00f6rd\" 'of\\ the' rabbit"
GRANTED = '[permissions]\nenvironment_vars = ["API_KEY"]\n'
POLICY = Policy(environment_vars=frozenset({"API_KEY", "LANGUAGE"}))

HEAD, TAIL = b'{"success":true,"error":null,"result":', b"}"

#: A guest whose `initialize` logs the JSON that it is given, and which answers with it.
TELLING = wat(
    """(call $pack (i32.const 65536) (i32.add (global.get $size) (i32.const 39)))""",
    more=f"""{data(1024, HEAD)} {data(1100, TAIL)}
    (global $size (mut i32) (i32.const 0))
    (func (export "initialize") (param $at i32) (param $length i32) (result i32)
      (global.set $size (local.get $length))
      (call $say (local.get $at) (local.get $length))
      (memory.copy (i32.const 65536) (i32.const 1024) (i32.const {len(HEAD)}))
      (memory.copy (i32.const {65536 + len(HEAD)}) (local.get $at) (local.get $length))
      (memory.copy (i32.add (i32.const {65536 + len(HEAD)}) (local.get $length)) (i32.const 1100) (i32.const 1))
      (i32.const 0))""",
)
assert len(HEAD) + len(TAIL) == 39


def manifest_of(settings: str, more: str = GRANTED) -> Manifest:
    return parse_manifest(f'[plugin]\nname = "a"\nversion = "1.0.0"\n{more}[settings]\n{settings}\n'.encode())


def granting(*variables: str) -> Grant:
    return Grant("a", frozenset(), Limits(), environment_vars=variables)


def given(
    settings: str, *folders: Path, variables: Mapping[str, str] | None = None, grant: Grant | None = None
) -> Mapping[str, Any]:
    known = {"API_KEY": VALUE} if variables is None else variables
    return give(manifest_of(settings), grant or granting("API_KEY"), folders, known).settings


def refused(settings: str, *folders: Path, **options: Any) -> str:
    with pytest.raises(SecretUnavailable) as error:
        given(settings, *folders, **options)
    assert error.value.may_pass, "what is wrong is not in the plugin's files"
    return str(error.value)


def test_a_setting_that_names_a_variable_has_its_value_wherever_it_stands() -> None:
    settings = given('key = "env:API_KEY"\nplain = "x"\nn = 5\n[settings.deep]\nkeys = ["env:API_KEY", "y", 1.5]')
    assert settings == {"key": VALUE, "plain": "x", "n": 5, "deep": {"keys": [VALUE, "y", 1.5]}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("literal:env:API_KEY", "env:API_KEY"),
        ("literal:file:/x", "file:/x"),
        ("literal:literal:", "literal:"),
        ("literal:", ""),
        ("environment: x", "environment: x"),
        ("ENV:API_KEY", "ENV:API_KEY"),
        (" env:API_KEY", " env:API_KEY"),
        ("https://example.com", "https://example.com"),
    ],
)
def test_a_text_that_only_begins_like_a_secret_can_be_written(written: str, meant: str) -> None:
    assert given(f"key = '{written}'") == {"key": meant}


def test_an_ungranted_variable_fails_and_says_what_to_do() -> None:
    error = refused('[settings.db]\npassword = "env:API_KEY"', grant=granting())
    assert error == (
        "[settings] db.password: the variable API_KEY is not granted: list it in [permissions] environment_vars, and "
        "have the operator's policy allow it; a text that only begins like that is written 'literal:env:…'"
    )


def test_a_variable_that_is_not_set_fails() -> None:
    assert "[settings] keys[1]: the variable API_KEY is not set" in refused(
        'keys = ["x", "env:API_KEY"]', variables={"OTHER": "x"}
    )


@pytest.mark.parametrize("name", ["", "hunter2 is my password", "A-B", "1A", "A=B", "A" * 300])
def test_what_is_no_name_of_a_variable_is_not_quoted(name: str) -> None:
    error = refused(f'key = "env:{name}"')
    assert "what follows 'env:' is not the name of a variable" in error
    assert not name or name not in error


def test_a_variable_that_is_no_text_fails_and_is_not_quoted() -> None:
    error = refused('key = "env:API_KEY"', variables={"API_KEY": "hidden\udcff"})
    assert "the variable API_KEY does not hold UTF-8" in error
    assert "hidden" not in error


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"s3cret\n", "s3cret"),
        (b"s3cret", "s3cret"),
        (b"two\n\n", "two\n"),
        (b"dos\r\n", "dos"),
        (b"", ""),
        (b"\r", "\r"),
    ],
)
def test_a_file_below_a_named_folder_is_read_without_the_newline_that_ends_it(
    content: bytes, value: str, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "token").write_bytes(content)
    assert given(f'key = "file:{tmp_path}/deep/token"', Path("/nowhere"), tmp_path) == {"key": value}
    assert given(f'key = "file:{tmp_path}/deep/../deep/token"', tmp_path) == {"key": value}


def test_links_within_the_folder_are_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    (tmp_path / "real" / "..2026").mkdir(parents=True)
    (tmp_path / "real" / "..2026" / "token").write_text("s3cret")
    (tmp_path / "real" / "..data").symlink_to("..2026")
    (tmp_path / "real" / "token").symlink_to("..data/token")
    (tmp_path / "named").symlink_to("real")
    assert given(f'key = "file:{tmp_path}/named/token"', tmp_path / "named") == {"key": "s3cret"}


def test_without_a_named_folder_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    assert "the operator names no folder (--secrets)" in refused(f'key = "file:{tmp_path}/token"')


class TestFilesThatAreNotRead:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder of secrets with traps in it, and a file beside it."""
        folder = tmp_path / "secrets"
        folder.mkdir()
        (tmp_path / "outside").write_text("hidden")
        (tmp_path / "secrets-too").mkdir()
        (tmp_path / "secrets-too" / "token").write_text("hidden")
        (folder / "out").symlink_to("../outside")
        (folder / "way").symlink_to("..")
        (folder / "circle").symlink_to("circle")
        (folder / "lost").symlink_to("missing")
        (folder / "folder").mkdir()
        (folder / "binary").write_bytes(b"hidden\xff")
        (folder / "large").write_bytes(b"hidden" * MAX_SECRET_BYTES)
        os.mkfifo(folder / "pipe")
        return folder

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("missing", "cannot be read: No such file or directory"),
            ("lost", "cannot be read: No such file or directory"),
            ("circle", "cannot be read"),
            ("folder", "is not a file"),
            ("pipe", "is not a file"),
            ("binary", "does not hold UTF-8"),
            ("large", "is larger than 65,536 bytes"),
            ("out", "leads out of the folder of secrets"),
            ("way/outside", "leads out of the folder of secrets"),
            ("../outside", "is in no folder of secrets that the operator names"),
            ("../secrets-too/token", "is in no folder of secrets"),
            ("..", "is in no folder of secrets"),
            ("", "is not a file"),
            ("\\u0000", "has to be absolute"),
            ("a\\u001b[31m", "cannot be read"),
        ],
    )
    def test_it_says_which_and_why_and_never_what_it_holds(self, name: str, sentence: str, folder: Path) -> None:
        error = refused(f'key = "file:{folder}/{name}"', folder)
        assert error.startswith("[settings] key: ")
        assert sentence in error
        assert "hidden" not in error
        assert error.isprintable()

    @pytest.mark.parametrize("name", ["token", "~/token", "./token", "", "//secrets/x/../../etc/passwd"])
    def test_a_path_is_absolute_and_below_the_folder_as_it_is_written(self, name: str, folder: Path) -> None:
        error = refused(f'key = "file:{name}"', folder)
        assert "has to be absolute" in error or "is in no folder of secrets" in error

    def test_one_that_the_worker_may_not_read_is_told(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def forbid(*_: Any) -> int:
            raise PermissionError(13, "Permission denied")

        (folder / "token").write_text("hidden")
        monkeypatch.setattr(os, "open", forbid)  # root may read anything
        assert "cannot be read: Permission denied" in refused(f'key = "file:{folder}/token"', folder)


def test_only_granted_variables_that_are_set_are_passed_on() -> None:
    variables = {"A": "1", "B": "2", "SECRET": "3"}
    given = give(manifest_of(""), granting("B", "A", "UNSET"), (), variables)
    assert given.environment == {"B": "2", "A": "1"}
    assert not given.secrets


def test_a_snapshot_of_secrets_is_refused_and_so_is_one_of_variables() -> None:
    for settings, variables in (('key = "env:API_KEY"', {"API_KEY": "x"}), ("", {"API_KEY": "x"})):
        manifest = manifest_of(settings, GRANTED + "[runtime]\nsnapshot = true\n")
        with pytest.raises(SecretUnavailable, match="into the cache of compiled code"):
            give(manifest, granting("API_KEY"), (), variables)
    assert not give(manifest_of("", "[runtime]\nsnapshot = true\n"), granting("API_KEY"), (), {}).environment


class TestMasking:
    def test_it_tells_nobody_what_it_holds(self) -> None:
        secrets = Secrets([VALUE, "other"])
        assert repr(secrets) == str(secrets) == f"{secrets}" == "<2 secrets>"
        assert repr(give(manifest_of('key = "env:API_KEY"'), granting("API_KEY"), (), {"API_KEY": VALUE})).startswith(
            "<warren.plugins.secrets.Given object"
        )
        assert bool(secrets)
        assert bool(Secrets(["abc"])), "it is a secret, if a short one"
        assert not NO_SECRETS

    @pytest.mark.parametrize(
        "text",
        [
            f"the key is {VALUE}!",
            f"{VALUE}{VALUE}",
            json.dumps({"key": VALUE}),
            json.dumps({"key": VALUE}, ensure_ascii=False),
            repr(VALUE),
            f"there is no host function {VALUE!r}",
        ],
    )
    def test_a_secret_is_masked_however_it_is_quoted(self, text: str) -> None:
        masked = Secrets([VALUE]).mask(text)
        assert "***" in masked
        assert not any(part in masked for part in ("p4ss", "rd", "rabbit"))

    def test_secrets_of_less_than_four_characters_are_not_masked(self) -> None:
        assert Secrets(["abc", ""]).mask("abc") == "abc"
        assert Secrets(["abcd"]).mask("abcd") == "***"

    def test_of_two_the_longer_is_masked_first(self) -> None:
        assert Secrets(["abcd", "abcdefgh"]).mask("abcdefgh abcd") == "*** ***"

    def test_each_line_of_a_key_is_masked_alone(self) -> None:
        key = "-----BEGIN KEY-----\n  MIIEvQIBADANBgkq\nhkiG9w0BAQ==\n-----END KEY-----\n"
        secrets = Secrets([key])
        assert secrets.mask(key.replace("\n", "|")) == "***|  ***|***|***|"

    @pytest.mark.parametrize("cut", ["…", "...", ""])
    def test_what_is_left_of_one_that_was_cut_is_masked(self, cut: str) -> None:
        value = "0123456789abcdef"
        for length in range(4, len(value)):
            assert Secrets([value]).mask(f"it is {value[:length]}{cut}") == f"it is ***{cut}"
        if cut:
            assert Secrets([value]).mask(f"'{value[:6]}{cut}{value[-6:]}' is none") == f"'***{cut}***' is none"

    def test_every_error_name_and_line_of_an_outcome_is_masked_and_the_answer_is_the_guests_own(self) -> None:
        def telling(callee: Callee | None) -> Outcome:
            return Outcome(
                "denied",
                b"s3cret",
                "no s3cret",
                logs=(LogLine("info", "log s3cret", 0),),
                host_calls=(HostCall("call s3cret", 0, 0, "error s3cret", callee), HostCall("x", 0, 0)),
                audit=(
                    AuditEvent("warning", "publish", "on s3cret", "not s3cret", 0),
                    AuditEvent("debug", "x", "", None, 0),
                ),
            )

        masked = Secrets(["s3cret"]).mask_outcome(telling(Callee("b", None, telling(None), None)))
        assert repr(asdict(masked)).count("s3cret") == 2
        assert masked.response == b"s3cret"
        assert masked.host_calls[0].callee is not None
        assert masked.host_calls[0].callee.outcome.response == b"s3cret"
        assert (masked.error, masked.logs[0].text, masked.audit[0].asked) == ("no ***", "log ***", "on ***")


Load = Callable[..., Awaitable[PluginManager]]


@pytest.fixture
def with_secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("API_KEY", VALUE)
    monkeypatch.setenv("UNGRANTED", "never to be seen")
    return VALUE


async def test_a_plugin_is_given_its_secrets_and_variables_and_its_log_has_none(
    tmp_path: Path, with_secret: str
) -> None:
    (tmp_path / "token").write_text("t0ken of a file\n")
    settings = f'[settings]\nkey = "env:API_KEY"\ntoken = "file:{tmp_path}/token"\nplain = "env"\n'
    write_plugin(tmp_path, "a", TELLING, GRANTED + settings)
    async with PluginManager(tmp_path, policy=POLICY, secrets=[tmp_path]) as manager:
        assert manager.failures == ()
        outcome = await manager.find("a").run(b"{}")
    told = json.loads(outcome.response)["result"]
    assert told["settings"] == {"key": with_secret, "token": "t0ken of a file", "plain": "env"}
    assert told["environment"] == {"API_KEY": with_secret}
    [line] = outcome.logs
    logged = json.loads(line.text)
    assert logged["settings"] == {"key": "***", "token": "***", "plain": "env"}
    assert logged["environment"] == {"API_KEY": "***"}
    assert "never to be seen" not in f"{outcome}"


async def test_an_ungranted_variable_reaches_nobody_and_one_that_is_asked_for_fails_the_load(
    tmp_path: Path, with_secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "without", TELLING, GRANTED)
    write_plugin(tmp_path, "with", TELLING, GRANTED + '[settings]\nkey = "env:API_KEY"\n')
    async with PluginManager(tmp_path) as manager:  # whose policy grants nothing
        outcome = await manager.find("without").run(b"{}")
        [failure] = manager.failures
    assert json.loads(outcome.response)["result"]["environment"] == {}
    assert isinstance(failure, LoadFailed)
    assert str(failure).startswith(f"{tmp_path}/with.toml: [settings] key: the variable API_KEY is not granted")
    assert with_secret not in str(failure)
    assert with_secret not in caplog.text


async def test_loading_again_takes_up_a_new_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    write_plugin(tmp_path, "a", TELLING, GRANTED + '[settings]\nkey = "env:API_KEY"\n')
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        assert "is not set" in str(manager.failures[0])
        for value in ("first", "second"):
            monkeypatch.setenv("API_KEY", value)
            await manager.load_plugin(tmp_path / "a.toml")
            outcome = await manager.find("a").run(b"{}")
            assert json.loads(outcome.response)["result"]["settings"] == {"key": value}


async def test_a_guest_with_a_libc_finds_the_variables_it_was_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "hare")
    libc = (Path(__file__).parent / "wasi" / "libc.wasm").read_bytes()
    write_plugin(tmp_path, "granted", libc, '[permissions]\nenvironment_vars = ["LANGUAGE"]\n')
    write_plugin(tmp_path, "not-asking", libc)
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        said = {name: (await manager.find(name).run(b"environment")).logs for name in ("granted", "not-asking")}
    assert {name: lines[0].text.split()[0] for name, lines in said.items()} == {"granted": "hare", "not-asking": "none"}


AGAINST_SCHEMA = HEAD + b'["t0ken"]' + TAIL
LEAKS = {
    "an unknown host function": (log_answer(ask(VALUE)[0]), ask(VALUE)[1], ""),
    "the name of a plugin": (
        log_answer(ask("send_message", json.dumps({"topic": "x", "to": VALUE}))[0]),
        ask("send_message", json.dumps({"topic": "x", "to": VALUE}))[1],
        "",
    ),
    "a topic that may not be": (
        f"(drop {ask('send_message', json.dumps({'topic': 'on.t0ken'}))[0]}) (call $answer)",
        ask("send_message", json.dumps({"topic": "on.t0ken"}))[1],
        "",
    ),
    "an answer against its schema": (
        f"(call $pack (i32.const 1024) (i32.const {len(AGAINST_SCHEMA)}))",
        data(1024, AGAINST_SCHEMA),
        '[actions.do.response]\ntype = "integer"\n',
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
async def test_a_secret_that_a_guest_puts_into_an_error_is_masked(
    leak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, segment, more = LEAKS[leak]
    monkeypatch.setenv("API_KEY", VALUE)
    (tmp_path / "token").write_text("t0ken")
    settings = f'[settings]\nkeys = ["env:API_KEY", "file:{tmp_path}/token"]\n'
    write_plugin(tmp_path, "a", wat(body, more=segment), GRANTED + settings + more)
    async with PluginManager(tmp_path, policy=POLICY, secrets=[tmp_path]) as manager:
        assert manager.failures == ()
        outcome = await manager.find("a").run(b'{"action":"do","data":null}')
        told = f"{outcome.error} {outcome.logs} {outcome.host_calls} {outcome.audit} {manager.list_plugins()}"
    assert "***" in told
    assert not any(part in told for part in ("p4ss", "rabbit", "t0ken"))


async def test_a_callee_that_fails_with_its_secret_tells_its_caller_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "t0ken")
    failing = answering('{"success":false,"result":null,"error":"t0ken is not valid"}')
    write_plugin(tmp_path, "callee", failing, f'{GRANTED}[settings]\nkey = "env:API_KEY"\n')
    write_plugin(tmp_path, "caller", relaying("callee"), needing("callee"))
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        outcome = await manager.find("caller").run(b'{"action":"do","data":null}')
    assert json.loads(outcome.response)["result"]["error"] == {"code": "failed", "message": "t0ken is not valid"}
    [call] = outcome.host_calls
    assert call.error == "failed: callee ended as failed"
    assert "t0ken" not in f"{call} {outcome.logs} {outcome.audit} {outcome.error}"


async def test_a_host_function_that_breaks_tells_no_secret_in_the_log(
    tmp_path: Path, with_secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    @host_function()
    def broken(text: str, /) -> None:
        raise KeyError(text)

    body, segment = ask("broken", json.dumps(with_secret))
    write_plugin(tmp_path, "a", wat(log_answer(body), more=segment), GRANTED + '[settings]\nkey = "env:API_KEY"\n')
    async with PluginManager(tmp_path, policy=POLICY, host_functions=[broken]) as manager:
        with caplog.at_level(logging.ERROR):
            await manager.find("a").run(b"{}")
    assert "host function 'broken' failed" in caplog.text
    assert "KeyError: '***'" in caplog.text
    assert "rabbit" not in caplog.text


async def test_an_initialize_that_fails_with_a_secret_in_its_hands_tells_it_to_nobody(
    tmp_path: Path, with_secret: str
) -> None:
    call, segment = ask(with_secret)
    failing = f'(func (export "initialize") (param i32 i32) (result i32) (drop {call}) (i32.const 1))'
    write_plugin(tmp_path, "a", wat(more=failing + segment), GRANTED + '[settings]\nkey = "env:API_KEY"\n')
    async with PluginManager(tmp_path, policy=POLICY) as manager:
        assert "`initialize` returned 1" in str(manager.failures[0])
        assert "rabbit" not in str(manager.failures[0])


async def test_no_secret_is_on_the_disk_after_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "s3cret-and-nowhere-else")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    settings = '[settings]\nkey = "env:API_KEY"\n'
    write_plugin(tmp_path / "plugins", "plain", TELLING, GRANTED + settings)
    write_plugin(tmp_path / "plugins", "baked", TELLING, GRANTED + settings + "[runtime]\nsnapshot = true\n")
    async with PluginManager(tmp_path / "plugins", policy=POLICY) as manager:
        assert [plugin.name for plugin in manager.plugins()] == ["plain"]
        assert "[runtime] snapshot = true would write" in str(manager.failures[0])
    written = [Path(folder) / name for folder, _, names in os.walk(tmp_path) for name in names]
    assert any("cache" in str(file) for file in written)
    assert not [file for file in written if b"s3cret-and-nowhere-else" in file.read_bytes()]

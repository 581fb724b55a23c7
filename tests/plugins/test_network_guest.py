"""A guest that talks HTTP, through the sandbox and the manager; and the guide's test of one that may not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

import pytest
from wasmtime import wat2wasm

from tests.guests import write_plugin
from tests.plugins.web import reply, silence, web
from warren.manifests import Policy
from warren.plugins import NotForShadows, PluginManager, SecurityViolation, read_policy

#: Answers with what `http_request` gave it for the arguments at 2048: the answer to a host call begins with `{"ok":` or
#: `{"error":`, and is the result.
GUEST: Final = """
(module
  (import "warren_v1" "host_call" (func $call (param i32 i32 i32 i32) (result i64)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 1024) "http_request")
  (data (i32.const 2048) "{arguments}")
  (data (i32.const 512) "{{\\22success\\22:true,\\22error\\22:null,\\22result\\22:")
  (func (export "allocate") (param $size i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get $size))))
  (func (export "handle_request") (param i32 i32) (result i64)
    (local $answer i64) (local $length i32)
    (local.set $answer (call $call (i32.const 1024) (i32.const 12) (i32.const 2048) (i32.const {length})))
    (local.set $length (i32.wrap_i64 (local.get $answer)))
    (memory.copy (i32.const 131072) (i32.const 512) (i32.const 38))
    (memory.copy (i32.const 131110) (i32.wrap_i64 (i64.shr_u (local.get $answer) (i64.const 32))) (local.get $length))
    (i32.store8 (i32.add (i32.const 131110) (local.get $length)) (i32.const 125))
    (i64.or (i64.shl (i64.const 131072) (i64.const 32))
            (i64.extend_i32_u (i32.add (local.get $length) (i32.const 39))))))
"""


def write_guest(folder: Path, url: str, host: str) -> None:
    """A plugin whose every action asks for `url`, and whose manifest asks for `host`."""
    arguments = json.dumps({"url": url})
    code = GUEST.format(arguments=arguments.replace('"', "\\22"), length=len(arguments))
    manifest = f'[capabilities]\noptional = ["network"]\n[permissions]\nnetwork_hosts = ["{host}"]\n'
    write_plugin(folder, "reacher", bytes(wat2wasm(code)), manifest)


async def test_without_the_capability_the_run_is_a_security_violation(tmp_path: Path) -> None:
    write_guest(tmp_path, "https://example.com/", "example.com")
    async with PluginManager(tmp_path) as manager:
        with pytest.raises(SecurityViolation, match="does not have the capability 'network'"):
            await manager.execute_plugin("reacher", "make_http_request", {"url": "https://example.com"})


async def test_a_granted_host_with_a_private_address_is_a_security_violation(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        write_guest(tmp_path, f"http://127.0.0.1:{port}/", f"127.0.0.1:{port}")
        async with PluginManager(tmp_path, policy=Policy(capabilities=frozenset({"network"}))) as manager:
            with pytest.raises(SecurityViolation, match="not in the private_networks that were granted"):
                await manager.execute_plugin("reacher", "make_http_request")


def granting(folder: Path, host: str) -> Policy:
    """The policy of an operator who lets `reacher` reach a host of this machine."""
    rule = f'plugins = ["reach*"]\ncapabilities = ["network"]\nnetwork_hosts = ["{host}"]\n'
    file = folder / "policy.toml"
    file.write_text(f'[[rules]]\n{rule}private_networks = ["127.0.0.0/8"]\n')
    return read_policy(file)


async def test_what_the_policy_grants_is_reached_and_audited(tmp_path: Path) -> None:
    async with web(reply(b"hello")) as here:
        host = f"127.0.0.1:{here.port}"
        write_guest(tmp_path / "plugins", f"http://{host}/", host)
        asked: list[str] = []
        async with PluginManager(
            tmp_path / "plugins",
            policy=granting(tmp_path, host),
            on_audit=lambda record: asked.append(record.event.asked),
        ) as manager:
            answer = await manager.execute_plugin("reacher", "make_http_request")
    assert (answer["ok"]["status"], answer["ok"]["body"]) == (200, "hello")
    assert asked == [f"GET http://{host}"]


async def test_a_shadow_makes_no_request(tmp_path: Path) -> None:
    async with web(reply(b"hello")) as here:
        host = f"127.0.0.1:{here.port}"
        write_guest(tmp_path / "plugins", f"http://{host}/", host)
        async with PluginManager(tmp_path / "plugins", policy=granting(tmp_path, host)) as manager:
            with pytest.raises(NotForShadows, match="http_request"):
                await manager.find("reacher").run(b'{"action":"make_http_request","data":null}', shadow=True)
    assert not here.asked.is_set()


async def test_a_request_ends_with_its_run(tmp_path: Path) -> None:
    async with web(silence) as here:
        host = f"127.0.0.1:{here.port}"
        write_guest(tmp_path / "plugins", f"http://{host}/", host)
        async with PluginManager(tmp_path / "plugins", policy=granting(tmp_path, host)) as manager:
            run = asyncio.create_task(manager.find("reacher").run(b'{"action":"x","data":null}'))
            await here.asked.wait()
            run.cancel()
            await asyncio.wait([run])
            await asyncio.wait_for(here.left.wait(), 10)

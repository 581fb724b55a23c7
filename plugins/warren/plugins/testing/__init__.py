"""Testing a plugin from Python, in the real sandbox, without a broker.

    framework = PluginTestFramework().plugin_path("build/hello.wasm").fake_http("GET", "https://api.example.com/*", {})
    async with await framework.build() as plugin:       # or, without asyncio: with framework.build_sync() as plugin
        await plugin.initialize_plugin({"greeting": "Hello"})
        response = await plugin.call_plugin_function("handle_request", PluginRequest("greet", {"name": "Ada"}))
        assert response.result == {"greeting": "Hello, Ada!"}

Checks, permissions, limits and host functions are those of a worker. Not real are the other end of HTTP, the storage,
which is kept in memory, and what time it is and what is random, whomever a guest asks for that: the host, or WASI.

Cases that need no Python are `warren test`'s.
"""

from .fakes import NotFaked, WebRequest
from .framework import PluginTestFramework
from .subject import (
    PluginRequest,
    PluginResponse,
    PluginUnderTest,
    RecordedCall,
    SentMessage,
    SyncPluginUnderTest,
)
from .virtual import DEFAULT_START_S, VirtualClock

__all__ = [
    "DEFAULT_START_S",
    "NotFaked",
    "PluginRequest",
    "PluginResponse",
    "PluginTestFramework",
    "PluginUnderTest",
    "RecordedCall",
    "SentMessage",
    "SyncPluginUnderTest",
    "VirtualClock",
    "WebRequest",
]

"""What the host calls, as WIT has it: the module that componentize-py makes a component of.

Importing it is the build: the plugin is imported, and what that left is what every request begins with.
"""

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

import wit_world.exports
from componentize_py_types import Err  # pyright: ignore[reportMissingModuleSource]
from wit_world.imports import host  # pyright: ignore[reportMissingModuleSource]

from . import actions, logs, sandbox, world
from .failure import Failure, HostError
from .world import unicode

_Result = TypeVar("_Result")

#: The world that has `initialize`, `health_check` and `shutdown`.
WORLD = "plugin-with-lifecycle"

#: The innermost ones, at most, that a traceback has: each costs some 200,000 units of fuel, of 10 million.
FRAMES = 15


class _Host:
    """The interface `host`; see `world.Host`."""

    def log(self, level: str, message: str) -> None:
        host.log(_LEVELS[level], message)

    def call(self, function: str, arguments: str) -> str:
        try:
            return host.call(function, arguments)
        except Err as refused:
            raise HostError(refused.value.code, refused.value.message) from None


_LEVELS = {level.name.lower(): level for level in host.Level}

sandbox.begin()
logs.begin()
plugin = import_module("plugin")
if actions.hooks() and not hasattr(wit_world.exports, "Lifecycle"):
    raise RuntimeError(f"@{actions.hooks()[0]} is of the world {WORLD}: name that after `-w` in toolchain.toml")
sandbox.end()
world.host = _Host()

#: Folders of the sources, as the build saw them.
_PACKAGE = __file__.removesuffix("component.py")
_PROJECT = str(plugin.__file__).removesuffix("plugin.py")


class Handler:
    """The interface `handler`."""

    def handle_request(self, request: wit_world.exports.handler.Request) -> str:
        return _told(lambda: actions.answer(request.action, request.data))


class Lifecycle:
    """The interface `lifecycle`."""

    def initialize(self, config: str) -> None:
        _told(lambda: actions.call_hook("initialize", config))

    def health_check(self) -> None:
        _told(lambda: actions.call_hook("health_check"))

    def shutdown(self) -> None:
        _told(lambda: actions.call_hook("shutdown"))


def _told(run: Callable[[], _Result]) -> _Result:
    """What the function gives back. What it raises is raised as words, which is how a WIT `result` gets its error."""
    try:
        return run()
    except Failure as failure:
        reason = str(failure)
    except BaseException as error:  # noqa: BLE001 - SystemExit and its like would end the run without a word
        logs.log.error("%s", _shown(error))
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    finally:
        sys.stdout.flush()
    raise Err(unicode(reason))


def _shown(error: BaseException) -> str:
    """The traceback, from where the plugin's own code begins."""
    begin = error.__traceback__
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        begin = begin.tb_next
    lines = traceback.format_exception(type(error), error, begin or error.__traceback__, limit=-FRAMES)
    return "".join(lines).rstrip().replace(f'"{_PROJECT}', '"')

"""What a plugin has of its host: `host`, which is another once a component is built.

While it is built, and where pytest imports a plugin, there is none.
"""

import json
import sys
from typing import Any, Protocol

from .failure import HostError


class Host(Protocol):
    """As WIT has it, in terms of Python. Text has to be Unicode: see `unicode`."""

    def log(self, level: str, message: str) -> None:
        """`level` is `debug`, `info`, `warn` or `error`."""
        ...

    def call(self, function: str, arguments: str) -> str:
        """Arguments and answer are JSON. Raises `HostError`."""
        ...


class NoHost:
    """Lines go to stderr, and there are no host functions."""

    def log(self, level: str, message: str) -> None:
        sys.stderr.write(f"{level} {message}\n")

    def call(self, function: str, arguments: str) -> str:  # noqa: ARG002
        raise HostError("unavailable", f"there is no host here to call {function} of")


host: Host = NoHost()


def unicode(text: str) -> str:
    """The text with U+FFFD for each surrogate that has no partner: that is no Unicode, and would end the run."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_json(value: Any) -> str:
    """Raises `TypeError` or `ValueError` for what JSON does not have, such as a set, or what is no number."""
    return unicode(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))

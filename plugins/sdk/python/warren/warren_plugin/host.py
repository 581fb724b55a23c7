"""What a plugin asks the host for."""

import json
from typing import Any

from .failure import Failure
from .world import Err, as_json, call, unicode


class HostError(Failure):
    """Why the host did not do what it was asked for. `code` is for programs, such as "invalid_arguments"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


def host_call(name: str, arguments: Any = None) -> Any:
    """Call a host function: `host_call("storage_get", {"key": "users/1"})`.

    Raises `HostError`. What a plugin was not granted raises nothing: its run ends as denied.
    """
    written = as_json(arguments)
    try:
        answer = call(unicode(name), written)
    except Err as refused:
        raise HostError(refused.value.code, refused.value.message) from None
    return json.loads(answer)


def publish(topic: str, payload: Any) -> None:
    """Publish an event for whoever subscribes to the topic. It is sent once this run has ended well."""
    host_call("send_message", {"to": None, "topic": topic, "payload": payload})


def send(to: str, topic: str, payload: Any) -> None:
    """Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well."""
    host_call("send_message", {"to": to, "topic": topic, "payload": payload})

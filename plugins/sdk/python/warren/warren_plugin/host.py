"""What a plugin asks the host for."""

import json
from typing import Any

from . import world
from .world import as_json, unicode


def host_call(name: str, arguments: Any = None) -> Any:
    """Call a host function: `host_call("storage_get", {"key": "users/1"})`.

    Raises `HostError`. What a plugin was not granted raises nothing: its run ends as denied.
    """
    return json.loads(world.host.call(unicode(name), as_json(arguments)))


def publish(topic: str, payload: Any) -> None:
    """Publish an event for whoever subscribes to the topic. It is sent once this run has ended well."""
    host_call("send_message", {"to": None, "topic": topic, "payload": payload})


def send(to: str, topic: str, payload: Any) -> None:
    """Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well."""
    host_call("send_message", {"to": to, "topic": topic, "payload": payload})

"""Warren plugins in Python: functions by action, JSON in and out.

    from warren_plugin import Failure, action, log

    @action
    def greet(data):
        if not data.get("name"):
            raise Failure("there is nobody to greet")
        log.info("greeting %s", data["name"])
        return {"greeting": f"Hello, {data['name']}!"}

A function takes the request's data, any JSON, and gives back the result, any JSON. The words of a `Failure` become the
request's error: `{"success": false, "error": "there is nobody to greet"}`. Any other exception is a bug: the request
fails with its type and its words, and its traceback goes to the log.

What stands outside of all functions is run once, by the build, and cannot call the host. Every request begins with what
that left, in an instance of its own: what a request keeps in a variable is gone with it.

The package is not called `warren`: that is Warren itself, with which a project's tests run the plugin.
"""

from .actions import Config, Message, action, health_check, initialize, shutdown
from .failure import Failure, HostError
from .host import host_call, publish, send
from .logs import log

__all__ = [
    "Config",
    "Failure",
    "HostError",
    "Message",
    "action",
    "health_check",
    "host_call",
    "initialize",
    "log",
    "publish",
    "send",
    "shutdown",
]

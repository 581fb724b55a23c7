"""Everything that the SDK has, once.

What each action must do stands in cases.json, and that of this language alone at its end.
"""

import logging
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from warren_plugin import (
    Config,
    Failure,
    HostError,
    Message,
    action,
    health_check,
    host_call,
    initialize,
    log,
    publish,
    send,
)

word = ""

#: Files are there while the plugin is built.
TITLE = Path(__file__).read_text().splitlines()[0].strip('"')
CHANCE = random.getstate()


@initialize
def take(config: Config) -> None:
    global word
    if "word" not in config["settings"]:
        raise Failure("there is no word in the settings")
    word = config["settings"]["word"]


@health_check
def check() -> None:
    if word == "ill":
        raise Failure("the word is ill")


@action
def echo(data: Any) -> Any:
    return data


@action("word")
def tell_word(_: None) -> str:
    return word


@action("log")
def log_at_each_level(text: str) -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "%s", text)


@action
def call(data: dict[str, Any]) -> Any:
    return host_call(data["name"], data["args"])


@action("send")
def send_or_publish(data: dict[str, Any]) -> None:
    if "to" in data:
        send(data["to"], data["topic"], data["payload"])
    else:
        publish(data["topic"], data["payload"])


@action
def on_message(message: Message) -> list[Any]:
    return [message["from"], message["to"], message["topic"], message["payload"], message["timestamp"]]


@action
def refuse(words: str) -> None:
    raise Failure(words)


@action
def crash(words: str) -> None:
    raise RuntimeError(words)


@action
def code(_: None) -> list[str]:
    try:
        host_call("nope")
    except HostError as error:
        return [error.code, str(error)]
    return []


@action
def exit_code(_: None) -> None:
    sys.exit(3)


@action
def no_json(_: None) -> set[int]:
    return {1, 2}


@action
def not_a_number(_: None) -> float:
    return float("nan")


@action
def deep(_: None) -> int:
    return 1 + deep(_)


@action
def half_a_character(_: None) -> None:
    log.info("\ud800")
    raise Failure("\ud800")


@action("print")
def print_lines(text: str) -> None:
    print(text, "b", sep="\n")
    log.info("c")
    print("to be", end=" ", file=sys.stderr)
    print("continued", end="", file=sys.stderr)


@action
def others_logs(_: None) -> None:
    log.info("%(a)s", {"a": 1})
    logging.getLogger("else").info("not told")
    logging.getLogger("else").warning("told")


@action
def handled(_: None) -> None:
    try:
        int("x")
    except ValueError as error:
        log.exception("found %s", "it")
        raise Failure("it is handled") from error


@action
def clocks(_: None) -> list[bool]:
    now = host_call("get_time")["timestamp"]
    return [abs(time.time() - now) < 60, abs(datetime.now(UTC).timestamp() - now) < 60, time.monotonic() > 0]


@action
def chance(_: None) -> list[Any]:
    return [random.getstate() != CHANCE, len(os.urandom(16))]


@action
def sleep(_: None) -> None:
    time.sleep(1)


@action
def late_import(_: None) -> None:
    import colorsys  # noqa: F401, PLC0415


@action
def title(_: None) -> str:
    return TITLE


@action
def files(_: None) -> str:
    return Path(__file__).read_text()

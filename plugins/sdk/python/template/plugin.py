"""{{name}}: greets, and counts words. Every request runs in an instance of its own."""

from typing import TypedDict

from warren_plugin import Failure, Message, action, log, publish


class Person(TypedDict, total=False):
    name: str


class Text(TypedDict):
    text: str


@action
def greet(person: Person) -> dict[str, str]:
    """{"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}."""
    name = person.get("name")
    if not name:
        raise Failure("there is nobody to greet")
    log.info("greeting %s", name)
    return {"greeting": f"Hello, {name}!"}


@action
def count(data: Text) -> dict[str, int]:
    return {"words": len(data["text"].split())}


@action
def on_message(message: Message) -> None:
    """An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear."""
    publish("greetings", greet(message["payload"]))

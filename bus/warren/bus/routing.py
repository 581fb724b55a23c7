"""Topics: which pattern takes which routing key, exactly as RabbitMQ's topic exchange has it.

Words are split at dots; `*` stands for exactly one word, `#` for none or more. Empty words are words (`a..b` has three)
and the empty key has none. The match keeps only the last `#` to come back to, as shell globs do, so it takes
as many steps as the product of both lengths at worst; rejected: the plain recursion, which `#.#.#.#` makes exponential.
"""

from __future__ import annotations

from typing import Final

#: Routing keys are AMQP short strings.
MAX_KEY_BYTES: Final = 255


def topic_matches(pattern: str, key: str) -> bool:
    """True if a binding with `pattern` takes messages with `key`."""
    if "*" not in pattern and "#" not in pattern:
        return pattern == key
    parts, words = _split(pattern), _split(key)
    at = word = 0
    last_hash, resume = -1, 0  # the last `#` seen, and the first word that it has not yet taken
    while word < len(words):
        part = parts[at] if at < len(parts) else None
        if part == "#":
            last_hash, resume = at, word
            at += 1
        elif part == "*" or part == words[word]:
            at += 1
            word += 1
        elif last_hash >= 0:
            resume += 1
            at, word = last_hash + 1, resume
        else:
            return False
    return all(part == "#" for part in parts[at:])


def check_topic(key: str) -> None:
    """Raises ValueError unless one can publish with `key`."""
    _check_length("topic", key)
    if "*" in key or "#" in key:
        raise ValueError(f"the topic {key!r} has a wildcard; '*' and '#' belong in the patterns of subscribers")


def check_pattern(pattern: str) -> None:
    """Raises ValueError unless one can subscribe to `pattern`. A wildcard is a word of its own: `a.*`, not `a*`."""
    _check_length("pattern", pattern)
    for word in pattern.split("."):
        if len(word) > 1 and ("*" in word or "#" in word):
            raise ValueError(
                f"in the pattern {pattern!r} the word {word!r} mixes a wildcard with other characters; "
                "'*' (one word) and '#' (any number of words) stand alone between dots"
            )


def _check_length(what: str, key: str) -> None:
    if not key:
        raise ValueError(f"a {what} must not be empty")
    length = len(key.encode())
    if length > MAX_KEY_BYTES:
        raise ValueError(f"the {what} {key[:40]!r}… is {length} bytes long; at most {MAX_KEY_BYTES} are allowed")


def _split(key: str) -> list[str]:
    return key.split(".") if key else []

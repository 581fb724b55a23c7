"""Topic patterns as RabbitMQ's topic exchange has them: `*` is exactly one word, `#` is any number of words, also none.

A pattern is cut at its `#`s into runs of fixed length. The first run has to begin the topic, the last to end it, and
the others follow in order, each as far left as it goes; that is enough, since a run found earlier leaves more room for
those after it. So a match costs at most words times run length, and no pattern is exponential. Rejected: regular
expressions (`#.a.#.a.#.a` backtracks). Words may be empty, and the empty topic has none, as in RabbitMQ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import InvalidValue

#: AMQP's limit on a routing key (a short string).
MAX_TOPIC_BYTES: Final = 255

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """A pattern, ready to match. Made by `parse`."""

    text: str
    runs: tuple[Words, ...]

    @classmethod
    def parse(cls, text: str) -> TopicPattern:
        """Raises `InvalidValue`."""
        if fault := _fault(text, wildcards=True):
            raise InvalidValue("topic pattern", text, fault)
        return cls(text, _runs(text.split(".")))

    def matches(self, topic: str) -> bool:
        """Whether `topic` is among those this pattern describes."""
        words = tuple(topic.split(".")) if topic else ()
        first, *rest = self.runs
        if not rest:
            return len(words) == len(first) and _fits(first, words, 0)
        *middle, last = rest
        end = len(words) - len(last)
        at = len(first)
        if end < at or not _fits(first, words, 0) or not _fits(last, words, end):
            return False
        for run in middle:
            found = next((i for i in range(at, end - len(run) + 1) if _fits(run, words, i)), None)
            if found is None:
                return False
            at = found + len(run)
        return True

    def __str__(self) -> str:
        return self.text


def is_topic(text: str) -> bool:
    """Whether a message may be published on `text`: words without wildcards that fit into a routing key."""
    return _fault(text, wildcards=False) is None


def _runs(words: list[str]) -> tuple[Words, ...]:
    runs: list[list[str]] = [[]]
    for word in words:
        if word == "#":
            runs.append([])
        else:
            runs[-1].append(word)
    middle = (run for run in runs[1:-1] if run)
    return tuple(map(tuple, (runs[0], *middle, runs[-1]) if len(runs) > 1 else runs))


def _fits(run: Words, words: Words, at: int) -> bool:
    return all(word in ("*", words[at + i]) for i, word in enumerate(run))


def _fault(text: str, *, wildcards: bool) -> str | None:
    if len(text.encode(errors="surrogatepass")) > MAX_TOPIC_BYTES:
        return f"it is longer than {MAX_TOPIC_BYTES} bytes"
    for word in text.split("."):
        if not word:
            return "it has an empty word; words are parted by single dots"
        if not word.isprintable() or " " in word:
            return "a word holds a space or a control character"
        if ("*" in word or "#" in word) and not (wildcards and word in {"*", "#"}):
            return "'*' and '#' stand for whole words" if wildcards else "'*' and '#' belong in patterns"
    return None

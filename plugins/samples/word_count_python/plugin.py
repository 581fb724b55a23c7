"""word_count: how many words a text has, and which it has most often."""

import re
from collections import Counter
from typing import TypedDict

from warren_plugin import Failure, action, log

#: How many of the most frequent words are told.
MOST = 5

CAPITALS = re.compile("[A-Z]+")
WORDS = re.compile(r"[a-z0-9\u0080-\U0010ffff]+")


class Text(TypedDict):
    text: str


class Frequency(TypedDict):
    word: str
    count: int


class Counted(TypedDict):
    words: int
    distinct: int
    most_frequent: list[Frequency]


@action
def count(data: Text) -> Counted:
    words = WORDS.findall(CAPITALS.sub(lambda letters: letters[0].lower(), data["text"]))
    if not words:
        raise Failure("there are no words in the text")
    counts = Counter(words)
    log.info("%d words, %d of them distinct", len(words), len(counts))
    most = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]
    frequencies = [Frequency(word=word, count=times) for word, times in most]
    return Counted(words=len(words), distinct=len(counts), most_frequent=frequencies)

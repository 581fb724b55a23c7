"""Who is served by a new version: by law, and never otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.bus import Message, new_message_id
from warren.workers.sticky import place, sticky_key

KEYS = st.binary(min_size=1, max_size=60)
PERCENT = st.floats(0.01, 99)


def drawn(key: bytes, percent: float) -> bool:
    return place("mole", "2.0.0", key) * 100 < percent


@given(KEYS, PERCENT, PERCENT)
def test_raising_the_percentage_takes_nobody_back(key: bytes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert drawn(key, low) <= drawn(key, high)


@given(KEYS)
def test_a_place_is_one_of_the_unit_interval_and_always_the_same(key: bytes) -> None:
    assert 0 <= place("mole", "2.0.0", key) < 1
    assert place("mole", "2.0.0", key) == place("mole", "2.0.0", bytes(key))


def test_a_place_is_the_same_in_every_process_and_on_every_python() -> None:
    assert place("text_processor", "2.0.0", b"customer-7") == pytest.approx(0.286388798648)
    code = "from warren.workers.sticky import place; print(place('text_processor', '2.0.0', b'customer-7'))"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] == f"{place('text_processor', '2.0.0', b'customer-7')}\n".encode()


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
@pytest.mark.parametrize("kind", ["counted up", "ids"])
def test_the_share_is_what_it_is_set_to(percent: float, kind: str) -> None:
    keys = [str(number) if kind == "counted up" else new_message_id() for number in range(20_000)]
    share = sum(drawn(key.encode(), percent) for key in keys) / len(keys) * 100
    assert share == pytest.approx(percent, abs=5 * (percent * (100 - percent) / len(keys)) ** 0.5)  # 5 deviations


def test_it_is_not_always_the_same_who_are_first() -> None:
    keys = [str(number).encode() for number in range(2_000)]
    first = {key for key in keys if place("mole", "2.0.0", key) < 0.1}
    again = {key for key in keys if place("mole", "3.0.0", key) < 0.1}
    assert 0 < len(first & again) < 0.3 * len(first)


@pytest.mark.parametrize(
    ("header", "key"),
    [("ada", b"ada"), (b"\xff", b"\xff"), (7, b"7"), ("", None), (b"", None), (None, None), ([1], None), (1.5, None)],
)
def test_a_header_is_a_key_where_it_is_text_or_a_whole_number(header: object, key: bytes | None) -> None:
    message = Message(b"{}", message_id="m-1", correlation_id="c-1", headers={"x-user": header})
    assert sticky_key(message, "x-user") == key
    assert sticky_key(message, "message_id") == b"m-1"
    assert sticky_key(message, "correlation_id") == b"c-1"


def test_what_is_not_there_is_no_key() -> None:
    nothing = Message(b"{}")
    assert [sticky_key(nothing, sticky) for sticky in ("message_id", "correlation_id", "x-user")] == [None] * 3
    assert sticky_key(Message(b"{}", message_id="\udcff"), "message_id") == b"\xed\xb3\xbf"

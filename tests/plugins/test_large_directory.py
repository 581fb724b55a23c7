"""A plugin's directory with a hundred thousand names in it: what one answer, and one listing, may take of the worker.

The bound is that of `listing`: an answer looks at 4,096 names and has 64 KiB at most, and a listing keeps no more than
its last answer. So its memory is the same for any number of names, and the loop is held for one answer at a time.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.plugins.file_guests import list_directory, make_plugin
from warren.plugins.engine import Engine
from warren.plugins.listing import MAX_LISTING_BYTES, MAX_LOOKED_AT, Listing
from warren.plugins.wasi_abi import DIRENT, Errno

NAMES: Final = 100_000

#: What a listing may allocate at any one time, whatever the number of names: some five times its largest answer's
#: 64 KiB, for the entries it is made of and the interpreter's own objects.
MOST_BYTES: Final = 1 << 20

#: Far above what an answer takes (some 10 ms), for a machine that is busy; a tenth of what all names at once would.
LONGEST_ANSWER_S: Final = 1.0


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plugin's directory, `data/tested`; the names in it are links, which are made the quickest."""
    place = tmp_path_factory.mktemp("large")
    root = place / "data" / "tested"
    root.mkdir(parents=True)
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(NAMES):
            os.symlink("x", f"{number:05}", dir_fd=directory)
    finally:
        os.close(directory)
    return place


def names_in(answer: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole entries of an answer: the cookie after each, and its name."""
    at = 0
    while at + DIRENT.size <= len(answer):
        cookie, _, length, _ = DIRENT.unpack_from(answer, at)
        if at + DIRENT.size + length > len(answer):
            return
        yield cookie, answer[at + DIRENT.size : at + DIRENT.size + length]
        at += DIRENT.size + length


def test_all_of_it_is_listed_within_bounds_of_memory_and_time(large: Path) -> None:
    directory = os.open(large / "data" / "tested", os.O_RDONLY | os.O_DIRECTORY)
    found: set[bytes] = set()
    cookie, longest_s, most_names = 0, 0.0, 0
    most_bytes = 0
    tracemalloc.start()
    try:
        with closing(Listing(directory, lambda _: True)) as listing:
            while True:
                held = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
                before, began = listing.looked_at, time.perf_counter()
                answer = listing.answer(cookie, MAX_LISTING_BYTES)
                longest_s = max(longest_s, time.perf_counter() - began)
                most_bytes = max(most_bytes, tracemalloc.get_traced_memory()[1] - held)
                most_names = max(most_names, listing.looked_at - before)
                assert answer is not None
                entries = list(names_in(answer))
                found.update(name for _, name in entries)
                if len(answer) < MAX_LISTING_BYTES:
                    break
                cookie = entries[-1][0]
    finally:
        tracemalloc.stop()
        os.close(directory)
    assert len(found) == NAMES + 2, "with `.` and `..`"
    assert most_names <= MAX_LOOKED_AT
    assert most_bytes < MOST_BYTES
    assert longest_s < LONGEST_ANSWER_S


async def test_a_guest_that_lists_it_is_answered_in_parts_and_pays_for_the_names(large: Path, engine: Engine) -> None:
    plugin = await make_plugin(engine, large, ("**",), ())
    few = (await plugin.outcome([list_directory(3, length=256)])).fuel
    assert await plugin.run([list_directory(3, length=MAX_LISTING_BYTES)] * 2) == [Errno.SUCCESS] * 2
    assert plugin.last.fuel > few + 2 * 1_000, "a name costs more than a unit"


async def test_a_guest_that_may_see_none_of_it_looks_at_so_many_names_and_no_more(large: Path, engine: Engine) -> None:
    plugin = await make_plugin(engine, large, ("other/*",), ())
    assert await plugin.one(list_directory(3, length=MAX_LISTING_BYTES)) is Errno.AGAIN


async def test_listing_it_for_ever_ends_with_the_fuel(large: Path, engine: Engine) -> None:
    plugin = await make_plugin(engine, large, ("**",), (), max_fuel=1_000_000)
    outcome = await plugin.outcome([list_directory(3, length=MAX_LISTING_BYTES)], forever=True)
    assert outcome.kind == "out_of_fuel"

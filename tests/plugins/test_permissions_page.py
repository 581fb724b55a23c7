"""`plugins/PERMISSIONS.md` says which test holds each permission: they are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
PAGE: Final = (TESTS.parent / "plugins" / "PERMISSIONS.md").read_text()
NAMED: Final = sorted(set(re.findall(r"`(?:[\w/]*/)?([tT]est_?\w+)(?:\.py)?`", PAGE)))


def test_every_test_that_the_page_names_is_there() -> None:
    files = [*TESTS.rglob("test_*.py")]
    there = {file.stem for file in files}
    for file in files:
        there.update(re.findall(r"(?:def|class) ([tT]est_?\w+)", file.read_text()))
    assert len(NAMED) > 30
    assert [name for name in NAMED if name not in there] == []

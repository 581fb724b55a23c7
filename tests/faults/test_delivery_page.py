"""`bus/DELIVERY.md` says which test holds each promise: they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "bus" / "DELIVERY.md").read_text()

#: `file.py` or `file.py::test`, in this folder or another one.
NAMED = sorted(set(re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py(?:::\w+)?)`", PAGE)))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 20
    assert not set(re.findall(r"::(\w+)", PAGE)) - {named.partition("::")[2] for named in NAMED}


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_the_page_names_is_there(named: str) -> None:
    file, _, test = named.partition("::")
    path = TESTS.parent / file if file.startswith("tests/") else TESTS / "faults" / file
    assert path.is_file()
    assert not test or re.search(rf"^(?:async )?def {test}\(", path.read_text(), re.MULTILINE)

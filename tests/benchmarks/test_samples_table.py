"""The table of the samples: what is measured, and how it gets into the page."""

from __future__ import annotations

import pytest

from tests.benchmarks.samples import BEGIN, END, SAMPLES, as_markdown, measure, with_table

SMALLEST = SAMPLES / "word_count_assemblyscript" / "word_count_assemblyscript.wasm"


async def test_a_sample_is_measured_on_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_CACHE_DIR", "")  # put back after the test; measuring sets its own
    size = SMALLEST.stat().st_size
    measured = await measure(SMALLEST, size, "a few words, and a few more")
    assert measured.language == "AssemblyScript"
    assert measured.module_bytes == size
    assert 0 < measured.warm_s < measured.cold_s < measured.first_load_s
    assert measured.fuel > 0
    row = as_markdown([measured]).splitlines()[2]
    assert row.startswith("| AssemblyScript | 15 KiB | ")


def test_the_table_takes_the_place_of_the_last_one_and_of_nothing_else() -> None:
    page = f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n"
    assert with_table(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="has no <!-- samples-table -->"):
        with_table("nothing here", "new\n")


def test_the_page_tells_of_every_committed_sample() -> None:
    page = (SAMPLES / "README.md").read_text()
    table = page[page.index(BEGIN) : page.index(END)]
    assert table.count("\n| ") == 2 + len(list(SAMPLES.glob("word_count_*/word_count_*.toml")))

"""What the benchmark of the sandbox says: rows, each beside what is required of it, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Compared:
    """A ratio, or another figure, and the most it may be where something is required of it; to two decimals."""

    value: float
    limit: float | None = None
    unit: str = "x"

    def cells(self) -> tuple[str, str, str]:
        """The figure, what is required, and whether that is met."""
        value = f"{self.value:.2f}{self.unit}"
        if self.limit is None:
            return value, "", ""
        return value, f"≤ {self.limit:.2f}{self.unit}", "met" if self.is_met else "not met"

    @property
    def is_met(self) -> bool:
        return self.limit is None or round(self.value, 2) <= round(self.limit, 2)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `measured` for people, `figures` for programs."""

    name: str
    measured: str
    figures: Mapping[str, float]
    compared: Compared | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """One table. `compared` says what the rows' ratios are; `notes` say what is missing and why."""

    title: str
    compared: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> Table:
        """The section as a terminal shows it."""
        shown = Table(title=self.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        shown.add_column("", no_wrap=True)
        for heading in ("measured", self.compared, "required"):
            shown.add_column(heading, justify="right", no_wrap=True)
        shown.add_column("", no_wrap=True)
        for row in self.rows:
            shown.add_row(row.name, row.measured, *(row.compared.cells() if row.compared else ("", "", "")))
        if self.notes:
            shown.caption = Text("\n".join(self.notes))  # which may quote a manifest's [sections]
            shown.caption_justify = "left"
        return shown

    def data(self) -> dict[str, Any]:
        """The section as JSON has it."""
        rows = [asdict(row) | {"met": row.compared.is_met if row.compared else None} for row in self.rows]
        return {"title": self.title, "compared": self.compared, "rows": rows, "notes": self.notes}

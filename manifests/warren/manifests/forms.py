"""The two forms in which a manifest is written, brought into the shape of `Manifest`.

The sectioned form has a `[plugin]` table, and in `[dependencies]` the guest's own libraries; plugins it depends on are
`[[plugin.dependencies]]`. The flat form has the keys of `[plugin]` at the top level, `dependencies` being plugins. All
other tables are the same in both. `capabilities` may be a plain array anywhere: then all are required.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .findings import Finding, unknown_key, wrong_type
from .lines import Path
from .manifest import Manifest

PLUGIN_KEYS: Final = (
    "name",
    "version",
    "description",
    "author",
    "license",
    "repository",
    "documentation",
    "min_runtime_version",
    "dependencies",
)
SECTIONS: Final = tuple(field for field in Manifest.model_fields if field not in {*PLUGIN_KEYS, "libraries"})

_FLAT_HINTS: Final[Mapping[Path, str]] = {
    ("dependencies",): "here it lists plugins; a guest's libraries need the form with a [plugin] table",
}
_SECTIONED_HINTS: Final[Mapping[Path, str]] = {
    ("dependencies",): "here it lists the guest's libraries; plugins are [[plugin.dependencies]]",
    **{(key,): "it belongs in [plugin]" for key in PLUGIN_KEYS if key != "dependencies"},
    **{("plugin", section): f"it belongs in a table of its own, [{section}]" for section in SECTIONS},
}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a `Manifest` to be, where each is written, and what is wrong with the form itself."""

    fields: dict[str, Any]
    written: Mapping[Path, Path]
    hints: Mapping[Path, str]
    findings: tuple[Finding, ...]

    def path_of(self, loc: Path) -> Path:
        """Where the manifest has what stands at `loc` in `fields`."""
        for length in range(len(loc), 0, -1):
            if (start := self.written.get(loc[:length])) is not None:
                return start + loc[length:]
        return loc


def written_form(tables: dict[str, Any]) -> Form:
    """A document without a `[plugin]` table is flat if it has any of that table's keys."""
    flat = "plugin" not in tables and any(key in tables for key in PLUGIN_KEYS if key != "dependencies")
    return _flat(tables) if flat else _sectioned(tables)


def _flat(tables: dict[str, Any]) -> Form:
    known = (*PLUGIN_KEYS, *SECTIONS)
    fields = {key: tables[key] for key in known if key in tables}
    findings = (unknown_key((key,), known) for key in tables if key not in known)
    return Form(*_capabilities(fields, {}), _FLAT_HINTS, tuple(findings))


def _sectioned(tables: dict[str, Any]) -> Form:
    plugin = tables.get("plugin")
    own = plugin if isinstance(plugin, dict) else {}
    fields = {key: own[key] for key in PLUGIN_KEYS if key in own}
    fields |= {section: tables[section] for section in SECTIONS if section in tables}
    written: dict[Path, Path] = {(key,): ("plugin", key) for key in PLUGIN_KEYS}
    if "dependencies" in tables:
        fields["libraries"] = tables["dependencies"]
        written["libraries",] = ("dependencies",)
    return Form(*_capabilities(fields, written), _SECTIONED_HINTS, tuple(_misplaced(tables, own)))


def _misplaced(tables: dict[str, Any], own: dict[str, Any]) -> Iterator[Finding]:
    if "plugin" not in tables:
        yield Finding(("plugin",), "missing table [plugin]")
    elif not isinstance(tables["plugin"], dict):
        yield wrong_type(("plugin",), "a table", tables["plugin"])
    known = ("plugin", "dependencies", *SECTIONS)
    yield from (unknown_key((key,), known) for key in tables if key not in known)
    yield from (unknown_key(("plugin", key), PLUGIN_KEYS) for key in own if key not in PLUGIN_KEYS)


def _capabilities(fields: dict[str, Any], written: dict[Path, Path]) -> tuple[dict[str, Any], dict[Path, Path]]:
    """An array of capabilities is the table of the required ones."""
    given = fields.get("capabilities")
    if not isinstance(given, list):
        return fields, written
    return {**fields, "capabilities": {"required": given}}, {**written, ("capabilities", "required"): ("capabilities",)}

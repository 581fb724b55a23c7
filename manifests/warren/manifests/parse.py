"""From the bytes of a manifest to a `Manifest`, or to everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from .document import Document, read_document, values_without_json
from .errors import ManifestError, Problem, shown
from .findings import Finding, dotted, from_validation, place
from .forms import Form, written_form
from .lines import Path
from .manifest import Manifest

#: More than a person mends at one go. What lies beyond is counted.
MAX_PROBLEMS: Final = 100

Model = TypeVar("Model", bound=BaseModel)


def parse_manifest(data: bytes, source: str = "manifest") -> Manifest:
    """Read a manifest in either form. `source` names it in messages: its path.

    Raises `ManifestError` with all problems found, in the order of their lines.
    """
    document = read_document(data, source)
    form = written_form(document.tables)
    return validated(Manifest, form, document, [*form.findings, *_not_json(document), *_repeated(form)])


def validated(model: type[Model], form: Form, document: Document, findings: Iterable[Finding] = ()) -> Model:
    """A document as a `model`. Raises `ManifestError` with what is wrong with it, and with the `findings` if any."""
    found = list(findings)
    try:
        read = model.model_validate(form.fields)
    except ValidationError as error:
        found.extend(_from_pydantic(error, form, model))
    else:
        if not found:
            return read
    raise ManifestError(_problems(found, form, document))


def _not_json(document: Document) -> Iterator[Finding]:
    for path, reason in values_without_json(document.tables):
        yield Finding(path, f"{place(path)} {reason}")


def _from_pydantic(error: ValidationError, form: Form, model: type[BaseModel]) -> Iterator[Finding]:
    for details in error.errors(include_url=False):
        # pydantic marks a finding about a mapping's key, rather than its value, like this.
        loc = details["loc"][:-1] if details["loc"][-1] == "[key]" else details["loc"]
        yield from_validation(details, form.path_of(loc), model)


def _repeated(form: Form) -> Iterator[Finding]:
    """What may be named once: a capability, another plugin (and never this one)."""
    yield from _twice(_capability_names(form.fields), form, "asks for the capability {} again")
    dependencies = list(_dependency_names(form.fields))
    yield from _twice(dependencies, form, "names the plugin {} again")
    for loc, name in dependencies:
        if name == form.fields.get("name"):
            path = form.path_of(loc)
            yield Finding(path, f"{place(path)} names this plugin itself; it cannot depend on itself")


def _capability_names(fields: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    capabilities = fields.get("capabilities")
    for key in ("required", "optional"):
        names = capabilities.get(key) if isinstance(capabilities, dict) else None
        for index, name in enumerate(names if isinstance(names, list) else ()):
            if isinstance(name, str):
                yield ("capabilities", key, index), name


def _dependency_names(fields: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    dependencies = fields.get("dependencies")
    for index, entry in enumerate(dependencies if isinstance(dependencies, list) else ()):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            yield ("dependencies", index, "name"), name


def _twice(named: Iterable[tuple[Path, str]], form: Form, words: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for loc, name in named:
        if name in seen:
            path = form.path_of(loc)
            yield Finding(path, f"{place(path)} {words.format(shown(name))}")
        seen.add(name)


def _problems(findings: list[Finding], form: Form, document: Document) -> list[Problem]:
    """In the order of their lines, each path once: of two findings the first, and none about what is within."""
    found: dict[Path, Problem] = {}
    for finding in findings:
        path = finding.path
        if not any(path[:length] in found for length in range(1, len(path) + 1)):
            hint = form.hints.get(path, finding.hint)
            found[path] = Problem(document.source, document.lines.of(path), dotted(path), finding.message, hint)
    problems = sorted(found.values(), key=lambda problem: problem.line or 0)
    beyond = len(problems) - MAX_PROBLEMS
    if beyond > 0:
        problems[MAX_PROBLEMS:] = [Problem(document.source, None, "", f"and {beyond} more problems")]
    return problems

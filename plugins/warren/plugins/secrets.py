"""What a plugin is given at its start: its settings, the variables it was granted, and the secrets among them.

A manifest holds no secret but says where one is, in any value of its `[settings]`:

    "env:API_KEY"               the worker's variable of that name, which has to be granted
    "file:/run/secrets/token"   a file below a folder that the operator named, without the newline that ends it
    "literal:env:API_KEY"       the text `env:API_KEY` itself; `literal:` is taken off, and the rest stays as it is

They are looked up at every load, so that loading again takes up a new one. From then on a secret is in the memory of
guests and in the JSON that `initialize` is given, and nowhere else: what shows a manifest shows where its secrets are,
and a snapshot, which would write that memory to the disk, is refused.

What a guest logs, and every error that quotes it, has its secrets masked before it leaves the sandbox. That is against
accidents: a guest that wants to tell its secret has its answers and messages, which are its own, and can spell it
backwards in a log. What it is not to tell, it must not be given. Rejected: to mask what variables hold that are not
referred to as secrets, for then `LEVEL=info` would leave no line of a log legible.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from warren.manifests import Grant, Manifest

from .errors import PluginError
from .module import shown
from .outcome import AuditEvent, HostCall, Outcome

MASK: Final = "***"

#: Shorter ones are not masked: they would be found in every second word.
MIN_MASKED_LENGTH: Final = 4

#: A key in PEM has some 3 KiB. Larger is no secret but a mistake.
MAX_SECRET_BYTES: Final = 64 << 10

#: Errors longer than this are not looked through for what is left of a secret that was cut; Warren's are shorter.
MAX_CUT_LENGTH: Final = 2_000

#: Where a text was cut, or ends since it was.
_CUT: Final = re.compile(r"\.\.\.|…|$")

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


class SecretUnavailable(PluginError):
    """A setting whose secret cannot be had, or a variable that cannot be passed on; says which, never what it holds."""

    may_pass = True


class Secrets:
    """The secrets that one plugin was given. False if there are none; tells nobody what they are."""

    __slots__ = ("_count", "_forms")

    def __init__(self, values: Iterable[str] = ()) -> None:
        values = tuple(values)
        self._count = len(values)
        forms = {form for value in values for form in _forms(value) if len(form) >= MIN_MASKED_LENGTH}
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def __bool__(self) -> bool:
        return self._count > 0

    def __repr__(self) -> str:
        return f"<{self._count} secrets>"

    def mask(self, text: str) -> str:
        """An error with `***` in place of every secret, and of what is left of one where it was cut short."""
        text = self.mask_whole(text)
        if len(text) <= MAX_CUT_LENGTH:
            for form in self._forms:
                if form[:MIN_MASKED_LENGTH] in text or form[-MIN_MASKED_LENGTH:] in text:
                    text = _without_pieces(text, form)
        return text

    def mask_whole(self, text: str) -> str:
        """A text that was not cut, with `***` in place of every secret."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def mask_bytes(self, data: bytes) -> bytes:
        """The same of what is no text."""
        for form in self._forms:
            data = data.replace(form.encode(), MASK.encode())
        return data

    def mask_outcome(self, outcome: Outcome) -> Outcome:
        """The same outcome, masked wherever the host quotes the guest. Its answer and its messages are its own."""
        return replace(
            outcome,
            error=self._mask_error(outcome.error),
            logs=tuple(replace(line, text=self.mask_whole(line.text)) for line in outcome.logs),
            host_calls=tuple(map(self._mask_call, outcome.host_calls)),
            audit=self.mask_audit(outcome.audit),
        )

    def mask_audit(self, events: tuple[AuditEvent, ...]) -> tuple[AuditEvent, ...]:
        """The same events, masked."""
        if not self:
            return events
        return tuple(
            replace(event, asked=self.mask(event.asked), refusal=self._mask_error(event.refusal)) for event in events
        )

    def _mask_call(self, call: HostCall) -> HostCall:
        callee = call.callee
        if callee is not None:
            callee = replace(callee, outcome=self.mask_outcome(callee.outcome))
        return replace(call, name=self.mask(call.name), error=self._mask_error(call.error), callee=callee)

    def _mask_error(self, error: str | None) -> str | None:
        return None if error is None else self.mask(error)


NO_SECRETS: Final = Secrets()


@dataclass(frozen=True, slots=True, repr=False)
class Given:
    """What one plugin is given: `settings` with its secrets in their places, and the variables that are set."""

    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    secrets: Secrets

    @property
    def variables(self) -> tuple[bytes, ...]:
        """The environment as `NAME=value`."""
        return tuple(f"{name}={value}".encode() for name, value in self.environment.items())


def give(
    manifest: Manifest, grant: Grant, secret_folders: Sequence[Path], variables: Mapping[str, str] = os.environ
) -> Given:
    """Look everything up. Raises `SecretUnavailable`; a variable that is granted and not set is none."""
    lookup = _Lookup(grant, secret_folders, variables)
    settings = {name: lookup.resolve(value, f"[settings] {name}") for name, value in manifest.settings.items()}
    environment = {name: _text(variables[name], name) for name in grant.environment_vars if name in variables}
    given = Given(settings, environment, Secrets(lookup.found))
    if manifest.runtime.snapshot and (given.secrets or given.environment):
        raise SecretUnavailable(
            "[runtime] snapshot = true would write what its settings refer to, and its variables, into the cache of "
            "compiled code: let it initialise for each request, or do without them"
        )
    return given


class _Lookup:
    """Puts secrets in the place of what refers to them, and collects them in `found`."""

    def __init__(self, grant: Grant, folders: Sequence[Path], variables: Mapping[str, str]) -> None:
        self.found: list[str] = []
        self._grant = grant
        self._folders = folders
        self._variables = variables

    def resolve(self, value: Any, place: str) -> Any:
        """`value`, which stands at `place` of the manifest, as the guest gets it."""
        match value:
            case str():
                return self._resolve_text(value, place)
            case Mapping():
                return {key: self.resolve(inner, f"{place}.{key}") for key, inner in value.items()}
            case list() | tuple():
                return [self.resolve(inner, f"{place}[{index}]") for index, inner in enumerate(value)]
        return value

    def _resolve_text(self, text: str, place: str) -> str:
        kind, colon, rest = text.partition(":")
        if not colon or kind not in ("env", "file", "literal"):
            return text
        if kind == "literal":
            return rest
        try:
            secret = self._variable(rest) if kind == "env" else _secret_file(rest, self._folders)
        except SecretUnavailable as error:
            hint = f"; a text that only begins like that is written 'literal:{kind}:…'"
            raise SecretUnavailable(f"{place}: {error}{hint}") from None
        self.found.append(secret)
        return secret

    def _variable(self, name: str) -> str:
        if not _VARIABLE.fullmatch(name):  # and may be anything, so it is not quoted
            raise SecretUnavailable("what follows 'env:' is not the name of a variable")
        if name not in self._grant.environment_vars:
            raise SecretUnavailable(
                f"the variable {name} is not granted: list it in [permissions] environment_vars, and have the "
                "operator's policy allow it"
            )
        if name not in self._variables:
            raise SecretUnavailable(f"the variable {name} is not set in the worker's environment")
        return _text(self._variables[name], name)


def _text(value: str, name: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SecretUnavailable(f"the variable {name} does not hold UTF-8") from None
    return value


def _secret_file(name: str, folders: Sequence[Path]) -> str:
    """What a file holds that is below one of these folders, wherever links lead."""
    if not folders:
        raise SecretUnavailable("secrets in files are not allowed here: the operator names no folder (--secrets)")
    path = Path(name)
    if not path.is_absolute() or "\0" in name:
        raise SecretUnavailable("the path of a secret has to be absolute")
    if not _is_below(_normal(path), map(_normal, folders)):
        raise SecretUnavailable(f"{shown(name)} is in no folder of secrets that the operator names (--secrets)")
    try:
        real = path.resolve(strict=True)
        if not _is_below(real, (folder.resolve() for folder in folders)):
            raise SecretUnavailable(f"{shown(name)} leads out of the folder of secrets")
        data = _read(real)
    except OSError as error:
        raise SecretUnavailable(f"{shown(name)} cannot be read: {error.strerror or type(error).__name__}") from None
    except RuntimeError:  # how Python up to 3.12 says that links lead in a circle
        raise SecretUnavailable(f"{shown(name)} cannot be read: its links lead in a circle") from None
    if data is None:
        raise SecretUnavailable(f"{shown(name)} is not a file")
    if len(data) > MAX_SECRET_BYTES:
        raise SecretUnavailable(f"{shown(name)} is larger than {MAX_SECRET_BYTES:,} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{shown(name)} does not hold UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _normal(path: Path) -> Path:
    """Absolute and without `..`, with no look at the disk."""
    return Path(os.path.normpath(path.absolute()))


def _read(path: Path) -> bytes | None:
    """Its first bytes, and one more than are allowed; None if it is no file. A pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_SECRET_BYTES + 1)
    finally:
        os.close(descriptor)


def _forms(secret: str) -> set[str]:
    """The ways in which it may stand in a text: whole or line by line, as Python or JSON quote it, and quote that."""
    parts = {secret, *(line.strip() for line in secret.splitlines())}
    quoted = {form for part in parts for form in _quoted(part)}
    return parts | quoted | {form for part in quoted for form in _quoted(part)}


def _quoted(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield repr(f"\"{text}'")[2:-3]  # beside quotation marks of both kinds its own are quoted, too
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def _without_pieces(text: str, secret: str) -> str:
    """`text` without beginnings of the secret before, and ends of it after, where it was cut."""
    kept: list[str] = []
    at = 0
    for cut in _CUT.finditer(text):
        before, piece = text[at : cut.start()], cut.group()
        if kept and (length := _overlap(secret, before)):  # it goes on after the last cut
            before = MASK + before[length:]
        if length := _overlap(before, secret):
            before = before[:-length] + MASK
        kept += (before, piece)
        at = cut.end()
    return "".join(kept)


def _overlap(first: str, second: str) -> int:
    """How many characters, if enough to tell, the one ends with and the other begins with."""
    longest = min(len(first), len(second))
    return next((n for n in range(longest, MIN_MASKED_LENGTH - 1, -1) if second.startswith(first[-n:])), 0)

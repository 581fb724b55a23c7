"""Versions (https://semver.org) and version requirements with Cargo's meaning.

The rules are those of "Specifying Dependencies" in Cargo's reference
(https://doc.rust-lang.org/cargo/reference/specifying-dependencies.html); where it is silent (pre-releases, partial
versions with an operator) those of the `semver` crate, which Cargo uses.

A comparator compares as many numbers as it names; ^ and ~ hold the leading ones fast and set a lower bound. Rejected:
rewriting each as `>=low, <high`, since 2.0.0-alpha is below 2.0.0 and no part of ^1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as distribution_version
from typing import Final, Literal, get_args

from semver import Version

from .errors import InvalidValue

#: Nothing that a person writes comes near this; a number of 5,000 digits does.
MAX_VERSION_LENGTH: Final = 256

#: The `semver` crate's bound.
MAX_COMPARATORS: Final = 32

Operator = Literal["^", "~", "=", ">", ">=", "<", "<=", "*"]

_OPERATORS: Final[dict[str, Operator]] = {operator: operator for operator in get_args(Operator)}

_LONE_STAR = re.compile(r" *[*xX] *")
_COMPARATOR = re.compile(
    r" *(?P<operator>\^|~|=|>=|<=|>|<)? *"
    r"(?P<major>[0-9]+)(?:\.(?P<minor>[0-9]+|[*xX])(?:\.(?P<patch>[0-9]+|[*xX]))?)?"
    r"(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:\+(?P<build>[0-9A-Za-z.-]+))? *"
)

#: Why a text is no comparator: the commonest mistakes first, and in the end what is right.
_FAULTS: Final = (
    (r"^$", "there is an empty part; give a version, or '*' for any"),
    (r"^[\^~=<> ]+$", "an operator alone names no version"),
    (r"^(==|!=|~=|~>|=>|=<|<>)", "there is no such operator; use one of ^ ~ = > >= < <="),
    (r"^[\^~=<> ]*[vV][0-9]", "write it without the leading v"),
    (r"^[\^~=<> ]*[*xX]", "'*' stands alone, with no operator and no other part"),
    (r"^[\^~=<> ]*[0-9]+(\.[0-9xX*]+){3}", "a version has at most three numbers"),
    (r"[0-9xX*] +[\^~=<>0-9]", "join the parts with commas, like '>=1, <2'"),
    (r"", "it should look like 1.2.3, ^1.2, ~1.2, 1.* or >=1, <2"),
)


def parse_version(text: str) -> Version:
    """A full semantic version. Raises `InvalidValue`."""
    # semver's own pattern lets other alphabets' digits and a final newline pass.
    if len(text) <= MAX_VERSION_LENGTH and re.fullmatch(r"[0-9A-Za-z.+-]+", text) and Version.is_valid(text):
        return Version.parse(text)
    raise InvalidValue("version", text, _version_fault(text))


def _version_fault(text: str) -> str:
    if re.match(r"[vV][0-9]", text):
        return "write it without the leading v"
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return "give all three numbers, like 1.0.0"
    if re.search(r"(^|\.)0[0-9]", text):
        return "numbers have no leading zeros"
    return "it should look like 1.2.3 or 1.2.3-beta.1 (semver.org)"


@cache
def runtime_version() -> Version:
    """The version of the installed Warren; a pre-release counts as its release."""
    numbers = re.findall(r"[0-9]+", distribution_version("warren"))[:3]
    return Version(*map(int, numbers))


def next_incompatible(version: Version) -> Version:
    """The lowest release that need not be compatible with `version`, by Cargo's rule: the end of what ^ admits.

    The first of its numbers that is not zero has risen. A pre-release is compatible with what its release is.
    """
    if version.major:
        return version.bump_major()
    return version.bump_minor() if version.minor else version.bump_patch()


@dataclass(frozen=True, slots=True)
class Comparator:
    """One operator with a version of one, two or three `numbers`; only all three may have a `pre`-release."""

    operator: Operator
    numbers: tuple[int, ...]
    pre: str | None = None

    def __str__(self) -> str:
        text = ".".join(map(str, self.numbers))
        if self.operator == "*":
            return f"{text}.*"
        return f"{self.operator}{text}" + (f"-{self.pre}" if self.pre else "")

    @property
    def bound(self) -> Version:
        """The lowest release this names: 1.2 is 1.2.0."""
        major, minor, patch = (*self.numbers, 0, 0)[:3]
        return Version(major, minor, patch, self.pre)

    @property
    def pinned(self) -> int:
        """How many leading numbers ^ and ~ hold fast: ^ those up to the first that is not zero, ~ two."""
        leading_zeros = next((i for i, number in enumerate(self.numbers) if number), len(self.numbers))
        return min(len(self.numbers), 2 if self.operator == "~" else leading_zeros + 1)

    def matches(self, version: Version) -> bool:
        """Whether `version` lies within, its being a pre-release aside."""
        release = (version.major, version.minor, version.patch)
        if self.operator in {"^", "~"}:
            pinned = self.pinned
            return release[:pinned] == self.numbers[:pinned] and version >= self.bound
        head = release[: len(self.numbers)]
        if head == self.numbers:
            return self._matches_at(version)
        return self.operator in ({">", ">="} if head > self.numbers else {"<", "<="})

    def _matches_at(self, version: Version) -> bool:
        """The numbers given agree: a partial version is a whole range of them, a full one has its pre-release left."""
        if len(self.numbers) < 3 or version == self.bound:
            return self.operator not in {">", "<"} and version.prerelease == self.pre
        return self.operator in ({">", ">="} if version > self.bound else {"<", "<="})

    def admits_pre_release(self, version: Version) -> bool:
        """A pre-release is taken only by who named one of the same release."""
        return self.pre is not None and self.numbers == (version.major, version.minor, version.patch)


@dataclass(frozen=True, slots=True)
class VersionReq:
    """A version requirement such as `1.0`, `~1.2`, `1.*` or `>=1.2, <1.5`. No comparators at all is `*`."""

    comparators: tuple[Comparator, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VersionReq:
        """Raises `InvalidValue`, whose `reason` says what is wrong."""
        if len(text) > MAX_VERSION_LENGTH:
            raise InvalidValue("version requirement", text, f"it is longer than {MAX_VERSION_LENGTH} characters")
        if _LONE_STAR.fullmatch(text):
            return cls()
        parts = text.split(",")
        if len(parts) > MAX_COMPARATORS:
            raise InvalidValue("version requirement", text, f"it has more than {MAX_COMPARATORS} parts")
        return cls(tuple(_comparator(part, text) for part in parts))

    def matches(self, version: Version) -> bool:
        """Whether `version` will do. Build metadata is ignored."""
        if not all(comparator.matches(version) for comparator in self.comparators):
            return False
        return not version.prerelease or any(comparator.admits_pre_release(version) for comparator in self.comparators)

    def __str__(self) -> str:
        return ", ".join(map(str, self.comparators)) or "*"


def _comparator(part: str, whole: str) -> Comparator:
    found = _COMPARATOR.fullmatch(part)
    if found is None:
        raise InvalidValue("version requirement", whole, _comparator_fault(part))
    operator, *numbers, pre, build = found.group("operator", "major", "minor", "patch", "pre", "build")
    given = [number for number in numbers if number is not None]
    digits = [number for number in given if number.isdigit()]
    fault = _number_fault(given, digits, part) or _suffix_fault(pre, build)
    if fault:
        raise InvalidValue("version requirement", whole, fault)
    default: Operator = "^" if len(digits) == len(given) else "*"
    return Comparator(_OPERATORS.get(operator, default), tuple(map(int, digits)), pre)


def _number_fault(given: list[str], digits: list[str], part: str) -> str | None:
    if given[: len(digits)] != digits:
        return "nothing but wildcards may follow a wildcard"
    if any(len(number) > 1 and number.startswith("0") for number in digits):
        return f"a number in {part.strip()!r} has a leading zero"
    if any(len(number) > 19 for number in digits):
        return f"a number in {part.strip()!r} is too large"
    if len(digits) < 3 and re.search(r"[-+]", part):
        return "only a version of three numbers may have a pre-release or build metadata"
    return None


def _suffix_fault(pre: str | None, build: str | None) -> str | None:
    if pre is not None and not Version.is_valid(f"0.0.0-{pre}"):
        return f"{pre!r} is not a pre-release: its parts are non-empty, and numbers have no leading zeros"
    if build is not None and not Version.is_valid(f"0.0.0+{build}"):
        return f"{build!r} is not build metadata: its parts are non-empty"
    return None


def _comparator_fault(part: str) -> str:
    return next(words for pattern, words in _FAULTS if re.search(pattern, part.strip()))

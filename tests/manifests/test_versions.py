"""Version requirements: Cargo's tables, the rules beyond them, what is refused, and laws."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests import InvalidValue, Version, VersionReq, parse_version, runtime_version

DATA = Path(__file__).parent / "data"
RANGES = [pair for table in tomllib.loads((DATA / "cargo_ranges.toml").read_text()).values() for pair in table.items()]
CASES = tomllib.loads((DATA / "requirements.toml").read_text())["case"]
BAD_REQUIREMENTS = tomllib.loads((DATA / "bad_requirements.toml").read_text())
BAD_VERSIONS = tomllib.loads((DATA / "bad_versions.toml").read_text())

GRID = [Version(*numbers) for numbers in itertools.product(range(4), range(7), range(6))]

numbers = st.tuples(*[st.integers(0, 4)] * 3)
pre_releases = st.none() | st.sampled_from(["0", "alpha", "alpha.1", "beta", "rc.10"])
versions = st.builds(lambda release, pre: Version(*release).replace(prerelease=pre), numbers, pre_releases)
operators = st.sampled_from(["", "^", "~", "=", ">", ">=", "<", "<="])
comparators = st.builds(
    lambda operator, release, given, pre: (
        operator + ".".join(map(str, release[:given])) + (f"-{pre}" if pre and given == 3 else "")
    ),
    operators,
    numbers,
    st.integers(1, 3),
    pre_releases,
)
requirements = st.lists(comparators, min_size=1, max_size=3).map(", ".join)


@pytest.mark.parametrize(("requirement", "range_"), RANGES)
def test_a_requirement_stands_for_the_range_in_cargos_reference(requirement: str, range_: str) -> None:
    wanted, meant = VersionReq.parse(requirement), VersionReq.parse(range_)
    assert [version for version in GRID if wanted.matches(version)] == [v for v in GRID if meant.matches(v)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["requirement"])
def test_beyond_the_reference_the_semver_crates_rules_hold(case: dict[str, object]) -> None:
    requirement = VersionReq.parse(str(case["requirement"]))
    takes, leaves = case["takes"], case["leaves"]
    assert isinstance(takes, list)
    assert isinstance(leaves, list)
    assert [text for text in takes + leaves if requirement.matches(Version.parse(text))] == takes
    assert str(requirement) == case.get("shown", case["requirement"])


@pytest.mark.parametrize(("text", "words"), BAD_REQUIREMENTS.items(), ids=repr)
def test_what_is_no_requirement_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match="is not a version requirement") as refused:
        VersionReq.parse(text)
    assert words in refused.value.reason


def test_a_requirement_without_end_is_refused() -> None:
    with pytest.raises(InvalidValue, match="longer than 256"):
        VersionReq.parse("1," * 1000)
    with pytest.raises(InvalidValue, match="more than 32 parts"):
        VersionReq.parse(",".join(["1"] * 33))


@pytest.mark.parametrize(("text", "words"), BAD_VERSIONS.items(), ids=repr)
def test_what_is_no_version_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match="is not a version") as refused:
        parse_version(text)
    assert words in refused.value.reason


def test_a_version_without_end_is_refused() -> None:
    with pytest.raises(InvalidValue):
        parse_version(f"1.0.{'9' * 5000}")


@given(requirements, versions)
def test_a_requirement_written_back_means_the_same(text: str, version: Version) -> None:
    requirement = VersionReq.parse(text)
    again = VersionReq.parse(str(requirement))
    assert again == requirement
    assert again.matches(version) == requirement.matches(version)


@given(numbers, versions)
def test_a_caret_admits_from_its_version_until_the_next_incompatible_one(
    release: tuple[int, int, int], version: Version
) -> None:
    low = Version(*release)
    step = "major" if low.major else "minor" if low.minor else "patch"
    high = low.next_version(step)
    expected = not version.prerelease and low <= version < high
    assert VersionReq.parse(str(low)).matches(version) == expected


@given(requirements, versions)
def test_a_comma_means_and_for_releases(text: str, version: Version) -> None:
    release = version.finalize_version()
    each = [VersionReq.parse(part).matches(release) for part in text.split(",")]
    assert VersionReq.parse(text).matches(release) == all(each)


@given(requirements, versions)
def test_build_metadata_changes_nothing(text: str, version: Version) -> None:
    requirement = VersionReq.parse(text)
    assert requirement.matches(version.replace(build="b7")) == requirement.matches(version)


@given(requirements, versions)
def test_a_pre_release_is_taken_only_by_who_names_one_of_its_release(text: str, version: Version) -> None:
    if version.prerelease and VersionReq.parse(text).matches(version):
        assert f"{version.finalize_version()}-" in text


@given(st.text(alphabet="0123.*xX^~=<>-+, av", max_size=24) | st.text(max_size=12))
def test_any_text_is_a_requirement_or_refused(text: str) -> None:
    try:
        requirement = VersionReq.parse(text)
    except InvalidValue:
        return
    assert VersionReq.parse(str(requirement)) == requirement


def test_warrens_own_version_meets_the_manifests_that_ask_for_0_3() -> None:
    assert runtime_version() >= Version(0, 3, 0)

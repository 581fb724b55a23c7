"""Manifests in both forms: what they become, and everything that is said about those that are refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from warren.manifests import (
    Capabilities,
    Manifest,
    ManifestError,
    Problem,
    Resources,
    Retry,
    Rollout,
    Version,
    parse_manifest,
)
from warren.manifests.document import MAX_MANIFEST_BYTES

DATA = Path(__file__).parent / "data"
SOUND = sorted(path for path in DATA.glob("*.toml") if path.stem in {"sectioned", "template", "flat", "everything"})
REFUSED = tomllib.loads((DATA / "refused.toml").read_text())["case"]


def load(name: str) -> Manifest:
    return parse_manifest((DATA / name).read_bytes(), name)


def verdict(data: bytes) -> list[str]:
    """What is said about `data`: nothing, or lines. Any other error than `ManifestError` goes through."""
    try:
        parse_manifest(data, "m")
    except ManifestError as refused:
        return str(refused).split("\n")
    return []


def problems_of(data: bytes) -> tuple[Problem, ...]:
    with pytest.raises(ManifestError) as refused:
        parse_manifest(data, "m")
    return refused.value.problems


@pytest.mark.parametrize("path", SOUND, ids=lambda path: path.stem)
def test_a_sound_manifest_loads_and_has_a_json_form(path: Path) -> None:
    manifest = parse_manifest(path.read_bytes(), str(path))
    assert json.loads(manifest.model_dump_json())["name"] == manifest.name


def test_the_sectioned_form_says_what_it_says() -> None:
    manifest = load("sectioned.toml")
    assert (manifest.name, manifest.version) == ("text_processor", Version(1, 2, 0))
    assert manifest.min_runtime_version == Version(0, 3, 0)
    assert manifest.capabilities == Capabilities(required=("compute",), optional=("network", "storage"))
    assert manifest.resources == Resources(memory_mb=128, timeout_seconds=60, max_fuel=50_000_000, max_open_files=20)
    assert manifest.permissions.environment_vars == ("NLP_API_KEY", "MODEL_CACHE_DIR")
    assert manifest.build.features == ("simd",)
    assert manifest.metadata.tags == ("nlp", "text", "processing")


def test_in_the_sectioned_form_dependencies_are_the_guests_libraries() -> None:
    manifest = load("sectioned.toml")
    assert manifest.libraries == {"serde": "1.0", "serde_json": "1.0", "regex": "1.0"}
    assert manifest.dependencies == ()


def test_in_the_flat_form_dependencies_are_plugins_and_capabilities_are_required() -> None:
    manifest = load("flat.toml")
    named = [(one.name, str(one.version_req), one.optional) for one in manifest.dependencies]
    assert named == [("text_processor", "^1.2", False), ("digest", ">=0.4, <2", True)]
    assert manifest.capabilities == Capabilities(required=("compute",))
    assert manifest.libraries == {}


def test_both_forms_of_one_manifest_are_equal() -> None:
    flat = load("flat.toml")
    text = (DATA / "flat.toml").read_text().replace("[[dependencies]]", "[[plugin.dependencies]]")
    head, mark, tail = text.partition("capabilities = ")
    array, _, rest = tail.partition("\n")
    sectioned = f"{mark}{array}\n[plugin]\n{head}{rest}"
    assert parse_manifest(sectioned.encode()) == flat


def test_every_field_arrives() -> None:
    manifest = load("everything.toml")
    assert str(manifest.version) == "2.1.0-rc.1+build.5"
    assert [str(one.version_req) for one in manifest.dependencies] == ["~1.2", "*"]
    assert manifest.permissions.network_hosts == ("api.example.com:443", "*.example.org")
    assert manifest.resources.timeout_seconds == 2.5
    assert manifest.libraries["regex"] == {"version": "1", "features": ["std"]}
    assert manifest.metadata.model_extra == {"homepage": {"label": "x", "rank": 1}}
    assert [str(pattern) for pattern in manifest.bus.publish] == ["text.stats", "alerts.*"]
    assert list(manifest.actions) == ["count", "get_status"]
    assert manifest.actions["count"].response == {"properties": {"words": {"type": "integer"}}}
    assert manifest.actions["get_status"].request is None
    assert manifest.settings == {"greeting": "hello", "weights": [0.5, 1]}
    assert (manifest.runtime.abi, manifest.runtime.snapshot) == ("core", True)
    assert (manifest.runtime.args, manifest.runtime.streams) == (("--mode", "{action}"), "text")
    assert manifest.retry.on == ("trap", "unavailable")
    assert manifest.retry.multiplier == 3.0
    assert manifest.rollout == Rollout(
        percent=2.5,
        sticky="x-customer",
        shadow=True,
        promote="order",
        min_requests=20,
        window_s=60,
        max_failure_rise_points=1,
        max_fuel_ratio=1.5,
        count_refusals=False,
    )


def test_an_empty_table_asks_for_a_rollout_and_none_for_none() -> None:
    assert parse_manifest(b'name = "a"\nversion = "1.0.0"\n[rollout]').rollout == Rollout()
    assert parse_manifest(b'name = "a"\nversion = "1.0.0"').rollout is None


def test_a_name_and_a_version_are_enough() -> None:
    manifest = parse_manifest(b'name = "a"\nversion = "1.0.0"')
    assert manifest == Manifest(name="a", version=Version(1, 0, 0))
    assert manifest.retry == Retry(
        max_attempts=5, initial_delay_ms=1000, max_delay_ms=60_000, multiplier=2.0, jitter=0.1
    )


def test_a_manifest_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load("flat.toml").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_a_refused_manifest_is_told_everything_at_once(case: dict[str, object]) -> None:
    problems = problems_of(str(case["manifest"]).encode())
    assert [str(problem) for problem in problems] == case["problems"]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_line_endings_and_a_byte_order_mark_change_no_line_number(case: dict[str, object]) -> None:
    data = b"\xef\xbb\xbf" + str(case["manifest"]).replace("\n", "\r\n").encode()
    assert [problem.line for problem in problems_of(data)] == [
        problem.line for problem in problems_of(str(case["manifest"]).encode())
    ]


def test_a_problem_is_data_as_well_as_a_sentence() -> None:
    data = b'[plugin]\nname = "a"\nversion = "1.0.0"\n[[plugin.dependencies]]\nname = "b"\nversion_reg = "1"\n'
    assert problems_of(data)[1] == Problem(
        source="m",
        line=6,
        key="plugin.dependencies[0].version_reg",
        message="unknown key 'version_reg' in [[plugin.dependencies]]",
        hint="did you mean 'version_req'?",
    )


def test_bytes_that_are_not_utf_8_are_refused_at_their_offset() -> None:
    (problem,) = problems_of(b'name = "a"\nauthor = "\xe9"\n')
    assert str(problem) == "m:2: not UTF-8: byte 0xe9 at offset 21"


def test_utf_16_is_recognised() -> None:
    (problem,) = problems_of('name = "a"'.encode("utf-16"))
    assert problem.hint == "it looks like UTF-16; save it as UTF-8"


def test_a_nul_is_refused_as_a_byte_and_as_an_escape() -> None:
    assert str(*problems_of(b'name = "a\0"\n')) == r"m:1: not TOML: Illegal character '\x00' at column 10"
    assert "control character" in str(problems_of(b'name = "a"\nversion = "1.0.0"\nauthor = "\\u0000"\n')[0])


def test_the_largest_manifest_loads_and_a_byte_more_is_refused() -> None:
    head = b'name = "a"\nversion = "1.0.0"\n#'
    full = head + b"x" * (MAX_MANIFEST_BYTES - len(head))
    assert parse_manifest(full).name == "a"
    assert str(*problems_of(full + b"x")) == "m: too large: 65537 bytes, and at most 65536 are read"


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 60_000,
        b"a = " + b"{a=" * 20_000,
        b"a." * 30_000 + b"a = 1",
        b"[" + b"a." * 30_000 + b"a]",
        b"[[" + b'"a" . ' * 10_000 + b"a]]",
        b"a = " + b"{b=[" * 8000,
    ],
    ids=["arrays", "inline tables", "dotted key", "header", "header of an array", "by turns"],
)
def test_depth_without_end_is_refused_before_it_costs_anything(data: bytes) -> None:
    assert str(*problems_of(data)) == "m:1: keys and values are nested more than 64 deep"


def test_long_text_without_quotes_is_a_syntax_error_and_no_number() -> None:
    assert str(*problems_of(b"a = " + b"x" * 200)) == "m:1: not TOML: Invalid value at column 5"


def test_a_short_number_with_a_long_tail_of_blanks_is_a_number() -> None:
    assert parse_manifest(b'name = "a"\nversion = "1.0.0"\nsettings.x = 1' + b" " * 200 + b"# one").settings == {"x": 1}


def test_a_number_without_end_is_refused() -> None:
    assert str(*problems_of(b"a = " + b"9" * 5000)) == "m:1: a number is longer than 128 characters"


def test_of_thousands_of_problems_the_first_hundred_are_told_and_the_others_counted() -> None:
    data = b'name = "a"\nversion = "1.0.0"\n' + b"".join(b"k%d = 1\n" % i for i in range(6000))
    problems = problems_of(data)
    assert [problem.line for problem in problems[:100]] == list(range(3, 103))
    assert str(problems[100]) == "m: and 5900 more problems"


@settings(max_examples=300)
@given(st.sampled_from(SOUND), st.data())
def test_any_mutation_of_a_sound_manifest_loads_or_is_refused(path: Path, data: st.DataObject) -> None:
    original = path.read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(start + 40, len(original))))
    put = data.draw(
        st.binary(max_size=4)
        | st.sampled_from(
            [b"\n", b'"', b"=", b"[", b"[[", b"]", b"{", b"}", b".", b"'''", b"1", b"nan", b"true", b"2024-01-01"]
        )
    )
    assert all(line.startswith("m:") for line in verdict(original[:start] + put + original[end:]))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(Manifest.model_fields)), st.booleans(), values)
def test_any_value_of_any_key_loads_or_is_refused(key: str, sectioned: bool, value: object) -> None:  # noqa: FBT001
    table = "[plugin]\n" if sectioned else ""
    manifest = f"{key} = {toml(value)}\n{table}name = 'a'\nversion = '1.0.0'\n"
    assert all(line.startswith("m:") for line in verdict(manifest.encode(errors="replace")))


def toml(value: object) -> str:
    """`value` as TOML writes it (what TOML lacks, as something it has)."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case None:
            return "2024-01-01"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value).lower()

"""What a plugin gets of what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests import (
    Grant,
    GrantRefused,
    Limits,
    Manifest,
    Policy,
    Resources,
    SomeLimits,
    Version,
    grant,
    parse_manifest,
)

DATA = Path(__file__).parent / "data"
WARREN = Version(0, 3, 0)
MIB = 1024 * 1024


def manifest(text: str = "") -> Manifest:
    return parse_manifest(f'name = "a"\nversion = "1.0.0"\n{text}'.encode())


def granted(text: str = "", policy: Policy | None = None) -> Grant:
    return grant(manifest(text), policy or Policy(), WARREN)


def test_a_plugin_that_asks_for_nothing_gets_the_defaults_and_no_notes() -> None:
    assert granted() == Grant("a", frozenset(), Limits())
    assert Limits() == Limits(64 * MIB, 10_000_000, 30.0, 10, 5, 30.0)


@pytest.mark.parametrize("kind", ["required", "optional"])
def test_compute_raises_memory_and_fuel(kind: str) -> None:
    found = granted(f'capabilities.{kind} = ["compute"]')
    assert found.capabilities == {"compute"}
    assert found.limits == Limits(memory_bytes=256 * MIB, max_fuel=100_000_000)


def test_network_raises_connections_and_patience_where_it_is_grantable() -> None:
    text = 'capabilities.optional = ["network"]'
    found = granted(text, Policy(capabilities=frozenset({"network"})))
    assert found.limits == Limits(max_network_connections=20, network_timeout_s=60.0)
    assert granted(text).limits == Limits()


def test_a_required_capability_that_is_not_grantable_refuses_the_plugin() -> None:
    with pytest.raises(GrantRefused) as refused:
        granted('min_runtime_version = "9.0.0"\ncapabilities.required = ["compute", "network", "storage"]')
    assert refused.value.plugin == "a"
    assert refused.value.reasons == (
        "it requires the capability 'network', which is not granted here",
        "it requires the capability 'storage', which is not granted here",
        "it needs Warren 9.0.0 or newer, and this is 0.3.0",
    )
    assert str(refused.value).startswith("a is not admitted: it requires the capability 'network'")


@pytest.mark.parametrize(("needed", "admitted"), [("0.2.9", True), ("0.3.0", True), ("0.3.1", False), ("1.0.0", False)])
def test_the_runtime_has_to_be_new_enough(needed: str, admitted: bool) -> None:  # noqa: FBT001
    text = f'min_runtime_version = "{needed}"'
    if admitted:
        assert granted(text).plugin == "a"
    else:
        with pytest.raises(GrantRefused, match=f"needs Warren {needed} or newer, and this is 0.3.0"):
            granted(text)


def test_what_is_lowered_or_left_out_is_noted() -> None:
    found = grant(parse_manifest((DATA / "sectioned.toml").read_bytes()), Policy(), WARREN)
    assert found.limits == Limits(memory_bytes=128 * MIB, max_fuel=50_000_000)
    assert found.notes == (
        "the capability 'network' is not granted",
        "the capability 'storage' is not granted",
        "NLP_API_KEY is not passed on",
        "MODEL_CACHE_DIR is not passed on",
        "timeout_seconds is 30, not the 60 asked for",
        "max_open_files is 10, not the 20 asked for",
    )


def test_large_numbers_are_noted_so_that_one_can_read_them() -> None:
    found = granted("[resources]\nmemory_mb = 4096\nmax_fuel = 1_000_000_000_000_000\ntimeout_seconds = 30.25")
    assert found.notes == (
        "memory_mb is 64, not the 4,096 asked for",
        "max_fuel is 10,000,000, not the 1,000,000,000,000,000 asked for",
        "timeout_seconds is 30, not the 30.25 asked for",
    )


def test_environment_variables_are_those_both_sides_name() -> None:
    found = granted('permissions.environment_vars = ["A", "B"]', Policy(environment_vars=frozenset({"B", "C"})))
    assert found.environment_vars == ("B",)
    assert found.notes == ("A is not passed on",)


def test_a_raised_ceiling_is_for_those_who_ask() -> None:
    policy = Policy(limits=Limits(memory_bytes=1024 * MIB, timeout_s=300))
    assert granted(policy=policy).limits == Limits()
    assert granted("resources.memory_mb = 1000", policy).limits.memory_bytes == 1000 * MIB


def test_a_lowered_ceiling_is_for_all() -> None:
    policy = Policy(limits=Limits(max_fuel=1000, timeout_s=5), capability_limits={"compute": {"max_fuel": 2000}})
    assert granted(policy=policy).limits == Limits(max_fuel=1000, timeout_s=5)
    assert granted('capabilities = ["compute"]', policy).limits == Limits(max_fuel=2000, timeout_s=5)


def test_a_capability_never_lowers_a_ceiling() -> None:
    policy = Policy(limits=Limits(memory_bytes=1024 * MIB))
    found = granted('capabilities = ["compute"]\nresources.memory_mb = 1024', policy)
    assert found.limits.memory_bytes == 1024 * MIB


def test_a_plugin_publishes_on_the_topics_it_names_and_no_others() -> None:
    found = granted('[bus]\npublish = ["text.stats", "alerts.#"]\nsubscribe = ["text.#"]')
    assert [
        topic for topic in ("text.stats", "alerts", "alerts.a.b", "text.other", "") if found.may_publish(topic)
    ] == [
        "text.stats",
        "alerts",
        "alerts.a.b",
    ]
    assert [str(pattern) for pattern in found.subscribe] == ["text.#"]
    assert not granted().may_publish("text.stats")


@pytest.mark.parametrize("topic", ["alerts..x", "alerts.*", "alerts.a b", "alerts.\ud800", "alerts." + "x" * 250])
def test_a_malformed_topic_is_not_published_even_where_the_pattern_would_take_it(topic: str) -> None:
    assert not granted('bus.publish = ["alerts.#"]').may_publish(topic)


positive = st.integers(1, 4096)
ceilings = st.builds(
    Limits,
    memory_bytes=positive.map(lambda mebibytes: mebibytes * MIB),
    max_fuel=positive,
    timeout_s=positive,
    max_open_files=positive,
    max_network_connections=positive,
    network_timeout_s=positive,
)
asked = st.builds(
    Resources,
    **{name: st.none() | positive for name in Resources.model_fields},
)


@given(asked, ceilings)
def test_nobody_gets_more_than_the_ceiling_nor_than_asked_for(resources: Resources, ceiling: Limits) -> None:
    found = grant(manifest().model_copy(update={"resources": resources}), Policy(limits=ceiling), WARREN)
    assert found.limits.within(ceiling) == found.limits
    if resources.memory_mb is not None:
        assert found.limits.memory_bytes == min(resources.memory_mb * MIB, ceiling.memory_bytes)
    if resources.timeout_seconds is not None:
        assert found.limits.timeout_s == min(resources.timeout_seconds, ceiling.timeout_s)


@given(ceilings, ceilings)
def test_the_lower_of_two_limits_is_below_both(one: Limits, other: Limits) -> None:
    lower = one.within(other)
    assert lower == other.within(one) == lower.within(one) == lower.within(other)


def test_capability_ceilings_name_only_what_they_raise() -> None:
    policy = Policy(capability_limits={"compute": SomeLimits(timeout_s=120.0)})
    found = granted('capabilities = ["compute"]\nresources.timeout_seconds = 90', policy)
    assert found.limits == Limits(timeout_s=90.0)

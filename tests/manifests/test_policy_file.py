"""The operator's policy as TOML: what it grants, and everything that is said about one that is refused."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from warren.manifests import (
    Grant,
    GrantRefused,
    Limits,
    Policy,
    PolicyError,
    Quarantine,
    Version,
    grant,
    parse_manifest,
    parse_policy,
)
from warren.manifests.document import MAX_MANIFEST_BYTES

DATA = tomllib.loads((Path(__file__).parent / "data" / "policies.toml").read_text())
HEAD = 'name = "plugin"\nversion = "1.0.0"\n'


def cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in DATA[kind]]


def granted(policy: str, manifest: str) -> Grant:
    return grant(parse_manifest((HEAD + manifest).encode()), parse_policy(policy.encode()), Version(0, 3, 0))


@pytest.mark.parametrize("case", cases("refused"))
def test_what_is_wrong_is_said_with_its_place(case: dict[str, Any]) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(case["policy"].encode(), "p")
    assert str(refused.value).split("\n") == case["problems"]


def test_a_file_that_is_too_large_is_not_read() -> None:
    with pytest.raises(PolicyError, match="p: too large: 65537 bytes"):
        parse_policy(b" " * (MAX_MANIFEST_BYTES + 1), "p")


@pytest.mark.parametrize("case", cases("granted"))
def test_a_plugin_gets_what_the_policy_covers(case: dict[str, Any]) -> None:
    found = granted(case["policy"], case["manifest"])
    powers = {
        field.name: sorted(map(str, getattr(found, field.name)))
        for field in fields(found)
        if field.name not in {"plugin", "limits", "withheld", "dependencies"} and getattr(found, field.name)
    }
    assert powers == case["granted"]
    assert list(found.notes) == case["notes"]


@pytest.mark.parametrize("case", cases("limits"))
def test_limits_are_what_the_policy_makes_of_them(case: dict[str, Any]) -> None:
    found = granted(case["policy"], case["manifest"]).limits
    assert asdict(found) == asdict(Limits()) | case["limits"]


def test_every_limit_can_be_written() -> None:
    every = next(case for case in DATA["limits"] if "files_mb" in case["policy"])
    assert every["limits"].keys() == asdict(Limits()).keys()


def test_a_required_capability_that_no_rule_grants_refuses_the_plugin() -> None:
    policy = '[[rules]]\nplugins = ["other"]\ncapabilities = ["network"]'
    with pytest.raises(GrantRefused, match="plugin is not admitted: it requires the capability 'network'"):
        granted(policy, 'capabilities.required = ["network"]')


def test_without_a_word_on_it_approvals_are_kept_and_nobody_is_put_in_quarantine() -> None:
    policy = parse_policy(b"")
    assert (policy.approvals, policy.quarantine) == ("approvals", None)
    assert parse_policy(b'approvals = "/var/lib/x"').approvals == "/var/lib/x"
    assert parse_policy(b'upgrades = "allow"').approvals is None


def test_quarantine_has_figures_of_its_own() -> None:
    assert parse_policy(b"[quarantine]").quarantine == Quarantine(10, 60.0)
    written = parse_policy(b"[quarantine]\nrefused_runs = 3\nwindow_seconds = 1.5")
    assert written.quarantine == Quarantine(3, 1.5)


def test_no_policy_allows_what_the_manifest_names_for_the_capabilities_granted() -> None:
    manifest = parse_manifest(
        (
            HEAD + 'capabilities.optional = ["network", "filesystem"]\nbus = {publish = ["#"]}\n'
            '[permissions]\nnetwork_hosts = ["a.example.com"]\nread_files = ["x"]'
        ).encode()
    )
    found = grant(manifest, Policy(capabilities=frozenset({"network"})), Version(0, 3, 0))
    assert (found.network_hosts, found.read_files, found.private_networks) == (("a.example.com",), (), ())
    assert list(map(str, found.publish)) == ["#"]

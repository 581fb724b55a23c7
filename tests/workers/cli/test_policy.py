"""`--policy` wherever plugins are loaded, what a grant is shown as, and `warren approve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.guests import answering, write_plugin
from tests.workers.cli.commands import EXAMPLES, NO_BROKER, warren, warren_process
from warren.workers.cli.exit_codes import ExitCode

POLICY: Final = """
[ceilings]
timeout_seconds = 5
[[rules]]
plugins = ["gre*"]
capabilities = ["network"]
network_hosts = ["*.example.com"]
private_networks = ["10.0.0.0/8"]
publish = ["greetings.#"]
"""

GREEDY: Final = """
[bus]
publish = ["greetings.said", "alarms.#"]
[capabilities]
required = ["network"]
optional = ["filesystem"]
[permissions]
network_hosts = ["api.example.com", "evil.example.org"]
read_files = ["data/**"]
environment_vars = ["TOKEN"]
[resources]
timeout_seconds = 60
"""

MORE: Final = '[bus]\npublish = ["greetings.said"]\n'


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


COMMANDS: Final = {
    "worker": ("worker", "--broker", NO_BROKER, "--plugins", str(EXAMPLES)),
    "call": ("call", "digest", "do", "--plugins", str(EXAMPLES)),
    "demo": ("demo",),
    "check": ("check", str(EXAMPLES)),
    "plugins": ("plugins", "--plugins", str(EXAMPLES)),
    "plugins show": ("plugins", "show", "digest", "--plugins", str(EXAMPLES)),
    "approve": ("approve", "digest", "1.0.0", "--plugins", str(EXAMPLES)),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_bad_policy_ends_every_command_that_loads_plugins_with_all_that_is_wrong(
    command: tuple[str, ...], policy: Path
) -> None:
    policy.write_text("stric = true\n[ceilings]\nmemory_mb = 0\n")
    ended = warren_process(*command, "--policy", policy)
    assert ended.code == ExitCode.USAGE
    assert f"{policy}:1: unknown key 'stric'; did you mean 'strict'?" in ended.err
    assert f"{policy}:3: 'memory_mb' in [ceilings] must be at least 1, not 0" in ended.err
    assert "Traceback" not in ended.err


def test_a_policy_that_is_not_there_is_wrong_usage(folder: Path) -> None:
    write_plugin(folder, "greeter")
    ended = warren("check", folder, "--policy", folder / "missing.toml")
    assert ended.code == ExitCode.USAGE
    assert "missing.toml" in ended.err


def test_the_environment_names_the_policy_and_it_holds(
    folder: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(folder, "greeter", manifest_extra=GREEDY)
    assert "requires the capability 'network'" in warren("check", folder).out
    monkeypatch.setenv("WARREN_POLICY", str(policy))
    assert warren("check", folder).code == ExitCode.OK
    assert warren("plugins", "--plugins", folder).code == ExitCode.OK


def test_a_policy_is_for_calls_of_plugins_that_run_here(
    folder: Path, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(folder, "greeter", manifest_extra=GREEDY)
    assert warren("call", "greeter", "do", "--plugins", folder, "--policy", policy).code == ExitCode.OK
    elsewhere = warren("call", "greeter", "do", "--broker", NO_BROKER, "--policy", policy)
    assert elsewhere.code == ExitCode.USAGE
    assert "--policy is for a plugin that runs here" in elsewhere.err
    monkeypatch.setenv("WARREN_POLICY", str(policy))
    assert warren("call", "greeter", "do", "--broker", NO_BROKER).code == ExitCode.UNREACHABLE


def test_the_demo_needs_its_topics() -> None:
    assert warren("demo", "--policy", EXAMPLES.parents[1] / "deploy" / "policy.toml").code == ExitCode.OK


def test_check_notes_what_the_policy_leaves_out(folder: Path, policy: Path) -> None:
    write_plugin(folder, "greeter", manifest_extra=GREEDY)
    out = warren("check", folder, "--policy", policy).out
    assert "note: network_hosts: 'evil.example.org' is not granted: nothing that the policy allows covers it" in out
    assert "note: timeout_seconds is 5, not the 60 asked for" in out


def test_a_grant_is_shown_in_full(folder: Path, policy: Path) -> None:
    write_plugin(folder, "greeter", manifest_extra=GREEDY)
    page = warren("plugins", "show", "greeter", "--plugins", folder, "--policy", policy).out
    asked, _, rest = page.partition("\nasks for\n")[2].partition("\nmay\n")
    may = rest.partition("\nset up with\n")[0]
    for fact in (
        "capabilities   network, filesystem (optional)\n",
        "network hosts  api.example.com, evil.example.org\n",
        "read files     data/**\n",
        "environment    TOKEN\n",
        "limits         timeout_seconds 60",
        "publish        greetings.said, alarms.#",
    ):
        assert fact in asked + "\n"
    for fact in (
        "capabilities   network\n",
        "network hosts  api.example.com\n",
        "private networks 10.0.0.0/8\n",
        "10,000,000 fuel, 5.00 s\n",
        "storage        100.0 MiB\n",
        "own files      100.0 MiB\n",
        "publish        greetings.said\n",
        "note: the capability 'filesystem' is not granted\n",
        "note: TOKEN is not passed on\n",
        "note: network_hosts: 'evil.example.org' is not granted: nothing that the policy allows covers it\n",
        "note: publish: 'alarms.#' is not granted: nothing that the policy allows covers it\n",
        "note: timeout_seconds is 5, not the 60 asked for\n",
        "note: read_files: 'data/**' is of no use without the capability 'filesystem'",
    ):
        assert fact in may + "\n"


def test_the_same_as_json(folder: Path, policy: Path) -> None:
    write_plugin(folder, "greeter", manifest_extra=GREEDY)
    data = warren("plugins", "show", "greeter", "--plugins", folder, "--policy", policy, "--json").json
    assert data["asked"]["resources"] == {"timeout_seconds": 60.0}
    assert data["grant"]["permissions"]["network_hosts"] == ["api.example.com"]
    assert [(one["power"], one["asked"]) for one in data["grant"]["left_out"]] == [
        ("capabilities", "filesystem"),
        ("environment_vars", "TOKEN"),
        ("network_hosts", "evil.example.org"),
        ("publish", "alarms.#"),
        ("timeout_seconds", "60"),
        ("read_files", "data/**"),
    ]


# Upgrades ----------------------------------------------------------------------------------------------------------


def upgraded(folder: Path) -> None:
    write_plugin(folder, "greeter", stem="old")
    write_plugin(folder, "greeter", manifest_extra=MORE, version="1.1.0", stem="new")


def test_an_upgrade_is_parked_shown_and_approved(folder: Path, policy: Path) -> None:
    upgraded(folder)
    here = ("--plugins", folder, "--policy", policy)
    listed = warren("plugins", *here)
    assert listed.code == ExitCode.FAILED
    assert "greeter 1.1.0 is parked, for it would get more than 1.0.0 was granted: publish greetings.said" in listed.err
    page = warren("plugins", "show", "greeter", *here).out
    assert page.startswith("greeter 1.1.0 parked\n")
    assert "\nupgrade  it waits to be approved: it gets more than 1.0.0 has\n  publish greetings.said\n" in page

    approved = warren("approve", "greeter", "1.1.0", *here, "--yes")
    assert approved.code == ExitCode.OK
    assert approved.out.startswith("greeter 1.1.0 would get what 1.0.0 has not:\n  publish greetings.said\n")
    assert (
        f"approved greeter 1.1.0 as its files are now, in {policy.parent}/approvals/greeter@1.1.0.json" in approved.out
    )

    assert warren("plugins", *here).code == ExitCode.OK
    page = warren("plugins", "show", "greeter", *here).out
    assert page.startswith("greeter 1.1.0\n")
    assert "it is approved: it gets more than 1.0.0 has" in page


def test_other_files_than_those_approved_have_to_be_approved_again(folder: Path, policy: Path) -> None:
    upgraded(folder)
    here = ("--plugins", folder, "--policy", policy)
    assert warren("approve", "greeter", "1.1.0", *here, "--yes").code == ExitCode.OK
    other = answering('{"success":true,"result":"other","error":null}')
    write_plugin(folder, "greeter", other, MORE, version="1.1.0", stem="new")
    assert "its files are not those that were approved" in warren("plugins", *here).err
    assert "it waits to be approved: other files of it were approved" in warren("plugins", "show", "greeter", *here).out
    again = warren("approve", "greeter", "1.1.0", *here, "--yes")
    assert "gets nothing that 1.1.0 has not, but its files are not those that were approved" in again.out
    assert warren("plugins", *here).code == ExitCode.OK


def test_the_json_of_an_approval_is_what_was_approved(folder: Path, policy: Path) -> None:
    upgraded(folder)
    ended = warren("approve", "greeter", "1.1.0", "--plugins", folder, "--policy", policy, "--yes", "--json")
    data = ended.json
    kept = json.loads(Path(data["approval"]).read_text())
    assert (kept["plugin"], kept["version"], kept["digest"]) == ("greeter", "1.1.0", data["digest"])
    assert kept["powers"]["publish"] == ["greetings.said"]
    assert data["predecessor"] == "1.0.0"
    assert data["more"] == [{"power": "publish", "value": "greetings.said", "before": None}]


def test_a_first_version_can_be_approved_and_all_that_it_gets_is_shown(folder: Path, policy: Path) -> None:
    write_plugin(folder, "greeter", manifest_extra=MORE)
    out = warren("approve", "greeter", "1.0.0", "--plugins", folder, "--policy", policy, "--yes").out
    assert out.startswith("greeter 1.0.0 has no predecessor that is known here, and would get:\n  publish greetings")
    assert "\n  timeout_s 5\n" in out


def test_without_a_terminal_nothing_is_approved_unasked(folder: Path, policy: Path) -> None:
    upgraded(folder)
    ended = warren("approve", "greeter", "1.1.0", "--plugins", folder, "--policy", policy)
    assert ended.code == ExitCode.USAGE
    assert "there is no terminal to ask at" in ended.err
    assert "publish greetings.said" in ended.err
    assert not (policy.parent / "approvals").exists()


@pytest.mark.parametrize(
    ("plugin", "version", "words"),
    [
        ("greeter", "2.0.0", "matches '=2.0.0'; there are: "),
        ("nobody", "1.0.0", "there is no plugin 'nobody'"),
        ("greeter", "new", "'=new' is not a version requirement"),
    ],
)
def test_what_is_not_there_cannot_be_approved(
    folder: Path, policy: Path, plugin: str, version: str, words: str
) -> None:
    upgraded(folder)
    ended = warren("approve", plugin, version, "--plugins", folder, "--policy", policy, "--yes")
    assert ended.code == ExitCode.USAGE
    assert words in ended.err


def test_where_upgrades_are_allowed_there_is_nothing_to_approve(folder: Path, policy: Path) -> None:
    policy.write_text('upgrades = "allow"')
    upgraded(folder)
    ended = warren("approve", "greeter", "1.1.0", "--plugins", folder, "--policy", policy, "--yes")
    assert ended.code == ExitCode.USAGE
    assert "lets every upgrade in: upgrades = 'allow'" in ended.err

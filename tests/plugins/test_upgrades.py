"""Upgrades that would get more than their predecessor are parked until they are approved, and not run before."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

import pytest

from tests.guests import answering, wat, write_plugin
from warren.manifests import Policy, Powers, parse_policy
from warren.plugins import PluginManager, PluginRefused, UpgradeParked, WatchOptions, read_policy
from warren.plugins.approvals import Approval, Approvals
from warren.plugins.checks import check_plugin
from warren.plugins.files import Identity, PluginFiles

POLICY: Final = '[[rules]]\nplugins = ["*"]\npublish = ["#"]\n'
MORE: Final = '[bus]\npublish = ["news.#"]\n'

#: A guest whose mere start would be seen: it does not end well.
RUNS_AT_ONCE: Final = wat(more='(func (export "initialize") (param i32 i32) (result i32) (i32.const -1))')


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "policy.toml").write_text(POLICY)
    return read_policy(tmp_path / "policy.toml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plugins"


def approve(policy: Policy, wasm: Path) -> None:
    checked = check_plugin(PluginFiles.beside(wasm), policy)
    assert policy.approvals is not None
    Approvals(Path(policy.approvals)).add(
        Approval(
            plugin=checked.manifest.name,
            version=str(checked.manifest.version),
            digest=checked.digest.hex(),
            powers=Powers.of(checked.grant),
        )
    )


def versions(manager: PluginManager) -> list[str]:
    return [f"{plugin.name} {plugin.version}" for plugin in manager.plugins()]


def statuses(manager: PluginManager) -> dict[str, str]:
    return {info.version: info.status for info in manager.list_plugins()}


async def test_at_start_a_version_that_would_get_more_than_the_one_below_it_is_parked(
    folder: Path, policy: Policy
) -> None:
    write_plugin(folder, "a", stem="a1")
    write_plugin(folder, "a", RUNS_AT_ONCE, MORE, version="1.1.0", stem="a2")
    write_plugin(folder, "a", version="1.2.0", stem="a3")
    async with PluginManager(folder, policy=policy) as manager:
        assert versions(manager) == ["a 1.0.0", "a 1.2.0"]
        (parked,) = manager.parked()
        assert str(parked) == (
            f"{folder}/a2.toml: a 1.1.0 is parked, for it would get more than 1.0.0 was granted: publish news.#; "
            "`warren approve a 1.1.0` lets it in"
        )
        assert statuses(manager) == {"1.0.0": "loaded", "1.1.0": "parked", "1.2.0": "loaded"}
        assert manager.failures == (parked,)


async def test_a_version_that_is_compared_with_a_parked_one_is_not(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a", stem="a1")
    write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    write_plugin(folder, "a", manifest_extra=MORE, version="1.2.0", stem="a3")
    async with PluginManager(folder, policy=policy) as manager:
        assert statuses(manager) == {"1.0.0": "loaded", "1.1.0": "parked", "1.2.0": "parked"}


async def test_without_a_policy_nothing_is_parked(folder: Path) -> None:
    write_plugin(folder, "a", stem="a1")
    write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    async with PluginManager(folder) as manager:
        assert versions(manager) == ["a 1.0.0", "a 1.1.0"]


async def test_upgrades_may_be_allowed_to_get_more(folder: Path) -> None:
    write_plugin(folder, "a", stem="a1")
    write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    async with PluginManager(folder, policy=parse_policy(b'upgrades = "allow"\n' + POLICY.encode())) as manager:
        assert versions(manager) == ["a 1.0.0", "a 1.1.0"]


async def test_what_the_policy_does_not_grant_is_nothing_to_approve(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tight.toml").write_text("")
    write_plugin(folder, "a", stem="a1")
    write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    async with PluginManager(folder, policy=read_policy(tmp_path / "tight.toml")) as manager:
        assert versions(manager) == ["a 1.0.0", "a 1.1.0"]


async def test_an_approved_version_is_loaded_at_start(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a", stem="a1")
    approve(policy, write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2"))
    async with PluginManager(folder, policy=policy) as manager:
        assert versions(manager) == ["a 1.0.0", "a 1.1.0"]


@pytest.mark.parametrize("swapped", ["module", "manifest"])
async def test_an_approved_version_cannot_be_swapped(folder: Path, policy: Policy, swapped: str) -> None:
    write_plugin(folder, "a", stem="a1")
    approved = write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    approve(policy, approved)
    if swapped == "module":
        approved.write_bytes(answering('{"success":true,"result":"another","error":null}'))
    else:
        with approved.with_suffix(".toml").open("a") as manifest:
            manifest.write("[resources]\nmax_fuel = 1\n")
    async with PluginManager(folder, policy=policy) as manager:
        assert statuses(manager) == {"1.0.0": "loaded", "1.1.0": "parked"}
        assert "a 1.1.0 is parked, for its files are not those that were approved" in str(manager.parked()[0])


async def test_the_files_of_an_approved_version_in_use_cannot_be_exchanged(folder: Path, policy: Policy) -> None:
    approve(policy, write_plugin(folder, "a", manifest_extra=MORE))
    async with PluginManager(folder, policy=policy) as manager:
        assert statuses(manager) == {"1.0.0": "loaded"}
        write_plugin(folder, "a", RUNS_AT_ONCE, MORE)
        with pytest.raises(UpgradeParked, match="its files are not those that were approved"):
            await manager.reload_plugin("a")
        write_plugin(folder, "a", manifest_extra='[bus]\npublish = ["#"]\n')
        with pytest.raises(UpgradeParked, match=r"more than 1\.0\.0 was granted: publish #"):
            await manager.reload_plugin("a")


async def test_the_same_version_with_more_powers_is_parked_too(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a")
    async with PluginManager(folder, policy=policy) as manager:
        write_plugin(folder, "a", RUNS_AT_ONCE, MORE)
        with pytest.raises(UpgradeParked, match=r"a 1\.0\.0 is parked, for it would get more than 1\.0\.0"):
            await manager.reload_plugin("a")
        (info,) = manager.list_plugins()
        assert info.status == "stale"
        assert "is parked" in str(info.last_error)


async def test_a_lower_version_is_compared_with_the_lowest(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a")
    async with PluginManager(folder, policy=policy) as manager:
        lower = write_plugin(folder, "a", manifest_extra=MORE, version="0.9.0", stem="a0")
        with pytest.raises(UpgradeParked, match=r"more than 1\.0\.0 was granted"):
            await manager.load_plugin(lower)


async def test_an_approval_tells_of_a_predecessor_whose_files_are_gone(folder: Path, policy: Policy) -> None:
    approve(policy, write_plugin(folder, "a"))
    write_plugin(folder, "a", RUNS_AT_ONCE, MORE, version="1.1.0")
    async with PluginManager(folder, policy=policy) as manager:
        assert versions(manager) == []
        assert statuses(manager) == {"1.1.0": "parked"}


async def test_an_order_to_reload_brings_in_what_has_been_approved(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a", stem="a1")
    upgrade = write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2")
    async with PluginManager(folder, policy=policy) as manager:
        with pytest.raises(UpgradeParked):
            await manager.reload_plugin("a", "1.1.0")
        approve(policy, upgrade)
        assert (await manager.reload_plugin("a", "1.1.0")).version == "1.1.0"
        assert statuses(manager) == {"1.0.0": "loaded", "1.1.0": "loaded"}
        assert manager.parked() == ()


async def test_hot_reload_parks_an_upgrade_keeps_the_old_one_and_takes_it_once_it_is_approved(
    folder: Path, policy: Policy, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(folder, "a")
    parked, loaded = asyncio.Event(), asyncio.Event()
    options = WatchOptions(quiet_s=0.05, patience_s=0.2, rescan_s=0.3)
    async with PluginManager(folder, policy=policy, hot_reload=True, watch_options=options) as manager:
        manager.observe(lambda event: parked.set() if isinstance(event, PluginRefused) else loaded.set())
        upgrade = write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0")
        async with asyncio.timeout(20):
            await parked.wait()
        assert versions(manager) == ["a 1.0.0"]
        assert "not loaded, and a 1.0.0 stays as it is" in caplog.text
        assert statuses(manager) == {"1.0.0": "stale", "1.1.0": "parked"}
        approve(policy, upgrade)
        async with asyncio.timeout(20):
            await loaded.wait()
        assert versions(manager) == ["a 1.1.0"]
    assert caplog.text.count("is parked") == 1, "said once, however often the folder is looked through"


BAD_APPROVALS: Final = {
    "no JSON": b"{",
    "keys missing": b'{"plugin": "a", "version": "1.1.0"}',
    "no version": b'{"plugin": "a", "version": "new", "digest": "", "powers": {}}',
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("content", BAD_APPROVALS.values(), ids=BAD_APPROVALS.keys())
def test_an_approval_that_cannot_be_read_approves_nothing_and_is_logged(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a@1.1.0.json").write_bytes(content)
    approvals = Approvals(tmp_path)
    assert not approvals.admit(Identity("a", "1.1.0"), b"")
    assert list(approvals.of("a")) == []
    assert f"{tmp_path}/a@1.1.0.json approves nothing, for it cannot be read" in caplog.text


async def test_an_approval_under_the_name_of_another_version_approves_nothing(folder: Path, policy: Policy) -> None:
    write_plugin(folder, "a", stem="a1")
    approve(policy, write_plugin(folder, "a", manifest_extra=MORE, version="1.1.0", stem="a2"))
    approvals = Path(str(policy.approvals))
    (approvals / "a@1.1.0.json").rename(approvals / "a@1.2.0.json")
    async with PluginManager(folder, policy=policy) as manager:
        assert statuses(manager) == {"1.0.0": "loaded", "1.1.0": "parked"}


def test_a_policy_that_cannot_be_read_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"missing\.toml: cannot be read: No such file or directory"):
        read_policy(tmp_path / "missing.toml")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "warren.plugins")

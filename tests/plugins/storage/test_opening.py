"""Which storage a URL means, and what is said of one that means none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from warren.plugins import PluginManager
from warren.plugins.storage import StorageMisconfigured, open_storage
from warren.plugins.storage.opening import check_storage_url, default_storage_url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///var/lib/warren/storage.db",
        "sqlite:////var/lib/warren/storage.db",
        "sqlite:///with%20space.db",
        "redis://localhost",
        "redis://user:secret@host:6380/3",
        "rediss://host/0?ssl_cert_reqs=required",
        "redis://[::1]:6379",
    ],
)
def test_what_can_be_a_storage_is_taken(url: str) -> None:
    check_storage_url(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "is sqlite:///PATH, redis://HOST or rediss://HOST, not one that begins with ''"),
        ("/var/lib/storage.db", "not one that begins with '/var/lib/storage.db'"),
        ("postgres://host/db", "not one that begins with 'postgres'"),
        ("redis://", "not one that begins with 'redis'"),
        ("redis:///0", "not one that begins with 'redis'"),
        ("redis://host:port", "the URL of the storage is none: Port could not be cast"),
        ("redis://[::1", "the URL of the storage is none: Invalid IPv6 URL"),
        ("sqlite://", "is an absolute path after 'sqlite://', and no more"),
        ("sqlite:///", "is an absolute path after 'sqlite://', and no more"),
        ("sqlite://relative/storage.db", "is an absolute path after 'sqlite://', and no more"),
        ("sqlite:///storage.db?mode=ro", "is an absolute path after 'sqlite://', and no more"),
        ("sqlite:///a%00b", "is an absolute path after 'sqlite://', and no more"),
    ],
)
def test_what_cannot_be_a_storage_is_refused_before_anything_is_loaded(url: str, sentence: str) -> None:
    with pytest.raises(StorageMisconfigured) as caught:
        PluginManager(storage=url)
    assert sentence in str(caught.value)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(StorageMisconfigured) as caught:
        check_storage_url("reddis://user:secret@host")
    assert "secret" not in str(caught.value)


def test_the_default_is_what_the_environment_names_else_a_file_in_the_user_s_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert default_storage_url({"WARREN_STORAGE": "redis://host"}) == "redis://host"
    assert default_storage_url({"XDG_STATE_HOME": "/some where"}) == "sqlite:///some%20where/warren/storage.db"
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    for environment in ({}, {"WARREN_STORAGE": "", "XDG_STATE_HOME": "relative"}):
        assert default_storage_url(environment) == "sqlite:///home/me/.local/state/warren/storage.db"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(StorageMisconfigured, match="set WARREN_STORAGE=sqlite:///… to a file"):
        default_storage_url({})


async def test_without_its_package_redis_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "warren.plugins.storage.redis", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StorageMisconfigured, match=r"pip install 'warren\[redis\]'"):
        await open_storage("redis://localhost")


async def test_an_option_that_redis_does_not_have_is_named() -> None:
    with pytest.raises(StorageMisconfigured, match=r"redis://localhost:6379 cannot be opened: .*nonsense"):
        await open_storage("redis://localhost?nonsense=1")

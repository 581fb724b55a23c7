"""Which storage a URL means, and which one there is without any.

sqlite:///var/lib/warren/storage.db     a file of this machine, by its absolute path
redis://host:6379/0, rediss://…         a Redis or Valkey; with TLS
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ..user_folders import state_folder
from .errors import StorageMisconfigured
from .port import Storage
from .sqlite import SqliteStorage

#: Names the storage where no other is named.
STORAGE_VARIABLE: Final = "WARREN_STORAGE"


def default_storage_url(environment: Mapping[str, str] = os.environ) -> str:
    """`WARREN_STORAGE`, else a file in the user's folder of state. Raises `StorageMisconfigured`: there is none."""
    if chosen := environment.get(STORAGE_VARIABLE):
        return chosen
    folder = state_folder(environment)
    if folder is None:
        raise StorageMisconfigured(
            f"this user has no home to keep what plugins store; set {STORAGE_VARIABLE}=sqlite:///… to a file"
        )
    return (folder / "storage.db").as_uri().replace("file:", "sqlite:", 1)


def check_storage_url(url: str) -> None:
    """Raises `StorageMisconfigured` for what cannot be a storage, without opening it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise StorageMisconfigured(f"the URL of the storage is none: {error}") from None
    if parts.scheme == "sqlite":
        if parts.netloc or parts.query or parts.fragment or parts.path in ("", "/") or "\0" in unquote(parts.path):
            raise StorageMisconfigured(
                "the URL of an SQLite storage is an absolute path after 'sqlite://', and no more: "
                "sqlite:///var/lib/warren/storage.db"
            )
    elif parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise StorageMisconfigured(
            "the URL of a storage is sqlite:///PATH, redis://HOST or rediss://HOST, "
            f"not one that begins with {url.partition(':')[0][:20]!r}"
        )


async def open_storage(url: str) -> Storage:
    """Raises `StorageMisconfigured` when it cannot be used. A Redis that is away just now is one that can."""
    check_storage_url(url)
    if url.startswith("sqlite:"):
        return await SqliteStorage.open(Path(unquote(urlsplit(url).path)))
    try:
        from .redis import RedisStorage  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StorageMisconfigured(
            f"a storage on Redis needs a package that is not installed ({error}): pip install 'warren[redis]'"
        ) from error
    return await RedisStorage.open(url)

"""What can go wrong with plugins' storage. `StorageMisconfigured` and `StorageUnavailable` are for the operator."""

from __future__ import annotations

from ..errors import PluginError


class StorageError(PluginError):
    """The root of these."""


class StorageMisconfigured(StorageError):
    """What is set as the storage cannot be used, and trying again does not help."""


class StorageUnavailable(StorageError):
    """The storage did not do it, as far as one knows. It may do so another time."""


class QuotaExceeded(StorageError):
    """A write that would leave the plugin with more than it may keep; nothing was written."""

    def __init__(self, would_be_bytes: int, quota_bytes: int) -> None:
        super().__init__(would_be_bytes, quota_bytes)
        self.would_be_bytes = would_be_bytes
        self.quota_bytes = quota_bytes

    def __str__(self) -> str:
        return f"the plugin's storage would hold {self.would_be_bytes:,} bytes; its quota is {self.quota_bytes:,}"

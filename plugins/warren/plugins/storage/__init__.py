"""What plugins keep between their runs: keys with JSON values, each plugin's apart from every other's.

    functions       `storage_get` and its kin, as guests call them: what is checked, audited and said to the guest
    port            `Storage`, what the functions ask of a back-end
    sqlite          one file, for all processes of one machine: the default
    redis           one Redis or Valkey, for a fleet
    opening         which of them a URL means

Writes happen at once. They are not held back until the run ends, as messages are, and a run that is tried again does
them again; compare-and-set is how a plugin makes that safe. (Rejected: to hold them back. A run could not read what it
has written, nor learn in time that somebody else was first.)
"""

from .errors import QuotaExceeded, StorageError, StorageMisconfigured, StorageUnavailable
from .functions import StorageFunctions
from .opening import open_storage
from .port import ENTRY_BYTES, NOTHING, Page, Storage, Written

__all__ = [
    "ENTRY_BYTES",
    "NOTHING",
    "Page",
    "QuotaExceeded",
    "Storage",
    "StorageError",
    "StorageFunctions",
    "StorageMisconfigured",
    "StorageUnavailable",
    "Written",
    "open_storage",
]

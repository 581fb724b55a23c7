"""What the operator has approved: a folder with one file for each version, `<plugin>@<version>.json`.

An approval is for the digest of a version's two files, so that nothing else can take their place, and tells what it was
to get; that is also how a predecessor is known whose files are gone. Who may write to the folder may approve: it is the
operator's, and does not belong among the plugins.

Rejected: one file for all. To approve something would be to read, change and write it, and two operators who do that at
once would lose one of the two.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import BaseModel, ConfigDict, ValidationError

from warren.manifests import Powers, parse_version

from .files import Identity

_log = logging.getLogger(__name__)


class Approval(BaseModel):
    """One version that may be loaded with these `powers`; `digest` is that of its files, in hexadecimal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plugin: str
    version: str
    digest: str
    powers: Powers

    @property
    def identity(self) -> Identity:
        return Identity(self.plugin, self.version)


class Approvals:
    """The folder, which need not be there. It is read anew each time: an approval holds from the moment it is written.

    What cannot be read approves nothing, and is logged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def admit(self, identity: Identity, digest: bytes) -> bool:
        """Whether files of that digest were approved as that version."""
        approval = self._read(self._path(identity))
        return approval is not None and (approval.identity, approval.digest) == (identity, digest.hex())

    def of(self, plugin: str) -> Iterator[Approval]:
        """All that were given to versions of a plugin."""
        for path in sorted(self.folder.glob(f"{plugin}@*.json")):
            approval = self._read(path)
            if approval is not None and path == self._path(approval.identity):
                yield approval

    def add(self, approval: Approval) -> Path:
        """Write it down, in the place of an earlier one for that version. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(approval.identity)
        with NamedTemporaryFile("w", dir=self.folder, prefix=".", suffix=".new", encoding="utf-8", delete=False) as new:
            new.write(approval.model_dump_json(indent=2) + "\n")
        os.chmod(new.name, 0o644)  # noqa: PTH101 - workers that read it may be other users
        os.replace(new.name, path)  # noqa: PTH105
        return path

    def _path(self, identity: Identity) -> Path:
        return self.folder / f"{identity.name}@{identity.version}.json"

    def _read(self, path: Path) -> Approval | None:
        try:
            approval = Approval.model_validate_json(path.read_bytes())
            parse_version(approval.version)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError, ValueError) as error:
            _log.warning("%s approves nothing, for it cannot be read: %s", path, _first_line(error))
            return None
        return approval


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
    return (getattr(error, "strerror", None) or str(error)).partition("\n")[0]

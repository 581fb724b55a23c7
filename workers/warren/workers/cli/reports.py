"""What workers answer, read leniently: one of another version may tell more, or less."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from warren.bus import Answer

#: Said of an answer that cannot be read.
NONSENSE: Final = "what it tells makes no sense"


class Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


T = TypeVar("T", bound=Report)


def read_report(kind: type[T], answer: Answer) -> T | None:
    """What an answer tells; None where it tells nothing, or makes no sense."""
    try:
        return kind.model_validate(answer.answer)
    except ValidationError:
        return None


class PluginReport(Report):
    """One version of a plugin on one worker; see `warren.plugins.PluginInfo`."""

    name: str
    version: str
    description: str = ""
    status: str = "loaded"
    execution_count: int = 0
    failure_count: int = 0
    load_count: int = 0
    last_loaded: float = 0.0
    last_error: str | None = None
    fuel_p50: int | None = None
    fuel_p99: int | None = None
    memory_bytes_p50: int | None = None
    memory_bytes_p99: int | None = None


class WorkerReport(Report):
    """A worker, as it tells of itself: the answer to `list`."""

    host: str = ""
    pid: int = 0
    started: datetime
    warren: str = ""
    state: str = "serving"
    orders: bool = True
    in_flight: int = 0
    counters: dict[str, int] = {}
    plugins: tuple[PluginReport, ...] = ()

    @property
    def requests(self) -> int:
        return self.counters.get("requests", 0)


class LimitsReport(Report):
    memory_bytes: int
    max_fuel: int
    timeout_s: float


class GrantReport(Report):
    capabilities: tuple[str, ...] = ()
    limits: LimitsReport


class DependencyReport(Report):
    name: str
    version_req: str


class InspectedVersion(PluginReport):
    """All there is to know of a version."""

    in_flight: int = 0
    actions: dict[str, Any] = {}
    grant: GrantReport
    subscribe: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    dependencies: tuple[DependencyReport, ...] = ()
    settings: tuple[str, ...] = ()


class InspectReport(Report):
    """The answer to `inspect`."""

    versions: tuple[InspectedVersion, ...]


class ReloadReport(Report):
    """The answer to `reload`."""

    plugin: str
    version: str


class UnloadReport(Report):
    """The answer to `unload`: what is gone."""

    unloaded: tuple[ReloadReport, ...]


class SideReport(Report):
    """One side of a rollout."""

    version: str
    requests: int = 0
    failures: int = 0
    mean_fuel: float | None = None


class RolloutPolicyReport(Report):
    percent: float


class RolloutReport(Report):
    """A rollout as it stands; see `warren.workers.rollouts.RolloutStatus`."""

    plugin: str
    state: str
    reason: str = ""
    elapsed_s: float = 0.0
    policy: RolloutPolicyReport
    new: SideReport
    old: SideReport
    shadow_runs: dict[str, int] = {}


class RolloutsReport(Report):
    """The answer to `rollouts`, and to `rollout`."""

    rollouts: tuple[RolloutReport, ...]


class DrainReport(Report):
    """The answer to `drain`."""

    in_flight: int

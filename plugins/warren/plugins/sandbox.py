"""The sandbox: one loaded module, and a brand-new guest of it for every request.

Nothing a guest does survives its run, so there is nothing to reset and nothing to leak between two requests. That
also means that `initialize` runs for every request, as part of it and under its limits, unless the module is a
snapshot of itself initialised (see `snapshot`). It runs once more at load, where a plugin that cannot initialise, or
says that it is not healthy, is refused.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

from warren.manifests import Grant

from .abi import AnyAbi, AnyGuest
from .answers import read_answer
from .debugging import Prepared
from .errors import GuestFault, NotForShadows, OutsideMemory
from .guest import Program, free_slot, guests
from .host import NO_SURROUNDINGS, Caps, HostFunction, HostSession, Surroundings, for_shadows
from .instance_pool import INSTANCE_SLOTS
from .outcome import AuditEvent, Outcome, RunKind, Trail
from .recording import Recording, record_run

DEFAULT_CAPS: Final = Caps()

#: Told what a run did with its powers, and its place in a trace.
TellAudit = Callable[[tuple[AuditEvent, ...], Trail | None], None]


class Sandbox:
    """Runs one program under one grant. Any number of runs may be under way at once; none sees another."""

    def __init__(
        self,
        program: Program,
        abi: AnyAbi,
        grant: Grant,
        config: bytes,
        functions: Mapping[str, HostFunction],
        *,
        caps: Caps = DEFAULT_CAPS,
        tell_audit: TellAudit | None = None,
        surroundings: Surroundings = NO_SURROUNDINGS,
        session: Callable[..., HostSession] = HostSession,
        debugged: Prepared | None = None,
    ) -> None:
        """`config` is the JSON that `initialize` is given, and `session` makes what the host knows of each run.

        No outcome holds any of the secrets in the `surroundings`, but in what is the guest's own to say: its answer and
        its messages.
        """
        self._surroundings = surroundings
        self._session = session
        self._has_secrets = bool(surroundings.secrets)
        self._program = program
        self.abi = abi
        self._grant = grant
        self._config = config
        self._functions = functions
        self._caps = caps
        self._tell_audit = tell_audit
        self._debugged = debugged

    def run(
        self, request: bytes, *, timeout_s: float | None = None, depth: int = 0, trail: Trail | None = None
    ) -> Coroutine[Any, Any, Outcome]:
        """Run one request, `{"action": ..., "data": ...}`, in a guest of its own. Never raises for a guest's fault.

        `timeout_s` can shorten the grant's time limit. `depth` is the number of plugins that the request came through.
        Cancelling the coroutine drops the guest.
        """
        return self._attempt(request, timeout_s=timeout_s, depth=depth, trail=trail)

    async def run_shadow(self, request: bytes, *, timeout_s: float | None = None) -> Outcome:
        """`run`, without effect: raises `NotForShadows` when the guest calls what may have one, which is not called."""
        called: list[str] = []
        harmless = for_shadows(self._functions, called)
        around = self._surroundings
        if around.folder is not None:
            around = replace(around, folder=around.folder.for_shadow(called))
        outcome = await self._attempt(request, timeout_s=timeout_s, functions=harmless, surroundings=around)
        if called:
            raise NotForShadows(self._grant.plugin, called[0])
        return outcome

    def masked(self, text: str) -> str:
        """What was said of the guest, without the secrets that it was given."""
        return self._surroundings.secrets.mask(text)

    def recording(self, identity: tuple[str, str], digest: bytes, request: bytes, outcome: Outcome) -> Recording:
        """See `Plugin.recording`."""
        around = self._surroundings
        return record_run(
            identity, digest, request, outcome, grant=self._grant, config=self._config, secrets=around.secrets
        )

    async def check(self) -> Outcome:
        """Start a guest and ask whether it is healthy: what a plugin must pass to be loaded."""
        return await self._attempt(self.abi.check_health)

    async def shutdown(self) -> Outcome:
        """Start a guest and let it run its `shutdown`."""
        return await self._attempt(self.abi.shutdown)

    async def _attempt(
        self,
        what: bytes | Callable[[Any], Awaitable[None]],
        *,
        timeout_s: float | None = None,
        depth: int = 0,
        trail: Trail | None = None,
        functions: Mapping[str, HostFunction] | None = None,
        surroundings: Surroundings | None = None,
    ) -> Outcome:
        """A request, or what else to ask a guest that has started."""
        if len(guests) >= INSTANCE_SLOTS:
            await free_slot(depth)
        start_ns, began_ns = time.time_ns(), time.monotonic_ns()
        limits = self._grant.limits
        limit_s = limits.timeout_s if timeout_s is None else min(timeout_s, limits.timeout_s)
        session = self._session(
            self._grant,
            self._functions if functions is None else functions,
            self._caps,
            began_ns,
            limit_s,
            depth,
            trail,
            surroundings or self._surroundings,
        )
        guest: AnyGuest = self.abi.guest_class(
            self._program,
            session,
            limits.max_fuel,
            limits.memory_bytes,
            limit_s,
        )
        if self._debugged is not None:
            self._debugged.begin(guest)
        error: str | None = None
        backtrace: tuple[str, ...] = ()
        try:
            try:
                await self.abi.start(guest, self._config)
                if isinstance(what, bytes):
                    response = await self.abi.handle_request(guest, what, self._caps.answer_bytes)
                    kind: RunKind = read_answer(response)
                else:
                    await what(guest)
                    response, kind = b"", "ok"
            except GuestFault as fault:
                kind, response, error, backtrace = fault.kind, b"", fault.reason, fault.backtrace
                if isinstance(fault, OutsideMemory):
                    session.refused("memory", fault.asked, "it is outside the guest's memory", severity="critical")
            outcome = Outcome(
                kind,
                response,
                error,
                guest.fuel_used,
                guest.memory_bytes,
                start_ns,
                (time.monotonic_ns() - began_ns) // 1_000,
                session.host_ns // 1_000,
                session.finished_logs(),
                tuple(session.messages) if kind == "ok" else (),
                tuple(session.host_calls),
                backtrace,
                session.finished_audit(),
                session.topic_changes if kind == "ok" else (),
                session.recorder,
            )
            return self._surroundings.secrets.mask_outcome(outcome) if self._has_secrets else outcome
        finally:
            if self._debugged is not None:
                self._debugged.end(guest, keep=isinstance(what, bytes))
            guest.close()
            session.close()
            if session.has_audit and self._tell_audit is not None:
                self._tell_audit(self._surroundings.secrets.mask_audit(session.finished_audit()), trail)

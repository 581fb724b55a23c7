"""What plugins did with their powers, on the bus: one message for each event, on a topic exchange of its own.

The key is `<plugin>.<power>.<severity>`, so that `#.critical`, or `*.network.*`, is a subscription. Who wants to lose
nothing binds a durable queue to the exchange; with none bound the broker drops them, and that is nobody's fault.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from .errors import MalformedMessage
from .messages import AUDIT_TYPE, Message, new_message_id
from .topology import Names
from .wire import first_fault, routing_word


class AuditNote(BaseModel):
    """One use of a power that was granted, or one that was refused: then `refusal` says why.

    `asked` is what the plugin asked for, in its own words and cut short. `version`, `request_id` and `trace_id` are
    None where there is none, as while a plugin is loaded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    plugin: str
    version: str | None
    severity: Literal["debug", "warning", "critical"]
    power: str
    asked: str
    refusal: str | None
    time: AwareDatetime
    request_id: str | None
    trace_id: str | None
    worker: str


def audit_message(names: Names, note: AuditNote) -> Message:
    """For the audit exchange."""
    return Message(
        note.model_dump_json().encode(),
        names.audit,
        f"{routing_word(note.plugin)}.{routing_word(note.power)}.{note.severity}",
        AUDIT_TYPE,
        new_message_id(),
        timestamp_s=int(datetime.timestamp(note.time)),
    )


def read_audit(message: Message) -> AuditNote:
    """Raises MalformedMessage."""
    try:
        return AuditNote.model_validate_json(message.body)
    except ValidationError as invalid:
        raise MalformedMessage(f"not an audit event: {first_fault(invalid)}") from None

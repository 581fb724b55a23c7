"""The bus: what Warren says to a message broker, and how.

    messages, envelopes, results   what travels: the message, and what is written into one
    trace, routing, wire           its parts: trace context and spans, topic patterns, JSON and typed headers
    topology                       exchanges, queues and bindings, as data
    ports                          the contract of a transport; connect, memory*, amqp* are the two that keep it
    client (sending, listening)    the application's side: call, publish, send, events, results
    dead_letters, dead_queue       the operator's: what was given up, to be looked at, replayed or discarded

Nothing here knows what a plugin is made of, and nothing here runs one. AMQP libraries are loaded when an `amqp://` URL
is first connected to, so `memory://` and the data types cost nothing of them.
"""

from .client import Client
from .connect import connect, safe_url
from .dead_letters import BROKER_REASONS, DeadLetter, DeadLetterFilter, read_dead_letter, revived
from .dead_queue import DeadQueue, HeldLetter, settle_each
from .envelopes import (
    DEFAULT_MAX_REQUEST_BYTES,
    DELIVERY_COUNT,
    ON_MESSAGE,
    PluginMessage,
    Request,
    dead_letter_message,
    event_message,
    read_event,
    read_request,
    request_message,
    retry_message,
)
from .errors import (
    BrokerUnreachable,
    BusError,
    CallTimeout,
    DeliveryLost,
    MalformedMessage,
    MessageTooLarge,
    PublishError,
    PublishRefused,
    PublishTimeout,
    QueueNotFound,
    TopologyConflict,
    TransportClosed,
    UnknownPlugin,
    Unroutable,
)
from .listening import Listener
from .memory import MemoryBroker, MemoryTransport
from .messages import DIRECT_REPLY_TO, Header, Message, OutcomeKind, new_message_id
from .ports import Consumer, Delivery, Transport
from .recent import RecentIds
from .record import record
from .results import Result, failure_body, read_result, result_message
from .routing import check_pattern, check_topic, topic_matches
from .sending import destination_attributes, message_attributes, send_name
from .topology import (
    DEFAULT_DELIVERY_LIMIT,
    DEFAULT_PREFIX,
    Binding,
    Exchange,
    Names,
    Queue,
    Topology,
    base_topology,
    listener_topology,
    mailbox_topology,
    retry_topology,
)
from .trace import (
    AttributeValue,
    Span,
    SpanKind,
    Trace,
    TraceContext,
    current_trace_context,
    decode_trace,
    encode_trace,
    json_text,
    read_trace_context,
    span_json,
    trace_headers,
    trace_json,
)

__all__ = [
    "BROKER_REASONS",
    "DEFAULT_DELIVERY_LIMIT",
    "DEFAULT_MAX_REQUEST_BYTES",
    "DEFAULT_PREFIX",
    "DELIVERY_COUNT",
    "DIRECT_REPLY_TO",
    "ON_MESSAGE",
    "AttributeValue",
    "Binding",
    "BrokerUnreachable",
    "BusError",
    "CallTimeout",
    "Client",
    "Consumer",
    "DeadLetter",
    "DeadLetterFilter",
    "DeadQueue",
    "Delivery",
    "DeliveryLost",
    "Exchange",
    "Header",
    "HeldLetter",
    "Listener",
    "MalformedMessage",
    "MemoryBroker",
    "MemoryTransport",
    "Message",
    "MessageTooLarge",
    "Names",
    "OutcomeKind",
    "PluginMessage",
    "PublishError",
    "PublishRefused",
    "PublishTimeout",
    "Queue",
    "QueueNotFound",
    "RecentIds",
    "Request",
    "Result",
    "Span",
    "SpanKind",
    "Topology",
    "TopologyConflict",
    "Trace",
    "TraceContext",
    "Transport",
    "TransportClosed",
    "UnknownPlugin",
    "Unroutable",
    "base_topology",
    "check_pattern",
    "check_topic",
    "connect",
    "current_trace_context",
    "dead_letter_message",
    "decode_trace",
    "destination_attributes",
    "encode_trace",
    "event_message",
    "failure_body",
    "json_text",
    "listener_topology",
    "mailbox_topology",
    "message_attributes",
    "new_message_id",
    "read_dead_letter",
    "read_event",
    "read_request",
    "read_result",
    "read_trace_context",
    "record",
    "request_message",
    "result_message",
    "retry_message",
    "retry_topology",
    "revived",
    "safe_url",
    "send_name",
    "settle_each",
    "span_json",
    "topic_matches",
    "trace_headers",
    "trace_json",
]

from __future__ import annotations

import pytest

from warren.bus import Binding, Names, Queue, base_topology, listener_topology, mailbox_topology, retry_topology

NAMES = Names("w")


def test_a_mailbox_is_a_quorum_queue_that_loses_nothing_when_it_dead_letters() -> None:
    (mailbox,) = mailbox_topology(NAMES, "digest", delivery_limit=7).queues
    assert mailbox.arguments() == {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-dead-letter-strategy": "at-least-once",
        "x-dead-letter-exchange": "w.dead",
        "x-delivery-limit": 7,
    }


def test_a_mailbox_takes_requests_and_what_is_subscribed_to() -> None:
    assert mailbox_topology(NAMES, "digest", ("text.stats", "news.#")).bindings == (
        Binding("w.plugin.digest", "w.requests", "digest.*"),
        Binding("w.plugin.digest", "w.direct", "w.plugin.digest"),
        Binding("w.plugin.digest", "w.events", "text.stats"),
        Binding("w.plugin.digest", "w.events", "news.#"),
    )


def test_what_rests_in_a_retry_queue_flows_back_to_the_mailbox_before_the_queue_can_go() -> None:
    (queue,) = retry_topology(NAMES, "digest", 5_000).queues
    assert (queue.name, queue.dead_letter_exchange, queue.dead_letter_routing_key) == (
        "w.retry.digest.5000",
        "w.direct",
        "w.plugin.digest",
    )
    assert queue.message_ttl_ms == 5_000
    assert queue.expires_ms is not None
    assert queue.expires_ms > queue.message_ttl_ms


def test_a_listener_has_a_queue_that_is_its_own_and_bounded() -> None:
    (queue,) = listener_topology(NAMES, "w.events", "#", "me").queues
    assert queue.transient
    assert queue.arguments()["x-queue-type"] == "classic"
    assert queue.max_length is not None


def test_every_request_without_a_mailbox_and_every_dead_letter_has_a_queue() -> None:
    topology = base_topology(NAMES)
    requests = next(exchange for exchange in topology.exchanges if exchange.name == "w.requests")
    assert requests.arguments() == {"alternate-exchange": "w.unrouted"}
    assert {binding.queue for binding in topology.bindings} == {"w.dead", "w.unrouted"}


def test_a_dead_letter_may_be_looked_at_any_number_of_times() -> None:
    dead = next(queue for queue in base_topology(NAMES).queues if queue.name == "w.dead")
    assert dead.arguments() == {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-delivery-limit": 2_147_483_647,
    }


def test_a_queue_has_no_arguments_but_those_it_was_given() -> None:
    assert Queue("plain").arguments() == {"x-queue-type": "quorum", "x-overflow": "reject-publish"}


@pytest.mark.parametrize("prefix", ["", "a b", "a\n", "ä", "p" * 101])
def test_a_prefix_that_would_make_bad_names_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot be a prefix"):
        Names(prefix)


def test_the_longest_names_are_within_amqps_255_bytes() -> None:
    names = Names("p" * 100)
    assert len(names.retry("n" * 63, 10**10)) <= 255
    assert len(names.mailbox("n" * 63)) <= 255

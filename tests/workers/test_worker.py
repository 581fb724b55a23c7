"""The path of a message, on the memory bus: what follows from each kind of input, and in which order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.guests import answering, ask, wat, write_plugin
from warren.bus import (
    Binding,
    Client,
    Consumer,
    Delivery,
    Header,
    Message,
    Names,
    OutcomeKind,
    PublishRefused,
    PublishTimeout,
    Queue,
    Result,
    Span,
    Topology,
    Transport,
    Unroutable,
    connect,
    request_message,
)
from warren.plugins import Outcome, Plugin, PluginManager
from warren.plugins.guest import guests
from warren.workers.settings import WorkerSettings
from warren.workers.worker import Worker

NAMES = Names("warren")
LIMIT_S = 20.0


@dataclass
class Bus:
    """A worker on a bus of its own, with a client, and a second connection to publish and look with."""

    client: Client
    transport: Transport
    worker: Worker
    spans: list[Span]
    dead: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    results: asyncio.Queue[Result] = field(default_factory=asyncio.Queue)

    async def dead_letter(self) -> Message:
        return await asyncio.wait_for(self.dead.get(), LIMIT_S)

    async def result(self) -> Result:
        return await asyncio.wait_for(self.results.get(), LIMIT_S)

    async def publish(self, plugin: str, body: bytes, **properties: Any) -> None:
        """A request as somebody might write it by hand."""
        message = Message(body, NAMES.requests, f"{plugin}.do", **{"message_id": "request-1", **properties})
        await self.transport.publish(message)


def as_it_is(transport: Transport) -> Transport:
    return transport


@asynccontextmanager
async def serving(
    plugins: Path, wrap: Callable[[Transport], Transport] = as_it_is, **settings: Any
) -> AsyncIterator[Bus]:
    url = f"memory://{plugins.name}-{id(plugins)}"
    transport, looking = await connect(url), await connect(url)
    spans: list[Span] = []
    async with PluginManager(plugins) as manager, Client(url, timeout_s=LIMIT_S) as client:
        assert not manager.failures
        chosen = WorkerSettings(plugins, url, **{"grace_s": LIMIT_S, **settings})
        worker = Worker(wrap(transport), manager, chosen, export_spans=spans.extend)
        await worker.start()
        bus = Bus(client, looking, worker, spans)
        await looking.consume(NAMES.dead, lambda each: bus.dead.put_nowait(each.message), prefetch=100)
        async with client.results() as results:
            listening = asyncio.create_task(pump(results, bus.results))
            yield bus
            listening.cancel()
        await worker.drain()
    await transport.close()
    await looking.close()


async def pump(source: AsyncIterator[Result], into: asyncio.Queue[Result]) -> None:
    async for each in source:
        into.put_nowait(each)


def sending(topic: str, *, to: str | None = None) -> bytes:
    """A guest that sends one message for whatever it gets, and answers OK."""
    call, text = ask("send_message", json.dumps({"to": to, "topic": topic, "payload": [1]}))
    return wat(f"(drop {call}) (call $answer)", more=text)


ENDLESS = '[capabilities]\nrequired = ["compute"]'
SOME_SLICES = """
(local $i i32)
(loop $again
  (local.set $i (i32.add (local.get $i) (i32.const 1)))
  (br_if $again (i32.lt_u (local.get $i) (i32.const 1000000))))
(call $answer)
"""
PUBLISHES = '[bus]\npublish = ["#"]\n'


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"hello", "not JSON"),
        (b'{"action": "do", "data": NaN}', "not JSON"),
        (b'{"action": "do", "data": "\xff"}', "not JSON"),
        (b'"do"', "must be an object"),
        (b'{"data": null}', '"action" is missing'),
        (b'{"action": 7}', '"action" is a number'),
        (b'{"action": "undo"}', "the routing key is"),
        (b'{"action": "do", "data": "' + b"x" * 2_000 + b'"}', "at most 1,000 are allowed"),
    ],
)
async def test_what_is_no_request_is_rejected_with_a_sentence_and_dead_lettered_whole(
    tmp_path: Path, body: bytes, sentence: str
) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path, max_request_bytes=1_000) as bus:
        await bus.publish("plain", body, headers={"mine": 1})
        result, letter = await bus.result(), await bus.dead_letter()
        assert result.outcome is OutcomeKind.REJECTED
        assert sentence in str(result.error)
        assert (letter.body, letter.headers["mine"], letter.message_id) == (body, 1, "request-1")
        assert sentence in letter.headers[Header.ERROR]
        assert letter.routing_key == "plain.rejected"
        assert (await bus.client.call("plain", "do")).ok  # the worker goes on


async def test_a_request_with_no_message_id_is_served_and_said_to_have_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        await bus.publish("plain", b'{"action":"do","data":null}', message_id=None)
        result = await bus.result()
    assert result.ok
    assert result.trace is not None
    assert result.trace.spans[0].attributes["warren.request.without_message_id"] is True
    assert "has no message_id" in caplog.text


async def test_a_request_for_a_plugin_that_nobody_serves_is_rejected_and_dead_lettered(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        result = await bus.client.call("ghost", "do")
        assert (result.outcome, result.error) == (OutcomeKind.REJECTED, "no plugin 'ghost' is served here")
        assert (await bus.dead_letter()).headers[Header.ORIGINAL_KEY] == "ghost.do"


async def test_a_version_that_is_not_loaded_and_one_that_is_no_requirement_are_rejected(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        missing = await bus.client.call("plain", "do", version="^2")
        wrong = await bus.client.call("plain", "do", version="newest")
        fitting = await bus.client.call("plain", "do", version="^1")
    assert (missing.outcome, wrong.outcome, fitting.outcome) == ("rejected", "rejected", "ok")
    assert missing.error == "no version of plugin 'plain' matches '^2'; loaded: 1.0.0"
    assert "newest" in str(wrong.error)
    assert fitting.version == "1.0.0"


async def test_an_action_that_the_manifest_does_not_declare_is_rejected(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain", manifest_extra="[actions.dig]")
    async with serving(tmp_path) as bus:
        result = await bus.client.call("plain", "fly")
    assert (result.outcome, result.error) == (OutcomeKind.REJECTED, "unknown action 'fly'; the plugin has: dig")


@pytest.mark.parametrize(
    ("guest", "outcome"),
    [
        (wat("unreachable"), "trap"),
        (answering(b"\xff"), "trap"),
        (answering(b""), "trap"),
        (wat("(i64.const -1)"), "output_too_large"),
        (wat("(call $pack (i32.const 131071) (i32.const 2))"), "trap"),
        (wat("(call $pack (i32.const 0) (i32.const 10000000))"), "output_too_large"),
        (wat("(loop $again (br $again)) (call $answer)"), "out_of_fuel"),
        (sending("forbidden"), "denied"),
    ],
)
async def test_a_guest_that_breaks_gets_its_outcome_a_result_and_a_dead_letter(
    tmp_path: Path, guest: bytes, outcome: str
) -> None:
    write_plugin(tmp_path, "broken", guest)
    async with serving(tmp_path) as bus:
        result = await bus.client.call("broken", "do", {"a": 1})
        letter = await bus.dead_letter()
    assert result.outcome == outcome
    assert result.success is False
    assert result.error
    assert letter.routing_key == f"broken.{outcome}"
    assert json.loads(letter.body) == {"action": "do", "data": {"a": 1}}
    assert letter.headers[Header.ERROR] == result.error
    assert letter.headers[Header.WORKER] == bus.worker.name
    assert letter.reply_to is None


async def test_a_failed_answer_is_the_guests_own_and_no_dead_letter(tmp_path: Path) -> None:
    write_plugin(tmp_path, "failing", answering('{"success":false,"result":{"a":1},"error":"no"}'))
    async with serving(tmp_path) as bus:
        result = await bus.client.call("failing", "do")
        assert (result.outcome, result.error, result.result) == (OutcomeKind.FAILED, "no", {"a": 1})
        assert bus.dead.empty()


class Recording:
    """A transport that notes what is done with it, and can fail in the place of its publishes."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.steps: list[str] = []
        self.fail: list[Exception] = []

    async def declare(self, topology: Topology) -> None:
        await self.transport.declare(topology)

    async def bind(self, *bindings: Binding) -> None:
        await self.transport.bind(*bindings)

    async def unbind(self, *bindings: Binding) -> None:
        await self.transport.unbind(*bindings)

    def forget(self, queue: str) -> None:
        self.transport.forget(queue)

    async def publish(self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None) -> None:
        await self.post(message, mandatory=mandatory, timeout_s=timeout_s)

    def post(
        self, message: Message, *, mandatory: bool = False, timeout_s: float | None = None
    ) -> asyncio.Future[None]:
        if self.fail:
            refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            refused.set_exception(self.fail.pop())
            return refused
        confirmed = self.transport.post(message, mandatory=mandatory, timeout_s=timeout_s)
        assert confirmed.done()  # nothing takes time on the memory bus
        self.steps.append(f"confirmed {message.type}")
        return confirmed

    async def consume(self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> Consumer:
        return await self.transport.consume(
            queue, lambda delivery: on_delivery(RecordedDelivery(delivery, self.steps)), prefetch=prefetch
        )

    async def depth(self, queue: str) -> int:
        return await self.transport.depth(queue)

    def impediment(self) -> str | None:
        return self.transport.impediment()

    async def close(self) -> None:
        await self.transport.close()


class RecordedDelivery:
    def __init__(self, delivery: Delivery, steps: list[str]) -> None:
        self._delivery = delivery
        self._steps = steps
        self.message = delivery.message
        self.redelivered = delivery.redelivered

    def ack(self) -> None:
        self._steps.append("ack")
        self._delivery.ack()

    def reject(self) -> None:
        self._steps.append("reject")
        self._delivery.reject()

    def requeue(self) -> None:
        self._steps.append("requeue")
        self._delivery.requeue()


async def test_the_guests_messages_and_the_result_are_confirmed_before_the_request_is_acked(tmp_path: Path) -> None:
    write_plugin(tmp_path, "sender", sending("news.today"), PUBLISHES)
    recorders: list[Recording] = []

    def record(transport: Transport) -> Transport:
        recorders.append(Recording(transport))
        return recorders[-1]

    async with serving(tmp_path, record) as bus:
        await bus.client.call("sender", "do")
    assert recorders[0].steps == ["confirmed warren.event", "confirmed warren.result", "ack"]


async def test_a_request_whose_result_is_not_confirmed_goes_back_and_is_answered_again_with_the_same_id(
    tmp_path: Path,
) -> None:
    write_plugin(tmp_path, "plain")
    recorders: list[Recording] = []

    def record(transport: Transport) -> Transport:
        recorders.append(Recording(transport))
        recorders[-1].fail = [PublishTimeout("", "somewhere", 1.0)]
        return recorders[-1]

    async with serving(tmp_path, record) as bus:
        message = request_message(NAMES, "plain", "do", None, message_id="request-1")
        await bus.transport.publish(message)
        late = await bus.result()
        await bus.client.call("plain", "do")  # all that the first request led to has happened by now
        assert recorders[0].steps == ["requeue", *["confirmed warren.result", "ack"] * 2]
        assert bus.results.empty()
    assert late.attempt == 2


async def test_a_run_that_fails_by_the_workers_fault_is_tried_again_later_and_given_up_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plugin(tmp_path, "plain", manifest_extra="[retry]\nmax_attempts = 3\ninitial_delay_ms = 10")
    runs: list[bytes] = []

    async def fail(_plugin: Plugin, request: bytes, **_: Any) -> Outcome:
        runs.append(request)
        raise OSError("out of order")

    async with serving(tmp_path) as bus:
        monkeypatch.setattr(Plugin, "run", fail)
        result = await bus.client.call("plain", "do")
        letter = await bus.dead_letter()
    assert (result.outcome, result.error, result.attempt) == ("unavailable", "the worker failed: OSError", 3)
    assert letter.headers[Header.OUTCOME] == "unavailable"
    assert len(runs) == 3


async def test_a_dead_letter_queue_that_somebody_deleted_is_declared_again(tmp_path: Path) -> None:
    write_plugin(tmp_path, "broken", wat("unreachable"))
    recorders: list[Recording] = []

    def record(transport: Transport) -> Transport:
        recorders.append(Recording(transport))
        return recorders[-1]

    async with serving(tmp_path, record) as bus:
        recorders[0].fail = [Unroutable("warren.dead", "broken.trap")]
        assert (await bus.client.call("broken", "do")).attempt == 1
        await bus.dead_letter()
    assert "requeue" not in recorders[0].steps


async def test_a_delivery_that_cannot_be_seen_to_its_end_does_not_come_again_at_once_nor_hold_up_a_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren.workers.mailbox.GIVE_BACK_PAUSES_S", (0.0, LIMIT_S * 10))
    write_plugin(tmp_path, "plain")
    recorders: list[Recording] = []

    def record(transport: Transport) -> Transport:
        recorders.append(Recording(transport))
        recorders[-1].fail = [PublishRefused("", "somewhere") for _ in range(1000)]
        return recorders[-1]

    async with serving(tmp_path, record) as bus:
        await bus.publish("plain", b'{"action":"do","data":null}')
        await until(lambda: len(recorders[0].fail) == 998)
        assert recorders[0].steps == ["requeue"]
        assert await bus.worker.drain() == 2
    assert recorders[0].steps == ["requeue", "requeue"]
    assert len(recorders[0].fail) == 998


async def test_two_runs_of_one_request_have_results_of_one_id(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        replies: asyncio.Queue[Message] = asyncio.Queue()
        await bus.transport.declare(Topology(queues=(Queue("warren.replies", transient=True),)))
        await bus.transport.consume("warren.replies", lambda each: replies.put_nowait(each.message), prefetch=9)
        request = request_message(NAMES, "plain", "do", None, message_id="request-1", reply_to="warren.replies")
        await bus.transport.publish(request)
        await bus.transport.publish(request)
        first, second = [await asyncio.wait_for(replies.get(), LIMIT_S) for _ in range(2)]
    assert first.message_id == second.message_id
    assert first.message_id != "request-1"


async def test_a_twin_within_the_window_is_dropped_and_another_try_is_none(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    write_plugin(tmp_path, "broken", wat("unreachable"))
    async with serving(tmp_path, dedup_window_s=60.0) as bus:
        plain = request_message(NAMES, "plain", "do", None, message_id="request-1")
        await bus.transport.publish(plain)
        assert (await bus.result()).ok
        for again in (plain, replace(plain, headers={Header.ATTEMPT: 2})):
            await bus.transport.publish(again)
        broken = request_message(NAMES, "broken", "do", None, message_id="request-2")
        for _ in range(2):  # one that died may be replayed at any time
            await bus.transport.publish(broken)
        counted = bus.worker.metrics.snapshot
        served = {("plain", "ok"): 2, ("broken", "trap"): 2}
        await until(lambda: counted()["warren_requests_total"] == served)
    assert counted()["warren_duplicates_total"][("plain",)] == 1


async def test_what_a_guest_sent_is_dropped_when_its_run_does_not_end_well(tmp_path: Path) -> None:
    call, text = ask("send_message", json.dumps({"topic": "news"}))
    write_plugin(tmp_path, "sender", wat(f"(drop {call}) unreachable", more=text), PUBLISHES)
    async with serving(tmp_path) as bus, bus.client.events() as events:
        assert (await bus.client.call("sender", "do")).outcome is OutcomeKind.TRAP
        await bus.client.publish("end")
        assert (await anext(aiter(events))).topic == "end"


async def test_a_message_to_a_plugin_that_is_not_there_is_dead_lettered_and_told_in_the_trace(tmp_path: Path) -> None:
    write_plugin(tmp_path, "sender", sending("news", to="ghost"), PUBLISHES)
    async with serving(tmp_path) as bus:
        result = await bus.client.call("sender", "do")
        letter = await bus.dead_letter()
    assert result.ok
    assert result.trace is not None
    assert [span.error for span in result.trace.spans if span.error] == ["no plugin 'ghost' has a mailbox"]
    assert letter.headers[Header.ORIGINAL_KEY] == NAMES.mailbox("ghost")
    assert letter.headers[Header.ERROR] == "no plugin 'ghost' has a mailbox"
    assert json.loads(letter.body)["payload"] == [1]


async def test_an_event_reaches_its_subscriber_as_on_message_and_not_its_sender(tmp_path: Path) -> None:
    write_plugin(tmp_path, "sender", sending("news.today"), '[bus]\npublish = ["#"]\nsubscribe = ["news.*"]')
    write_plugin(tmp_path, "reader", manifest_extra='[bus]\nsubscribe = ["news.#"]')
    async with serving(tmp_path) as bus, bus.client.events("news.#") as events:
        await bus.client.call("sender", "do")
        event = await anext(aiter(events))
        result = await bus.result()
        await bus.client.call("sender", "do")
        again = await bus.result()
    assert (event.from_, event.to, event.payload, event.hops) == ("sender", None, [1], 1)
    assert (result.plugin, result.action, result.outcome) == ("reader", "on_message", OutcomeKind.OK)
    assert result.correlation_id == event.message_id
    assert again.plugin == "reader"


async def test_a_direct_message_reaches_the_plugin_it_is_for(tmp_path: Path) -> None:
    write_plugin(tmp_path, "sender", sending("news", to="reader"), PUBLISHES)
    write_plugin(tmp_path, "reader")
    async with serving(tmp_path) as bus:
        await bus.client.call("sender", "do")
        assert (await bus.result()).plugin == "reader"


async def test_two_plugins_that_answer_each_other_for_ever_are_stopped_by_the_hop_limit(tmp_path: Path) -> None:
    write_plugin(tmp_path, "ping", sending("ball", to="pong"), PUBLISHES)
    write_plugin(tmp_path, "pong", sending("ball", to="ping"), PUBLISHES)
    async with serving(tmp_path, hop_limit=5) as bus:
        await bus.client.call("ping", "do")
        letter = await bus.dead_letter()
        outcomes = [(await bus.result()).outcome for _ in range(6)]
    assert "is a loop" in letter.headers[Header.ERROR]
    assert letter.headers[Header.HOPS] == 6
    assert sorted(outcomes) == ["ok"] * 5 + ["rejected"]


async def test_a_request_is_tried_again_as_the_manifest_says_and_then_given_up(tmp_path: Path) -> None:
    retry = '[retry]\non = ["trap"]\nmax_attempts = 3\ninitial_delay_ms = 10\njitter = 0.0'
    write_plugin(tmp_path, "broken", wat("unreachable"), retry)
    async with serving(tmp_path) as bus:
        result = await bus.client.call("broken", "do")
        letter = await bus.dead_letter()
        assert bus.dead.empty()
    assert (result.outcome, result.attempt) == (OutcomeKind.TRAP, 3)
    assert letter.headers[Header.ATTEMPT] == 3
    assert letter.headers[Header.ORIGINAL_EXCHANGE] == NAMES.requests
    assert letter.headers[Header.ORIGINAL_KEY] == "broken.do"


async def test_the_deadline_of_a_request_can_be_shorter_than_its_plugins(tmp_path: Path) -> None:
    write_plugin(
        tmp_path, "slow", wat("(loop $again (br $again)) (call $answer)"), '[capabilities]\nrequired = ["compute"]'
    )
    async with serving(tmp_path) as bus:
        result = await bus.client.call("slow", "do", deadline_ms=1)
    assert result.outcome is OutcomeKind.DEADLINE_EXCEEDED
    assert "0.001 s" in str(result.error)


async def test_a_result_that_finds_nobody_at_its_address_is_dead_lettered(tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        await bus.publish("plain", b'{"action":"do","data":null}', reply_to="warren.gone")
        letter = await bus.dead_letter()
    assert letter.type == "warren.result"
    assert "the result found no one" in letter.headers[Header.ERROR]


@pytest.mark.parametrize("reply_to", ["gone", "amq.default", "warren2.replies", "amq.rabbitmq.log"])
async def test_a_result_goes_to_no_queue_of_somebody_else(reply_to: str, tmp_path: Path) -> None:
    write_plugin(tmp_path, "plain")
    async with serving(tmp_path) as bus:
        await bus.publish("plain", b'{"action":"do","data":null}', reply_to=reply_to)
        result = await bus.result()
        letter = await bus.dead_letter()
    assert result.outcome is OutcomeKind.REJECTED
    assert f"'reply_to' names '{reply_to}', which is neither" in str(result.error)
    assert letter.type != "warren.result"
    assert letter.headers[Header.ORIGINAL_REPLY_TO] == reply_to, "the dead letter has the whole of the request"


async def test_draining_gives_back_what_has_not_ended_within_the_grace_period(tmp_path: Path) -> None:
    write_plugin(tmp_path, "slow", wat("(loop $again (br $again)) (call $answer)"), ENDLESS)
    async with serving(tmp_path, grace_s=0.0) as bus:
        await bus.publish("slow", b'{"action":"do","data":null}')
        await until(lambda: len(guests) > 0)
        assert await bus.worker.drain() == 1
        back: asyncio.Queue[Delivery] = asyncio.Queue()
        await bus.transport.consume(NAMES.mailbox("slow"), back.put_nowait, prefetch=1)
        delivery = await asyncio.wait_for(back.get(), LIMIT_S)
        assert delivery.redelivered
        assert bus.dead.empty()
        delivery.ack()


async def test_draining_lets_a_run_in_flight_end(tmp_path: Path) -> None:
    write_plugin(tmp_path, "slow", wat(SOME_SLICES), ENDLESS)
    async with serving(tmp_path) as bus:
        await bus.publish("slow", b'{"action":"do","data":null}')
        await until(lambda: len(guests) > 0)
        assert await bus.worker.drain() == 0
        assert (await bus.result()).ok


async def test_the_spans_of_a_request_are_exported_with_the_sending_of_its_result(tmp_path: Path) -> None:
    call, text = ask("get_time")
    write_plugin(tmp_path, "clock", wat(f"(drop {call}) (call $answer)", more=text))
    async with serving(tmp_path) as bus:
        result = await bus.client.call("clock", "do")
        await bus.worker.drain()
    assert result.trace is not None
    caller, process, run, host_call = result.trace.spans
    assert [caller.kind, process.kind, run.kind, host_call.kind] == ["producer", "consumer", "internal", "internal"]
    assert [span.name for span in bus.spans][:3] == ["process warren.plugin.clock", "run clock", "get_time"]
    sent = bus.spans[3]
    assert (sent.kind, sent.parent_id) == ("producer", process.context.span_id)
    assert process.attributes["messaging.destination.name"] == "warren.requests:clock.do:warren.plugin.clock"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)

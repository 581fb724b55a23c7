"""Who takes part, and on what terms.

Each is set up as its own documentation advises for RabbitMQ, told to be quiet, and gets the cheaper option where it
cannot do what the others do. All answer with the text they were sent, in a persistent message to the queue that the
request names: as AMQP's `reply_to` where the library reads it, else as an argument of the task. A peer takes part when
it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from wasmtime import wat2wasm

from tests.benchmarks.contenders import Contender
from tests.benchmarks.envelopes import celery_task, dramatiq_task, json_request, taskiq_task
from warren.bus.topology import Names, mailbox_topology

FOLDER: Final = Path(__file__).parent
BIN: Final = Path(sys.executable).parent

#: Every worker holds this many requests at a time; the peers have it in their own code too.
PREFETCH: Final = 400

PLAIN: Final = "plain aio-pika"
WARREN: Final = "Warren"
FASTSTREAM: Final = "FastStream"
TASKIQ: Final = "taskiq"
DRAMATIQ: Final = "Dramatiq"
CELERY: Final = "Celery prefork"


def contenders(url: str, names: Names, folder: Path) -> list[Contender]:
    """All that can take part here, the reference first. Warren's plugin is built in `folder`."""
    peers = [make(url, names) for distribution, make in PEERS.items() if is_installed(distribution)]
    return [plain(url, names), warren(url, names, folder), *peers]


def missing() -> list[str]:
    """What would take part, if it was installed."""
    return [distribution for distribution in PEERS if not is_installed(distribution)]


def is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def plain(url: str, names: Names) -> Contender:
    """aio-pika alone."""
    script = FOLDER / "peers" / "plain_worker.py"
    return Contender(
        name=PLAIN,
        plugin="plain",
        version=version("aio-pika"),
        promise="quorum queue; acks once its result is confirmed; a task per message, asyncio's own loop",
        queues=mailbox(names, "plain"),
        envelope=json_request,
        command=[sys.executable, str(script), url, names.mailbox("plain")],
    )


def warren(url: str, names: Names, folder: Path) -> Contender:
    """Warren, with the echo plugin."""
    (folder / "echo.wasm").write_bytes(wat2wasm((FOLDER / "echo.wat").read_text()))
    (folder / "echo.toml").write_bytes((FOLDER / "echo.toml").read_bytes())
    return Contender(
        name=WARREN,
        plugin="echo",
        version=version("warren"),
        promise="quorum queue; acks once its result is confirmed; a brand-new sandbox and a trace for each request",
        queues=mailbox(names, "echo"),
        envelope=json_request,
        command=[str(BIN / "warren"), "worker", "--plugins", str(folder), "--broker", url, "--log-level", "warning"],
        environment={"WARREN_PREFIX": names.prefix, "WARREN_PREFETCH": str(PREFETCH)},
    )


def faststream(url: str, names: Names) -> Contender:
    """FastStream by its own runner, which takes uvloop where it is installed."""
    return Contender(
        name=FASTSTREAM,
        plugin="faststream",
        version=version("faststream"),
        promise="quorum queue; acks once its result is confirmed; uvloop",
        queues=mailbox(names, "faststream"),
        envelope=json_request,
        command=[str(BIN / "faststream"), "run", "--log-level", "warning", app("faststream_app:app")],
        environment=settings(url, names.mailbox("faststream")),
    )


def taskiq(url: str, names: Names) -> Contender:
    """taskiq by its own runner, which takes uvloop where it is installed. It has no results over RabbitMQ."""
    runner = [str(BIN / "taskiq"), "worker", "--workers", "1", "--max-async-tasks", str(PREFETCH)]
    return Contender(
        name=TASKIQ,
        plugin="taskiq",
        version=f"{version('taskiq')}, taskiq-aio-pika {version('taskiq-aio-pika')}",
        promise="quorum queue; the task publishes its result; acks once that is confirmed; uvloop",
        queues=mailbox(names, "taskiq"),
        envelope=taskiq_task,
        command=[*runner, "--log-level", "WARNING", app("taskiq_app:broker")],
        environment={
            **settings(url, names.mailbox("taskiq")),
            "BENCH_EXCHANGE": names.requests,
            "BENCH_DEAD": names.dead,
        },
    )


def dramatiq(url: str, names: Names) -> Contender:
    """Dramatiq, one process of its usual 8 threads, so that others work while one waits for a confirm.

    It has no results over RabbitMQ. Quorum queues have to be asked for by a subclass of its broker; and confirms, too.
    """
    queue = names.mailbox("dramatiq")
    dead = {"x-queue-type": "quorum", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{queue}.XQ"}
    return Contender(
        name=DRAMATIQ,
        plugin="dramatiq",
        version=version("dramatiq"),
        promise="quorum queue; the actor publishes its result and waits for the confirm; then acks; 8 threads",
        queues={queue: dead, f"{queue}.DQ": dead, f"{queue}.XQ": {"x-message-ttl": 7 * 86_400_000}},
        envelope=dramatiq_task(queue),
        command=[str(BIN / "dramatiq"), "--processes", "1", "--threads", "8", app("dramatiq_app")],
        environment={**settings(url, queue), "dramatiq_queue_prefetch": str(PREFETCH)},
    )


def celery(url: str, names: Names) -> Contender:
    """Celery's prefork pool with one child; results by its `rpc://` backend. Confirms have to be asked for."""
    runner = [str(BIN / "celery"), "--quiet", "--app", app("celery_app"), "worker", "--pool", "prefork"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    return Contender(
        name=CELERY,
        plugin="celery",
        version=version("celery"),
        promise="quorum queue; results by rpc://, each confirm waited for; acks late; a parent process and one child",
        queues=mailbox(names, "celery"),
        envelope=celery_task,
        command=[*runner, "--concurrency", "1", *quiet],
        environment=settings(url, names.mailbox("celery")),
    )


#: By the distribution that each one needs.
PEERS: Final[Mapping[str, Callable[[str, Names], Contender]]] = {
    "faststream": faststream,
    "taskiq-aio-pika": taskiq,
    "dramatiq": dramatiq,
    "celery": celery,
}


def mailbox(names: Names, plugin: str) -> Mapping[str, Mapping[str, str | int]]:
    """The queue of a plugin, declared as Warren does it: the same for all that can serve a quorum queue."""
    return {queue.name: queue.arguments() for queue in mailbox_topology(names, plugin).queues}


def app(name: str) -> str:
    """A module of `peers`, as the peers' runners find it from the folder of the project."""
    return f"tests.benchmarks.peers.{name}"


def settings(url: str, queue: str) -> Mapping[str, str]:
    """What the modules in `peers` read from their environment."""
    return {"BENCH_URL": url, "BENCH_QUEUE": queue, "PYTHONPATH": str(FOLDER.parent.parent)}

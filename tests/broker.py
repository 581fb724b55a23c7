"""A real RabbitMQ for the tests: one that is named, one that Docker runs, or a private node of this test run.

The first that can be had, in this order:

1. `WARREN_TEST_AMQP_URL`: a broker that may be filled and emptied. What tests declare there stays, under names of
   their own, so it had best be a virtual host for tests.
2. A container, where a Docker engine answers.
3. A node started from an installed RabbitMQ, for this run alone: its own folder, free ports, cookie, node name and
   epmd, all on loopback. Two runs at once do not see each other, and nothing of it needs root. A guard process, which
   shares the node's process group and reads a pipe that only this process holds open, ends the group when this process
   dies without cleaning up, however it dies. (Rejected: PR_SET_PDEATHSIG, which fires when the *thread* that started
   the node ends, and only on Linux.)

Only a private node can be stopped, restarted or asked things with `ctl`; elsewhere such a test is skipped.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

IMAGE = "rabbitmq:3.13-alpine"

#: Where every package of RabbitMQ has its own scripts. Those on the PATH switch the user and drop the environment.
SCRIPTS = Path("/usr/lib/rabbitmq/bin")

BOOT_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0

#: Below what Linux, and IANA, keep for outgoing connections.
FIRST_PORT = 10_000
PORTS = 20_000

#: The greeting of AMQP 0-9-1. A broker that is up answers it with a method frame.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = b"\x01"

#: Waits for the end of its input, which is the end of the test run, and then ends its process group.
GUARD = 'trap "" TERM; read -r _; kill -TERM 0; sleep 10; kill -KILL 0'


class NoBroker(Exception):
    """There is no broker to be had by this way; says why, and what to do."""


class Broker:
    """A broker that is up, at `url`. This one belongs to somebody else: nothing can be done to it but use it."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def pid(self) -> int | None:
        """Its process, where that is ours to look at."""
        return None

    async def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers."""
        return self._only_private(" ".join(arguments))

    async def start(self) -> None:
        """Start it and wait until it speaks AMQP."""
        self._only_private("start")

    async def stop(self) -> None:
        """Stop it and wait until it is gone; what is durable stays."""
        self._only_private("stop")

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def queue_depths(self, prefix: str) -> dict[str, int]:
        """How many messages, ready and unsettled, are in each queue whose name begins with `prefix`."""
        lines = (await self.ctl("list_queues", "--no-table-headers", "name", "messages")).splitlines()
        return {name: int(depth) for name, depth in (line.split("\t") for line in lines) if name.startswith(prefix)}

    @staticmethod
    def _only_private(what: str) -> str:
        pytest.skip(f"{what!r} needs a private node: unset WARREN_TEST_AMQP_URL, stop Docker, install rabbitmq-server")


class PrivateNode(Broker):
    """A node of this test run's own, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._distribution_port, self._epmd_port = free_ports(3)
        self._environment = self._make_environment()
        self._group = 0
        self._node: subprocess.Popen[bytes] | None = None
        super().__init__(f"amqp://guest:guest@127.0.0.1:{self._port}/")

    @property
    def pid(self) -> int | None:
        return self._node.pid if self._node else None

    def _make_environment(self) -> dict[str, str]:
        for name in ("mnesia", "log"):
            (self._folder / name).mkdir(parents=True)
        (self._folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            "loopback_users.guest = true\n"
            "log.file.level = warning\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        (self._folder / "env.conf").touch()  # or the machine's own rabbitmq-env.conf would be read
        (self._folder / "enabled_plugins").write_text("[].\n")
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self._folder),  # Erlang makes its cookie there
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"warren-{os.getpid()}-{secrets.token_hex(3)}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 2:2",
            "RABBITMQ_CTL_ERL_ARGS": f"{loopback} +S 1:1 +A 1",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, instead of its parent
        }

    @contextmanager
    def running(self) -> Iterator[PrivateNode]:
        """The node up, with its epmd and its guard; all three are gone afterwards."""
        with ExitStack() as started:
            started.enter_context(self._guard())
            started.enter_context(self._epmd())
            started.callback(self._stop)
            self._start()
            yield self

    @contextmanager
    def _guard(self) -> Iterator[None]:
        guard = subprocess.Popen(["sh", "-c", GUARD], stdin=subprocess.PIPE, process_group=0)
        self._group = guard.pid
        try:
            yield
        finally:
            guard.kill()
            guard.communicate()

    @contextmanager
    def _epmd(self) -> Iterator[None]:
        with self._spawn("epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1") as epmd:
            try:
                yield
            finally:
                epmd.terminate()

    def _spawn(self, *command: str | Path) -> subprocess.Popen[bytes]:
        with (self._folder / "log" / "output").open("ab") as output:
            return subprocess.Popen(
                command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=self._group,
            )

    def _start(self) -> None:
        self._node = self._spawn(SCRIPTS / "rabbitmq-server")
        await_greeting("127.0.0.1", self._port, self._check_alive)

    def _check_alive(self) -> None:
        if self._node is None or self._node.poll() is not None:
            raise NoBroker(f"RabbitMQ did not start; the end of its log:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        logs = sorted((self._folder / "log").iterdir(), key=lambda path: path.stat().st_mtime)
        return "\n".join("\n".join(log.read_text(errors="replace").splitlines()[-20:]) for log in logs)

    def _stop(self) -> None:
        if self._node is None:
            return
        self._node.send_signal(signal.SIGTERM)
        try:
            self._node.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._node.kill()
            self._node.wait()
        self._node = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    async def stop(self) -> None:
        await asyncio.to_thread(self._stop)

    async def ctl(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            SCRIPTS / "rabbitmqctl",
            "--quiet",
            *arguments,
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            pytest.fail(f"rabbitmqctl {' '.join(arguments)} failed: {output.decode(errors='replace')}")
        return output.decode()


@contextmanager
def any_broker(folder: Path) -> Iterator[Broker]:
    """The first broker that can be had; raises `NoBroker` when there is none. `folder` need not exist."""
    if url := os.environ.get("WARREN_TEST_AMQP_URL"):
        yield Broker(url)
    elif docker_answers():
        with container() as broker:
            yield broker
    elif (SCRIPTS / "rabbitmq-server").exists() and shutil.which("epmd"):
        with PrivateNode(folder).running() as node:
            yield node
    else:
        raise NoBroker("no RabbitMQ for the tests: install rabbitmq-server, start Docker, or set WARREN_TEST_AMQP_URL")


def docker_answers() -> bool:
    """Whether a Docker engine can be reached, found out within seconds (its Python library leaks a socket if not)."""
    try:
        return subprocess.run(["docker", "version"], capture_output=True, timeout=5, check=False).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@contextmanager
def container() -> Iterator[Broker]:
    """A broker in a container. (`RabbitMqContainer` would wait through a decorator that is deprecated and warns.)"""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow, and mostly not needed

    with DockerContainer(IMAGE).with_exposed_ports(5672) as running:
        host, port = running.get_container_host_ip(), int(running.get_exposed_port(5672))
        await_greeting(host, port)
        yield Broker(f"amqp://guest:guest@{host}:{port}/")


def await_greeting(host: str, port: int, check_alive: Callable[[], None] = lambda: None) -> None:
    """Return once a broker speaks AMQP at that address. Raises `NoBroker` after a minute."""
    deadline = time.monotonic() + BOOT_LIMIT_S
    while not greets(host, port):
        check_alive()
        if time.monotonic() > deadline:
            raise NoBroker(f"no broker spoke AMQP at {host}:{port} within {BOOT_LIMIT_S:g} s")
        time.sleep(0.05)


def greets(host: str, port: int) -> bool:
    """Whether a broker answers there just now."""
    with suppress(OSError), socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(PROTOCOL_HEADER)
        return connection.recv(1) == METHOD_FRAME
    return False


def free_ports(count: int) -> list[int]:
    """That many different ports of loopback that nobody uses just now.

    They are not of those that the system gives to outgoing connections: one of these could take a port meanwhile.
    """
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            port = FIRST_PORT + secrets.randbelow(PORTS)
            with suppress(OSError):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
                ports.append(port)
        return ports

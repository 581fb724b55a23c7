"""The command line: every command with its arguments, options and help, and nothing of what it does.

A command's own module is imported when it runs, so that `--help`, completion and wrong usage are answered at once: the
bus takes a while to import, and the sandbox may not even be installed.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from .dead import dead
from .exit_codes import MEANINGS
from .failures import WrongUsage, report
from .fleet import FLEET_PANEL, fleet
from .options import (
    DEFAULT_PREFIX,
    DEFAULT_TIMEOUT_S,
    AsJson,
    AuditSinks,
    Broker,
    BuildTarget,
    Data,
    HostFunctions,
    Log,
    LogLevel,
    NeededBroker,
    NeededPolicy,
    Plugins,
    PolicyFile,
    Prefix,
    Project,
    Record,
    Secrets,
    Timeout,
    names_in,
)
from .plugins import plugins
from .rollout import rollout

DEFAULT_BROKER: Final = "amqp://localhost"
DEFAULT_HEALTH_HOST: Final = "127.0.0.1"
KIT_PANEL: Final = "Writing a plugin"


class _Commands(TyperGroup):
    """Ends with the exit code that a command returns, or with one line on stderr about what went wrong."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **options | {"standalone_mode": False})
        except Exception as error:  # noqa: BLE001 - every error is reported, and those not foreseen as defects
            code = report(error)
        sys.exit(code)


app = typer.Typer(
    cls=_Commands,
    name="warren",
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Sandboxed WebAssembly plugins as workers on RabbitMQ.",
    epilog="\n".join(
        [
            "Exit codes:",
            *(f"{code.value:>5}  {meaning}" for code, meaning in MEANINGS.items()),
            "NO_COLOR=1 leaves out the colours; WARREN_DEBUG=1 shows where an error came from.",
        ]
    ),
)


app.add_typer(fleet)
app.add_typer(rollout, name="rollout", rich_help_panel=FLEET_PANEL)
app.add_typer(dead, name="dead")
app.add_typer(plugins, name="plugins")


def main() -> None:
    """The command `warren`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode gets escapes, not a traceback
    app()


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's calling convention
    if wanted:
        typer.echo(f"warren {version('warren')}")
        raise typer.Exit


@app.callback()
def _warren(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Sandboxed WebAssembly plugins as workers on RabbitMQ."""


@app.command()
def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILES]...", help="Text files; Warren's own documents by default.")
    ] = None,
    *,
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> int:
    """Run the sample plugins over some documents, with no broker at all, and show results and a trace."""
    from .demo import run

    return run(files or [], policy, as_json=as_json)


@app.command()
def worker(
    *,
    plugins: Plugins,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    broker: NeededBroker = DEFAULT_BROKER,
    processes: Annotated[
        int, typer.Option(envvar="WARREN_PROCESSES", metavar="N", min=1, help="Processes; each uses one core.")
    ] = 1,
    prefix: Prefix = DEFAULT_PREFIX,
    prefetch: Annotated[
        int,
        typer.Option(
            envvar="WARREN_PREFETCH", metavar="N", min=1, max=65535, help="Runs at once, per plugin and process."
        ),
    ] = 100,
    grace_s: Annotated[
        float,
        typer.Option(envvar="WARREN_GRACE_S", metavar="S", min=0, help="Seconds for runs to end, once told to stop."),
    ] = 30.0,
    delivery_limit: Annotated[
        int,
        typer.Option(
            envvar="WARREN_DELIVERY_LIMIT",
            metavar="N",
            min=1,
            help="Times a message may take its worker down, before it is dead-lettered. Not below the number of "
            "processes that serve it.",
        ),
    ] = 20,
    max_request_bytes: Annotated[
        int, typer.Option(envvar="WARREN_MAX_REQUEST_BYTES", metavar="N", min=1, help="Longer requests are rejected.")
    ] = 1 << 20,
    hop_limit: Annotated[
        int,
        typer.Option(envvar="WARREN_HOP_LIMIT", metavar="N", min=1, help="Plugins that one message may pass through."),
    ] = 16,
    max_plugins: Annotated[
        int, typer.Option(envvar="WARREN_MAX_PLUGINS", metavar="N", min=1, help="Plugins that are loaded at most.")
    ] = 100,
    hot_reload: Annotated[
        bool,
        typer.Option(
            "--hot-reload/--no-hot-reload",
            envvar="WARREN_HOT_RELOAD",
            help="Follow the folder: plugins that come, change or go while the worker serves.",
        ),
    ] = False,
    dedup_window_s: Annotated[
        float,
        typer.Option(
            "--dedup-window",
            envvar="WARREN_DEDUP_WINDOW_S",
            metavar="S",
            min=0,
            help="Seconds in which a request with the id of one that was answered is dropped; 0 for never.",
        ),
    ] = 0.0,
    orders: Annotated[
        bool,
        typer.Option(
            "--orders/--no-orders",
            envvar="WARREN_ORDERS",
            help="Obey orders that come over the broker: reload, unload, drain. Questions are answered in any case.",
        ),
    ] = True,
    host_functions: HostFunctions = "",
    audit: AuditSinks = "logs",
    foreign_replies: Annotated[
        bool,
        typer.Option(
            "--foreign-replies",
            envvar="WARREN_FOREIGN_REPLIES",
            help="Send results to whatever queue a request names, also where its name does not begin with the prefix.",
        ),
    ] = False,
    record: Record = "dead-letters",
    health_host: Annotated[
        str, typer.Option(envvar="WARREN_HEALTH_HOST", metavar="HOST", help="The address to answer probes at.")
    ] = DEFAULT_HEALTH_HOST,
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar="WARREN_HEALTH_PORT",
            metavar="PORT",
            min=0,
            max=65535,
            help="Answer /live, /ready, /startup and /metrics there, over HTTP; 0 takes a free port.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="WARREN_DATA",
            metavar="DIR",
            file_okay=False,
            help="Where plugins that may use files keep them, each in a directory of its own.",
            show_default="~/.local/state/warren",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="WARREN_STORAGE",
            metavar="URL",
            help="Where plugins store what they keep: sqlite:///PATH on this machine, which is the default, in the "
            "user's own state; or redis://HOST for several.",
        ),
    ] = None,
    log_level: Log = LogLevel.INFO,
    as_json: Annotated[bool, typer.Option("--json", help="Log lines (on stderr) as JSON.")] = False,
) -> int:
    """Serve the plugins in a folder until SIGTERM or SIGINT; then finish what has begun, and end.

    A second signal ends it at once.
    """
    from .worker import run

    return run(
        log_level,
        as_json=as_json,
        plugins=plugins,
        policy=policy,
        secrets=tuple(secrets or ()),
        broker=broker,
        prefix=prefix,
        prefetch=prefetch,
        processes=processes,
        grace_s=grace_s,
        delivery_limit=delivery_limit,
        max_request_bytes=max_request_bytes,
        hop_limit=hop_limit,
        max_plugins=max_plugins,
        hot_reload=hot_reload,
        dedup_window_s=dedup_window_s,
        orders=orders,
        host_functions=names_in(host_functions),
        audit=frozenset(names_in(audit)),
        foreign_replies=foreign_replies,
        record=frozenset(names_in(record)),
        health_host=health_host,
        health_port=health_port,
        data=data,
        storage=storage,
    )


@app.command()
def call(
    context: typer.Context,
    plugin: Annotated[str, typer.Argument(metavar="PLUGIN", help="The plugin's name.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="What it is to do.")],
    data: Data = None,
    *,
    plugins: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="Run a plugin of this folder, with no broker."),
    ] = None,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    broker: Broker = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    version_req: Annotated[
        str | None, typer.Option(metavar="REQ", help="The versions that will do: '^1.2', say.")
    ] = None,
    prefix: Prefix = DEFAULT_PREFIX,
    host_functions: HostFunctions = "",
    trace: Annotated[bool, typer.Option("--trace", help="Show the trace as a waterfall.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write a recording of the run there, for warren replay; a worker elsewhere has to give it: see its "
            "--record.",
        ),
    ] = None,
    log_level: Log = LogLevel.WARNING,
    as_json: AsJson = False,
) -> int:
    """Have a plugin do something, and print its result.

    With --plugins it runs here; with --broker, or WARREN_BROKER, in whichever worker serves it.
    """
    from .call import Call, destination, run

    if plugins is not None and _is_from_environment(context, "broker"):
        broker = None
    where, functions = destination(plugins, broker), names_in(host_functions)
    if plugins is None:
        if policy is not None and not _is_from_environment(context, "policy"):
            raise WrongUsage("--policy is for a plugin that runs here, and the worker has its own", "give --plugins")
        policy = None
    request = Call(plugin, action, data, where, timeout, version_req, prefix, functions, policy, tuple(secrets or ()))
    return run(request, log_level, trace=trace, as_json=as_json, record=record)


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A recording.")],
    *,
    plugins: Plugins,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Replay it in this version, not in the recorded one.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What a variable of the plugin's holds, which no recording tells."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="A copy of the workers' --data, for a plugin that uses files. It is read and written.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run a recorded run again, with no broker and nothing around it, and show the first thing that is otherwise.

    Recordings are made by warren call --record, and found in dead letters: warren dead show ID --recording FILE. What
    the plugin asks for is answered from the recording. Exit code 0: it went as recorded; 1: it differs; 3: as recorded
    up to where the recording was cut short.
    """
    from .replay import run

    return run(recording, plugins, version, env or [], data, as_json=as_json)


@app.command("run")
def run_here(
    plugin: Annotated[
        str, typer.Argument(metavar="PLUGIN|FILE", help="A plugin's name, or its .wasm or .toml.", show_default=False)
    ],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="What it is to do.")],
    data: Data = None,
    *,
    plugins: Annotated[
        Path | None,
        typer.Option(
            envvar="WARREN_PLUGINS",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="The folder that it is in, and what it calls.",
        ),
    ] = None,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    version_req: Annotated[
        str | None, typer.Option(metavar="REQ", help="The versions that will do: '^1.2', say.")
    ] = None,
    host_functions: HostFunctions = "",
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where it broke, its host calls, and what it would send.")
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Write there which functions used the fuel, as folded stacks."
        ),
    ] = None,
    flame: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Draw that, as a flame graph in SVG.")
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="If it breaks, write its memory there, and FILE.json with it."
        ),
    ] = None,
    log_level: Log = LogLevel.WARNING,
    as_json: AsJson = False,
) -> int:
    """Run a plugin once, in the sandbox, right here: for its author. Nothing that it sends is delivered."""
    from .run import Run, run

    functions, folders = names_in(host_functions), tuple(secrets or ())
    asked = Run(plugin, action, data, plugins, version_req, policy, folders, functions, debug, profile, flame, dump)
    return run(asked, log_level, as_json=as_json)


@app.command()
def publish(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The event's topic: words between dots.")],
    data: Data = None,
    *,
    broker: NeededBroker,
    to: Annotated[str | None, typer.Option(metavar="PLUGIN", help="Send it to this plugin alone.")] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Publish an event for whoever subscribes to its topic, or send a message to one plugin."""
    from .publish import run

    return run(topic, data, broker=broker, to=to, timeout_s=timeout, prefix=prefix, as_json=as_json)


@app.command()
def listen(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Topics; * stands for one word, # for any number.")],
    *,
    broker: NeededBroker,
    results: Annotated[
        bool, typer.Option("--results", help="Hear results instead, by <plugin>.<action>.<outcome>.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Hear instead what plugins used of their powers, and were refused, by <plugin>.<power>.<severity>; "
            "workers tell it with --audit exchange.",
        ),
    ] = False,
    count: Annotated[int | None, typer.Option(metavar="N", min=1, help="End after so many.")] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0.001, help="End after so many seconds.")] = None,
    background: Annotated[
        bool,
        typer.Option(
            "--background", help="Return once it listens; a process of its own goes on, and prints where this would."
        ),
    ] = False,
    prefix: Prefix = DEFAULT_PREFIX,
    as_json: AsJson = False,
) -> int:
    """Print events as they come, or results, or the audit, until Ctrl-C."""
    from .listen import Heard, Listening, run

    if results and audit:
        raise WrongUsage("--results and --audit are two things to hear; give one of them", "try: warren listen --help")
    what = Heard.RESULTS if results else Heard.AUDIT if audit else Heard.EVENTS
    return run(Listening(pattern, what, broker, count, timeout, prefix), as_json=as_json, background=background)


@app.command()
def check(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, help="Plugins' files, or folders of them.")
    ],
    *,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD",
            exists=True,
            help="The version in use, a plugin's file or a folder of them: what may its callers lose?",
        ),
    ] = None,
    policy: PolicyFile = None,
    as_json: AsJson = False,
) -> int:
    """Check manifests and modules without running them, and that no version breaks the callers of the one before it.

    A version may break them when its major number has risen: of 0.x the minor one, of 0.0.x the patch.
    """
    from .check import run

    return run(paths, against, policy, as_json=as_json)


@app.command(rich_help_panel=KIT_PANEL)
def new(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The plugin's name.")] = None,
    *,
    lang: Annotated[str | None, typer.Option(metavar="LANGUAGE", help="What it is to be written in.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where to make it.", show_default="NAME")
    ] = None,
) -> int:
    """Make a project of a plugin that builds. Without --lang, list the languages and whether their tools are here."""
    from .new import run

    return run(name, lang, directory)


@app.command(rich_help_panel=KIT_PANEL)
def build(
    project: Project = Path(),
    *,
    plugins: BuildTarget = None,
    debug: Annotated[
        bool, typer.Option("--debug/--release", help="With line numbers for backtraces, or small and fast.")
    ] = False,
    policy: PolicyFile = None,
) -> int:
    """Build a plugin with its language's own tools, check it, and put module and manifest side by side.

    The project's toolchain.toml says which commands are run; they run as you, and are not confined.
    """
    from .build import run

    return run(project, plugins, policy, debug=debug)


@app.command("test", rich_help_panel=KIT_PANEL)
def try_cases(
    project: Project = Path(),
    *,
    plugins: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Where the plugins are.",
            show_default="a project's build/, else DIR",
        ),
    ] = None,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    host_functions: HostFunctions = "",
    only: Annotated[str | None, typer.Option("-k", metavar="TEXT", help="Only cases with this in their names.")] = None,
    as_json: AsJson = False,
) -> int:
    """Run a plugin's cases, *.case.toml, in the sandbox, each with a storage of its own: plugins/TESTING.md."""
    from .test import run

    return run(
        project,
        plugins,
        policy,
        only,
        secrets=tuple(secrets or ()),
        host_functions=names_in(host_functions),
        as_json=as_json,
    )


@app.command(rich_help_panel=KIT_PANEL)
def dev(
    project: Project = Path(),
    *,
    plugins: BuildTarget = None,
    policy: PolicyFile = None,
    secrets: Secrets = None,
    host_functions: HostFunctions = "",
    log_level: Log = LogLevel.INFO,
) -> int:
    """Build a plugin and run it here, and again after each change, with its cases and what you type.

    A line on stdin is an action and its data, `greet {"name": "Ada"}`, and is asked again after each build. A build
    that fails leaves the last good one running. Cases are tried after each that does not, and when they change.
    """
    from .dev import Session, run

    session = Session(project, plugins, policy, tuple(secrets or ()), names_in(host_functions))
    return run(session, log_level)


@app.command(rich_help_panel=KIT_PANEL)
def schema() -> int:
    """Print the manifest's JSON Schema, for editors."""
    from .schema import run

    return run()


@app.command()
def approve(
    plugin: Annotated[str, typer.Argument(metavar="PLUGIN", help="The plugin's name.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version that may have what it would get.")],
    *,
    plugins: Plugins,
    policy: NeededPolicy,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    as_json: AsJson = False,
) -> int:
    """Show what an upgrade would get that its predecessor has not, and let it have that.

    It holds for the files as they are now. Workers keep the old version until then.
    """
    from .approve import run

    return run(plugins, policy, plugin, version, yes=yes, as_json=as_json)


def _is_from_environment(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "ENVIRONMENT"

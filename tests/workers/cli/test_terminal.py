"""What depends on where the output goes: colours, and readers who leave."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.guests import write_plugin
from tests.workers.cli.commands import COMMAND, EXAMPLES, LIMIT_S, warren_process
from warren.workers.cli.exit_codes import ExitCode

#: The escape sequences that choose a colour.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38|9[0-7])[;m]")


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the command shows on a terminal."""
    ours, theirs = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=variables | {"TERM": "xterm-256color"} | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # EIO is how a terminal's end is told
        while chunk := terminal.read(4096):
            shown += chunk
    process.wait(LIMIT_S)
    return shown.decode()


def test_a_terminal_gets_colours() -> None:
    assert COLOUR.search(on_a_terminal("check", str(EXAMPLES)))


def test_no_color_is_respected() -> None:
    shown = on_a_terminal("check", str(EXAMPLES), NO_COLOR="1")
    assert "text_processor" in shown
    assert not COLOUR.search(shown)


def test_errors_are_red_on_a_terminal_and_plain_with_no_color() -> None:
    assert COLOUR.search(on_a_terminal("nope"))
    assert not COLOUR.search(on_a_terminal("nope", NO_COLOR="1"))


def test_what_is_no_terminal_gets_no_escape_sequences() -> None:
    checked = warren_process("check", EXAMPLES)
    assert checked.code == ExitCode.OK
    assert "\x1b" not in checked.out + checked.err + warren_process("nope").err


def test_json_has_no_colours_even_on_a_terminal(tmp_path: Path) -> None:
    write_plugin(tmp_path, "good")
    assert "\x1b" not in on_a_terminal("call", "good", "go", "--plugins", str(tmp_path), "--json")


def test_a_reader_who_has_left_is_no_error_worth_words() -> None:
    for options in ([], ["--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        process = subprocess.Popen([*COMMAND, "check", EXAMPLES, *options], stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        _, said = process.communicate(timeout=LIMIT_S)
        assert said == b""
        assert process.returncode == ExitCode.FAILED

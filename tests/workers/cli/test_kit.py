"""`warren new`, `build`, `dev` and `schema`, at the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.workers.cli.commands import COMMAND, warren, warren_process
from tests.workers.kit.conftest import MakeProject, make_project, module
from warren.manifests.plugin_schema import plugin_schema
from warren.workers.kit.languages import languages

__all__ = ["make_project"]

#: Far above what a build takes here.
LIMIT_S = 60.0


def test_new_without_a_language_lists_them_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    listed = warren("new")
    assert listed.code == 0
    for one in languages():
        assert f"\n{one.name:<16}" in f"\n{listed.out}"
    assert "warren new NAME --lang LANGUAGE" in listed.out


def test_new_says_what_to_do_next(tmp_path: Path) -> None:
    made = warren("new", "hello", "--lang", "c", "--dir", tmp_path / "here")
    assert made.code == 0
    lines = [line.strip() for line in made.out.replace(str(tmp_path / "here"), "D").splitlines()]
    commands = [line for line in lines if line.startswith("warren ")]  # before them, how to install what is missing
    assert commands[:2] == ["warren build D", "warren test D"]
    assert 'warren call hello greet \'{"name": "Ada"}\' --plugins D/build' in commands


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "Hello", "--lang", "c"), "'Hello' cannot name a plugin"),
        (("new", "hello", "--lang", "cobol"), "there is no language 'cobol'"),
        (("new", "--lang", "c"), "what is the plugin's name?"),
    ],
)
def test_wrong_usage_of_new_is_told(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = warren(*arguments)
    assert ended.code == 2
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_build_prints_where_it_is_and_its_size(make_project: MakeProject) -> None:
    project = make_project()
    ended = warren_process("build", project)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"built hello 0.1.0 {project}/build/hello.wasm ")
    called = warren_process("call", "hello", "greet", "--plugins", project / "build", "--json")
    assert called.json["response"]["result"] == "hello"


def test_the_toolchains_errors_are_shown_as_they_are(make_project: MakeProject) -> None:
    project = make_project()
    (project / "copy.py").write_text('import sys\nif len(sys.argv) == 3: sys.exit("source.c:1: error: no")')
    ended = warren_process("build", project)
    assert ended.code == 1
    assert "source.c:1: error: no\n" in ended.err


def test_a_folder_that_is_no_project_is_told(tmp_path: Path) -> None:
    ended = warren("build", tmp_path)
    assert ended.code == 1
    assert f"{tmp_path}/plugin.toml: there is no such file" in ended.err


def test_the_schema_is_printed() -> None:
    assert json.loads(warren("schema").out) == plugin_schema()


class Dev:
    """`warren dev` in a process of its own; `expect` reads on until a line has a text in it."""

    def __init__(self, project: Path, said: Path) -> None:
        self.written: IO[str] = said.open("w")
        self.said = said
        self.read = 0
        self.process = subprocess.Popen(
            [*COMMAND, "dev", str(project)],
            stdin=subprocess.PIPE,
            stdout=self.written,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def expect(self, text: str) -> None:
        until = time.monotonic() + LIMIT_S
        while (at := self.said.read_text().find(text, self.read)) < 0:
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < until, f"{text!r} is not in what came after {self.read}: {self.said.read_text()}"
            time.sleep(0.02)
        self.read = at + len(text)


@pytest.fixture
def dev(make_project: MakeProject, tmp_path: Path) -> Iterator[Dev]:
    started = Dev(make_project(), tmp_path / "said.txt")
    yield started
    started.process.kill()
    started.process.communicate()
    started.written.close()


def test_dev_builds_anew_asks_again_and_keeps_the_last_good_build(dev: Dev, make_project: MakeProject) -> None:
    dev.expect("waiting for changes")
    dev.say('greet {"name": "Ada"}')
    dev.expect('→ greet {"name":"Ada"}')
    dev.expect("ok ")
    dev.expect('"hello"')

    project = make_project(wasm=module('{"success":true,"result":"changed","error":null}'))
    dev.expect("built hello")
    dev.expect('→ greet {"name":"Ada"}')
    dev.expect('"changed"')
    dev.expect("waiting for changes")

    (project / "source.wasm").write_bytes(b"\0asm\1\0\0\0")
    dev.expect("error: ")
    dev.expect("the last good build is still running")
    dev.say("greet 1")
    dev.expect("→ greet 1")
    dev.expect('"changed"')

    dev.say("greet {")
    dev.expect("the data is not JSON")
    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(LIMIT_S) == 0
    assert "Traceback" not in dev.said.read_text()


def test_dev_tries_the_cases_after_each_good_build_and_when_they_change(dev: Dev, make_project: MakeProject) -> None:
    dev.expect("waiting for changes")
    project = make_project()
    cases = project / "hello.case.toml"

    def write_case(result: str) -> None:
        cases.write_text(f'[[cases]]\nname = "greets"\naction = "greet"\nexpect = {{ result = "{result}" }}\n')

    write_case("hello")
    dev.expect("1 passed")
    dev.expect("waiting for changes")

    before = dev.read
    write_case("good day")
    dev.expect("failed  hello.case.toml: greets")
    dev.expect('-"good day"')
    dev.expect('+"hello"')
    dev.expect("0 passed, 1 failed")
    dev.expect("waiting for changes")
    assert "built" not in dev.said.read_text()[before:]

    make_project(wasm=module('{"success":true,"result":"good day","error":null}'))
    dev.expect("built hello")
    dev.expect("1 passed")
    dev.expect("waiting for changes")

    cases.write_text("[[cases]]\nnme = 1\n")
    dev.expect("hello.case.toml:2: unknown key 'nme'")
    dev.expect("waiting for changes")

    before = dev.read
    (project / "source.wasm").write_bytes(b"\0asm\1\0\0\0")
    dev.expect("the last good build is still running")
    dev.expect("waiting for changes")
    assert "hello.case.toml" not in dev.said.read_text()[before:]

"""Each language's five minutes, as its README prints them, and what the plugin that comes out answers in a worker.

`make sdk-test LANG=zig` runs those of one language. Tools that are missing skip it, with what installs them.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from warren.bus import Result
from warren.workers.embedded import embedded
from warren.workers.kit.languages import Language, languages

pytestmark = [pytest.mark.toolchain, pytest.mark.timeout(900)]

#: What a README has for one who has nothing yet; what it installs is here, or the test is skipped.
INSTALLS: Final = ("pip ", "apt-get ", "rustup ")
RUN: Final = ("warren ", "npm ")

ONLY: Final = os.environ.get("SDK_LANGUAGE")
LANGUAGES: Final = [one for one in languages() if ONLY in (None, "", one.name)]


@dataclass(frozen=True)
class Session:
    """The project of one language after its README's commands, and what they printed."""

    project: Path
    printed: str


def commands(page: str) -> list[str]:
    """The indented lines that are commands, a line ended by a backslash with those after it."""
    lines = re.findall(r"^    (.*)$", page.replace("\\\n", ""), re.MULTILINE)
    return [line for line in lines if line.startswith(RUN)]


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1"}
    return subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)  # noqa: S602


@pytest.fixture(scope="module", params=LANGUAGES, ids=lambda one: one.name)
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    one: Language = request.param
    folder = tmp_path_factory.mktemp(one.name)
    printed = ""
    for line in commands((one.folder / "README.md").read_text()):
        ran = shell(line, folder)
        if line.startswith("warren build") and "is missing, which builds" in ran.stderr:
            pytest.skip(ran.stderr.strip())
        if line.startswith("npm ") and ran.returncode != 0:
            pytest.skip(f"{line}: {ran.stderr.strip()[-200:]}")
        assert ran.returncode == 0, f"{line}\n{ran.stdout}{ran.stderr}"
        assert "could not make it smaller" not in ran.stderr
        printed += ran.stdout
    return Session(folder / "hello", printed)


async def ask(session: Session, action: str, data: Any) -> Result:
    async with embedded(session.project / "build") as here:
        return await here.client.call("hello", action, data)


def test_the_session_ends_with_a_greeting(session: Session) -> None:
    assert '"greeting": "Hello, Ada!"' in session.printed


async def test_the_plugin_answers_in_a_worker(session: Session) -> None:
    answered = await ask(session, "greet", {"name": 'Ada "é 🐇" \\'})
    assert answered.result == {"greeting": 'Hello, Ada "é 🐇" \\!'}
    assert (await ask(session, "count", {"text": "one two\n three"})).result == {"words": 3}


async def test_the_plugin_says_why_it_cannot(session: Session) -> None:
    failed = await ask(session, "greet", {"name": ""})
    assert (failed.outcome, failed.error) == ("failed", "there is nobody to greet")


async def test_the_plugin_hears_an_event_and_publishes_another(session: Session) -> None:
    async with embedded(session.project / "build") as here, here.client.events("greetings") as greetings:
        await here.client.publish("people.new", {"name": "Ada"})
        async with asyncio.timeout(30):
            assert (await anext(greetings)).payload == {"greeting": "Hello, Ada!"}


def test_a_debug_build_and_one_after_a_mistake(session: Session) -> None:
    assert shell("warren build hello --debug", session.project.parent).returncode == 0
    good = (session.project / "build" / "hello.wasm").read_bytes()
    source = next(path for path in session.project.glob("**/*") if path.name in SOURCES and "warren" not in path.parts)
    source.write_text(source.read_text() + "\n)\n")
    broken = shell("warren build hello", session.project.parent)
    assert broken.returncode == 1
    assert source.name in broken.stdout + broken.stderr, "the compiler's own words"
    assert (session.project / "build" / "hello.wasm").read_bytes() == good


#: What an author writes into, in each language.
SOURCES: Final = {"plugin.c", "plugin.zig", "plugin.ts", "plugin.go", "lib.rs", "plugin.py", "plugin.js"}

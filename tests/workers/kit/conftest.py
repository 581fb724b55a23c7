"""Projects whose compiler is there wherever the tests are: this Python, which copies a module that is built already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.guests import wat

MANIFEST: Final = '[plugin]\nname = "hello"\nversion = "0.1.0"\n[actions.greet]\n'

TOOLCHAIN: Final = """
language = "Copying"
about = "copies a module"

[[tools]]
name = "copy"
at = [{ run = ["no-such-program"] }, { run = ["{python}", "copy.py"] }]
install = ["cp -a"]

[release]
commands = [["{copy}", "source.wasm", "{module}"]]

[debug]
commands = [["{copy}", "source.wasm", "{module}"]]
"""

COPY: Final = """
import pathlib, shutil, sys
if "broken" in pathlib.Path("source.txt").read_text():
    sys.exit("source.txt:1: error: broken")
if len(sys.argv) == 3:
    shutil.copy(*sys.argv[1:])
"""

MakeProject = Callable[..., Path]


def module(answer: str = '{"success":true,"result":"hello","error":null}') -> bytes:
    """A plugin that always gives this answer."""
    data = answer.encode()
    text = "".join(f"\\{byte:02x}" for byte in data)
    body = f"(call $pack (i32.const 2048) (i32.const {len(data)}))"
    return wat(body, more=f'(data (i32.const 2048) "{text}")')


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    def make(*, manifest: str = MANIFEST, toolchain: str = TOOLCHAIN, wasm: bytes | None = None) -> Path:
        project = tmp_path / "project"
        project.mkdir(exist_ok=True)
        (project / "plugin.toml").write_text(manifest)
        (project / "toolchain.toml").write_text(toolchain)
        (project / "copy.py").write_text(COPY)
        (project / "source.txt").write_text("sound")
        (project / "source.wasm").write_bytes(module() if wasm is None else wasm)
        return project

    return make

"""Attacks on the filesystem that need a second hand: a directory that is swapped while guests walk through it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.plugins.file_guests import make_plugin, open_file, path_call, scripted, write
from warren.plugins.engine import Engine
from warren.plugins.wasi_descriptors import open_here

pytestmark = pytest.mark.hostile

ROUNDS = 60


def swapping(root: Path, outside: Path, stop: threading.Event) -> None:
    """Have `both/dir` be a directory and a link out of the root in turns, as fast as it goes."""
    directory, link, aside = (root / "both" / name for name in ("dir", "link", "aside"))
    link.symlink_to(outside)
    while not stop.is_set():
        directory.rename(aside)
        link.rename(directory)
        directory.rename(link)
        aside.rename(directory)


async def test_a_directory_swapped_for_a_link_never_leads_out(engine: Engine, tmp_path: Path) -> None:
    plugin = await make_plugin(engine, tmp_path, ("both/**",), ("both/**",), max_fuel=50_000_000, timeout_s=20)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret", encoding="utf-8")
    (plugin.root / "both" / "dir").mkdir(parents=True)
    (plugin.root / "both" / "dir" / "file").write_text("mine", encoding="utf-8")
    attack = [
        open_file("both/dir/file", write=True, truncate=True),
        write(4, b"overwritten"),
        ("fd_close", 4),
        open_file("both/dir/new", create=True, write=True),
        ("fd_close", 4),
        path_call("path_create_directory", "both/dir/sub"),
        path_call("path_unlink_file", "both/dir/new"),
        path_call("path_remove_directory", "both/dir/sub"),
    ]
    sandbox = await plugin.sandbox(scripted(attack * 20))
    stop = threading.Event()
    thread = threading.Thread(target=swapping, args=(plugin.root, outside, stop))
    thread.start()
    answers: set[bytes] = set()
    try:
        for _ in range(ROUNDS):
            outcome = await sandbox.run(b"{}")
            assert outcome.kind == "ok", outcome.error
            answers.update(outcome.response.split(b'"')[-2].split())
            await asyncio.sleep(0)
    finally:
        stop.set()
        thread.join()
    assert [one.name for one in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text(encoding="utf-8") == "secret"
    assert b"00" in answers
    assert answers - {b"00"}, "the swap was never met"
    assert not open_here

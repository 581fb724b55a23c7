"""The plugin of the fault tests. What it does, its action says by its first letter.

work   runs for a millisecond or two, and answers
die    asks the host for `die`, and works then: a doomed worker ends there, another knows no such function
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.guests import ask, wat, write_plugin

DIGGER: Final = "digger"

#: The host function that ends its worker.
DIE: Final = "die"

#: A request begins with `{"action":"`.
_ACTION_AT: Final = 11

#: Some 12 million units of fuel.
_TURNS: Final = 2_000_000


def write_digger(folder: Path) -> Path:
    """Write it into `folder`; the path of its `.wasm`."""
    die, more = ask(DIE)
    body = f"""
    (local $action i32) (local $turns i32)
    (local.set $action (i32.load8_u offset={_ACTION_AT} (local.get $at)))
    (local.set $turns (i32.const {_TURNS}))
    (if (i32.eq (local.get $action) (i32.const {ord("d")})) (then (drop {die})))
    (loop $again
      (local.set $turns (i32.sub (local.get $turns) (i32.const 1)))
      (br_if $again (local.get $turns)))
    (call $answer)"""
    return write_plugin(folder, DIGGER, wat(body, more=more), '[capabilities]\nrequired = ["compute"]')

"""When a pair that changes is believed, in a time of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from warren.plugins.files import FileStamp, PluginFiles, Stamp
from warren.plugins.settling import Settling

A: Final = PluginFiles.beside(Path("a.wasm"))
B: Final = PluginFiles.beside(Path("b.wasm"))


def file(size: int) -> FileStamp:
    return (1, 2, size, 3, 4)


def whole(size: int = 1) -> Stamp:
    return (file(size), file(1))


GONE: Final[Stamp] = (None, None)


def settling() -> Settling:
    return Settling(quiet_s=1.0, patience_s=10.0)


def test_a_whole_pair_has_settled_when_it_has_not_changed_for_a_while() -> None:
    pairs = settling()
    pairs.note({A: whole()}, 100.0)
    assert pairs.unsettled(100.0, []) == {A: 101.0}
    pairs.note({A: whole()}, 100.5)
    assert pairs.unsettled(100.5, []) == {A: 101.0}, "looking at it is no change"
    assert pairs.unsettled(101.0, []) == {}


def test_a_file_that_grows_is_waited_for_to_the_last_byte() -> None:
    pairs = settling()
    for second in range(30):
        pairs.note({A: whole(second)}, second * 0.9)
        assert A in pairs.unsettled(second * 0.9, [])
    assert pairs.unsettled(29 * 0.9 + 1.0, []) == {}


def test_half_a_pair_may_become_whole() -> None:
    for half in ((file(1), None), (None, file(1))):
        pairs = settling()
        pairs.note({A: half}, 0.0)
        assert pairs.unsettled(9.9, [A]) == {A: 10.0}
        pairs.note({A: whole()}, 9.9)
        assert pairs.unsettled(9.9, [A]) == {A: 10.9}
        assert pairs.unsettled(10.9, [A]) == {}


def test_a_pair_that_is_gone_is_believed_soon_unless_it_may_be_one_that_arrives() -> None:
    pairs = settling()
    pairs.note({A: GONE}, 0.0)
    assert pairs.unsettled(1.0, [A]) == {}
    pairs = settling()
    pairs.note({A: GONE, B: whole()}, 0.0)
    pairs.note({A: GONE, B: whole(2)}, 0.9)
    assert pairs.unsettled(1.0, [A]) == {A: 10.0, B: 1.9}
    assert pairs.unsettled(1.9, [A]) == {}, "it has arrived, and both are judged together"
    assert pairs.unsettled(1.0, [A, B]) == {B: 1.9}, "what is loaded already does not arrive"
    assert pairs.postpone(B, 2.0)
    assert pairs.unsettled(2.0, [A]) == {A: 10.0, B: 10.9}, "it could not be loaded, and may yet be what A was"


def test_what_could_not_be_loaded_is_given_time_once() -> None:
    pairs = settling()
    pairs.note({A: whole()}, 0.0)
    assert pairs.unsettled(1.0, []) == {}
    assert pairs.postpone(A, 1.5), "a copy may have paused"
    assert pairs.unsettled(2.0, []) == {A: 10.0}
    assert pairs.unsettled(10.0, []) == {}
    assert not pairs.postpone(A, 10.0), "now it is as bad as it looks"
    pairs.note({A: whole(2)}, 11.0)
    assert pairs.unsettled(11.5, []) == {A: 12.0}, "a new one is a new one"
    pairs.note({}, 12.0)
    assert pairs.postpone(A, 12.0), "it went away in the meantime"
    assert pairs.unsettled(12.0, []) == {}

"""The law of the rewriting: whatever code does, each function that begins has ended, and nothing else costs fuel."""

from __future__ import annotations

from typing import Final

import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from warren.plugins.profile_module import ENTER, EVENT_FUEL, LEAVE, PROFILE_MODULE, with_events

FUEL: Final = 10_000_000
FUNCTIONS: Final = 4

_config = wasmtime.Config()
_config.consume_fuel = True
ENGINE: Final = wasmtime.Engine(_config)

GET: Final = "(local.get $x)"
ODD: Final = f"(i32.and {GET} (i32.const 1))"


def statements(function: int, labels: int, depth: int) -> st.SearchStrategy[str]:
    """Code of `$f<function>`, within so many blocks. It calls later functions only, and branches forwards only."""
    step = st.integers(1, 9).map(lambda n: f"(local.set $x (i32.add {GET} (i32.const {n})))")
    leaving = [st.sampled_from([f"(return {GET})", f"(br {labels} {GET})", f"(drop (br_if {labels} {GET} {ODD}))"])]
    if labels:
        label = st.integers(0, labels - 1)
        leaving.append(label.map(lambda at: f"(br_if {at} {ODD})"))
        leaving.append(st.tuples(label, label).map(lambda pair: f"(br_table {pair[0]} {pair[1]} {GET})"))
    if function + 1 < FUNCTIONS:
        later = st.integers(function + 1, FUNCTIONS - 1)
        leaving.append(later.map(lambda called: f"(local.set $x (call $f{called} {GET}))"))
        leaving.append(later.map(lambda called: f"(local.set $x (call_indirect (type $f) {GET} (i32.const {called})))"))
        leaving.append(later.map(lambda called: f"(return_call $f{called} {GET})"))
        leaving.append(later.map(lambda called: f"(return_call_indirect (type $f) {GET} (i32.const {called}))"))
    leaving.append(st.just(f"(local.set $x (call $host {GET}))"))
    leaving.append(st.just(f"(return_call $host {GET})"))
    choices = [step, *leaving]
    if depth:
        inner = statements(function, labels + 1, depth - 1)
        choices += [
            inner.map(lambda code: f"(block {code})"),
            st.tuples(inner, inner).map(lambda both: f"(if {ODD} (then {both[0]}) (else {both[1]}))"),
        ]
    return st.lists(st.one_of(choices), max_size=4).map(" ".join)


bodies: Final = st.tuples(*(statements(function, 0, 3) for function in range(FUNCTIONS)))


def module(code: tuple[str, ...]) -> bytes:
    functions = "".join(
        f'(func $f{index} (export "f{index}") (type $f) (param $x i32) (result i32) {body} {GET})'
        for index, body in enumerate(code)
    )
    table = f"(table {FUNCTIONS} funcref) (elem (i32.const 0) {' '.join(f'$f{index}' for index in range(FUNCTIONS))})"
    host = '(type $f (func (param i32) (result i32))) (import "h" "host" (func $host (type $f)))'
    return bytes(wasmtime.wat2wasm(f"(module {host} {table} {functions})"))


def run(wasm: bytes, argument: int) -> tuple[int, int, list[tuple[str, int]]]:
    """The result, the fuel, and the events."""
    store = wasmtime.Store(ENGINE)
    store.set_fuel(FUEL)
    events: list[tuple[str, int]] = []
    linker = wasmtime.Linker(ENGINE)
    i32 = wasmtime.ValType.i32()
    linker.define_func("h", "host", wasmtime.FuncType([i32], [i32]), lambda value: value ^ 5)
    for name in (ENTER, LEAVE):
        tell = wasmtime.FuncType([i32], [])
        linker.define_func(PROFILE_MODULE, name, tell, lambda function, name=name: events.append((name, function)))
    function = linker.instantiate(store, wasmtime.Module(ENGINE, wasm)).exports(store)["f0"]
    assert isinstance(function, wasmtime.Func)
    result = function(store, argument)
    return result, FUEL - store.get_fuel(), events


@settings(max_examples=60)
@given(bodies, st.integers(0, 3))
def test_each_function_that_begins_ends_and_nothing_but_the_events_costs_fuel(
    code: tuple[str, ...], argument: int
) -> None:
    plain = module(code)
    result, fuel, _ = run(plain, argument)
    told_result, told_fuel, events = run(with_events(plain).wasm, argument)
    assert told_result == result
    assert told_fuel - EVENT_FUEL * len(events) == fuel
    open_calls: list[int] = []
    for name, function in events:
        if name == ENTER:
            open_calls.append(function)
        else:
            assert open_calls.pop() == function
    assert open_calls == []

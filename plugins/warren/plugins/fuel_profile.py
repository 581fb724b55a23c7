"""Where the fuel of one run went: a tree of calls, each with the fuel that it used itself.

It is told of each begin and end of a function, with the fuel used up to then, so every unit belongs to one call; their
sum is what the run has used. A guest decides how many different stacks there are and how deep they go, so the tree has
bounds, on its depth and on the lengths of all its stacks: a call that finds no room counts as its caller's own.

The text that it gives is that of Brendan Gregg's FlameGraph (https://github.com/brendangregg/FlameGraph), which other
tools read as well: a line for each stack, its functions with semicolons between them, and a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Calls in a stack. What is deeper counts for the last one that is told.
MAX_DEPTH: Final = 256

#: Of all stacks together, each as long as it is deep: 100 MB of text, if all names are as long as they can be.
MAX_TOTAL_DEPTH: Final = 500_000

#: What used the fuel that no function did: wasmtime, when it makes an instance and fills its memory and tables.
OUTSIDE: Final = "(instance)"

#: What wasmtime takes at a function's begin; it is the function's own.
_ENTRY_FUEL: Final = 1


@dataclass(slots=True)
class Call:
    """A function as it was called from one stack: all its calls from there together. `fuel` is what they used alone."""

    function: int
    depth: int
    fuel: int = 0
    times: int = 0
    calls: dict[int, Call] = field(default_factory=dict)

    def total(self) -> int:
        """With all that it called."""
        return sum(call.fuel for _, call in walk(self))


class FuelProfile:
    """The profile of one run. `names` are of the functions by index; the first `imported` of them have no code."""

    def __init__(self, names: Sequence[str], imported: int) -> None:
        self.names = names
        self.root = Call(-1, 0)
        #: Some calls count as their caller's own, for there was no room for more.
        self.is_cut = False
        self._imported = imported
        self._stack: list[Call] = [self.root]
        self._fuel_used = 0
        self._total_depth = 0

    def enter(self, function: int, fuel_used: int) -> None:
        """`function` has been called, when so much fuel had been used."""
        caller = self._stack[-1]
        spent = fuel_used - self._fuel_used
        own = min(spent, _ENTRY_FUEL) if function >= self._imported else 0
        caller.fuel += spent - own
        self._fuel_used = fuel_used
        call = caller.calls.get(function) or self._new(function, caller)
        call.fuel += own
        call.times += call is not caller
        self._stack.append(call)

    def _new(self, function: int, caller: Call) -> Call:
        depth = caller.depth + 1
        if depth > MAX_DEPTH or self._total_depth + depth > MAX_TOTAL_DEPTH:
            self.is_cut = True
            return caller
        self._total_depth += depth
        call = caller.calls[function] = Call(function, depth)
        return call

    def leave(self, fuel_used: int) -> None:
        """The function called last has ended."""
        self._spend(fuel_used)
        if len(self._stack) > 1:
            self._stack.pop()

    def finish(self, fuel_used: int) -> None:
        """The run has ended, most likely within calls: a trap or the end of the fuel leaves them open."""
        self._spend(fuel_used)
        del self._stack[1:]

    def _spend(self, fuel_used: int) -> None:
        self._stack[-1].fuel += fuel_used - self._fuel_used
        self._fuel_used = fuel_used

    @property
    def fuel(self) -> int:
        """What the run has used."""
        return self._fuel_used

    def stacks(self) -> Iterator[tuple[tuple[str, ...], Call]]:
        """Every stack that used fuel in its last function, outermost first: its functions' names, and that one."""
        for path, call in walk(self.root):
            if call.fuel and path:
                yield tuple(self.names[each] for each in path), call
            elif call.fuel:
                yield (OUTSIDE,), call

    def by_function(self) -> list[tuple[str, int, int]]:
        """Each function with its own fuel and its calls, the dearest first."""
        sums: dict[int, tuple[int, int]] = {}
        for path, call in walk(self.root):
            if path:
                fuel, times = sums.get(call.function, (0, 0))
                sums[call.function] = (fuel + call.fuel, times + call.times)
        listed = [(self.names[function], fuel, times) for function, (fuel, times) in sums.items()]
        return sorted(listed, key=lambda each: (-each[1], each[0]))


def walk(root: Call) -> Iterator[tuple[tuple[int, ...], Call]]:
    """Every call, each before those it made, with the functions that lead to it from below `root`, it included."""
    waiting: list[tuple[tuple[int, ...], Call]] = [((), root)]
    while waiting:
        path, call = waiting.pop()
        yield path, call
        waiting.extend(((*path, function), inner) for function, inner in reversed(call.calls.items()))


def folded(profile: FuelProfile) -> Iterator[str]:
    """The lines of the text form, without their ends."""
    for names, call in profile.stacks():
        yield f"{';'.join(map(_in_a_line, names))} {call.fuel}"


def _in_a_line(name: str) -> str:
    """`name` so that it can neither end a line nor a function; the names are a guest's."""
    plain = name.replace(";", ":")
    return plain if plain.isprintable() else "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in plain)

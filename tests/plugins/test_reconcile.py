"""The plan of hot reload, case by case as `data/reconcile.toml` has them; and that it comes to an end."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.plugins.files import Identity, OnDisk, PluginFiles
from warren.plugins.reconcile import Load, Move, Standing, Step, from_elsewhere, plan

CASES: Final[list[dict[str, Any]]] = tomllib.loads((Path(__file__).parent / "data/reconcile.toml").read_text())["case"]
ROOT: Final = Path("plugins")


def files(stem: str) -> PluginFiles:
    return PluginFiles.beside(ROOT / f"{stem}.wasm")


def pair(text: str) -> OnDisk:
    stem, name, version, content = text.replace(":", "").split()
    return OnDisk(files(stem), content.encode(), None if name == "?" else Identity(name, version))


def standing(text: str) -> Standing:
    name, version, content, _, stem = text.split()
    return Standing(Identity(name, version), files(stem), content.encode())


def told(step: Step) -> str:
    stem = step.files.wasm.stem
    if isinstance(step, Load):
        return f"load {stem} for {step.origin.wasm.stem}" if step.origin else f"load {stem}"
    if isinstance(step, Move):
        return f"move {step.identity.name} {step.identity.version} to {stem}"
    return f"unload {step.identity.name} {step.identity.version}"


@pytest.mark.parametrize("case", CASES, ids=[case["why"] for case in CASES])
def test_what_is_on_disk_and_what_is_loaded_say_what_to_do(case: dict[str, Any]) -> None:
    steps = plan(
        map(pair, case.get("disk", [])),
        map(standing, case.get("loaded", [])),
        unsettled=[files(stem) for stem in case.get("unsettled", [])],
        refused={files(stem): content.encode() for stem, content in case.get("refused", {}).items()},
    )
    assert list(map(told, steps)) == case["steps"]


def test_what_was_loaded_from_elsewhere_is_as_it_was() -> None:
    outside = Standing(Identity("x", "1.0.0"), PluginFiles.beside(Path("elsewhere/a.wasm")), b"one")
    inside = standing("y 1.0.0 one < a")
    elsewhere = from_elsewhere([outside, inside], ROOT)
    assert [one.identity for one in elsewhere] == [outside.identity]
    assert list(map(told, plan(elsewhere, [outside, inside]))) == ["unload y 1.0.0"]
    twin = pair("b: x 1.0.0 one")
    assert list(map(told, plan([twin, *elsewhere], [outside]))) == ["load b"], "to be refused as a twin, not to move"


identities = st.builds(Identity, st.sampled_from("xyz"), st.sampled_from(["1.0.0", "2.0.0"]))
contents = st.sampled_from([b"one", b"two"])
stems = st.sampled_from("abcd").map(files)


def carried_out(steps: tuple[Step, ...], before: dict[Identity, Standing]) -> dict[Identity, Standing]:
    """What the keeper makes of the steps when everything loads: a swap also takes away what came from the pair."""
    loaded = dict(before)
    for step in steps:
        if isinstance(step, Load):
            identity = step.pair.identity
            assert identity is not None
            if step.origin is None:
                here = [one.identity for one in loaded.values() if one.files == step.files]
                for gone in here:
                    del loaded[gone]
            loaded[identity] = Standing(identity, step.files, step.pair.digest)
        elif isinstance(step, Move):
            loaded[step.identity] = Standing(step.identity, step.files, loaded[step.identity].digest)
        else:
            loaded.pop(step.identity, None)
    return loaded


@given(
    disk=st.dictionaries(stems, st.tuples(identities, contents), max_size=4),
    loaded=st.dictionaries(identities, st.tuples(stems, contents), max_size=4),
)
def test_what_is_loaded_becomes_what_is_on_disk_and_then_nothing_is_left_to_do(
    disk: dict[PluginFiles, tuple[Identity, bytes]], loaded: dict[Identity, tuple[PluginFiles, bytes]]
) -> None:
    first_of_its_kind: dict[Identity, OnDisk] = {}
    for where, (identity, content) in disk.items():
        first_of_its_kind.setdefault(identity, OnDisk(where, content, identity))
    pairs = list(first_of_its_kind.values())
    now = {identity: Standing(identity, where, content) for identity, (where, content) in loaded.items()}
    for _ in range(3):
        now = carried_out(plan(pairs, now.values()), now)
    assert plan(pairs, now.values()) == ()
    assert {(one.files, one.digest, one.identity) for one in now.values()} == {
        (one.files, one.digest, one.identity) for one in pairs
    }


@given(
    disk=st.dictionaries(stems, st.tuples(identities, contents), max_size=4),
    loaded=st.dictionaries(identities, st.tuples(stems, contents), max_size=4),
)
def test_nothing_is_done_while_nothing_has_settled(
    disk: dict[PluginFiles, tuple[Identity, bytes]], loaded: dict[Identity, tuple[PluginFiles, bytes]]
) -> None:
    pairs = [OnDisk(where, content, identity) for where, (identity, content) in disk.items()]
    now = [Standing(identity, where, content) for identity, (where, content) in loaded.items()]
    assert plan(pairs, now, unsettled=[files(stem) for stem in "abcd"]) == ()

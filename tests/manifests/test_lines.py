"""Line numbers, checked against a search that is slow, blind within values, and beyond doubt.

The line of a key is one past the longest prefix of lines that is a TOML document and does not hold the key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren.manifests.lines import Lines
from warren.manifests.lines import Path as KeyPath

DATA = Path(__file__).parent / "data"


def keys_of(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key, and every table of an array of tables."""
    match value:
        case dict():
            for key, item in value.items():
                yield (*path, key)
                yield from keys_of(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield (*path, index)
                    yield from keys_of(item, (*path, index))
        case _:
            pass


def holds(document: object, path: KeyPath) -> bool:
    for step in path:
        if isinstance(document, dict):
            if step not in document:
                return False
            document = document[step]
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return False
    return True


def prefixes(text: str) -> list[tuple[int, dict[str, object]]]:
    """Each number of lines that is a document by itself, and that document."""
    lines = text.split("\n")
    documents = []
    for count in range(len(lines)):
        try:
            documents.append((count, tomllib.loads("\n".join(lines[:count]))))
        except tomllib.TOMLDecodeError:
            continue
    return documents


def assert_lines_are_right(text: str) -> None:
    found, documents = Lines(text, "m"), prefixes(text)
    for path in keys_of(tomllib.loads(text)):
        expected = 1 + max(count for count, document in documents if not holds(document, path))
        assert found.of(path) == expected, path


@pytest.mark.parametrize("name", ["sectioned", "template", "flat", "everything", "permissions", "refused"])
def test_every_key_of_a_document_is_found_on_its_line(name: str) -> None:
    assert_lines_are_right((DATA / f"{name}.toml").read_text())


def test_items_of_arrays_and_of_tables_within_them_are_found_on_theirs() -> None:
    text = """\
a = [ 1,
  # [x]
  { b = 1, c = [
    "]", ''']
''', 2024-01-01 10:00:00, [ 3 ]
  ] } ,

  5 ]
d = 1
"""
    lines = Lines(text, "m")
    paths: dict[KeyPath, int] = {
        ("a",): 1,
        ("a", 0): 1,
        ("a", 1): 3,
        ("a", 1, "b"): 3,
        ("a", 1, "c", 0): 4,
        ("a", 1, "c", 1): 4,
        ("a", 1, "c", 2): 5,
        ("a", 1, "c", 3, 0): 5,
        ("a", 2): 8,
        ("d",): 9,
    }
    assert {path: lines.of(path) for path in paths} == paths


def test_what_is_missing_is_on_the_line_of_the_table_around_it() -> None:
    lines = Lines("[a]\nb = 1\n[[c.d]]\n[[c.d]]\n", "m")
    assert lines.of(("a", "x")) == 1
    assert lines.of(("c", "d", 1, "x")) == 4
    assert lines.of(("x",)) is None


VALUES = [
    "1",
    "-1.5e3",
    "1979-05-27 07:32:00Z",
    "true # = [x]",
    '"a # b = [c]"',
    r'"\"\\"',
    "'C:\\'",
    '""',
    "''",
    '"""\nx = 1\n[y]\n"""',
    '""""q" ""\\""""""',
    "'''\n'' = 1\n'''''",
    '"""\\\n   x"""',
    "[]",
    "[\n  1, # one ]\n  [2, 3],\n]",
    "['''\n''', \"]\"]",
    "{}",
    "{ p = 1, q.r = { s = '}' } }",
    '{ "p=" = [ { q = 1 }, { q = 2 } ] }',
]
VOID = ["", "# k = 1", "   ", "\t# [x]"]


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Statements of every kind, under keys that do not repeat."""
    lines: list[str] = []
    numbered = iter(range(1000))

    def key() -> str:
        name = f"k{next(numbered)}"
        return draw(
            st.sampled_from([name, f'"{name} = "', f"'{name}.'", f'"\\u0041{name}"', f"{name} . d", f"{name}.e.f"])
        )

    def pairs() -> None:
        for _ in range(draw(st.integers(0, 3))):
            lines.extend(draw(st.lists(st.sampled_from(VOID), max_size=2)))
            lines.append(f"{draw(st.sampled_from(['', '  ']))}{key()} = {draw(st.sampled_from(VALUES))}")

    pairs()
    for _ in range(draw(st.integers(0, 3))):
        name = key()
        if draw(st.booleans()):
            lines.append(f"[ {name} ] # header")
            pairs()
            continue
        for _ in range(draw(st.integers(1, 3))):
            lines.append(f"[[{name}]]")
            pairs()
            lines.append(f"[{name}.sub]")
            pairs()
            for _ in range(draw(st.integers(0, 2))):
                lines.append(f"[[{name}.more]]")
                pairs()
    return "\n".join(lines) + "\n"


@given(documents())
def test_every_key_of_any_document_is_found_on_its_line(text: str) -> None:
    assert_lines_are_right(text)


@given(st.text(alphabet="a.=[]{}\"'\\#,1 \n", max_size=60))
def test_any_text_is_walked_to_its_end_or_left(text: str) -> None:
    Lines(text, "m")

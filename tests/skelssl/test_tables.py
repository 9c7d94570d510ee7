"""Texts of numbers, and every text reader on mutated files."""

import time
from pathlib import Path

import numpy as np
import pytest
from malformed import WHOLE, whole

from skelssl.data.prepare import prepare
from skelssl.data.readers import nw_ucla
from skelssl.data.readers.tables import TextError, number_table, plain_lines
from skelssl.data.store import StoreError, open_store


@pytest.mark.parametrize("text", [b"1 2\n3 4\n", b" 1 2\r\n 3 4\r\n\r\n", b"\xef\xbb\xbf1e0 +2.\n3\t.4e1", b"1 2\r3 4"])
def test_tables_of_several_dialects(text):
    np.testing.assert_array_equal(number_table(text, 2), [[1, 2], [3, 4]])


def test_numbers_are_those_of_python():
    random = np.random.default_rng(0)
    values = random.normal(size=(40, 6)) * 10.0 ** random.integers(-12, 12, size=(40, 6))
    texts = [
        [f"{value:.{digits}{style}}" for value, digits, style in zip(row, (3, 9, 17, 6, 1, 12), "gefgef", strict=True)]
        for row in values
    ]
    table = number_table("\n".join(map(" ".join, texts)).encode(), 6)
    np.testing.assert_array_equal(table, [[float(text) for text in row] for row in texts])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b" \n\n", "expected lines of 2 numbers, found none"),
        (b"1 2\n3\n", "line 2: expected 2 numbers, found 1"),
        (b"1 2\n3 4 5 6\n", "line 2: expected 2 numbers, found more"),
        (b"1 2\n\n3 4\n", "line 2: expected 2 numbers, found 0"),
        (b"1 2\n3 4e\n", "line 2: expected a finite number, found '4e'"),
        (b"1 2\n# 4\n", "line 2: expected a finite number, found '#'"),
        (b"1 --2\n", "line 1: expected a finite number, found '--2'"),
        (b"1 inf\n", "line 1: expected a finite number, found 'inf'"),
        (b"1 2" + 99 * b"0" + b"x", "line 1: expected a finite number, found '20000000"),
        (b"1 2\n3 4\0\n", "expected plain text, found NUL bytes"),
    ],
)
def test_the_first_fault_of_a_table_is_named(text, message):
    with pytest.raises(TextError, match=message):
        number_table(text, 2)


def test_plain_lines():
    assert plain_lines(b"\xef\xbb\xbfone\r\ntwo\n") == ["one", "two"]
    with pytest.raises(TextError, match="expected plain text, found byte 0xc3 at 2"):
        plain_lines("onü".encode())


SNIPPETS = (
    b"",
    b"\0",
    b"\n",
    b" ",
    b",",
    b"-",
    b"9" * 30,
    b"nan",
    b"1e999",
    b"\xff\xfe",
    b"[",
    b'"',
    b"{",
    "٣".encode(),
)


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Some pieces removed, doubled or replaced."""
    for _ in range(random.integers(1, 4)):
        first, last = sorted(random.integers(0, len(content) + 1, size=2))
        last = min(last, first + int(random.integers(0, 40)))
        piece = (SNIPPETS[random.integers(len(SNIPPETS))], content[first:last] * 2, random.bytes(2))[random.integers(3)]
        content = content[:first] + piece + content[last:]
    return content


@pytest.mark.parametrize(("kind", "rounds"), [("ntu60", 25), ("nw-ucla", 25), ("pku-mmd-1", 40), ("uwa3d", 25)])
def test_mutated_files_give_a_clear_error_or_a_store_without_them(kind, rounds, tmp_path, monkeypatch):
    """Nothing but a StoreError may come; what is written can be opened, and its numbers are finite."""
    monkeypatch.setattr(nw_ucla, "VIEWS", {1: 1, 2: 1, 3: 1})
    random, began = np.random.default_rng(0), time.perf_counter()
    source = whole(kind, tmp_path)
    for number in range(rounds):
        name = sorted(WHOLE[kind])[number % len(WHOLE[kind])]
        (source / name).write_bytes(mutated(WHOLE[kind][name], random))
        out = tmp_path / f"store{number}"
        try:
            prepare(kind, source, out, "raw")
        except StoreError as error:
            assert str(error)
            assert not out.exists()
        else:
            assert np.isfinite(open_store(out).frames).all()
        (source / name).write_bytes(WHOLE[kind][name])
    assert not [path for path in Path(tmp_path).iterdir() if ".partial-" in path.name]
    assert time.perf_counter() - began < 60

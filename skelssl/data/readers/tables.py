"""Plain text that data sets consist of: tables of numbers, and lines."""

import codecs
import io
import math
import re

import numpy as np

NUMBER_CHARACTERS = b"0123456789+-.eE \t\r\n"  # neither nan nor inf, no digits of other scripts, no 1_000
NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
SHOWN = 24  # characters of what was found


class TextError(ValueError):
    """A text is not what it should be; the message does not name the file."""


def number_table(content: bytes, columns: int) -> np.ndarray:
    """(rows, columns) float64 of a text with as many numbers, between blanks, on every line.

    Raises:
        TextError: the first line that is not so, and what it holds.
    """
    text = _without_mark(content)
    lines = text.rstrip().splitlines()
    if not lines:
        raise TextError(f"expected lines of {columns} numbers, found none")
    # before NumPy, which skips empty lines and reads what is no plain number, too
    if len(lines[0].split(None, columns)) == columns and not text.translate(None, NUMBER_CHARACTERS):
        try:
            table = np.loadtxt(io.StringIO(text.decode("ascii"), newline=None), ndmin=2, comments=None)
        except ValueError:
            table = np.empty((0, columns))
        if table.shape == (len(lines), columns) and np.isfinite(table).all():
            return table
    raise TextError(_first_fault(lines, columns))


def plain_lines(content: bytes) -> list[str]:
    """The lines of an ASCII text.

    Raises:
        TextError: it holds anything else.
    """
    try:
        return _without_mark(content).decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise TextError(f"expected plain text, found byte {content[error.start]:#04x} at {error.start}") from None


def _without_mark(content: bytes) -> bytes:
    """Without the mark that some editors put in front of UTF-8."""
    if b"\0" in content:
        raise TextError("expected plain text, found NUL bytes, as of UTF-16 or binary data")
    return content.removeprefix(codecs.BOM_UTF8)


def _first_fault(lines: list[bytes], columns: int) -> str:
    for number, line in enumerate(lines, 1):
        values = line.split(None, columns)
        if len(values) != columns:
            found = len(values) if len(values) < columns else "more"
            return f"line {number}: expected {columns} numbers, found {found}"
        for value in values:
            if not NUMBER.fullmatch(value) or not math.isfinite(float(value)):
                found = value[:SHOWN].decode("ascii", "backslashreplace")
                return f"line {number}: expected a finite number, found {found!r}"
    return f"expected lines of {columns} numbers"

"""Pickles without their dangers: a machine of its own that knows arrays, text, numbers and containers, nothing else.

Python's unpickler imports and calls whatever a file names. This one never looks up a name: the few that NumPy writes
stand in a table, every other one is refused. Arrays are views of the file, so that a mapped pickle of any size takes
the memory of its small objects alone.
"""

import codecs
import mmap
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from skelssl.data.store import StoreError

MOST_STEPS = 50_000_000  # of the machine; PYSKL's largest files need some millions
DEEPEST_TUPLE = 8  # of tuples that are not plain data
LONG = 64  # bytes of text from which on it is decoded when it is needed: Python 2 and protocol 2 write arrays as text
DTYPE = re.compile(r"[?]|b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}")
PLAIN = {str, bytes, int, float, bool, type(None), list, dict, OrderedDict, tuple, np.ndarray}
KEYS = {str, bytes, int, float, bool, type(None)}


class _RefusedError(Exception):
    """What is wrong with a pickle; `unpickle` adds the file."""


def unpickle(source: Path | str | bytes) -> Any:
    """The object of a pickle file, protocols 0 to 5, written by Python 2 or 3 with NumPy 1 or 2.

    Args:
        source: a file, which is mapped, or a pickle's bytes.

    Returns:
        Lists, tuples, dicts, text, bytes, numbers and read-only arrays of numbers or text. Text of Python 2 is read as
        latin1, NumPy's scalars become numbers.

    Raises:
        StoreError: the file cannot be read or is damaged, or holds anything else; the message names what.
    """
    named = "pickle" if isinstance(source, bytes) else str(source)
    try:
        return _Machine(_content(source)).run()
    except _RefusedError as error:
        raise StoreError(f"{named}: {error}") from None
    except (ValueError, TypeError, OverflowError, MemoryError, struct.error, IndexError, KeyError) as error:
        raise StoreError(f"{named}: expected a whole pickle: {str(error) or type(error).__name__}") from None


def _content(source: Path | str | bytes) -> memoryview:
    if isinstance(source, bytes):
        return memoryview(source)
    try:
        with Path(source).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise StoreError(f"{source}: cannot be read: {error}") from None
    except ValueError:
        raise StoreError(f"{source}: expected a pickle, found an empty file") from None


class _Blob:
    """Bytes of the file that become text, bytes or an array's data when it is known which of them is meant."""

    __slots__ = ("_encoded", "_plain", "encoding", "view")

    def __init__(self, view: memoryview, encoding: str | None):
        self.view, self.encoding = view, encoding
        self._plain: str | bytes | None = None
        self._encoded: _Blob | None = None

    def plain(self) -> str | bytes:
        if self._plain is None:
            self._plain = bytes(self.view) if self.encoding is None else codecs.decode(self.view, self.encoding)
        return self._plain

    def as_latin1(self) -> "_Blob":
        """The bytes that Python 3 hid in text for protocols 0 to 2."""
        if self._encoded is None:
            text = codecs.decode(self.view, self.encoding or "latin1")
            self._encoded = _Blob(memoryview(text.encode("latin1")), None)
        return self._encoded


class _Name:
    """One of NumPy's names, which can be called or stand as an argument, and be nothing else."""

    __slots__ = ("call", "shown")

    def __init__(self, shown: str, call: Callable[..., Any] | None = None):
        self.shown, self.call = shown, call


class _Arguments:
    """A tuple that holds something other than plain data: arguments or a state."""

    __slots__ = ("_plain", "depth", "items")

    def __init__(self, items: list[Any]):
        self.items = items
        self.depth: int = 1 + max((item.depth for item in items if type(item) is _Arguments), default=0)
        self._plain: tuple[Any, ...] | None = None
        if self.depth > DEEPEST_TUPLE:
            raise _RefusedError(f"expected tuples at most {DEEPEST_TUPLE} deep")

    def plain(self) -> tuple[Any, ...]:
        if self._plain is None:
            self._plain = tuple(_plain(item) for item in self.items)
        return self._plain


class _Dtype:
    """A type of array elements; its byte order comes with its state."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *flags: Any):
        text = _text(code)
        if DTYPE.fullmatch(text) is None:
            raise _RefusedError(f"expected an array of numbers or text, found NumPy type {text[:40]!r}")
        self.code, self.order = text, "="

    def build(self, state: Any) -> "_Dtype":
        items = _items(state)
        if len(items) not in (8, 9) or any(item is not None for item in items[2:5]):
            raise _RefusedError("expected a simple NumPy type, found one with fields or parts")
        self.order = _text(items[1])
        if self.order not in ("<", ">", "|", "="):
            raise _RefusedError(f"expected a byte order of <, >, | or =, found {self.order[:10]!r}")
        return self

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


class _Array:
    """An array whose state has not come yet."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def build(self, state: Any) -> np.ndarray:
        items = _items(state)
        if len(items) != 5 or type(items[1]) is not tuple or type(items[2]) is not _Dtype or self.array is not None:
            raise _RefusedError("expected an array's version, shape, type, order and data, found another state")
        _, shape, dtype, by_columns, data = items
        self.array = _array(data, dtype, shape, "F" if by_columns else "C")
        return self.array


def _text(value: Any) -> str:
    found = value.plain() if type(value) is _Blob else value
    if isinstance(found, bytes):
        found = found.decode("latin1")
    if not isinstance(found, str):
        raise _RefusedError(f"expected text, found {type(found).__name__.strip('_').lower()}")
    return found


def _items(value: Any) -> list[Any]:
    if type(value) is _Arguments:
        return value.items
    if type(value) is tuple:
        return list(value)
    raise _RefusedError(f"expected a tuple, found {type(value).__name__.strip('_').lower()}")


def _plain(value: Any) -> Any:
    """The value where it is data; raises where it is a name or something unfinished."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind is _Blob or kind is _Arguments:
        return value.plain()
    if kind is _Array and value.array is not None:
        return value.array
    shown = value.shown if kind is _Name else "an unfinished array or NumPy type"
    raise _RefusedError(f"expected numbers, text, arrays and containers, found {shown}")


def _data(value: Any) -> memoryview | bytes:
    if type(value) is _Blob:
        # text of Python 2 is bytes; that of Python 3 went through latin1
        return value.view if value.encoding in (None, "latin1") else value.as_latin1().view
    if isinstance(value, (bytes, str)):
        return value if isinstance(value, bytes) else value.encode("latin1")
    raise _RefusedError("expected an array's data as bytes, found an array of objects")


def _array(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    """A view of `data`; its size is compared with the shape before NumPy sees either."""
    if type(dtype) is not _Dtype or type(shape) is not tuple:
        raise _RefusedError("expected an array's type and shape, found something else")
    found, sizes = dtype.numpy, [int(size) for size in shape if type(size) is int and size >= 0]
    content = _data(data)
    expected = found.itemsize
    for size in sizes:
        expected *= size
    if len(sizes) != len(shape) or expected != len(content):
        raise _RefusedError(f"expected {expected} bytes for an array {shape} of {found}, found {len(content)}")
    flat = np.frombuffer(content, dtype=found) if len(content) else np.empty(0, found)
    if _text(order) == "K" and axes is not None:
        return flat.reshape(sizes).transpose([int(axis) for axis in axes])
    return flat.reshape(sizes, order="F" if _text(order) == "F" else "C")


def _scalar(dtype: Any, data: Any = None) -> Any:
    value = _array(data, dtype, (), "C").item()
    return value if type(value) in KEYS else _plain(value)


def _reconstruct(kind: Any, *shape_and_type: Any) -> _Array:
    if type(kind) is not _Name or kind.shown != "numpy.ndarray":
        raise _RefusedError("expected an array to be made, found another class")
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> Any:
    if _text(encoding) != "latin1":
        raise _RefusedError(f"expected latin1 data, found {_text(encoding)[:40]!r}")
    return text.as_latin1() if type(text) is _Blob else _text(text).encode("latin1")


def _nothing(kind: Callable[[], Any]) -> Callable[..., Any]:
    def call() -> Any:
        return kind()

    return call


def _ordered(pairs: Any = ()) -> "OrderedDict[Any, Any]":
    result: OrderedDict[Any, Any] = OrderedDict()
    for pair in pairs if type(pairs) is list else _items(pairs):
        key, value = pair
        _set(result, key, value)
    return result


def _set(target: dict[Any, Any], key: Any, value: Any) -> None:
    key = _plain(key)
    if type(key) not in KEYS:
        raise _RefusedError(f"expected keys of text or numbers, found {type(key).__name__}")
    target[key] = _plain(value)


NAMES: dict[str, _Name] = {
    "numpy.ndarray": _Name("numpy.ndarray"),
    "numpy.dtype": _Name("numpy.dtype", _Dtype),
    "_codecs.encode": _Name("_codecs.encode", _encode),
    "collections.OrderedDict": _Name("collections.OrderedDict", _ordered),
    # empty bytes in protocols 0 to 2
    "__builtin__.bytes": _Name("bytes", _nothing(bytes)),
    "builtins.bytes": _Name("bytes", _nothing(bytes)),
}
for _package in ("numpy.core", "numpy._core"):
    NAMES[f"{_package}.multiarray._reconstruct"] = _Name("numpy's _reconstruct", _reconstruct)
    NAMES[f"{_package}.multiarray.scalar"] = _Name("numpy's scalar", _scalar)
    NAMES[f"{_package}.numeric._frombuffer"] = _Name("numpy's _frombuffer", _array)


class _Machine:
    """The stack machine of pickles (see CPython's pickletools), without what makes objects of classes."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.take(1)[0]
            if code == ord("."):
                return _plain(self.stack.pop())
            step = STEPS.get(code)
            if step is None:
                shown = FORBIDDEN.get(code, f"unknown code {code}")
                raise _RefusedError(f"byte {self.at - 1}: expected numbers, text, arrays and containers, found {shown}")
            step(self)
        raise _RefusedError(f"expected at most {MOST_STEPS} objects")

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.content):
            raise _RefusedError(
                f"byte {self.at}: expected {size} more bytes, found {len(self.content) - self.at}: it is cut off"
            )
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self) -> bytes:
        """Up to the next end of a line; looked for in pieces, for the file may be large."""
        pieces, start = [], self.at
        while True:
            piece = bytes(self.content[start : start + 4096])
            end = piece.find(b"\n")
            if end >= 0 or not piece:
                break
            pieces.append(piece)
            start += len(piece)
        if end < 0:
            raise _RefusedError(f"byte {self.at}: expected the end of a line: the file is cut off")
        self.at = start + end + 1
        return b"".join([*pieces, piece[:end]])

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_text(self, size: int, encoding: str | None) -> None:
        blob = _Blob(self.take(size), encoding)
        self.stack.append(blob if size > LONG else blob.plain())

    def marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def push_tuple(self, items: list[Any]) -> None:
        self.push(tuple(items) if all(type(item) in PLAIN for item in items) else _Arguments(items))

    def push_last(self, count: int) -> None:
        if len(self.stack) < count:
            raise _RefusedError(f"byte {self.at}: expected {count} objects before a tuple")
        items = self.stack[-count:]
        del self.stack[-count:]
        self.push_tuple(items)

    def append(self, items: Iterable[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise _RefusedError(f"byte {self.at}: expected a list to append to")
        target.extend(_plain(item) for item in items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise _RefusedError(f"byte {self.at}: expected a dict and pairs of keys and values")
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(target, key, value)

    def push_dict(self) -> None:
        items = self.marked()
        self.push({})
        self.set_items(items)

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def get(self, place: int) -> None:
        found = self.memo[place]
        self.push(found.array if type(found) is _Array and found.array is not None else found)

    def name(self, module: str, attribute: str) -> None:
        found = NAMES.get(f"{module}.{attribute}")
        if found is None:
            raise _RefusedError(
                f"byte {self.at}: expected numbers, text, arrays and containers, found {module[:80]}.{attribute[:80]}"
            )
        self.push(found)

    def stack_name(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.name(_text(module), _text(attribute))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Name or function.call is None:
            raise _RefusedError(f"byte {self.at}: expected one of NumPy's functions to be called, found something else")
        self.push(function.call(*_items(arguments)))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack.pop()
        if type(target) not in (_Array, _Dtype):
            raise _RefusedError(f"byte {self.at}: expected the state of an array, found that of something else")
        self.push(target.build(state))

    def long(self, size: int) -> None:
        if size > 1024:
            raise _RefusedError(f"byte {self.at}: expected a number of at most 1024 bytes, found {size}")
        self.push(self.number(size, signed=True))

    def written_number(self) -> None:
        line = self.line()
        self.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line.removesuffix(b"L")))

    def written_string(self) -> None:
        line = self.line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
            raise _RefusedError(f"byte {self.at}: expected text in quotes")
        data = codecs.escape_decode(line[1:-1])[0]
        assert isinstance(data, bytes)
        self.push(data.decode("latin1") if len(data) <= LONG else _Blob(memoryview(data), "latin1"))


def _sized(width: int, encoding: str | None) -> Callable[[_Machine], None]:
    return lambda machine: machine.push_text(machine.number(width), encoding)


STEPS: dict[int, Callable[[_Machine], Any]] = {
    code[0]: step
    for code, step in {
        b"\x80": lambda machine: machine.take(1),  # protocol
        b"\x95": lambda machine: machine.take(8),  # a frame's length
        b"(": _Machine.mark,
        b"0": lambda machine: machine.stack.pop() if machine.stack else machine.marked(),
        b"1": _Machine.marked,
        b"2": lambda machine: machine.push(machine.stack[-1]),
        b"N": lambda machine: machine.push(None),
        b"\x88": lambda machine: machine.push(True),
        b"\x89": lambda machine: machine.push(False),
        b"I": _Machine.written_number,
        b"L": _Machine.written_number,
        b"J": lambda machine: machine.push(machine.number(4, signed=True)),
        b"K": lambda machine: machine.push(machine.number(1)),
        b"M": lambda machine: machine.push(machine.number(2)),
        b"\x8a": lambda machine: machine.long(machine.number(1)),
        b"\x8b": lambda machine: machine.long(machine.number(4)),
        b"F": lambda machine: machine.push(float(machine.line())),
        b"G": lambda machine: machine.push(struct.unpack(">d", machine.take(8))[0]),
        b"S": _Machine.written_string,
        b"T": _sized(4, "latin1"),
        b"U": _sized(1, "latin1"),
        b"V": lambda machine: machine.push(_Blob(memoryview(machine.line()), "raw-unicode-escape")),
        b"X": _sized(4, "utf-8"),
        b"\x8c": _sized(1, "utf-8"),
        b"\x8d": _sized(8, "utf-8"),
        b"B": _sized(4, None),
        b"C": _sized(1, None),
        b"\x8e": _sized(8, None),
        b"\x96": _sized(8, None),  # a bytearray
        b"]": lambda machine: machine.push([]),
        b"}": lambda machine: machine.push({}),
        b")": lambda machine: machine.push(()),
        b"l": lambda machine: machine.push([_plain(item) for item in machine.marked()]),
        b"t": lambda machine: machine.push_tuple(machine.marked()),
        b"\x85": lambda machine: machine.push_last(1),
        b"\x86": lambda machine: machine.push_last(2),
        b"\x87": lambda machine: machine.push_last(3),
        b"a": lambda machine: machine.append([machine.stack.pop()]),
        b"e": lambda machine: machine.append(machine.marked()),
        b"d": _Machine.push_dict,
        b"s": lambda machine: machine.set_items([*reversed([machine.stack.pop(), machine.stack.pop()])]),
        b"u": lambda machine: machine.set_items(machine.marked()),
        b"p": lambda machine: machine.put(int(machine.line())),
        b"q": lambda machine: machine.put(machine.number(1)),
        b"r": lambda machine: machine.put(machine.number(4)),
        b"\x94": lambda machine: machine.put(len(machine.memo)),
        b"g": lambda machine: machine.get(int(machine.line())),
        b"h": lambda machine: machine.get(machine.number(1)),
        b"j": lambda machine: machine.get(machine.number(4)),
        b"c": lambda machine: machine.name(machine.line().decode("utf-8"), machine.line().decode("utf-8")),
        b"\x93": _Machine.stack_name,
        b"R": _Machine.reduce,
        b"b": _Machine.build,
    }.items()
}
FORBIDDEN = {
    code[0]: shown
    for code, shown in {
        b"i": "an instance of a class (INST)",
        b"o": "an instance of a class (OBJ)",
        b"\x81": "an instance of a class (NEWOBJ)",
        b"\x92": "an instance of a class (NEWOBJ_EX)",
        b"P": "a reference to another file (PERSID)",
        b"Q": "a reference to another file (BINPERSID)",
        b"\x82": "a registered class (EXT1)",
        b"\x83": "a registered class (EXT2)",
        b"\x84": "a registered class (EXT4)",
        b"\x8f": "a set",
        b"\x90": "a set",
        b"\x91": "a set",
        b"\x97": "data outside the file (NEXT_BUFFER)",
        b"\x98": "data outside the file (READONLY_BUFFER)",
    }.items()
}

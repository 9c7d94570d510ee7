"""Arrays of .npy and .npz files, mapped or streamed; shapes are compared with sizes before anything is read."""

import ast
import math
import mmap
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from skelssl.data.archive import LARGEST_RATIO
from skelssl.data.store import StoreError

MAGIC = b"\x93NUMPY"
DTYPE = re.compile(r"[<>|=](b1|[iu][1248]|f[248]|[SU]\d{1,6})")
LONGEST_HEADER = 10_000
BLOCK = 8 * 2**20  # bytes that are read at a time
LARGEST_LOADED = 2**30  # bytes of an array that is read at once
DAMAGE = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy file says about its array; `start` is where the data begin."""

    dtype: np.dtype
    shape: tuple[int, ...]
    by_columns: bool
    start: int

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


def read_header(stream: IO[bytes], named: str) -> NpyHeader:
    """The header of a .npy file, versions 1 to 3, of Python 2 or 3.

    Raises:
        StoreError: it is none, or the array holds anything but numbers and text.
    """
    begin = stream.read(8)
    if len(begin) < 8 or begin[:6] != MAGIC or begin[6] not in (1, 2, 3):
        raise StoreError(f"{named}: expected an array in NumPy's format, found other content")
    width = 2 if begin[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > LONGEST_HEADER:
        raise StoreError(f"{named}: expected a header of at most {LONGEST_HEADER} bytes, found {length}")
    text = stream.read(length).decode("latin1")
    try:
        described = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text).strip())
        dtype, shape, by_columns = (described[key] for key in ("descr", "shape", "fortran_order"))
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError):
        raise StoreError(f"{named}: expected a header with descr, shape and fortran_order, found another") from None
    if not isinstance(dtype, str) or DTYPE.fullmatch(dtype) is None:
        raise StoreError(f"{named}: expected numbers or text, found NumPy type {str(dtype)[:40]!r}")
    if not isinstance(shape, tuple) or not all(type(size) is int and 0 <= size < 2**48 for size in shape):
        raise StoreError(f"{named}: expected sizes, found the shape {str(shape)[:80]}")
    return NpyHeader(np.dtype(dtype), shape, bool(by_columns), 8 + width + length)


def map_npy(path: Path) -> np.ndarray:
    """An array that is read from its file as it is needed, read-only.

    Raises:
        StoreError: the file cannot be read, is damaged, or is larger or smaller than its shape says.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file, str(path))
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, StoreError) else StoreError(f"{path}: cannot be read: {error}") from None
    _check_size(str(path), header, len(content))
    return _shaped(memoryview(content)[header.start :], header, str(path))


class Npz:
    """The arrays of a .npz file.

    Args:
        path: the file.

    Raises:
        StoreError: it cannot be read, or an array unpacks to far more than the file could mean.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = zipfile.ZipFile(path)
        except (*DAMAGE, KeyError, IndexError) as error:
            raise StoreError(f"{path}: expected a .npz file: {error}") from None
        self._members = {
            place.filename.removesuffix(".npy"): place
            for place in self._file.infolist()
            if place.filename.endswith(".npy")
        }
        for key, place in self._members.items():
            if place.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise StoreError(f"{path}: {key}: expected a stored or deflated array, found another compression")
            if place.file_size > LARGEST_RATIO * max(place.compress_size, 2**16):
                found = f"{place.compress_size} bytes that unpack to {place.file_size}"
                raise StoreError(f"{path}: {key}: expected an array, found {found}")

    @property
    def keys(self) -> list[str]:
        return list(self._members)

    def header(self, key: str) -> NpyHeader:
        """Shape and type of an array.

        Raises:
            StoreError: there is no such array, it is damaged, or its size is not what its shape says.
        """
        with self._open(key) as stream:
            return self._header(key, stream)

    def rows(self, key: str) -> Iterator[np.ndarray]:
        """An array's rows one after the other; memory is that of some of them."""
        with self._open(key) as stream:
            header = self._header(key, stream)
            if header.by_columns and len(header.shape) > 1:
                raise StoreError(f"{self.path}: {key}: expected an array stored by rows, found one by columns")
            row = NpyHeader(header.dtype, header.shape[1:], False, 0)
            at_once = max(1, BLOCK // max(1, row.nbytes))
            for first in range(0, header.shape[0], at_once):
                count = min(at_once, header.shape[0] - first)
                content = stream.read(count * row.nbytes)
                if len(content) < count * row.nbytes:
                    raise StoreError(f"{self.path}: {key}: expected {header.shape[0]} rows, found the file's end")
                yield from _shaped(content, NpyHeader(header.dtype, (count, *row.shape), False, 0), key)

    def load(self, key: str) -> np.ndarray:
        """A whole array of at most a gigabyte."""
        with self._open(key) as stream:
            header = self._header(key, stream)
            if header.nbytes > LARGEST_LOADED:
                raise StoreError(f"{self.path}: {key}: expected at most {LARGEST_LOADED} bytes, found {header.nbytes}")
            return _shaped(stream.read(), header, f"{self.path}: {key}")

    def _header(self, key: str, stream: IO[bytes]) -> NpyHeader:
        header = read_header(stream, f"{self.path}: {key}")
        _check_size(f"{self.path}: {key}", header, self._members[key].file_size)
        return header

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        if key not in self._members:
            raise StoreError(f"{self.path}: expected an array {key!r}, found {', '.join(self._members) or 'none'}")
        try:
            with self._file.open(self._members[key]) as stream:
                yield stream
        except DAMAGE as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{self.path}: {key} cannot be read: {error}") from None


def _check_size(named: str, header: NpyHeader, found: int) -> None:
    if header.start + header.nbytes != found:
        raise StoreError(
            f"{named}: expected {header.nbytes} bytes for the shape {header.shape} of {header.dtype}, "
            f"found {found - header.start}"
        )


def _shaped(content: memoryview | bytes, header: NpyHeader, named: str) -> np.ndarray:
    if len(content) != header.nbytes:
        raise StoreError(f"{named}: expected {header.nbytes} bytes, found {len(content)}: it is cut off")
    flat = np.frombuffer(content, header.dtype) if header.nbytes else np.empty(0, header.dtype)
    try:
        return flat.reshape(header.shape, order="F" if header.by_columns else "C")
    except ValueError as error:
        raise StoreError(f"{named}: {error}") from None


def write_header(stream: IO[bytes], shape: tuple[int, ...], dtype: str) -> None:
    """The header of an array stored by rows, whose data the caller writes behind it."""
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)

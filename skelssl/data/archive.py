"""Files of a folder or an archive, one after the other; nothing is unpacked to disk."""

import lzma
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skelssl.data.store import StoreError

LARGEST_FILE = 64 * 2**20  # bytes of one sequence; the longest published ones have some megabytes
UNREADABLE = (  # what the standard library raises on damaged archives
    *(OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(NotImplementedError, RuntimeError, ValueError),
)
SIGNATURES = {b"7z\xbc\xaf": "a 7z archive, which has to be unpacked first", b"PK": "a zip archive that is damaged"}
ENCRYPTED = 1  # a flag of a file in a zip archive
LARGEST_RATIO = 200  # of a compressed file; skeletons as text have 10


@dataclass(frozen=True)
class Entry:
    """A file of a source: its name without folders, and what reads it."""

    name: str
    place: Path | zipfile.ZipInfo | tarfile.TarInfo

    def __lt__(self, other: "Entry") -> bool:
        return self.name < other.name


class Source:
    """A folder with its subfolders, or a zip or tar archive, compressed or not.

    Args:
        path: the folder or archive.

    Raises:
        StoreError: neither lies there.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._archive: zipfile.ZipFile | tarfile.TarFile | None = None
        if self.path.is_dir():
            return
        try:
            self._archive = (zipfile.ZipFile if zipfile.is_zipfile(self.path) else tarfile.TarFile.open)(self.path)
        except FileNotFoundError:
            raise StoreError(f"{self.path}: expected a folder or an archive, found nothing") from None
        except UNREADABLE:
            raise StoreError(
                f"{self.path}: expected a folder, a zip or a tar archive, found {_described(self.path)}"
            ) from None

    def entries(self, suffix: str) -> list[Entry]:
        """Files whose names end in `suffix`: by name, those of a tar archive in its order, in which it is read fast.

        Raises:
            StoreError: a file of the archive is far too large, or grows far too much, for what it should be.
        """
        if self._archive is None:
            return sorted(Entry(path.name, path) for path in self.path.rglob(f"*{suffix}") if path.is_file())
        if isinstance(self._archive, zipfile.ZipFile):
            found = [
                Entry(_refuse_giant(place.filename, place.file_size, place.compress_size), place)
                for place in self._archive.infolist()
                if not place.is_dir() and place.filename.endswith(suffix)
            ]
            return sorted(found)
        try:
            members = self._archive.getmembers()
        except UNREADABLE as error:
            raise StoreError(f"{self.path}: expected a whole archive: {error}") from None
        return [
            Entry(_refuse_giant(member.name, member.size), member)
            for member in members
            if member.isfile() and member.name.endswith(suffix)
        ]

    def readable(self, entry: Entry, most: int = -1) -> Path | bytes:
        """A file of the folder, or the content of a file of the archive, or its first `most` bytes.

        Raises:
            StoreError: it is far too large, cannot be read, or is damaged.
        """
        try:
            if isinstance(entry.place, Path):
                _refuse_giant(str(entry.place), entry.place.stat().st_size)
                return entry.place
            if isinstance(entry.place, zipfile.ZipInfo):
                assert isinstance(self._archive, zipfile.ZipFile)
                if entry.place.flag_bits & ENCRYPTED:
                    raise StoreError(f"{self.path}: expected files without a password, found {entry.name} encrypted")
                with self._archive.open(entry.place) as packed:
                    return packed.read(most)
            assert isinstance(self._archive, tarfile.TarFile)
            stream = self._archive.extractfile(entry.place)
            assert stream is not None  # an entry is a file
            return stream.read(most)
        except StoreError:
            raise
        except UNREADABLE as error:
            raise StoreError(f"{self.path}: {entry.name} cannot be read: {error}") from None

    def read(self, entry: Entry, most: int = -1) -> bytes:
        """The content of a file, or its first `most` bytes; see `readable`."""
        content = self.readable(entry, most)
        try:
            if isinstance(content, bytes):
                return content
            with content.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise StoreError(f"{self.path}: {entry.name} cannot be read: {error}") from None


def _described(path: Path) -> str:
    """What lies at a path, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        return f"what cannot be read: {error.strerror}"
    return next(
        (what for signature, what in SIGNATURES.items() if head.startswith(signature)), "none, or a damaged one"
    )


def _refuse_giant(path: str, size: int, compressed: int | None = None) -> str:
    """The name without folders; raises a StoreError where a file cannot be one sequence of skeletons."""
    if size > LARGEST_FILE:
        raise StoreError(f"{path}: expected at most {LARGEST_FILE} bytes for one sequence, found {size}")
    if compressed is not None and size > LARGEST_RATIO * max(compressed, 1024):
        raise StoreError(f"{path}: expected text, found {compressed} bytes that unpack to {size}")
    return PurePosixPath(path).name

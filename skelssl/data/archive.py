"""Files of a folder or an archive, one after the other; nothing is unpacked to disk."""

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skelssl.data.store import StoreError

LARGEST_FILE = 64 * 2**20  # bytes of one sequence; the longest published ones have some megabytes
LARGEST_RATIO = 200  # of a compressed file; skeletons as text have 10


@dataclass(frozen=True)
class Entry:
    """A file of a source: its name without folders, and what reads it."""

    name: str
    place: Path | zipfile.ZipInfo

    def __lt__(self, other: "Entry") -> bool:
        return self.name < other.name


class Source:
    """A folder with its subfolders, or a zip archive, whose files can be read in any order.

    Args:
        path: the folder or archive.

    Raises:
        StoreError: neither lies there.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        if self.path.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise StoreError(f"{self.path}: expected a folder or a zip archive, found nothing") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreError(f"{self.path}: expected a folder or a zip archive: {error}") from None

    def entries(self, suffix: str) -> list[Entry]:
        """Files whose names end in `suffix`, by name.

        Raises:
            StoreError: a file of the archive is far too large, or grows far too much, for what it should be.
        """
        if self._archive is None:
            return sorted(Entry(path.name, path) for path in self.path.rglob(f"*{suffix}") if path.is_file())
        found = []
        for place in self._archive.infolist():
            name = PurePosixPath(place.filename).name
            if not place.is_dir() and name.endswith(suffix):
                refuse_giant(place.filename, place.file_size, place.compress_size)
                found.append(Entry(name, place))
        return sorted(found)

    def readable(self, entry: Entry) -> Path | bytes:
        """A file of the folder, or the content of a file of the archive.

        Raises:
            StoreError: it is far too large, cannot be read, or is damaged.
        """
        try:
            if isinstance(entry.place, Path):
                refuse_giant(str(entry.place), entry.place.stat().st_size)
                return entry.place
            assert self._archive is not None
            return self._archive.read(entry.place)
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise StoreError(f"{self.path}: {entry.name} cannot be read: {error}") from None


def refuse_giant(name: str, size: int, compressed: int | None = None) -> None:
    """Raises a StoreError where a file cannot be one sequence of skeletons."""
    if size > LARGEST_FILE:
        raise StoreError(f"{name}: expected at most {LARGEST_FILE} bytes for one sequence, found {size}")
    if compressed is not None and size > LARGEST_RATIO * max(compressed, 1024):
        raise StoreError(f"{name}: expected text, found {compressed} bytes that unpack to {size}")

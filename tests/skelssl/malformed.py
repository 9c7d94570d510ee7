"""Sources that are not as they should be, by name, and what a user sees of each.

`python tests/skelssl/malformed.py` prints the table; `test_malformed.py` holds every line of it.
"""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import yaml

from skelssl import skeletons
from skelssl.cli import main
from skelssl.data.archive import Source
from skelssl.data.readers import nw_ucla
from skelssl.data.store import Header, open_store
from skelssl.data.writer import StoreWriter, write_store

FOLDER = "FOLDER"  # in the place of a temporary folder's name
Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Case:
    """`build` makes the source in an empty folder and returns it; `seen` is part of what `kind` says of it."""

    kind: str
    damage: str
    build: Callable[[Path], Path]
    seen: str
    during: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext


def what_a_user_sees(case: Case, folder: Path) -> str:
    """Runs a case; asserts that it is one line, and that a failed run leaves nothing behind."""
    source = case.build(folder)
    before = set(folder.rglob("*"))
    if case.kind == "skeleton":
        try:
            skeletons.get(source)
        except ValueError as error:
            return _shown(str(error), folder)
        raise AssertionError("a skeleton came of it")
    store = folder / "store"
    command = ["verify", str(source)] if case.kind == "verify" else ["prepare", *_arguments(case.kind, source, store)]
    out, errors = io.StringIO(), io.StringIO()
    small = mock.patch.object(nw_ucla, "VIEWS", {1: 1, 2: 1, 3: 1})
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), small, case.during():
        try:
            main(command)
        except SystemExit as stopped:
            assert stopped.code in (1, 2), stopped.code
    if errors.getvalue():
        assert errors.getvalue().startswith("skelssl: ") and errors.getvalue().count("\n") == 1, errors.getvalue()
        assert set(folder.rglob("*")) <= before, "something is left"
        return _shown(errors.getvalue().strip(), folder)
    if case.kind == "verify":
        return _shown("; ".join(line for line in out.getvalue().splitlines() if "problem" in line), folder)
    history = "; ".join(_history(open_store(store).header))
    return _shown(history or out.getvalue().strip(), folder)


def _arguments(kind: str, source: Path, store: Path) -> list[str]:
    return [kind, str(source), "--out", str(store), "--preprocessing", "raw"]


def _history(header: Header) -> Iterator[str]:
    for reason, names in header.history["left out"].items():
        yield f"left out, {reason}: {', '.join(names)}"
    for reason, names in header.history.items():
        if reason != "left out":
            yield f"{reason}: {', '.join(names)}"


def _shown(text: str, folder: Path) -> str:
    return text.replace(str(folder), FOLDER)


def joints(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, 3)).round(4)


def ntu_text(seed: int) -> bytes:
    lines = ["3"]
    for body in joints(seed, 3, 25):
        lines += ["1", "72057594037927936 0 1 1 0 0 1 0.01 -0.1 2", "25"]
        lines += [f"{x} {y} {z} 0 0 0 0 0 0 0 0 2" for x, y, z in body]
    return "\n".join(lines).encode() + b"\n"


def nw_ucla_text(seed: int) -> bytes:
    return json.dumps({"skeletons": joints(seed, 4, 20).tolist(), "label": 1}).encode()


def table_text(seed: int, columns: int) -> bytes:
    rows = joints(seed, 12, columns // 3).reshape(12, columns)
    return "\n".join(" ".join(f"{value:.4f}" for value in row) for row in rows).encode() + b"\n"


NTU, NW_UCLA, UWA3D = "S001C002P001R001A002.skeleton", "a01_s01_e00_v02.json", "a01_s01_e00_v02.txt"
PKU, LABELS, SUBJECTS = "skeletons/0002-L.txt", "labels/0002-L.txt", "cross-subject.txt"
LISTS = b"Training videos:\n0002-L\nValidataion videos: \n0002-R\n"

WHOLE: dict[str, dict[str, bytes]] = {
    "ntu60": {"S001C001P001R001A001.skeleton": ntu_text(0), NTU: ntu_text(1)},
    "nw-ucla": {f"a01_s01_e00_v{view:02}.json": nw_ucla_text(view) for view in (1, 2, 3)},
    "uwa3d": {f"a01_s01_e00_v{view:02}.txt": table_text(view, 45) for view in (1, 2, 3, 4)},
    "pku-mmd-1": {
        **{f"skeletons/0002-{view}.txt": table_text(seed, 150) for seed, view in enumerate("LR")},
        **{f"labels/0002-{view}.txt": b"12,3,9,2\n1,10,12,1\n" for view in "LR"},
        SUBJECTS: LISTS,
        "cross-view.txt": LISTS,
    },
}


def whole(kind: str, folder: Path) -> Path:
    source = folder / "source"
    for name, content in WHOLE[kind].items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    return source


def changed(kind: str, name: str, damage: Damage) -> Callable[[Path], Path]:
    """A whole source with one file changed."""

    def build(folder: Path) -> Path:
        path = whole(kind, folder) / name
        path.write_bytes(damage(path.read_bytes()))
        return folder / "source"

    return build


def with_file(kind: str, change: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A whole source in whose folder something is done."""

    def build(folder: Path) -> Path:
        change(whole(kind, folder))
        return folder / "source"

    return build


def once(old: bytes, new: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return damage


def line(number: int, new: bytes) -> Damage:
    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        lines[number - 1] = new
        return b"\n".join(lines)

    return damage


def first_number(new: bytes) -> Damage:
    """Of a table, the first number of the fourth line; of a skeleton file, that of the first joint."""

    def damage(content: bytes) -> bytes:
        lines = content.split(b"\n")
        at = 4 if lines[2].startswith(b"72057594037927936") else 3
        lines[at] = b" ".join([new, *lines[at].split(b" ")[1:]])
        return b"\n".join(lines)

    return damage


def first_coordinate(new: bytes) -> Damage:
    """Of a JSON file."""
    return lambda content: re.sub(rb"\[\[\[[^,]*", b"[[[" + new, content, count=1)


def utf16(content: bytes) -> bytes:
    return content.decode().encode("utf-16")


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(content: bytes) -> bytes:
    return b""


def zipped(kind: str = "ntu60", change: Damage = bytes, **more: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / "source.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (WHOLE[kind] | more).items():
                archive.writestr(name, content)
        path.write_bytes(change(path.read_bytes()))
        return path

    return build


def in_tar(change: Damage) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / "source.tar.xz"
        with tarfile.open(path, "w:xz") as archive:
            archive.add(whole("ntu60", folder), "raw")
        shutil.rmtree(folder / "source")
        path.write_bytes(change(path.read_bytes()))
        return path

    return build


def zip_of_names(*names: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "source.zip", "w") as archive:
            for name in names:
                archive.writestr(name, ntu_text(0))
        return folder / "source.zip"

    return build


def encrypted(content: bytes) -> bytes:
    """Sets the flag of encryption in every header."""
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(signature), content):
            at = match.start() + offset
            content = content[:at] + bytes([content[at] | 1]) + content[at + 1 :]
    return content


def flipped(content: bytes) -> bytes:
    """Changes bytes in the middle of the first packed file."""
    return content[:200] + bytes(byte ^ 0xFF for byte in content[200:220]) + content[220:]


def written(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "source").write_bytes(content)
        return folder / "source"

    return build


def missing(folder: Path) -> Path:
    return folder / "source"


def empty_folder(folder: Path) -> Path:
    (folder / "source").mkdir()
    return folder / "source"


def looped(source: Path) -> None:
    (source / "again").symlink_to(source)
    (source / "S001C003P001R001A001.skeleton").symlink_to("S001C003P001R001A001.skeleton")


def as_folder(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        (source / name).unlink()
        (source / name).mkdir()

    return change


def twice(name: str) -> Callable[[Path], None]:
    def change(source: Path) -> None:
        (source / "copies").mkdir()
        shutil.copy(source / name, source / "copies")

    return change


def other_files(source: Path) -> None:
    (source.parent / "store").mkdir()
    (source.parent / "store" / "thesis.tex").write_text("years of work")


def vanishing() -> contextlib.AbstractContextManager[object]:
    """Files disappear once they have been listed."""
    listed = Source.entries

    def entries(self: Source, suffix: str) -> list[object]:
        found = listed(self, suffix)
        for entry in found:
            entry.place.unlink()
        return found

    return mock.patch.object(Source, "entries", entries)


def full_disk() -> contextlib.AbstractContextManager[object]:
    def add(self: StoreWriter, sequence: np.ndarray) -> None:
        with mock.patch.object(np, "ascontiguousarray", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
            whole_add(self, sequence)

    whole_add = StoreWriter.add
    return mock.patch.object(StoreWriter, "add", add)


def store_with(change: Callable[[Path], None]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        header = Header("mine", "nw_ucla20", "raw", "metres", ["wave", "bow"], ["one", "two"])
        path = folder / "made"
        write_store(path, header, joints(0, 2, 5, 1, 20), {"labels": np.array([0, 1])}, {"train": np.array([0])})
        change(path)
        return path

    return build


def in_header(**values: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header = json.loads((path / "header.json").read_text())
        (path / "header.json").write_text(json.dumps(header | values))

    return change


def without_units(path: Path) -> None:
    header = json.loads((path / "header.json").read_text())
    del header["units"]
    (path / "header.json").write_text(json.dumps(header))


def header_text(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path / "header.json").write_bytes(content) and None


def array(name: str, values: object) -> Callable[[Path], None]:
    return lambda path: np.save(path / f"{name}.npy", values, allow_pickle=True)


def cut(name: str, damage: Damage) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_bytes(damage((path / name).read_bytes()))

    return change


SKELETON = {
    "joints": ["hip", "left_knee", "right_knee"],
    "parents": {"left_knee": "hip", "right_knee": "hip"},
    "parts": {"legs": ["left_knee", "right_knee"]},
}


def skeleton(**values: object) -> Callable[[Path], Path]:
    return skeleton_text(yaml.safe_dump(SKELETON | values).encode())


def skeleton_text(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "mine.yaml").write_bytes(content)
        return folder / "mine.yaml"

    return build


def print_table() -> None:
    """All cases: the kind of source, what is wrong with it, what a user sees."""
    from malformed_cases import CASES

    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{case.kind} | {case.damage} | {what_a_user_sees(case, Path(folder).resolve())}")
    print(f"{len(CASES)} cases", file=sys.stderr)


if __name__ == "__main__":
    print_table()

"""From whatever files a user holds to a store: every kind of source and what may be done to it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from skelssl.data.formats.agcn_npy import prepare_agcn_npy
from skelssl.data.formats.arrays import prepare_arrays
from skelssl.data.formats.ctrgcn_npz import prepare_ctrgcn_npz
from skelssl.data.formats.frame50 import prepare_frame50
from skelssl.data.formats.pyskl_pkl import prepare_pyskl_pkl
from skelssl.data.preprocessings import PREPROCESSINGS
from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS
from skelssl.data.readers.ntu import prepare_ntu
from skelssl.data.readers.nw_ucla import prepare_nw_ucla
from skelssl.data.readers.pku_mmd import prepare_pku_mmd
from skelssl.data.readers.uwa3d import prepare_uwa3d
from skelssl.data.store import Store, StoreError
from skelssl.data.synthetic.dataset import prepare_synthetic

AS_DESCRIBED = "as described"  # what the YAML file of `arrays` says


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        read: of (source, store's folder, preprocessing, whether to show a bar).
        preprocessings: those to choose from, the default one first.
    """

    read: Callable[[Path, Path, str, bool], Store]
    preprocessings: tuple[str, ...]


def _ntu(kind: str) -> Kind:
    def read(source: Path, out: Path, preprocessing: str, progress: bool) -> Store:
        return prepare_ntu(kind, source, out, preprocessing, progress=progress)

    return Kind(read, _default_first("agcn", PREPROCESSINGS))


def _pku_mmd(kind: str) -> Kind:
    def read(source: Path, out: Path, preprocessing: str, progress: bool) -> Store:
        return prepare_pku_mmd(kind, source, out, preprocessing, progress=progress)

    return Kind(read, _default_first("agcn", PREPROCESSINGS))


def _as_it_is(reader: Callable[..., Store], preprocessing: str) -> Kind:
    """A format whose skeletons somebody has preprocessed; the store says how."""

    def read(source: Path, out: Path, chosen: str, progress: bool) -> Store:
        return reader(source, out, progress=progress)

    return Kind(read, (preprocessing,))


def _default_first(default: str, all_of_them: Iterable[str]) -> tuple[str, ...]:
    return default, *(name for name in all_of_them if name != default)


KINDS = {
    "ntu60": _ntu("ntu60"),
    "ntu120": _ntu("ntu120"),
    "pku-mmd-1": _pku_mmd("pku-mmd-1"),
    "pku-mmd-2": _pku_mmd("pku-mmd-2"),
    "nw-ucla": Kind(
        lambda source, out, preprocessing, progress: prepare_nw_ucla(source, out, preprocessing),
        _default_first("yaw-aligned", PERSON_PREPROCESSINGS),
    ),
    "uwa3d": Kind(
        lambda source, out, preprocessing, progress: prepare_uwa3d(source, out, preprocessing, progress=progress),
        _default_first("yaw-aligned", PERSON_PREPROCESSINGS),
    ),
    "ctrgcn-npz": _as_it_is(prepare_ctrgcn_npz, "ctrgcn"),
    "pyskl-pkl": _as_it_is(prepare_pyskl_pkl, "pyskl"),
    "frame50": _as_it_is(prepare_frame50, "aimclr50"),
    "agcn-npy": _as_it_is(prepare_agcn_npy, "agcn"),
    "arrays": Kind(
        lambda source, out, preprocessing, progress: prepare_arrays(
            source, out, None if preprocessing == AS_DESCRIBED else preprocessing, progress=progress
        ),
        (AS_DESCRIBED, *_default_first("raw", PREPROCESSINGS)),
    ),
    "synthetic": Kind(
        lambda source, out, preprocessing, progress: prepare_synthetic(source, out, preprocessing, progress=progress),
        _default_first("agcn", PREPROCESSINGS),
    ),
}


def prepare(
    kind: str, source: Path | str, out: Path | str, preprocessing: str | None = None, *, progress: bool = False
) -> Store:
    """Reads a source into a store.

    Args:
        kind: one of `KINDS`.
        source: a file, folder or archive of that kind.
        out: the store's folder; what lies there is replaced when the new store is complete, if it is a store.
        preprocessing: one of the kind's; its default if None.
        progress: show a bar.

    Raises:
        StoreError: no such kind or preprocessing, or the source is not as expected; the message names the file.
    """
    if kind not in KINDS:
        raise StoreError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    chosen = preprocessing or KINDS[kind].preprocessings[0]
    if chosen not in KINDS[kind].preprocessings:
        raise StoreError(
            f"preprocessing: expected one of {', '.join(KINDS[kind].preprocessings)} for {kind}, found {chosen!r}"
        )
    return KINDS[kind].read(Path(source), Path(out), chosen, progress)

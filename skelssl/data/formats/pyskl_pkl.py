"""PYSKL's and MMAction2's annotation pickles (Duan et al., MM 2022; pyskl/tools/data/README.md).

dict(split={name: [frame_dir]}, annotations=[dict(frame_dir, label, total_frames, keypoint (M, T, V, C)
[, keypoint_score (M, T, V), img_shape, original_shape])]).
"""

import pickle
import reprlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skelssl.data.formats.common import (
    check_names,
    check_split_name,
    identify,
    ntu_numbers,
    skeleton_of,
    used_frames,
    whole_file,
    whole_numbers,
    without_ending,
)
from skelssl.data.pipeline import DataSet, Sequence, with_bar, write_sequences
from skelssl.data.recordings import History
from skelssl.data.store import Store, StoreError
from skelssl.data.unpickle import unpickle

PERSONS = 2  # of a sample; what is beyond is counted
SCORES, SHAPE = "channels", "img_shape"  # entries of the store's history


def prepare_pyskl_pkl(source: Path, out: Path, *, progress: bool = False) -> Store:
    """Reads a pickle into a store; its arrays stay in the file until they are needed.

    Scores become the last channel: x, y, (z,) score. Of more than two persons those are kept that are there in most
    frames, in their order. Splits keep their names, except that `val` becomes `test`, which the field means by it.

    Raises:
        StoreError: a key is missing, or a sample is not as described; the message names it.
    """
    annotations, split = _content(unpickle(source), source)
    names = [
        without_ending(_value(annotation, "frame_dir", f"{source}: annotation {number}"), f"{source}: frame_dir")
        for number, annotation in enumerate(annotations)
    ]
    check_names(names, str(source))
    given = [_value(one, "label", f"{source}: {name}") for one, name in zip(annotations, names, strict=True)]
    labels = whole_numbers(given, str(source))
    joints, channels, persons = _sizes(annotations, names, source)
    skeleton, history = skeleton_of(joints, channels, str(source)), History()
    dataset, class_names = identify(names, int(labels.max()) + 1, skeleton, source.stem)

    def splits(per_sample: dict[str, np.ndarray], kept: list[str]) -> dict[str, np.ndarray]:
        return _splits(source, split, kept, history)

    data_set = DataSet(dataset, skeleton, class_names, persons, splits)
    scored = "keypoint_score" in annotations[0]
    _describe(annotations, scored, history)
    sequences = with_bar(_sequences(source, annotations, names, labels, data_set, history), len(names), progress)
    units = "pixels" if channels == 2 else "metres"
    return write_sequences(sequences, data_set, "pyskl", units, history, out)


def write_pyskl_pkl(store: Store, out: Path) -> list[Path]:
    """Writes all samples and splits into the file `out`, one after the other; every NumPy from 1.16 on can read it.

    Persons that are never there are left out; splits named `test` are called `val`, as PYSKL calls them.
    """
    history = store.header.history
    scored = SCORES in history
    shape = tuple(int(size) for size in history.get(SHAPE, [])) or None
    names = store.header.names
    split = {_renamed(name, "test", "val"): [names[i] for i in samples] for name, samples in store.splits.items()}
    with whole_file(out) as file:
        file.write(b"\x80\x03}(" + _bare("split") + _bare(split) + _bare("annotations") + b"](")
        for sample, name in enumerate(names):
            frames = store.sample(sample)
            used = np.flatnonzero(frames.any(axis=(0, 2, 3)))
            points = frames[:, : used[-1] + 1 if used.size else 1].transpose(1, 0, 2, 3)
            fields: dict[str, Any] = {"frame_dir": name, "label": int(store.labels[sample])}
            fields |= {"total_frames": len(frames), "keypoint": points[..., :-1] if scored else points}
            if scored:
                fields["keypoint_score"] = points[..., -1]
            if shape is not None:
                fields |= {"img_shape": shape, "original_shape": shape}
            file.write(b"}(" + b"".join(_bare(key) + _pickled(value) for key, value in fields.items()) + b"u")
        file.write(b"eu.")
    return [out]


def _content(data: Any, source: Path) -> tuple[list[Any], dict[str, list[str]]]:
    if not isinstance(data, dict) or not {"split", "annotations"} <= set(data):
        found = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise StoreError(f"{source}: expected a dict with split and annotations, found {found[:200]}")
    annotations, split = data["annotations"], data["split"]
    if not isinstance(annotations, list) or not annotations:
        raise StoreError(f"{source}: annotations: expected a list of samples, found {type(annotations).__name__}")
    if not isinstance(split, dict) or not all(isinstance(names, list) for names in split.values()):
        raise StoreError(f"{source}: split: expected a dict of lists of names, found {type(split).__name__}")
    for name, members in split.items():
        check_split_name(name, f"{source}: split")
        if not all(isinstance(member, str) for member in members):
            raise StoreError(f"{source}: split {name!r}: expected names of samples as text")
    return annotations, split


def _value(annotation: Any, key: str, named: str) -> Any:
    if not isinstance(annotation, dict) or key not in annotation:
        found = ", ".join(map(str, annotation)) if isinstance(annotation, dict) else type(annotation).__name__
        hint = " (Kinetics keeps its points in other files)" if "raw_file" in found else ""
        raise StoreError(f"{named}: expected {key!r}, found {found[:200]}{hint}")
    return annotation[key]


def _sizes(annotations: list[Any], names: list[str], source: Path) -> tuple[int, int, int]:
    """(V, C, M) of all samples, after looking at every shape."""
    persons, expected = 1, None
    for annotation, name in zip(annotations, names, strict=True):
        points = _value(annotation, "keypoint", f"{source}: {name}")
        if not isinstance(points, np.ndarray) or points.ndim != 4 or points.dtype.kind != "f":
            found = f"{points.shape} {points.dtype}" if isinstance(points, np.ndarray) else type(points).__name__
            raise StoreError(f"{source}: {name}: expected keypoint (M, T, V, C) in floats, found {found}")
        expected = expected or points.shape[2:]
        if points.shape[2:] != expected or expected[1] not in (2, 3):
            raise StoreError(f"{source}: {name}: expected (M, T, {expected[0]}, 2 or 3) points, found {points.shape}")
        _check_scores(annotation, points, "keypoint_score" in annotations[0], f"{source}: {name}")
        frames = annotation.get("total_frames", points.shape[1])
        if type(frames) is not int or frames != points.shape[1]:
            said = reprlib.repr(frames)
            raise StoreError(f"{source}: {name}: expected {said} frames, as total_frames says, found {points.shape[1]}")
        persons = max(persons, points.shape[0])
    assert expected is not None  # there is a sample
    return expected[0], expected[1], min(persons, PERSONS)


def _check_scores(annotation: dict[str, Any], points: np.ndarray, wanted: bool, named: str) -> None:
    scores = annotation.get("keypoint_score")
    if (scores is not None) != wanted:
        raise StoreError(f"{named}: expected keypoint_score in all samples or in none")
    if scores is not None and (not isinstance(scores, np.ndarray) or scores.shape != points.shape[:3]):
        found = scores.shape if isinstance(scores, np.ndarray) else type(scores).__name__
        raise StoreError(f"{named}: expected keypoint_score {points.shape[:3]}, found {found}")
    if scores is not None and scores.dtype.kind != "f":
        raise StoreError(f"{named}: expected keypoint_score in floats, found {scores.dtype}")


def _describe(annotations: list[Any], scored: bool, history: History) -> None:
    if scored:
        history.repair(SCORES, "the last one is the score")
    coarse = sum(annotation["keypoint"].dtype == np.float16 for annotation in annotations)
    if coarse:
        history.repair("coordinates in float16, steps of 2 mm at 2 to 4 m", f"{coarse} samples")
    shapes = {_image_size(annotation.get("img_shape")) for annotation in annotations}
    if len(shapes) > 1:
        history.repair("images of different sizes", f"{len(shapes)} sizes, which are not kept")
    for size in shapes.pop() if len(shapes) == 1 else ():
        history.repair(SHAPE, str(size))


def _image_size(value: Any) -> tuple[int, ...]:
    """(height, width), or () where none is given."""
    whole = isinstance(value, (tuple, list)) and len(value) == 2 and all(type(size) is int for size in value)
    return tuple(value) if whole else ()


def _sequences(
    source: Path, annotations: list[Any], names: list[str], labels: np.ndarray, data_set: DataSet, history: History
) -> Iterator[Sequence]:
    for annotation, name, label in zip(annotations, names, labels, strict=True):
        points = annotation["keypoint"]
        if "keypoint_score" in annotation:
            points = np.concatenate([points, annotation["keypoint_score"][..., None]], axis=-1)
        chosen = _chosen(points, data_set.persons, name, history).transpose(1, 0, 2, 3)
        frames = used_frames(chosen, f"{source}: {name}", padded=False)
        if len(frames):
            yield Sequence(name, frames, int(label), **ntu_numbers(name))
        else:
            history.leave_out("no body", name)


def _chosen(points: np.ndarray, persons: int, name: str, history: History) -> np.ndarray:
    """(M, T, V, C) of the persons that are there in most frames; zeros for those that are missing."""
    if len(points) > persons:
        history.repair(f"more than {persons} persons, of which those in most frames are kept", name)
        frames = points.any(axis=(2, 3)).sum(axis=1)
        points = points[np.sort(np.argsort(-frames, kind="stable")[:persons])]
    missing = np.zeros((persons - len(points), *points.shape[1:]), points.dtype)
    return np.concatenate([points, missing])


def _splits(source: Path, split: dict[str, list[str]], kept: list[str], history: History) -> dict[str, np.ndarray]:
    places = {name: place for place, name in enumerate(kept)}
    left_out = {name for names in history.left_out.values() for name in names}
    found = {}
    for name, members in split.items():
        plain = [member.removesuffix(".skeleton") for member in members]
        unknown = [member for member in plain if member not in places and member not in left_out]
        if unknown:
            raise StoreError(f"{source}: split {name!r}: expected names of annotations, found {unknown[0]!r}")
        renamed = _renamed(name, "val", "test")
        samples = np.array([places[member] for member in plain if member in places], np.int64)
        found[name if renamed in split else renamed] = samples
    return found


def _renamed(name: str, old: str, new: str) -> str:
    return name.removesuffix(old) + new if name == old or name.endswith(f"_{old}") else name


def _pickled(value: Any) -> bytes:
    return _pickled_array(value) if isinstance(value, np.ndarray) else _bare(value)


def _bare(value: Any) -> bytes:
    """Numbers, text and containers, without a pickle's begin and end."""
    return pickle.dumps(value, protocol=2)[2:-1]


def _pickled_array(array: np.ndarray) -> bytes:
    """As NumPy 1 pickled it, which NumPy 2 reads but no longer writes."""
    content = np.ascontiguousarray(array, "<f4").tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + _bare("f4")
        + b"\x89\x88\x87R(K\x03"
        + _bare("<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    data = b"B" + struct.pack("<I", len(content)) + content
    return made + b"(K\x01" + _bare(array.shape) + dtype + b"\x89" + data + b"tb"

"""A user's own arrays, described by a small YAML file; docs/data.md has a complete example."""

import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from skelssl import skeletons
from skelssl.data.formats.common import check_names, check_split_name, used_frames, whole_numbers, without_ending
from skelssl.data.formats.npy import Npz, map_npy
from skelssl.data.formats.points import Points, behind_each_other, one_each, padded
from skelssl.data.pipeline import DataSet, Sequence, with_bar, write_sequences
from skelssl.data.preprocessings import find_preprocessing
from skelssl.data.recordings import Bodies, History, LeftOutError
from skelssl.data.store import Store, StoreError
from skelssl.data.subsets import class_balanced_split, subject_disjoint_split

REQUIRED = {"skeleton", "units", "points", "axes", "labels"}
NUMBERS = {"subjects": "subject", "cameras": "camera", "setups": "setup"}
OPTIONAL = {"dataset", "lengths", "offsets", "names", "class_names", "splits", "test_fraction", "seed", "preprocessing"}


@dataclass(frozen=True)
class Description:
    """The YAML file: what it says, and the folder that its paths start from."""

    path: Path
    data: dict[str, Any]

    def fail(self, key: str, expected: str, found: Any) -> StoreError:
        shown = found[:200] if isinstance(found, str) else reprlib.repr(found)  # lists of YAML can hold themselves
        return StoreError(f"{self.path}: {key}: expected {expected}, found {shown}")

    def file(self, key: str, reference: Any) -> tuple[Path, str]:
        """(file, key within it) of `file.npy` or `file.npz:key`."""
        name, _, inside = str(reference).partition(":")
        path = self.path.parent / name
        if (
            not isinstance(reference, str)
            or path.suffix not in (".npy", ".npz")
            or (path.suffix == ".npz") != bool(inside)
        ):
            raise self.fail(key, "file.npy or file.npz:key", reference)
        return path, inside

    def array(self, key: str, reference: Any = None) -> np.ndarray:
        """An array that a key refers to, or holds itself as a list."""
        value = self.data[key] if reference is None else reference
        if isinstance(value, list):
            kinds = {type(item) for item in value}
            if len(kinds) > 1 or not kinds <= {int, float, bool, str}:
                raise self.fail(key, "numbers, texts or yes and no, of one kind", value)
            return np.asarray(value)
        path, inside = self.file(key, value)
        return Npz(path).load(inside) if inside else map_npy(path)

    def numbers(self, key: str, samples: int) -> np.ndarray:
        """(N) whole numbers."""
        found = whole_numbers(self.array(key), f"{self.path}: {key}", key)
        if len(found) != samples:
            raise self.fail(key, f"{samples} numbers, one of each sample", len(found))
        return found


def prepare_arrays(source: Path, out: Path, preprocessing: str | None = None, *, progress: bool = False) -> Store:
    """Reads the arrays that a YAML file describes into a store.

    Args:
        source: the YAML file; paths in it start from its folder.
        out: the store's folder.
        preprocessing: instead of the file's; "raw" leaves the points as they are.
        progress: show a bar.

    Raises:
        StoreError: a key is missing or unknown, or an array is not as described; the message names file and key.
    """
    described = _description(source)
    points = _points(described)
    labels = described.numbers("labels", len(points))
    names = _names(described, points)
    numbers = {one: described.numbers(key, len(points)) for key, one in NUMBERS.items() if key in described.data}
    skeleton, history = _skeleton(described), History()
    chosen = preprocessing or described.data.get("preprocessing", "raw")
    process = _process(described, chosen, skeleton, points.persons, history)
    places = {name: place for place, name in enumerate(names)}

    def splits(per_sample: dict[str, np.ndarray], kept: list[str]) -> dict[str, np.ndarray]:
        return _splits(described, per_sample, np.array([places[name] for name in kept], np.int64), names, history)

    def sequences() -> Iterator[Sequence]:
        for number, (name, frames) in enumerate(zip(names, points, strict=True)):
            try:
                processed = process(_checked(described, frames, skeleton, name, points.padded), name)
            except LeftOutError as reason:
                history.leave_out(str(reason), name)
                continue
            known = {one: int(array[number]) for one, array in numbers.items()}
            yield Sequence(name, processed, int(labels[number]), **known)

    dataset, classes = described.data.get("dataset", source.stem), _class_names(described, labels)
    data_set = DataSet(dataset, skeleton, classes, points.persons, splits)
    shown = with_bar(sequences(), len(points), progress)
    return write_sequences(shown, data_set, chosen, described.data["units"], history, out)


def _description(source: Path) -> Description:
    try:
        data = yaml.safe_load(source.read_text())
    except (OSError, UnicodeDecodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise StoreError(f"{source}: expected a YAML file that describes arrays: {error}") from None
    if not isinstance(data, dict):
        raise StoreError(f"{source}: expected keys such as {', '.join(sorted(REQUIRED))}, found {type(data).__name__}")
    missing, unknown = REQUIRED - set(data), {str(key) for key in set(data) - REQUIRED - OPTIONAL - set(NUMBERS)}
    if missing or unknown:
        found = f"unknown {', '.join(sorted(unknown))}" if unknown else f"no {', '.join(sorted(missing))}"
        known = ", ".join([*sorted(REQUIRED), *sorted({*OPTIONAL, *NUMBERS})])
        raise StoreError(f"{source}: expected the keys {known} (the first {len(REQUIRED)} always), found {found}")
    described = Description(source, data)
    for key in ("dataset", "skeleton", "units", "preprocessing"):
        if not isinstance(data.get(key, ""), str):
            raise described.fail(key, "text", data[key])
    return described


def _points(described: Description) -> Points:
    axes, reference = described.data["axes"], described.data["points"]
    if not isinstance(axes, str):
        raise described.fail("axes", "letters such as NCTVM", axes)
    path, key = described.file("points", reference)
    if "N" in axes:
        if "offsets" in described.data:
            raise described.fail("offsets", "none beside an axis N", described.data["offsets"])
        lengths = described.data.get("lengths")
        return padded(path, key, axes, None if lengths is None else _counts(described, "lengths"))
    if "offsets" in described.data:
        return behind_each_other(path, key, axes, _counts(described, "offsets"))
    if "*" not in str(reference):
        raise described.fail("axes", "an axis N, or the key offsets, or points with a * for an array each", axes)
    return one_each(path, key.removesuffix("*"), axes)


def _counts(described: Description, key: str) -> np.ndarray:
    found = described.array(key)
    if found.ndim != 1 or found.dtype.kind not in "iu" or (found.size and int(found.min()) < 0):
        raise described.fail(key, "whole numbers from 0 on, in one axis", f"{found.shape} {found.dtype}")
    return found.astype(np.int64)


def _names(described: Description, points: Points) -> list[str]:
    if "names" in described.data:
        array = described.array("names")
        if array.ndim != 1 or len(array) != len(points) or array.dtype.kind not in "SU":
            raise described.fail("names", f"{len(points)} texts, one of each sample", f"{array.shape} {array.dtype}")
        try:
            texts = [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in array.tolist()]
        except ValueError as error:
            raise described.fail("names", "text", error) from None
        names = [without_ending(text, str(described.path)) for text in texts]
    else:
        names = points.names or [f"sample_{number}" for number in range(len(points))]
    check_names(names, f"{described.path}: names")
    return names


def _skeleton(described: Description) -> str:
    """A name of the library's, or the absolute path of a YAML file beside the description."""
    named = described.data["skeleton"]
    own = Path(named).suffix in (".yaml", ".yml")
    chosen = str((described.path.parent / named).resolve()) if own else named
    try:
        skeletons.get(chosen)
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
        raise StoreError(f"{described.path}: skeleton: {error}") from None
    return chosen


def _checked(described: Description, frames: np.ndarray, skeleton: str, name: str, padded: bool) -> np.ndarray:
    joints = skeletons.get(skeleton).num_joints
    if frames.shape[2] != joints:
        raise described.fail(
            "points", f"the {joints} joints of {described.data['skeleton']}", f"{frames.shape[2]} of {name}"
        )
    used = used_frames(frames, f"{described.path}: points: {name}", padded=padded)
    if not len(used):
        raise LeftOutError("no body")
    return used


def _class_names(described: Description, labels: np.ndarray) -> list[str]:
    classes = int(labels.max(initial=-1)) + 1
    names = described.data.get("class_names", [f"class {label}" for label in range(classes)])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise described.fail("class_names", "a list of texts", names)
    if len(names) < classes:
        raise described.fail("labels", f"labels in [0, {len(names)}), as class_names has them", classes - 1)
    return names


def _process(
    described: Description, chosen: str, skeleton: str, persons: int, history: History
) -> Callable[[np.ndarray, str], np.ndarray]:
    """What is done to a sequence (T, M, V, C) of a name."""
    if chosen == "raw":
        return lambda frames, name: frames
    process, layout = find_preprocessing(chosen), skeletons.get(skeleton)

    def run(frames: np.ndarray, name: str) -> np.ndarray:
        if frames.shape[3] != 3:
            raise described.fail("preprocessing", "raw for points that are not x, y, z", chosen)
        try:
            return process(Bodies.from_slots(frames), layout, persons, lambda reason: history.repair(reason, name))
        except LeftOutError:
            raise
        except ValueError as error:
            raise StoreError(f"{described.path}: preprocessing: {chosen}: {error}") from None

    return run


def _splits(
    described: Description, per_sample: dict[str, np.ndarray], kept: np.ndarray, names: list[str], history: History
) -> dict[str, np.ndarray]:
    """kept: numbers in the source of the store's samples."""
    given = described.data.get("splits")
    if given is None:
        return _own_split(described, per_sample, history)
    if not isinstance(given, dict) or not given:
        raise described.fail("splits", "names with samples", given)
    places = np.full(len(names), -1)
    places[kept] = np.arange(len(kept))
    found = {}
    for split, reference in given.items():
        key = f"splits.{split}"
        check_split_name(split, f"{described.path}: splits")
        samples = places[_chosen(described, key, described.array(key, reference), names)]
        found[split] = samples[samples >= 0]
    return found


def _chosen(described: Description, key: str, array: np.ndarray, names: list[str]) -> np.ndarray:
    """Numbers of samples, out of numbers, names, or a yes or no of each sample."""
    if array.ndim != 1 or array.dtype.kind not in "biuSU" or (array.dtype.kind == "b" and len(array) != len(names)):
        raise described.fail(key, "samples by number or name, or a yes or no of each", f"{array.shape} {array.dtype}")
    if array.dtype.kind == "b":
        return np.flatnonzero(array)
    if array.dtype.kind in "iu":
        wrong = array[(array < 0) | (array >= len(names))]
        if wrong.size:
            raise described.fail(key, f"samples in [0, {len(names)})", int(wrong[0]))
        return array.astype(np.int64)
    places = {name: place for place, name in enumerate(names)}
    texts = [one.decode("latin1") if isinstance(one, bytes) else str(one) for one in array.tolist()]
    unknown = [text for text in texts if text not in places]
    if unknown:
        raise described.fail(key, "names of samples", unknown[0])
    return np.array([places[text] for text in texts], np.int64)


def _own_split(described: Description, per_sample: dict[str, np.ndarray], history: History) -> dict[str, np.ndarray]:
    fraction, seed = described.data.get("test_fraction", 0.3), described.data.get("seed", 0)
    if not isinstance(fraction, float) or not 0 < fraction < 1:
        raise described.fail("test_fraction", "a number between 0 and 1", fraction)
    if type(seed) is not int:
        raise described.fail("seed", "a whole number", seed)
    labels, subjects = per_sample["labels"], per_sample["subjects"]
    if "subjects" in described.data:
        try:
            train, test = subject_disjoint_split(labels, subjects, fraction, seed)
        except ValueError as error:
            raise StoreError(f"{described.path}: {error}") from None
        history.repair("split drawn by subjects", f"{fraction} of each class for the test, seed {seed}")
    else:
        train, test = class_balanced_split(labels, fraction, seed)
        history.repair("split drawn by samples, as subjects are not known", f"{fraction} of each class, seed {seed}")
    return {"train": train, "test": test}

"""Poses of any source as the clips of an encoder: its joints, axes, units and preprocessing, window by window."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skelssl import skeletons
from skelssl.data.pipeline import preprocessed
from skelssl.data.poses import Poses
from skelssl.data.preprocessings import find_preprocessing
from skelssl.data.recordings import Bodies, History, LeftOutError, Recording
from skelssl.data.store import StoreError
from skelssl.skeletons import Skeleton
from skelssl.skeletons.convert import Conversion, convert_layout

TRUNK = 0.5  # metres from the middle of the hips to that of the shoulders, where an image does not tell
TRUNK_ENDS = (("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"))
UNALIGNED = ("raw", "pyskl")  # preprocessings that leave points as they are, and so have a meaning in images


@dataclass(frozen=True)
class Wanted:
    """What an encoder takes.

    Attributes:
        layout: of its joints, a name or a YAML file.
        persons: M.
        channels: C: coordinates, and perhaps a score.
        units: of the coordinates; in pixels there are two.
        preprocessing: of its training data.
    """

    layout: str
    persons: int
    channels: int
    units: str
    preprocessing: str

    @cached_property
    def skeleton(self) -> Skeleton:
        return skeletons.get(self.layout)

    @property
    def dimensions(self) -> int:
        return 2 if self.units == "pixels" or self.channels == 2 else 3


@dataclass(frozen=True)
class Window:
    """Frames `first` to before `end` of a recording as the encoder's training data are: (T, M, V, C)."""

    name: str
    first: int
    end: int
    frames: np.ndarray


@dataclass(frozen=True)
class Depth:
    """How points of an image become points in space, where that is asked for.

    Attributes:
        zero: they get depth 0; otherwise they are refused.
        scale: coordinates are multiplied with it; by default 1, and of images whatever makes the trunk `TRUNK` long.
    """

    zero: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale: expected a finite number above 0, found {self.scale}")


IN_SPACE = Depth()


def fitted(poses: Poses, wanted: Wanted, depth: Depth = IN_SPACE) -> tuple[Poses, list[str]]:
    """Poses with the joints, axes and units of an encoder, and what was approximated on the way.

    Joints of another layout are those of `convert_layout`; one that the file has nowhere lies where the nearest one
    along the bones is.

    Raises:
        StoreError: the points have too few dimensions, other units, or too few of the joints.
    """
    notes = list(poses.notes)
    points, scores = _in_space(poses, wanted, depth, notes), poses.scores
    if poses.skeleton.joints != wanted.skeleton.joints:
        conversion = convert_layout(points, poses.skeleton, wanted.skeleton, scores)
        _check_joints(poses, wanted, conversion)
        notes.append(f"{poses.skeleton.name} as {wanted.skeleton.name}: {_in_words(conversion)}")
        points, scores = conversion.points, conversion.scores
    if scores is not None:
        points = with_every_joint(points, scores > 0, wanted.skeleton)
    if wanted.channels == wanted.dimensions + 1:
        certain = np.ones(points.shape[:2]) if scores is None else scores
        points = np.concatenate([points, certain[..., None]], axis=2)
    bodies = Bodies(points, poses.bodies.frame_offsets, poses.bodies.ids)
    return Poses(poses.name, bodies, None, wanted.skeleton, wanted.units, "y", poses.placed), notes


def with_every_joint(points: np.ndarray, known: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(R, V, D) in which joints that are not known (R, V) lie where the nearest known one along the bones does.

    Of equally near ones the one of the lower number counts; bodies without any joint are at 0.
    """
    apart = _distances(skeleton)
    filled = np.where(known[..., None], points, 0)
    for mask in np.unique(known, axis=0):
        if mask.any() and not mask.all():
            rows = np.flatnonzero((known == mask).all(axis=1))
            nearest = np.where(mask, apart, np.inf).argmin(axis=1)
            filled[rows] = points[rows][:, nearest]
    return filled


def windows(poses: Poses, wanted: Wanted, size: int | None, stride: int, history: History) -> Iterator[Window]:
    """Windows of fitted poses, each preprocessed as a training sample; those without a body are left out.

    Args:
        poses: of `fitted`.
        wanted: what the encoder takes.
        size: frames of a window; None: the whole recording is one.
        stride: frames from one to the next; the last one ends with the recording.
        history: is told of windows that are left out and of what was repaired.
    """
    for first, end in spans(poses.num_frames, size, stride):
        name = f"{poses.name}, frames {first} to {end - 1}"
        bodies = poses.bodies.between(first, end)
        try:
            frames = _processed(name, bodies, poses.placed, wanted, history)
        except LeftOutError as reason:
            history.leave_out(str(reason), name)
            continue
        yield Window(poses.name, first, end, frames)


def spans(frames: int, size: int | None, stride: int) -> list[tuple[int, int]]:
    """(first, end) of windows that cover all frames; a shorter recording is one window."""
    if size is None or frames <= size:
        return [(0, frames)] if frames else []
    starts = [*range(0, frames - size, stride), frames - size]
    return [(start, start + size) for start in starts]


def _processed(name: str, bodies: Bodies, placed: bool, wanted: Wanted, history: History) -> np.ndarray:
    if (placed and wanted.preprocessing == "raw") or wanted.channels != 3 or wanted.dimensions != 3:
        if wanted.preprocessing not in UNALIGNED:
            expected = f"one of {', '.join(UNALIGNED)} for {wanted.channels} channels in {wanted.units}"
            raise StoreError(f"preprocessing: expected {expected}, found {wanted.preprocessing!r}")
        return _by_place(bodies, wanted.persons)
    process = find_preprocessing(wanted.preprocessing)
    try:
        return preprocessed(Recording(name, bodies, -1), process, wanted.skeleton, wanted.persons, history)
    except LeftOutError:
        raise
    except ValueError as error:
        raise StoreError(f"{name}: {wanted.preprocessing}: {error}") from None


def _by_place(bodies: Bodies, persons: int) -> np.ndarray:
    """(T, M, V, C) of bodies whose ids are places; where there are too many, of those in most frames."""
    if not bodies.joints.any():
        raise LeftOutError("no body")
    ids, counts = np.unique(bodies.ids, return_counts=True)
    ids = ids[np.argsort(-counts, kind="stable")][:persons] if ids[-1] >= persons else np.arange(persons)
    times = np.repeat(np.arange(len(bodies.frame_offsets) - 1), np.diff(bodies.frame_offsets))
    frames = np.zeros((len(bodies.frame_offsets) - 1, persons, *bodies.joints.shape[1:]))
    for place, number in enumerate(ids):
        rows = bodies.ids == number
        frames[times[rows], place] = bodies.joints[rows]
    return frames


def _in_space(poses: Poses, wanted: Wanted, depth: Depth, notes: list[str]) -> np.ndarray:
    """(R, V, D) points with the encoder's dimensions, y upwards in space, in its units."""
    points, found = poses.bodies.joints, poses.bodies.joints.shape[2]
    if found > wanted.dimensions:
        raise StoreError(f"{poses.name}: expected points of an image, as the encoder takes, found points in space")
    if found < wanted.dimensions and not depth.zero:
        raise StoreError(
            f"{poses.name}: expected points in space, as the encoder takes, found points of an image; "
            "--depth zero puts them into a plane"
        )
    scale = _scale(poses, wanted, depth, notes)
    if scale is not None:
        points = points * scale
    if wanted.dimensions == 2:
        return points
    if found == 2:
        points = np.concatenate([points, np.zeros_like(points[..., :1])], axis=2)
        notes.append("depth is 0: poses of an image are in a plane, which the encoder has not learnt from")
    if poses.up == "-y":
        points = points * np.array([-1.0, -1.0, 1.0])  # a half turn about the line of sight
    elif poses.up == "z":
        points = np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=2)
    return points


def _scale(poses: Poses, wanted: Wanted, depth: Depth, notes: list[str]) -> float | None:
    if depth.scale is not None:
        notes.append(f"coordinates are multiplied with {depth.scale:g}")
        return depth.scale
    if poses.units == wanted.units:
        return None
    if poses.units != "pixels" or wanted.units != "metres":
        raise StoreError(
            f"{poses.name}: expected coordinates in {wanted.units}, found {poses.units}; --scale makes them these"
        )
    trunk = _trunk(poses)
    notes.append(f"pixels become metres by a trunk of {TRUNK:g} m, in the median {trunk:.4g} pixels long")
    return TRUNK / trunk


def _trunk(poses: Poses) -> float:
    """Median distance from the middle of the hips to that of the shoulders, where all four are known."""
    skeleton = poses.skeleton
    if not all(skeleton.has_role(role) for pair in TRUNK_ENDS for role in pair):
        raise StoreError(f"{poses.name}: expected hips and shoulders, by which pixels become metres, or --scale")
    pairs = [[skeleton.role(role) for role in pair] for pair in TRUNK_ENDS]
    rows: np.ndarray = np.ones(len(poses.bodies.joints), bool)
    if poses.scores is not None:
        rows = np.asarray((poses.scores[:, np.ravel(pairs)] > 0).all(axis=1))
    low, high = (poses.bodies.joints[rows][:, pair].mean(axis=1) for pair in pairs)
    lengths = np.linalg.norm(high - low, axis=1)
    lengths = lengths[lengths > 0]
    if not len(lengths):
        raise StoreError(f"{poses.name}: expected a frame with both hips and shoulders, by which pixels become metres")
    return float(np.median(lengths))


def _check_joints(poses: Poses, wanted: Wanted, conversion: Conversion) -> None:
    missing, joints = len(conversion.missing), wanted.skeleton.num_joints
    if 2 * missing > joints:
        raise StoreError(
            f"{poses.name}: expected at least half of the {joints} joints of {wanted.skeleton.name!r}, "
            f"found {joints - missing} in {poses.skeleton.name!r}"
        )


def _in_words(conversion: Conversion) -> str:
    ways: dict[str, list[str]] = {"mean": [], "near": []}
    for joint, source in conversion.sources.items():
        if source.way in ways:
            ways[source.way].append(joint)
    parts = [
        ("mean of joints around", ways["mean"]),
        ("place of a neighbour", [*ways["near"], *conversion.missing]),
        ("lost", conversion.lost),
    ]
    return "; ".join(f"{what}: {', '.join(joints)}" for what, joints in parts if joints) or "all joints are there"


def _distances(skeleton: Skeleton) -> np.ndarray:
    """(V, V) number of bones between joints."""
    apart = np.full((skeleton.num_joints, skeleton.num_joints), np.inf)
    np.fill_diagonal(apart, 0)
    for child, parent in skeleton.bones:
        apart[child, parent] = apart[parent, child] = 1
    for middle in range(skeleton.num_joints):
        apart = np.minimum(apart, apart[:, middle, None] + apart[middle])
    return apart

"""Points of one layout of joints as another's, and what is lost on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import yaml

from skelssl.skeletons import FOLDER, LANDMARKS, Skeleton
from skelssl.skeletons.layout import SIDES


@dataclass(frozen=True)
class Source:
    """Where a joint's points come from.

    Attributes:
        way: "exact", a joint of that name; "same", one of another name for the place; "mean" of several around it;
            "near", a neighbour's place; "missing".
        joints: names in the layout that was converted.
    """

    way: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class Conversion:
    """Points in another layout.

    Attributes:
        points: (..., V', C), 0 where nothing is known.
        scores: (..., V'), the least score of the joints that were used; 0 where nothing is known.
        sources: by joint of the new layout.
        lost: joints of the old layout that no joint of the new one shows.
    """

    points: np.ndarray
    scores: np.ndarray
    sources: dict[str, Source]
    lost: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Joints of the new layout of which the old one says nothing."""
        return tuple(joint for joint, source in self.sources.items() if source.way == "missing")

    def __str__(self) -> str:
        lines = [f"{joint}: {_in_words(source)}" for joint, source in self.sources.items() if source.way != "exact"]
        return "\n".join([*lines, f"lost: {', '.join(self.lost) or 'nothing'}"])


def convert_layout(
    x: np.ndarray, src: Skeleton, dst: Skeleton, scores: np.ndarray | None = None, *, near: bool = True
) -> Conversion:
    """Points of `src`'s joints as `dst`'s.

    Joints of one name are copied; one of another name for the same place, the mean of joints around it, or a neighbour
    stands in for what is lacking (`landmarks.yaml`). Coordinates stay as they are: units and axes are the caller's.

    Args:
        x: (..., V, C) coordinates; a joint with NaN among them was not seen.
        src, dst: layouts; a user's own takes part by the names of its joints.
        scores: (..., V), at least 0; joints of score 0 were not seen and count nowhere.
        near: whether a neighbour may stand in; otherwise such joints are missing.

    Raises:
        ValueError: the shapes are not those of the layouts, or a score is negative or no number.
    """
    x = np.asarray(x)
    if x.ndim < 2 or x.shape[-2] != src.num_joints:
        raise ValueError(f"x: expected (..., {src.num_joints}, C) for {src.name!r}, found {x.shape}")
    seen = np.ones(x.shape[:-1], np.float32) if scores is None else np.asarray(scores)
    if seen.shape != x.shape[:-1] or not (seen >= 0).all():
        raise ValueError(f"scores: expected {x.shape[:-1]}, at least 0 each, found {seen.shape}")
    seen = np.where(np.isnan(x).any(axis=-1), 0, seen)
    sources = {joint: find_source(joint, src.joints, near) for joint in dst.joints}
    points = np.zeros((*x.shape[:-2], dst.num_joints, x.shape[-1]), np.result_type(x.dtype, np.float32))
    found = np.zeros((*x.shape[:-2], dst.num_joints), seen.dtype)
    for place, source in enumerate(sources.values()):
        if source.joints:
            members = [src.joints.index(joint) for joint in source.joints]
            points[..., place, :], found[..., place] = _mean(x[..., members, :], seen[..., members])
    used = {joint for source in sources.values() for joint in source.joints}
    return Conversion(points, found, sources, tuple(joint for joint in src.joints if joint not in used))


def find_source(joint: str, joints: Sequence[str], near: bool = True) -> Source:
    """What stands for a joint in a layout of `joints`."""
    if joint in joints:
        return Source("exact", (joint,))
    for way, others in landmarks().get(joint, {}).items():
        if way == "mean":
            if all(other in joints for other in others):
                return Source(way, others)
        elif way == "same" or near:
            for other in others:
                if other in joints:
                    return Source(way, (other,))
    return Source("missing", ())


@cache
def landmarks() -> dict[str, dict[str, tuple[str, ...]]]:
    """`landmarks.yaml`, with both sides."""
    data: dict[str, dict[str, list[str]]] = yaml.safe_load((FOLDER / LANDMARKS).read_text())
    table = {}
    for joint, ways in data.items():
        for side in SIDES if joint.startswith("SIDE_") else ("",):
            table[_on_side(joint, side)] = {
                way: tuple(_on_side(other, side) for other in others) for way, others in ways.items()
            }
    return table


def _on_side(joint: str, side: str) -> str:
    return joint.replace("SIDE_", side) if side else joint


def _mean(points: np.ndarray, scores: np.ndarray) -> tuple[Any, Any]:
    """Of the joints that were seen: (..., P, C), (..., P) -> (..., C), (...)."""
    counts = (scores > 0)[..., None]
    total = np.where(counts, points, 0).sum(axis=-2)
    mean = total / np.maximum(counts.sum(axis=-2), 1)
    least = np.where(scores > 0, scores, np.inf).min(axis=-1)
    return mean, np.where(np.isinf(least), 0, least)


def _in_words(source: Source) -> str:
    if source.way == "missing":
        return "missing"
    return f"{'mean of ' if source.way == 'mean' else ''}{', '.join(source.joints)} ({source.way})"

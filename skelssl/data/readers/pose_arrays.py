"""Poses in .npy and .npz arrays, and raw .skeleton files of NTU RGB+D."""

from pathlib import Path

import numpy as np

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data.formats.npy import Npz, map_npy
from skelssl.data.poses import Poses, interpolated
from skelssl.data.readers import ntu
from skelssl.data.recordings import Bodies
from skelssl.data.store import StoreError
from skelssl.skeletons import Skeleton

MOST_PERSONS = 64


def read_recording(path: Path) -> Poses:
    """A raw `.skeleton` file: all bodies, as `skelssl prepare` reads them.

    Raises:
        StoreError: it cannot be read; the message names file and line.
    """
    try:
        parsed = parse_ntu_skeleton(path, coordinates_only=True)
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from None
    bodies = Bodies(parsed.joints, parsed.frame_offsets, parsed.body_ids)
    return Poses(str(path), bodies, None, skeletons.get(ntu.SKELETON), "metres", "y", placed=False)


def read_arrays(path: Path, skeleton: str | None, units: str | None, up: str | None) -> list[Poses]:
    """The array of an `.npy` file, or every array of an `.npz` file: (T, V, C) or (T, M, V, C) of any numbers.

    The last channel of three in pixels, or of four, is a score. Persons that are zero throughout a frame are not there.
    Joints with NaN or of score 0 lie linearly between the frames that have them.

    Args:
        path: the file.
        skeleton: layout of the joints, a name or a YAML file.
        units: of the coordinates; by default pixels where there are two channels, else metres.
        up: "y", "-y" or "z"; by default y, and -y in pixels.

    Raises:
        StoreError: no skeleton is given, or an array is damaged or of another form; the message names it.
    """
    if skeleton is None:
        known = ", ".join(skeletons.names())
        raise StoreError(f"{path}: expected --skeleton, the layout of its joints ({known} or a YAML file), found none")
    layout = skeletons.get(skeleton)
    if path.suffix == ".npy":
        return [_poses(str(path), map_npy(path), layout, units, up)]
    file = Npz(path)
    if not file.keys:
        raise StoreError(f"{path}: expected arrays, found none")
    return [_poses(f"{path}:{key}", file.load(key), layout, units, up) for key in sorted(file.keys)]


def _poses(name: str, array: np.ndarray, layout: Skeleton, units: str | None, up: str | None) -> Poses:
    array = array[:, None] if array.ndim == 3 else array
    form = f"(T, V, C) or (T, M, V, C) with {layout.num_joints} joints of {layout.name!r}, C of 2 to 4"
    if array.ndim != 4 or array.shape[2] != layout.num_joints or array.shape[3] not in (2, 3, 4) or not array.size:
        raise StoreError(f"{name}: expected {form}, found {array.shape}")
    if array.dtype.kind not in "fiu":
        raise StoreError(f"{name}: expected numbers, found {array.dtype}")
    if array.shape[1] > MOST_PERSONS:
        raise StoreError(f"{name}: expected at most {MOST_PERSONS} persons, found {array.shape[1]}")
    units = units or ("pixels" if array.shape[3] == 2 else "metres")
    width = 2 if units == "pixels" else 3
    if array.shape[3] not in (width, width + 1):
        raise StoreError(f"{name}: expected {width} coordinates in {units} and perhaps a score, found {array.shape[3]}")
    up = up or ("-y" if units == "pixels" else "y")
    points = np.asarray(array[..., :width], np.float64)
    known = np.isfinite(points).all(axis=3)
    scores = np.asarray(array[..., width], np.float64) if array.shape[3] > width else known.astype(np.float64)
    if not (scores >= 0).all():
        raise StoreError(f"{name}: expected scores of at least 0, found {np.nanmin(scores):g} or NaN")
    scores = np.where(known, scores, 0)
    there = ((points != 0).any(axis=3) & (scores > 0)).any(axis=2)
    offsets = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    ids = np.broadcast_to(np.arange(array.shape[1]), there.shape)[there]
    bodies = Bodies(points[there], offsets, ids)
    if (scores[there] > 0).all():
        return Poses(name, bodies, scores[there] if array.shape[3] > width else None, layout, units, up)
    return Poses(name, *_interpolated(bodies, scores[there]), layout, units, up)


def _interpolated(bodies: Bodies, scores: np.ndarray) -> tuple[Bodies, np.ndarray]:
    """Joints of score 0 and their scores from the nearest frames of the same person that have them."""
    times = np.repeat(np.arange(len(bodies.frame_offsets) - 1), np.diff(bodies.frame_offsets))
    points, certain = np.zeros_like(bodies.joints), np.zeros_like(scores)
    for number in np.unique(bodies.ids):
        rows = np.flatnonzero(bodies.ids == number)
        points[rows], certain[rows] = interpolated(times[rows], times[rows], bodies.joints[rows], scores[rows])
    return Bodies(points, bodies.frame_offsets, bodies.ids), certain

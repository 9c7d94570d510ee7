"""Preprocessings that keep every frame and look at persons (T, M, V, 3) alone, y upwards."""

from collections.abc import Callable

import numpy as np

from skelssl.data.preprocessings.choice import most_moving
from skelssl.data.recordings import Bodies, Note, Preprocessing
from skelssl.skeletons import Skeleton


def raw(sequence: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """As the sensor has it."""
    return sequence


def centred(sequence: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Each person's own centre joint becomes the origin in every frame (PSTL, AimCLR)."""
    return sequence - sequence[:, :, skeleton.centre : skeleton.centre + 1]


def yaw_aligned(sequence: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """`centred`, then one rotation of the whole sequence about the vertical axis.

    Afterwards the first person's shoulder line, averaged over the frames, runs from left to right along +x without
    depth: camera positions around a person look alike, while turns within the sequence remain.
    """
    sequence = centred(sequence, skeleton)
    left, right = skeleton.role("left_shoulder"), skeleton.role("right_shoulder")
    x, _, z = (sequence[:, 0, right] - sequence[:, 0, left]).mean(axis=0)
    length = np.hypot(x, z)
    cosine, sine = (x / length, z / length) if length > 0 else (1.0, 0.0)
    rotation = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])  # row vectors
    return sequence @ rotation


def yaw_scaled(sequence: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """`yaw_aligned`, then every axis shifted and scaled until the whole sequence spans -1 to 1 on it.

    Tall and small persons, and gestures wide and narrow, fill the same box (Predict & Cluster, Su et al., CVPR 2020).
    The origin, where all persons have their centre joint and absent ones their points, is within the span.
    """
    sequence = yaw_aligned(sequence, skeleton)
    low, high = sequence.min(axis=(0, 1, 2)), sequence.max(axis=(0, 1, 2))
    extent = high - low
    return (2 * sequence - low - high) / np.where(extent > 0, extent, 1)


PERSON_PREPROCESSINGS: dict[str, Callable[[np.ndarray, Skeleton], np.ndarray]] = {
    "raw": raw,
    "centred": centred,
    "yaw-aligned": yaw_aligned,
    "yaw-scaled": yaw_scaled,
}


def of_persons(function: Callable[[np.ndarray, Skeleton], np.ndarray]) -> Preprocessing:
    """The same for a recording, of which the most moving bodies are taken; whoever is not there is zero."""

    def process(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note) -> np.ndarray:
        chosen = most_moving(bodies, persons, note)
        present = chosen.any(axis=(2, 3), keepdims=True)
        return np.where(present, function(chosen, skeleton), 0)

    return process


def interpolate_lost_joints(sequence: np.ndarray) -> tuple[np.ndarray, int]:
    """Joints at exactly (0, 0, 0), which trackers write for lost ones, from the nearest frames that have them.

    A joint that is lost in every frame stays as it is.

    Returns:
        The repaired sequence and the number of joints that were replaced.
    """
    lost = (sequence == 0).all(axis=-1)  # (T, M, V)
    repaired = sequence.copy()
    replaced = 0
    frames = np.arange(len(sequence))
    for person, joint in np.argwhere(lost.any(axis=0) & ~lost.all(axis=0)):
        missing = lost[:, person, joint]
        replaced += int(missing.sum())
        for axis in range(sequence.shape[-1]):
            known = sequence[~missing, person, joint, axis]
            repaired[missing, person, joint, axis] = np.interp(frames[missing], frames[~missing], known)
    return repaired, replaced

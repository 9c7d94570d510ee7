"""The normalisation of 2s-AGCN (Shi et al., CVPR 2019), which HiCo and ISC use: one transform of a whole recording."""

import math

import numpy as np

from skelssl.data.preprocessings.choice import most_moving
from skelssl.data.recordings import Bodies, Note
from skelssl.skeletons import Skeleton

LONGEST = 300
X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def agcn(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note) -> np.ndarray:
    """(T, M, V, 3), T at most 300, in a frame of reference of the first person.

    The most moving bodies are taken, the most moving one first. A person that comes late begins in the first frame,
    and repeats its frames once it is gone. Then the first person's middle of the spine is the origin of every frame.
    The whole recording is turned so that in its first frame the lower spine points along +z, and once more so that the
    right shoulder lies from the left one along +x, which leaves the spine upright where the shoulders were level.
    """
    if len(bodies.frame_offsets) > LONGEST + 1:
        note(f"more than {LONGEST} frames, of which the first are kept")
    chosen = most_moving(bodies.first_frames(LONGEST), persons, note).swapaxes(0, 1)  # (M, T, V, 3)
    for person in range(persons):
        chosen[person] = _without_gaps(chosen[person])
    middle = skeleton.role("spine_middle")
    known = (chosen[..., 0] != 0) | (chosen[..., 1] != 0) | (chosen[..., 2] != 0)
    centred = (chosen - chosen[:1, :, middle : middle + 1]) * known[..., None]
    turn = upright_turn(centred[0, 0], skeleton)
    # one product of all points: a stack of small ones is far slower
    return (centred.reshape(-1, 3) @ turn.T).reshape(centred.shape).swapaxes(0, 1)


def upright_turn(body: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(3, 3) that turns the lower spine of a body (V, 3) to +z, then its shoulder line from left to right to +x."""
    upright = _rotation(body[skeleton.role("spine_middle")] - body[skeleton.role("spine_base")], Z)
    across = body[skeleton.role("right_shoulder")] - body[skeleton.role("left_shoulder")]
    return _rotation(upright @ across, X) @ upright


def _without_gaps(person: np.ndarray) -> np.ndarray:
    """(F, V, 3): no empty frame at the begin, and the frames up to the last one again behind it."""
    present = (person.reshape(len(person), -1) != 0).any(axis=1)
    if present.all() or not present.any():
        return person
    if not present[0]:
        moved = np.zeros_like(person)
        moved[: present.sum()] = person[present]
        person, present = moved, np.arange(len(person)) < present.sum()
    length = np.flatnonzero(present)[-1] + 1
    return person[np.arange(len(person)) % length]


def _rotation(vector: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) that turns a vector into the direction of `target` (Rodrigues); the identity where that is not defined."""
    (x, y, z), (u, v, w) = vector.tolist(), target.tolist()  # three numbers are faster without NumPy
    axis = (y * w - z * v, z * u - x * w, x * v - y * u)
    length, sine = math.hypot(x, y, z), math.hypot(*axis)
    if length == 0 or sine < 1e-6:
        return np.eye(3)
    angle = math.acos(min(max((x * u + y * v + z * w) / length, -1.0), 1.0))
    if angle < 1e-6:
        return np.eye(3)
    x, y, z = (value / sine for value in axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross

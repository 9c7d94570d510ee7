"""The normalisation of 2s-AGCN (Shi et al., CVPR 2019), which HiCo and ISC use: one transform of a whole sequence.

Works on slots (F, S, V, 3): body s of each frame in the order of the file, zeros where there are fewer.
"""

import numpy as np

SLOTS = 4  # bodies of a frame that are looked at
PERSONS = 2
LONGEST = 300
CENTRE, BASE, SPINE, LEFT_SHOULDER, RIGHT_SHOULDER = 1, 0, 1, 4, 8


def agcn(slots: np.ndarray) -> np.ndarray:
    """Two persons (T, 2, V, 3), T at most 300, in a frame of reference of the first one.

    The two most moving bodies are taken, the more moving one first. A person that comes late begins in the first frame,
    and repeats its frames once it is gone. Then the first person's middle of the spine is the origin of every frame.
    The whole sequence is turned so that in its first frame the lower spine points along +z, and once more so that the
    right shoulder lies from the left one along +x, which leaves the spine upright where the shoulders were level.
    """
    chosen = _two_most_moving(slots[:LONGEST])
    for person in range(PERSONS):
        chosen[:, person] = _without_gaps(chosen[:, person])
    present = chosen.sum(axis=-1, keepdims=True) != 0
    centred = np.where(present, chosen - chosen[:, :1, CENTRE : CENTRE + 1], 0)
    upright = centred @ _rotation(centred[0, 0, SPINE] - centred[0, 0, BASE], np.array([0.0, 0.0, 1.0])).T
    across = upright[0, 0, RIGHT_SHOULDER] - upright[0, 0, LEFT_SHOULDER]
    return upright @ _rotation(across, np.array([1.0, 0.0, 0.0])).T


def _two_most_moving(slots: np.ndarray) -> np.ndarray:
    """By the sum of the standard deviations of x, y and z over the frames in which the slot holds a body."""
    energies = [_energy(slots[:, slot]) for slot in range(slots.shape[1])]
    order = np.argsort(energies)[::-1][:PERSONS]
    chosen = np.zeros((len(slots), PERSONS, *slots.shape[2:]))
    chosen[:, : len(order)] = slots[:, order]
    return chosen


def _energy(body: np.ndarray) -> float:
    """body (F, V, 3)."""
    present = body.sum(axis=(1, 2)) != 0
    return float(body[present].std(axis=(0, 1)).sum()) if present.any() else 0.0


def _without_gaps(person: np.ndarray) -> np.ndarray:
    """(F, V, 3): no empty frame at the begin, and the frames up to the last one again behind it."""
    present = person.sum(axis=(1, 2)) != 0
    if not present.any():
        return person
    if not present[0]:
        moved = np.zeros_like(person)
        moved[: present.sum()] = person[present]
        person, present = moved, np.arange(len(person)) < present.sum()
    length = np.flatnonzero(present)[-1] + 1
    return person[np.arange(len(person)) % length]


def _rotation(vector: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) that turns a vector into the direction of `target` (Rodrigues); the identity where that is not defined."""
    axis, length = np.cross(vector, target), np.linalg.norm(vector)
    sine = np.linalg.norm(axis)
    if length == 0 or sine < 1e-6:
        return np.eye(3)
    angle = np.arccos(np.clip(vector @ target / length, -1, 1))
    if angle < 1e-6:
        return np.eye(3)
    x, y, z = axis / sine
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross

"""Which of the bodies that a sensor saw are the persons of a sample."""

import numpy as np

from skelssl.data.recordings import Bodies, Note

SLOTS = 4  # bodies of a frame that are looked at


def most_moving(bodies: Bodies, persons: int, note: Note) -> np.ndarray:
    """(F, M, V, 3): the places in the file's frames whose bodies move most, the most moving one first (2s-AGCN).

    By the sum of the standard deviations of x, y and z over the frames in which the place holds a body. Zeros where
    there is none.
    """
    slots = bodies.slots(SLOTS)
    if slots.shape[1] > persons:
        note(f"more than {persons} bodies, of which those that move most are kept")
    energies = [_energy(slots[:, slot]) for slot in range(slots.shape[1])]
    order = np.argsort(energies)[::-1][:persons]
    if len(order) == persons:
        return slots[:, order]
    chosen = np.zeros((len(slots), persons, *slots.shape[2:]))
    chosen[:, : len(order)] = slots[:, order]
    return chosen


def _energy(body: np.ndarray) -> float:
    """body (F, V, 3)."""
    flat = body.reshape(len(body), -1)
    present = body[flat.any(axis=1)]
    return float(present.reshape(-1, body.shape[-1]).std(axis=0).sum()) if len(present) else 0.0

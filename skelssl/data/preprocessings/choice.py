"""Which of the bodies that a sensor saw are the persons of a sample."""

import numpy as np

from skelssl.data.recordings import Bodies, Note

SLOTS = 4  # bodies of a frame that are looked at


def most_moving(bodies: Bodies, persons: int, note: Note) -> np.ndarray:
    """(F, M, V, 3): the places in the file's frames whose bodies move most, the most moving one first (2s-AGCN).

    By the sum of the standard deviations of x, y and z over the frames in which the place holds a body. Zeros where
    there is none.
    """
    slots = bodies.slots(SLOTS).swapaxes(0, 1)
    found = len(slots)
    if found > persons:
        note(f"more than {persons} bodies, of which those that move most are kept")
    order = np.argsort([_energy(slot) for slot in slots])[::-1][:persons] if found > 1 else np.arange(found)
    if len(order) == persons:
        return slots[order].swapaxes(0, 1)
    chosen = np.zeros((persons, *slots.shape[1:]))
    chosen[: len(order)] = slots[order]
    return chosen.swapaxes(0, 1)


def _energy(body: np.ndarray) -> float:
    """body (F, V, 3)."""
    present = body[body.reshape(len(body), -1).any(axis=1)].reshape(-1, body.shape[-1])
    if not len(present):
        return 0.0
    apart = present - present.mean(axis=0)
    return float(np.sqrt(np.einsum("nc,nc->c", apart, apart) / len(present)).sum())

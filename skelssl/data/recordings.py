"""Recordings of a depth sensor as readers hand them to preprocessings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from skelssl.skeletons import Skeleton


@dataclass(frozen=True)
class Bodies:
    """What the sensor saw, body by body.

    Attributes:
        joints: (R, V, 3) metres, every body of every frame in the order of the file.
        frame_offsets: (F + 1) frame f holds bodies frame_offsets[f] to frame_offsets[f + 1].
        ids: (R) the sensor's name for each body, which changes when it loses the body.
    """

    joints: np.ndarray
    frame_offsets: np.ndarray
    ids: np.ndarray

    @classmethod
    def from_slots(cls, slots: np.ndarray) -> "Bodies":
        """Of (F, S, V, 3), where a slot that is zero throughout holds no body; slots are the ids."""
        present = slots.any(axis=(2, 3))
        offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        return cls(slots[present], offsets, np.broadcast_to(np.arange(slots.shape[1]), present.shape)[present])

    def slots(self, most: int) -> np.ndarray:
        """(F, S, V, 3): at most `most` bodies of each frame in the order of the file, zeros where there are fewer."""
        counts = np.diff(self.frame_offsets)
        frames = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(frames)) - self.frame_offsets[frames]
        used = np.flatnonzero(places < most)
        # slot by slot in memory: what follows goes through one after the other
        slots = np.zeros((min(most, counts.max(initial=0)), len(counts), *self.joints.shape[1:]))
        slots[places[used], frames[used]] = self.joints[used]
        return slots.swapaxes(0, 1)

    def first_frames(self, most: int) -> "Bodies":
        """Those of at most the first `most` frames."""
        return replace(self, frame_offsets=self.frame_offsets[: most + 1])

    def between(self, first: int, end: int) -> "Bodies":
        """Those of the frames from `first` to before `end`."""
        offsets = self.frame_offsets[first : end + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        return Bodies(self.joints[rows], offsets - offsets[0], self.ids[rows])


@dataclass(frozen=True)
class Recording:
    """One sample: its name, what was seen, and its numbers, -1 where the source says nothing."""

    name: str
    bodies: Bodies
    label: int
    subject: int = -1
    camera: int = -1
    setup: int = -1


@dataclass
class History:
    """What reading and preprocessing have left out or repaired: names by reason."""

    left_out: dict[str, list[str]] = field(default_factory=dict)
    repaired: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def repair(self, reason: str, name: str) -> None:
        self.repaired.setdefault(reason, []).append(name)

    def as_data(self) -> dict[str, Any]:
        return {"left out": self.left_out, **self.repaired}


class LeftOutError(Exception):
    """A preprocessing finds nothing in a recording that could be a sample; the message says why."""


Note = Callable[[str], None]
Preprocessing = Callable[[Bodies, Skeleton, int, Note], np.ndarray]
"""Of (bodies, their skeleton, number of persons M to show, what to call with a repair's name) -> (T, M, V, 3)."""

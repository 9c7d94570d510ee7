"""Poses of a recording as a file holds them, person by person, before they become an encoder's input."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelssl.data.recordings import Bodies
from skelssl.skeletons import Skeleton

GAP = 30  # frames for which a person may be out of sight and is still the same one
NEAR = 0.5  # of a person's size: how far its joints may be, on average, from where they were last


@dataclass(frozen=True)
class Person:
    """Somebody in one frame.

    Attributes:
        points: (V, D) coordinates, D 2 or 3.
        scores: (V) confidence of each joint, at least 0; those of score 0 were not seen.
        number: by which the estimator knows the person in other frames, None where it does not say.
    """

    points: np.ndarray
    scores: np.ndarray
    number: int | None = None


@dataclass(frozen=True)
class Poses:
    """A recording.

    Attributes:
        name: of the file.
        bodies: (R, V, D) joints of its persons, D 2 or 3.
        scores: (R, V) confidence of each joint, 0 of those that are known from no frame; None where all are known.
        skeleton: of the joints.
        units: "metres", "pixels" or another name.
        up: axis that points upwards: "y" as a depth sensor's, "-y" as an image's, or "z".
        placed: ids are places 0, 1, ... of persons; otherwise they are a sensor's own.
        notes: what was done to it.
    """

    name: str
    bodies: Bodies
    scores: np.ndarray | None
    skeleton: Skeleton
    units: str
    up: str
    placed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def num_frames(self) -> int:
        return len(self.bodies.frame_offsets) - 1


def poses_of_frames(
    name: str, frames: Sequence[Sequence[Person]], skeleton: Skeleton, units: str, up: str, notes: tuple[str, ...] = ()
) -> Poses:
    """Persons of all frames, followed through them; whoever is in most frames comes first.

    Joints that were not seen, and persons that were gone for at most `GAP` frames, lie linearly between the frames
    around, and so do their scores.
    """
    numbers = follow(frames)
    counts = Counter(number for of_frame in numbers for number in of_frame)
    rows = []
    for place, number in enumerate(sorted(counts, key=lambda one: (-counts[one], one))):
        found = [
            (time, persons[own.index(number)])
            for time, (persons, own) in enumerate(zip(frames, numbers, strict=True))
            if number in own
        ]
        rows.append(_complete(place, found))
    width = next((person.points.shape[1] for persons in frames for person in persons), 2)
    empty = (np.zeros((0, skeleton.num_joints, width)), np.zeros((0, skeleton.num_joints)))
    times, places = (np.concatenate([row[part] for row in rows] or [np.zeros(0, np.int64)]) for part in (0, 1))
    points, scores = (np.concatenate([row[part + 2] for row in rows] or [empty[part]]) for part in (0, 1))
    order = np.lexsort((places, times))
    offsets = np.searchsorted(times[order], np.arange(len(frames) + 1))
    return Poses(name, Bodies(points[order], offsets, places[order]), scores[order], skeleton, units, up, notes=notes)


def interpolated(
    times: np.ndarray, seen_at: np.ndarray, points: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One person's points (n', V, D) and scores (n', V) at times (n'), of (n, V, D) and (n, V) at others (n).

    Every joint lies linearly between the frames that have it; one that was never seen is 0 and has score 0.
    """
    filled, certain = (np.zeros((len(times), *array.shape[1:])) for array in (points, scores))
    for joint in range(points.shape[1]):
        seen = scores[:, joint] > 0
        if seen.any():
            certain[:, joint] = np.interp(times, seen_at[seen], scores[seen, joint])
            for axis in range(points.shape[2]):
                filled[:, joint, axis] = np.interp(times, seen_at[seen], points[seen, joint, axis])
    return filled, certain


def follow(frames: Sequence[Sequence[Person]]) -> list[list[int]]:
    """Numbers of the persons of each frame: the estimator's, or, where one is missing or twice in a frame, our own.

    A person is the one of the last `GAP` frames whose joints, of those seen in both, were nearest on average, the
    nearest pairs first, if that is less than `NEAR` of that one's size (the diagonal of its box); else a new one.
    """
    given = [[person.number for person in persons] for persons in frames]
    if all(None not in numbers and len(set(numbers)) == len(numbers) for numbers in given):
        return [[number for number in numbers if number is not None] for numbers in given]
    known: dict[int, tuple[int, Person]] = {}  # by number, where each person was last
    found, following = [], 0
    for time, persons in enumerate(frames):
        known = {number: last for number, last in known.items() if time - last[0] <= GAP + 1}
        own = _matched(persons, {number: last for number, (_, last) in known.items()})
        for place in range(len(persons)):
            if place not in own:
                own[place], following = following, following + 1
            known[own[place]] = (time, persons[place])
        found.append([own[place] for place in range(len(persons))])
    return found


def _matched(persons: Sequence[Person], known: dict[int, Person]) -> dict[int, int]:
    """Numbers of known persons by the places of those that they are, nearest pairs first."""
    pairs = sorted(
        (_distance(person, last), place, number)
        for place, person in enumerate(persons)
        for number, last in known.items()
    )
    own: dict[int, int] = {}
    for distance, place, number in pairs:
        if distance < NEAR and place not in own and number not in own.values():
            own[place] = number
    return own


def _distance(person: Person, last: Person) -> float:
    """Mean distance of joints, as a share of the last sight's size."""
    shared = (person.scores > 0) & (last.scores > 0)
    there = last.points[last.scores > 0]
    size = float(np.linalg.norm(np.ptp(there, axis=0))) if len(there) else 0.0
    if not shared.any() or size == 0:
        return np.inf
    return float(np.linalg.norm(person.points[shared] - last.points[shared], axis=1).mean()) / size


def _complete(place: int, found: Sequence[tuple[int, Person]]) -> tuple[np.ndarray, ...]:
    """One person's (n) frames, (n) place, (n, V, D) points and (n, V) scores, without gaps of up to `GAP` frames."""
    seen_at = np.array([time for time, _ in found])
    points, scores = (np.stack(arrays) for arrays in zip(*((p.points, p.scores) for _, p in found), strict=True))
    after = np.diff(seen_at, append=seen_at[-1] + 1)
    # a short gap belongs to the frame before it
    times = np.concatenate([np.arange(t, t + (n if n <= GAP + 1 else 1)) for t, n in zip(seen_at, after, strict=True)])
    return times, np.full(len(times), place), *interpolated(times, seen_at, points, scores)

"""Bodies followed through a recording by the sensor's names for them, and the persons that they are pieced together to.

What CTR-GCN (Chen et al., ICCV 2021; `data/ntu/get_raw_denoised_data.py`) and pyskl (Duan et al., ACM MM 2022;
`tools/data/ntu_preproc.py`) have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelssl.data.recordings import Bodies, LeftOutError, Note

SHORTEST = 12  # frames of a track that may be a person
WIDE = 0.8  # of a body's height; a wider one does not stand there
MOST_WIDE = 0.69754  # share of wide frames from which on a track is noise


@dataclass(frozen=True)
class Track:
    """A body under one name.

    Attributes:
        frames: (n) the frames it is in, ascending, counted without those that hold no body.
        joints: (n, V, 3), y upwards.
    """

    frames: np.ndarray
    joints: np.ndarray


def find_tracks(bodies: Bodies, note: Note, *, official: bool) -> list[Track]:
    """Tracks in the order in which they appear.

    Args:
        bodies: as the sensor saw them; those that are zero throughout are none.
        note: told what is left out.
        official: frames of a track count on from its first one, so that it comes earlier after a gap, as in the codes.

    Raises:
        LeftOutError: there is no body.
    """
    if not bodies.joints.any():
        raise LeftOutError("no body")
    bodies = _whole(bodies, note)
    counts = np.diff(bodies.frame_offsets)
    if not counts.all():
        note("frames without a body are left out")
    frames = np.repeat(np.arange(np.count_nonzero(counts)), counts[counts > 0])
    tracks = []
    for rows in _rows_by_name(bodies.ids):
        seen = frames[rows]
        once = np.concatenate([[True], seen[1:] > seen[:-1]])
        if not once.all():
            note("bodies whose name occurs twice in a frame are left out")
            rows, seen = rows[once], seen[once]
        joints = bodies.joints[rows].astype(np.float64)
        tracks.append(Track(seen[0] + np.arange(len(seen)) if official else seen, joints))
    return tracks


def without_noise(tracks: list[Track], note: Note) -> list[Track]:
    """Tracks that last and are mostly higher than wide, those that move most first; at least one.

    Motion is the sum of the variances of x, y and z over all points, or over those of frames that are not wide where
    that is less. A track that is alone is not asked. If all are short none is left out for that, where the codes fail;
    if all are wide the last one stays, as in CTR-GCN.
    """
    if len(tracks) > 1:
        long = [track for track in tracks if len(track.frames) >= SHORTEST] or tracks
        if len(long) < len(tracks):
            note(f"bodies that are there for fewer than {SHORTEST} frames are left out")
        tracks = long
    return _not_wide(tracks, note) if len(tracks) > 1 else tracks


def as_persons(
    tracks: Sequence[Track], persons: int, note: Note, *, shared_frames: int = 0, official: bool
) -> np.ndarray:
    """(F, M, V, 3): tracks, those that move most first, pieced together to persons that are nowhere in two places.

    A track belongs to the first person whose time, from its first to its last frame, it does not overlap.

    Args:
        tracks: at least one.
        persons: M, at most so many.
        note: told what is joined and left out.
        shared_frames: so many may overlap, which then show the track that moves less.
        official: the time of a person but the first begins with the recording, as in the codes.
    """
    length = max(int(track.frames[-1]) for track in tracks) + 1
    shown = np.zeros((persons, length, *tracks[0].joints.shape[1:]))
    begins, ends = [length, *[0 if official else length] * (persons - 1)], [0] * persons
    for track in tracks:
        first, end = int(track.frames[0]), int(track.frames[-1]) + 1
        overlaps = (min(ends[person], end) - max(begins[person], first) for person in range(persons))
        person = next((person for person, overlap in enumerate(overlaps) if overlap <= shared_frames), None)
        if person is None:
            note(f"more than {persons} bodies at a time, of which those that move most are kept")
            continue
        if ends[person]:
            note("bodies under several names are taken for one person")
        begins[person], ends[person] = min(begins[person], first), max(ends[person], end)
        shown[person, track.frames] = track.joints
    return shown.swapaxes(0, 1)


def presence(shown: np.ndarray) -> np.ndarray:
    """(F, M) bool of (F, M, V, 3): who is in which frame."""
    by_person = shown.swapaxes(0, 1)  # as it lies in memory
    flat = by_person.reshape(*by_person.shape[:2], -1)
    return np.ascontiguousarray((flat != 0).any(axis=2).T)


def _whole(bodies: Bodies, note: Note) -> Bodies:
    """Without bodies that are zero throughout."""
    there = (bodies.joints.reshape(len(bodies.joints), -1) != 0).any(axis=1)
    if there.all():
        return bodies
    note("bodies at zero are left out")
    offsets = np.concatenate([[0], np.cumsum(there)])[bodies.frame_offsets]
    return Bodies(bodies.joints[there], offsets, bodies.ids[there])


def _rows_by_name(ids: np.ndarray) -> list[np.ndarray]:
    """Where each name occurs, ascending, in the order of first occurrences."""
    if (ids == ids[0]).all():
        return [np.arange(len(ids))]
    _, firsts, names = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(names, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(names))[:-1])
    return [rows[name] for name in np.argsort(firsts)]


def _not_wide(tracks: list[Track], note: Note) -> list[Track]:
    kept, motions, left = [], [], len(tracks)
    for track in tracks:
        wide = _wide_frames(track.joints)
        share = wide.mean()
        if left > 1 and share >= MOST_WIDE:
            note("bodies that are wider than high are left out")
            left -= 1
            continue
        motion = _motion(track.joints)
        if 0 < share < 1:
            motion = min(motion, _motion(track.joints[~wide]))
        kept.append(track)
        motions.append(motion)
    return [kept[place] for place in np.argsort(-np.array(motions), kind="stable")]


def _wide_frames(joints: np.ndarray) -> np.ndarray:
    plane = np.ascontiguousarray(joints[..., :2].transpose(2, 1, 0))  # the other way round is far slower
    width, height = plane.max(axis=1) - plane.min(axis=1)
    return np.asarray(width > WIDE * height)


def _motion(joints: np.ndarray) -> float:
    points = joints.reshape(-1, joints.shape[-1])
    apart = points - points.mean(axis=0)
    return float(np.einsum("nc,nc->c", apart, apart).sum()) / len(points)

"""Coordinates that are no places: NaN, infinities and huge numbers, which would spread through every step."""

from dataclasses import replace

import numpy as np

from skelssl.data.recordings import Bodies, Note

LARGEST = 1e6  # in any unit of length: a kilometre is that many millimetres, and no sensor sees so far


def with_finite_joints(bodies: Bodies, note: Note) -> Bodies:
    """Joints with a coordinate that is NaN, infinite or beyond `LARGEST` get a place from the nearest frames.

    It lies linearly between those in which the same body's joint has one. A body of which a joint has none in any frame
    is left out of all its frames.
    """
    if bodies.joints.max(initial=0) <= LARGEST and bodies.joints.min(initial=0) >= -LARGEST:  # False of NaN
        return bodies
    counts = np.diff(bodies.frame_offsets)
    order = np.argsort(bodies.ids, kind="stable")  # body by body, frames ascending
    frames = np.repeat(np.arange(len(counts)), counts)[order]
    joints = bodies.joints[order]
    known = (np.abs(joints) <= LARGEST).all(axis=2)
    before, after = _nearest_known(known, bodies.ids[order])
    nowhere = before < 0
    if nowhere.any():
        note("bodies with a joint that is NaN, infinite or huge in all their frames are left out")
    if (~known & ~nowhere).any():
        note("joints that were NaN, infinite or huge are interpolated")
    every = np.arange(known.shape[1])
    between = (frames[after] - frames[before]).clip(1)
    share = ((frames[:, None] - frames[before]) / between).clip(0, 1)[..., None]
    placed = (1 - share) * joints[before, every] + share * joints[after, every]
    repaired = np.empty_like(bodies.joints)
    repaired[order] = np.where(known[..., None], joints, placed)
    kept = np.ones(len(order), bool)
    kept[order] = ~nowhere.any(axis=1)
    offsets = np.concatenate([[0], np.cumsum(kept)])[bodies.frame_offsets]
    return replace(bodies, joints=repaired[kept], frame_offsets=offsets, ids=bodies.ids[kept])


def _nearest_known(known: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, V) twice: the last row up to here and the first one from here on of the same body with that joint.

    Either is the other one where there is none, and both are negative where no row of the body has the joint.
    """
    rows, none = np.arange(len(ids))[:, None], len(ids)
    begins, ends = np.searchsorted(ids, ids)[:, None], np.searchsorted(ids, ids, side="right")[:, None]
    before = np.maximum.accumulate(np.where(known, rows, -1))
    after = np.minimum.accumulate(np.where(known, rows, none)[::-1])[::-1]
    has_before, has_after = before >= begins, after < ends
    return np.where(has_before, before, np.where(has_after, after, -1)), np.where(
        has_after, after, np.where(has_before, before, -1)
    )

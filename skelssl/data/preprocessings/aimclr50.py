"""The preparation of CrosSCLR and AimCLR (Guo et al., AAAI 2022), which PSTL uses: 50 frames, each body by itself."""

import numpy as np

from skelssl.data.preprocessings.agcn import LONGEST
from skelssl.data.preprocessings.persons import centred
from skelssl.data.recordings import Bodies, LeftOutError, Note
from skelssl.skeletons import Skeleton

FRAMES = 50


def aimclr50(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note, *, official: bool = False) -> np.ndarray:
    """(50, M, V, 3): body-relative coordinates without the view.

    The first bodies of each frame in the order of the file are taken, of at most 300 frames. Each one's own centre is
    its origin in every frame; frames with a body are resized linearly to 50, and in each of them each body is turned
    about the vertical axis until its shoulders have no depth.

    The turn is that of the code (`feeder/NTUDatasets.py`): its angle is an arccos whose sign is one for the whole
    recording, with 0.1 mm added to the length of the shoulder line. So bodies whose shoulders cross that line are
    turned the wrong way, and a little depth is left.

    With `official` as many frames from the first one on as have a body are resized, so that empty frames show and cut
    off the end.

    Raises:
        LeftOutError: there is no body in the first 300 frames.
    """
    if len(bodies.frame_offsets) > LONGEST + 1:
        note(f"frames after the first {LONGEST} are left out")
    slots = bodies.first_frames(LONGEST).slots(persons + 1)
    if slots.shape[1] > persons:
        note(f"more than {persons} bodies, of which the first ones of each frame are kept")
    frames = _frames_to_resize(slots[:, :persons], skeleton, note, official)
    if not len(frames):
        raise LeftOutError(f"no body in the first {LONGEST} frames")
    relative = centred(frames, skeleton)
    result = np.zeros((FRAMES, persons, *slots.shape[2:]))
    result[:, : relative.shape[1]] = _without_view(_resized(relative, FRAMES), skeleton)
    return result


def _frames_to_resize(slots: np.ndarray, skeleton: Skeleton, note: Note, official: bool) -> np.ndarray:
    if official:
        count = np.count_nonzero((slots[:, :1, skeleton.role("spine_base")] != 0).any(axis=-1))
        return slots[:count]
    there = (slots != 0).any(axis=(1, 2, 3))
    if there.all():
        return slots
    note("frames without a body are left out")
    return slots[there]


def _resized(sequence: np.ndarray, frames: int) -> np.ndarray:
    """(T, M, V, 3) -> (frames, M, V, 3), linear with pixel centres at half-integers, as cv2.resize."""
    last = len(sequence) - 1
    times = ((np.arange(frames) + 0.5) * (len(sequence) / frames) - 0.5).clip(0, last)
    before = times.astype(np.int64)
    later = (times - before)[:, None, None, None]
    start = sequence[before]
    return start + later * (sequence[np.minimum(before + 1, last)] - start)


def _without_view(sequence: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    across = sequence[:, :, skeleton.role("right_shoulder")] - sequence[:, :, skeleton.role("left_shoulder")]
    x, z = across[..., 0], across[..., 2]
    cosine = x / (np.hypot(x, z) + 1e-4)
    sine = np.sqrt(1 - cosine**2) * np.where(z.sum(axis=0) >= 0, -1, 1)
    cosine, sine = cosine[..., None], sine[..., None]
    turned = sequence.copy()
    turned[..., 0] = cosine * sequence[..., 0] - sine * sequence[..., 2]
    turned[..., 2] = sine * sequence[..., 0] + cosine * sequence[..., 2]
    return turned

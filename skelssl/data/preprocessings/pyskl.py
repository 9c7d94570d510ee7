"""The preparation of pyskl (Duan et al., ACM MM 2022), before and after its loader's `PreNormalize3D`."""

import numpy as np

from skelssl.data.preprocessings.agcn import upright_turn
from skelssl.data.preprocessings.tracks import as_persons, find_tracks, presence, without_noise
from skelssl.data.recordings import Bodies, Note
from skelssl.skeletons import Skeleton


def pyskl(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note, *, official: bool = False) -> np.ndarray:
    """(T, M, V, 3) in the sensor's coordinates: what pyskl's files hold, but in float32 instead of float16.

    Bodies are followed by name; short and wide ones are left out where there are others, and the rest is pieced
    together to persons, those that move most first; but the one who is in the first frame comes first. Frames without
    anybody are left out, and whoever is not there is zero.

    With `official` as `tools/data/ntu_preproc.py` computes it: a body that was lost for some frames continues in the
    frame after the last one, a second person is taken to be there from the first frame on, and empty frames between
    others stay where there are several bodies.

    Raises:
        LeftOutError: there is no body.
    """
    tracks = without_noise(find_tracks(bodies, note, official=official), note)
    shown = as_persons(tracks, persons, note, official=official)
    there = presence(shown)
    kept = np.flatnonzero(there.any(axis=1))
    if official and len(tracks) > 1:
        kept = np.arange(kept[0], kept[-1] + 1)
    if len(kept) < len(shown):
        shown, there = shown[kept], there[kept]
    if persons > 1 and there[0, 1] and not there[0, 0]:
        shown[:, [0, 1]] = shown[:, [1, 0]]
    return shown


def pyskl_aligned(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note) -> np.ndarray:
    """`pyskl`, then what `PreNormalize3D` of its loader does by default.

    The person who is there longer comes first, and only frames with that person stay. That person's middle of the spine
    in the first frame is the origin of the whole recording, which is turned by that frame as in `agcn`.

    Raises:
        LeftOutError: there is no body.
    """
    shown = pyskl(bodies, skeleton, persons, note)
    there = presence(shown)
    if persons > 1 and there[:, 1].sum() > there[:, 0].sum():
        shown[:, [0, 1]], there[:, 0] = shown[:, [1, 0]], there[:, 1]
    if not there[:, 0].all():
        note("frames without the first person are left out")
        shown = shown[there[:, 0]]
    known = (shown[..., 0] != 0) | (shown[..., 1] != 0) | (shown[..., 2] != 0)
    centred = (shown - shown[0, 0, skeleton.role("spine_middle")]) * known[..., None]
    return (centred.reshape(-1, 3) @ upright_turn(centred[0, 0], skeleton).T).reshape(centred.shape)

"""The preparation of SGN (Zhang et al., CVPR 2020) and CTR-GCN (Chen et al., ICCV 2021): noise out, one origin."""

import numpy as np

from skelssl.data.preprocessings.tracks import as_persons, find_tracks, presence, without_noise
from skelssl.data.recordings import Bodies, Note
from skelssl.skeletons import Skeleton


def ctrgcn(bodies: Bodies, skeleton: Skeleton, persons: int, note: Note, *, official: bool = False) -> np.ndarray:
    """(T, M, V, 3) in the sensor's directions, T the frames in which somebody is.

    Bodies are followed by name; short and wide ones are left out where there are others, and the rest is pieced
    together to persons, those that move most first. Where the first person's middle of the spine is first seen is the
    origin of the whole recording. Whoever is not there is zero.

    With `official` as CTR-GCN's code computes it: a body that was lost for some frames continues in the frame after the
    last one, a second person is taken to be there from the first frame on, and two bodies of one person may share a
    frame.

    Raises:
        LeftOutError: there is no body.
    """
    tracks = without_noise(find_tracks(bodies, note, official=official), note)
    shown = as_persons(tracks, persons, note, shared_frames=int(official), official=official)
    there = presence(shown)
    if not there.any(axis=1).all():
        shown, there = shown[there.any(axis=1)], there[there.any(axis=1)]
    origin = shown[there[:, 0].argmax(), 0, skeleton.role("spine_middle")].copy()
    shown -= origin
    shown[~there] = 0
    return shown

"""One sample as it is drawn: where its joints are, which of them were seen, and how fast it runs."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data.preprocessings import UPWARDS
from skelssl.data.preprocessings.persons import interpolate_lost_joints
from skelssl.data.readers import ntu
from skelssl.data.store import Store, StoreError, open_store
from skelssl.skeletons import Skeleton
from skelssl.skeletons.convert import Conversion, convert_layout
from skelssl.views.augment import SequenceBatch
from skelssl.views.augmentations import augment
from skelssl.views.draws import Draws

KINECT_RATE = 30.0  # frames per second, of NTU RGB+D and NW-UCLA
MOST_PERSONS = 8
LONGEST = 20_000
FARTHEST = 1e6
NEAR = 0.25  # of a person's size
UNITS = ("metres", "pixels")
TRACKING_STATE = -1  # channel of a raw joint: 0 not tracked, 1 inferred, 2 tracked


@dataclass(frozen=True)
class Clip:
    """A sequence to draw.

    Attributes:
        points: (T, M, V, 3) coordinates; depth 0 in pixels.
        seen: (T, M, V) joints that were.
        known: (T, M, V) and those whose place is known from other frames.
        skeleton: their names and bones.
        up: axis that points upwards, "y", "-y" or "z"; x runs to the right.
        units: "metres", "pixels" or what a store says.
        rate: frames per second.
        title: name of its class.
        details: where it comes from and what was done to it.
        label: what tells it from another clip beside it.
    """

    points: np.ndarray
    seen: np.ndarray
    known: np.ndarray
    skeleton: Skeleton
    up: str
    units: str
    rate: float
    title: str
    details: tuple[str, ...]
    label: str = ""

    @property
    def seconds(self) -> float:
        return len(self.points) / self.rate

    @property
    def flat(self) -> bool:
        """Whether there is no depth."""
        return not self.points[..., 2].any()

    @property
    def pinned(self) -> bool:
        """Whether a joint is the origin of every frame in which its person is there."""
        origin, present = self.known & ~self.points.any(axis=-1), self.known.any(axis=2, keepdims=True)
        return bool(((origin | ~present).all(axis=0) & origin.any(axis=0)).any())


def read_clip(
    sample: str,
    *,
    skeleton: str | None = None,
    units: str | None = None,
    up: str | None = None,
    rate: float = KINECT_RATE,
) -> Clip:
    """A sample of a store (`STORE:NAME` or `STORE:NUMBER`), a raw `.skeleton` file of NTU RGB+D, or an array.

    Joints at NaN, at exactly 0 or of score 0 were lost; where a preprocessing has moved the origin into a person's own
    joint, that joint is seen.

    Args:
        sample: where it is; an array is an `.npy` file (T, V, C) or (T, M, V, C) with x, y and, in metres, z, then
            perhaps a score.
        skeleton: layout of an array's joints, by name or YAML file; of a store's, its own unless given.
        units: "metres" or "pixels"; unless given what the store says, and of an array pixels where the third of three
            channels is a score or there are two.
        up: "y", "-y" or "z"; unless given by preprocessing and units.
        rate: frames per second.

    Raises:
        StoreError: there is no such sample, or it is not as described.
        ValueError: an option that is none, or no such skeleton.
    """
    if not 1 <= rate <= 1000:
        raise ValueError(f"fps: expected 1 to 1000, found {rate}")
    if units not in (None, *UNITS):
        raise ValueError(f"units: expected {' or '.join(UNITS)}, found {units!r}")
    if up not in (None, "y", "-y", "z"):
        raise ValueError(f"up: expected y, -y or z, found {up!r}")
    if sample.endswith(".skeleton"):
        return _from_recording(Path(sample), up, rate)
    if sample.endswith(".npy"):
        return _from_array(Path(sample), skeleton, units, up, rate)
    folder, colon, name = sample.rpartition(":")
    if not colon:
        raise StoreError(f"{sample}: expected STORE:NAME, STORE:NUMBER, a .skeleton or an .npy file")
    return _from_store(open_store(folder), name, skeleton, units, up, rate)


def augmented(clip: Clip, name: str, seed: int) -> Clip:
    """A clip as an augmentation (`skelssl.views.augmentations`) makes it from the draws of `seed`, at its own length.

    Raises:
        ValueError: there is no such augmentation.
    """
    frames = len(clip.points)
    states = clip.known.astype(np.float32) + clip.seen
    data = np.concatenate([clip.points, states[..., None]], axis=-1, dtype=np.float32)
    batch = SequenceBatch(torch.from_numpy(data), torch.tensor([0, frames]), torch.zeros(1, dtype=torch.int64))
    clips, left = augment(name, batch, Draws(seed, 0), clip.skeleton, frames)
    view = clips[0].permute(1, 3, 2, 0).numpy()  # (T, M, V, C)
    seen = (view[..., 3] > 1.5) & left[0].transpose(1, 2).numpy()
    known = (view[..., 3] > 0.5) & seen.any(axis=2, keepdims=True)  # nothing is drawn of a masked frame
    points, rate = view[..., :3].astype(np.float64), clip.rate * len(view) / frames
    return replace(clip, points=points, seen=seen, known=known, rate=rate, label=f"{name}, seed {seed}")


def in_layout(clip: Clip, layout: str) -> tuple[Clip, Conversion]:
    """A clip's joints as those of another layout, and what is lost on the way."""
    there = skeletons.get(layout)
    conversion = convert_layout(clip.points, clip.skeleton, there, clip.seen.astype(np.float32))
    guessed = convert_layout(clip.points, clip.skeleton, there, clip.known.astype(np.float32))
    seen = conversion.scores > 0
    points = np.where(seen[..., None], conversion.points, guessed.points)
    converted = replace(clip, points=points, seen=seen, known=guessed.scores > 0, skeleton=there, label=there.name)
    return converted, conversion


def _from_store(store: Store, name: str, skeleton: str | None, units: str | None, up: str | None, rate: float) -> Clip:
    names = store.header.names
    if name in names:
        number = names.index(name)
    elif name.isdecimal() and int(name) < len(names):
        number = int(name)
    else:
        raise StoreError(
            f"{store.path}: expected a name such as {names[0] if names else 'none, it is empty'} or a number below "
            f"{len(names)}, found {name!r}"
        )
    return sample_clip(store, number, skeleton, units, up, rate)


def sample_clip(
    store: Store,
    number: int,
    skeleton: str | None = None,
    units: str | None = None,
    up: str | None = None,
    rate: float = KINECT_RATE,
) -> Clip:
    """A sample of an open store; for the options see `read_clip`.

    Raises:
        StoreError: it has no joint to draw.
    """
    name, layout = store.header.names[number], skeletons.get(skeleton or store.header.skeleton)
    preprocessing, title = store.header.preprocessing, store.header.class_names[store.labels[number]]
    units, up = units or store.header.units, up or UPWARDS.get(preprocessing)
    details = (name, layout.name, preprocessing)
    return _clip(f"{store.path}:{name}", store.sample(number), layout, units, up, rate, title, details)


def _from_array(path: Path, skeleton: str | None, units: str | None, up: str | None, rate: float) -> Clip:
    if skeleton is None:
        raise ValueError(
            f"{path}: expected --skeleton, the layout of its joints: {', '.join(skeletons.names())} or a YAML"
        )
    layout = skeletons.get(skeleton)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise StoreError(f"{path}: expected an .npy file, found nothing") from None
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: expected an .npy file of numbers: {error}") from None
    if array.dtype.kind not in "fiu":
        raise StoreError(f"{path}: expected numbers, found {array.dtype}")
    array = array[:, None] if array.ndim == 3 else array
    return _clip(str(path), array, layout, units, up, rate, "", (path.name, layout.name))


def _from_recording(path: Path, up: str | None, rate: float) -> Clip:
    """Bodies by their tracking ids, those in most frames first."""
    try:
        recording = parse_ntu_skeleton(path)
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from None
    ids, persons, counts = np.unique(recording.body_ids, return_inverse=True, return_counts=True)
    ranks = np.argsort(np.argsort(-counts, kind="stable"))[persons]
    layout = skeletons.get(ntu.SKELETON)
    frames = np.repeat(np.arange(len(recording.frame_offsets) - 1), np.diff(recording.frame_offsets))
    kept = ranks < MOST_PERSONS
    array = np.zeros((len(recording.frame_offsets) - 1, min(len(ids), MOST_PERSONS), layout.num_joints, 4))
    array[frames[kept], ranks[kept], :, :3] = recording.joints[kept][..., :3]
    array[frames[kept], ranks[kept], :, 3] = recording.joints[kept][..., TRACKING_STATE]
    match = ntu.NAME.fullmatch(path.name)
    classes = ntu.published()["classes"]
    action = int(match[5]) if match else 0
    title = f"{classes[action - 1]}, A{action:03} of NTU RGB+D" if 0 < action <= len(classes) else ""
    return _clip(str(path), array, layout, "metres", up, rate, title, (path.stem, layout.name, "raw"))


def _clip(
    where: str,
    array: np.ndarray,
    skeleton: Skeleton,
    units: str | None,
    up: str | None,
    rate: float,
    title: str,
    details: tuple[str, ...],
) -> Clip:
    if array.ndim != 4 or array.shape[2] != skeleton.num_joints or array.shape[3] not in (2, 3, 4) or not array.size:
        expected = f"(T, M, {skeleton.num_joints}, C) for {skeleton.name!r}, C of 2 to 4"
        raise StoreError(f"{where}: expected {expected}, found {array.shape}")
    if len(array) > LONGEST or array.shape[1] > MOST_PERSONS:
        raise StoreError(
            f"{where}: expected at most {LONGEST} frames of {MOST_PERSONS} persons, found {array.shape[:2]}"
        )
    units = units or ("pixels" if _looks_like_pixels(array) else "metres")
    dimensions = 2 if units == "pixels" or array.shape[3] == 2 else 3
    points = np.zeros((*array.shape[:3], 3))
    points[..., :dimensions] = array[..., :dimensions]
    seen: np.ndarray = np.all(np.isfinite(points), axis=-1)
    if array.shape[3] > dimensions:
        seen &= np.asarray(array[..., dimensions]) > 0
    points[~seen] = 0
    seen &= (points != 0).any(axis=-1) | _origins(points, seen)
    if not seen.any():
        raise StoreError(f"{where}: expected joints to draw, found none that was seen")
    if (farthest := np.abs(points).max()) > FARTHEST:
        raise StoreError(f"{where}: expected coordinates up to {FARTHEST:g}, found {farthest:g}")
    up = up or ("-y" if units == "pixels" else "y")
    known: np.ndarray = np.any(seen, axis=2, keepdims=True) & np.any(seen, axis=0)
    return Clip(interpolate_lost_joints(points)[0], seen, known, skeleton, up, units, rate, title, details)


def _origins(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """(T, M, V) joints that a preprocessing has made the origin: a person's only one that is always at 0, near it."""
    elsewhere: np.ndarray = (points != 0).any(axis=-1)
    present: np.ndarray = np.any(elsewhere, axis=2, keepdims=True)
    still: np.ndarray = (~elsewhere & seen | ~present).all(axis=0)
    others = np.where(elsewhere[..., None], points, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # frames without the person: NaN, which is amid nothing
        low, high = np.nanmin(others, axis=2), np.nanmax(others, axis=2)
    reach = NEAR * (high - low).max(axis=-1, keepdims=True)
    amid = ((low <= reach) & (high >= -reach)).all(axis=-1)
    mostly = 2 * amid.sum(axis=0) > present[..., 0].sum(axis=0)
    alone = still.sum(axis=1) == 1  # of several, which were lost cannot be told
    return present & (still & (alone & mostly)[:, None])


def _looks_like_pixels(array: np.ndarray) -> bool:
    if array.shape[-1] < 3:
        return True
    scores = np.asarray(array[..., 2])
    flat = array.shape[-1] == 3 and ((scores >= 0) & (scores <= 1) | np.isnan(scores)).all()
    return bool(flat and np.nanmax(array[..., :2], initial=0) > 10)

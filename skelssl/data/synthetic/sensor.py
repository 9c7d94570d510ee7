"""What a depth camera sees: places, noise, lost tracking, bodies that leave, bodies that are none.

Camera coordinates as Kinect v2 has them: x to the camera's left, y up, z away from it, in metres. A person who faces
the camera thus has the left shoulder at smaller x than the right one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from skelkern import NtuRecording
from skelssl import skeletons
from skelssl.data.synthetic.body import SIDES, SKELETON
from skelssl.data.synthetic.geometry import cross, perpendicular, rotation, turned, unit
from skelssl.skeletons import Skeleton

AZIMUTHS = {1: 0.0, 2: np.pi / 4, 3: -np.pi / 4}  # of the cameras, about the scene
DEPTH_CAMERA = (366.0, 256.0, 208.0)  # focal length, column and row of the centre in pixels
COLOUR_CAMERA = (1060.0, 960.0, 540.0)
COLOUR_OFFSET = np.array([0.052, -0.02, 0.0])  # of the colour camera, in metres
NEAREST = 0.5  # metres that the camera can see
TRACKED, INFERRED, LOST = 2, 1, 0
FIRST_BODY = 72057594037927936  # tracking ids count from here

NOISE = 0.004  # standard deviation in metres of x and y at 2 m; it grows with the square of the distance
DEPTH_NOISE = 1.8  # times that, of z
KNOT = 6  # frames between two knots of the slow part of the noise
LOST_PER_SECOND = 0.2  # limbs whose tracking fails
LEAVES, GHOST, NEW_ID = 0.05, 0.08, 0.04  # share of the recordings in which that happens


@dataclass(frozen=True)
class Camera:
    """One of the three cameras of a setup; `height` and `distance` in metres, `azimuth` and `pitch` in radians."""

    azimuth: float
    height: float
    distance: float
    pitch: float


def draw_camera(random: np.random.Generator, number: int) -> Camera:
    """A camera at the height and the distance of a setup, looking at the middle of the scene.

    Args:
        random: of the setup, the same for its three cameras.
        number: 1 to 3.
    """
    height, distance = random.uniform(0.7, 2.2), random.uniform(2.4, 4.2)
    error = random.normal(scale=0.04, size=(3, 2))[number - 1]
    return Camera(AZIMUTHS[number] + error[0], height, distance, np.arctan2(height - 1.0, distance) + error[1])


def seen(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Points (..., 3) of the scene, whose y is upwards over the floor, in camera coordinates.

    At azimuth 0 the camera stands on the z axis and looks along -z.
    """
    around = turned(points, np.pi - camera.azimuth) + np.array([0, -camera.height, camera.distance])
    angle = np.array([-camera.pitch])
    return around @ rotation(angle, np.zeros(1), np.zeros(1))[0].T


def record(bodies: list[np.ndarray], random: np.random.Generator) -> NtuRecording:
    """A recording of bodies (T, V, 3) in camera coordinates, with everything that goes wrong.

    Values have the precision of the text format, `skelssl.data.synthetic.text`.
    """
    frames = len(bodies[0])
    tracks = [_track(body, random) for body in bodies]
    if random.uniform() < GHOST:
        tracks.append(_ghost(bodies[0], random))
    if random.uniform() < LEAVES:
        tracks[0].present[:] &= _stay(frames, random)
    order = random.permutation(len(tracks))
    present = np.stack([tracks[i].present for i in order], axis=1)
    joints = np.stack([_measured(tracks[i]) for i in order], axis=1)[present]
    ids = np.stack([tracks[i].ids for i in order], axis=1)[present]
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
    return NtuRecording(offsets, ids, _body_info(joints, random), joints)


@dataclass
class _Track:
    """One body as it is tracked: joints (T, V, 3), states (T, V), where it is present (T), its ids (T)."""

    joints: np.ndarray
    states: np.ndarray
    present: np.ndarray
    ids: np.ndarray


def _track(body: np.ndarray, random: np.random.Generator) -> _Track:
    frames, joints = body.shape[:2]
    ids = np.full(frames, FIRST_BODY + int(random.integers(1, 2**17)))
    if random.uniform() < NEW_ID:
        ids[int(random.integers(frames)) :] += int(random.integers(1, 64))
    states = np.full((frames, joints), TRACKED)
    hidden = _hidden(body)
    states[:, hidden] = INFERRED
    scale = NOISE * (body[..., 2:] / 2) ** 2 * _restlessness()[:, None] * np.array([1, 1, DEPTH_NOISE])
    scale[:, hidden] *= 2
    noisy = body + scale * (0.6 * random.normal(size=body.shape) + _slow(random, body.shape))
    _lose_limbs(noisy, states, random)
    return _Track(noisy, states, np.ones(frames, dtype=bool), ids)


def _slow(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise that changes over some frames, standard deviation about 1: knots, and straight lines between them."""
    knots = random.normal(size=(shape[0] // KNOT + 2, *shape[1:]))
    knot, part = np.divmod(np.arange(shape[0]), KNOT)
    return knots[knot] + (part / KNOT)[:, None, None] * (knots[knot + 1] - knots[knot])


@cache
def _skeleton() -> Skeleton:
    return skeletons.get(SKELETON)


@cache
def _restlessness() -> np.ndarray:
    """(V) how much more the ends of limbs jitter than the trunk."""
    more = {
        "elbow": 1.3,
        "wrist": 1.8,
        "hand": 2.2,
        "thumb": 2.8,
        "hand_tip": 2.6,
        "knee": 1.3,
        "ankle": 1.8,
        "foot": 2.2,
    }
    return np.array([more.get(name.partition("_")[2], 1.0) for name in _skeleton().joints])


@cache
def _limbs() -> tuple[np.ndarray, ...]:
    """Joints of each limb that can be lost: left and right arms and legs from the elbow or knee on."""
    skeleton = _skeleton()
    roots = {skeleton.joint(f"{side}_{name}") for side in SIDES for name in ("shoulder", "hip")}
    names = ("left_arm", "right_arm", "left_leg", "right_leg")
    return tuple(np.array([joint for joint in skeleton.parts[name] if joint not in roots]) for name in names)


def _hidden(body: np.ndarray) -> np.ndarray:
    """Joints of the arm that the trunk hides when the body is seen from the side."""
    left, right = (_skeleton().joint(f"{side}_shoulder") for side in SIDES)
    across = (body[:, right] - body[:, left]).mean(axis=0)
    if abs(across[2]) < 0.85 * np.linalg.norm(across):
        return np.array([], dtype=np.int64)
    return _limbs()[1 if across[2] > 0 else 0]


def _lose_limbs(joints: np.ndarray, states: np.ndarray, random: np.random.Generator) -> None:
    """Tracking fails for some frames: the limb stays where it was, or is somewhere else altogether."""
    frames = len(joints)
    for _ in range(random.poisson(LOST_PER_SECOND * frames / 30)):
        limb = _limbs()[int(random.integers(len(_limbs())))]
        begin = int(random.integers(frames))
        lost = slice(begin, begin + int(random.integers(4, 16)))
        wrong = random.uniform() < 0.35
        shift = random.normal(scale=0.2, size=(1, 1, 3)) if wrong else np.zeros((1, 1, 3))
        count = len(joints[lost])
        joints[lost, limb] = joints[begin, limb] + shift + random.normal(scale=0.01, size=(count, len(limb), 3))
        states[lost, limb] = LOST if wrong else INFERRED


def _stay(frames: int, random: np.random.Generator) -> np.ndarray:
    """(T) where a body is that enters late, leaves early or is lost in between; half of the frames at least."""
    present, away = np.ones(frames, dtype=bool), int(random.integers(3, frames // 2))
    begin = (0, frames - away, int(random.integers(1, frames - away)))[int(random.integers(3))]
    present[begin : begin + away] = False
    return present


def _ghost(body: np.ndarray, random: np.random.Generator) -> _Track:
    """Some furniture taken for a person: for some frames, a still, distorted body beside the first one."""
    still = body[0] - body[0].mean(axis=0)
    stretch = random.uniform(0.3, 1.2, size=3)
    aside = np.array(
        [random.choice([-1, 1]) * random.uniform(0.7, 1.3), random.uniform(-0.4, 0.1), random.uniform(0, 1)]
    )
    place = still * stretch + body[0].mean(axis=0) + aside
    ghost = _track(np.broadcast_to(place, body.shape), random)
    ghost.states[:] = np.minimum(ghost.states, INFERRED)
    begin = int(random.integers(len(body)))
    ghost.present[:] = False
    ghost.present[begin : begin + int(random.integers(3, 25))] = True
    return ghost


def _measured(track: _Track) -> np.ndarray:
    """(T, V, 12) all numbers of the format."""
    depth, colour = (
        _pixels(track.joints, *camera, offset)
        for camera, offset in ((DEPTH_CAMERA, np.zeros(3)), (COLOUR_CAMERA, COLOUR_OFFSET))
    )
    states = track.states[..., None]
    return np.concatenate([track.joints, depth, colour, orientations(track.joints), states], axis=-1)


def _pixels(points: np.ndarray, focal: float, column: float, row: float, offset: np.ndarray) -> np.ndarray:
    """(..., 2) where a camera shows points; the picture is mirrored, as Kinect's is."""
    x, y, z = np.moveaxis(points + offset, -1, 0)
    z = np.maximum(z, NEAREST)
    return np.stack((column + focal * x / z, row - focal * y / z), axis=-1)


def orientations(joints: np.ndarray) -> np.ndarray:
    """(..., V, 4) quaternions w, x, y, z that turn y into the bone's direction; zero at the ends of limbs, as Kinect's.

    x is the body's left as far as it is perpendicular to the bone.
    """
    skeleton = _skeleton()
    parents = np.array(skeleton.parents)
    base, left, right = (skeleton.joint(name) for name in ("spine_middle", "left_shoulder", "right_shoulder"))
    bones = joints - joints[..., parents, :]
    bones[..., skeleton.centre, :] = joints[..., skeleton.centre, :] - joints[..., base, :]
    y = unit(bones)
    x = perpendicular(np.broadcast_to((joints[..., left, :] - joints[..., right, :])[..., None, :], y.shape), y)
    quaternions = _quaternions(np.stack((x, y, cross(x, y)), axis=-1))
    leaves = [joint for joint in range(skeleton.num_joints) if joint not in skeleton.parents]
    quaternions[..., leaves, :] = 0
    return quaternions


def _quaternions(matrices: np.ndarray) -> np.ndarray:
    """(..., 4) unit quaternions w, x, y, z with w >= 0 of rotations (..., 3, 3).

    Of the four rows of q qᵀ, which are linear in the matrix, the longest is taken, so that half turns are exact.
    """
    a, b, c = (matrices[..., i, i] for i in range(3))
    x, y, z = (matrices[..., i, j] - matrices[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    xy, xz, yz = (matrices[..., i, j] + matrices[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    rows = [
        (1 + a + b + c, x, y, z),
        (x, 1 + a - b - c, xy, xz),
        (y, xy, 1 - a + b - c, yz),
        (z, xz, yz, 1 - a - b + c),
    ]
    products = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    longest = np.stack([rows[i][i] for i in range(4)], axis=-1).argmax(axis=-1)
    row = np.take_along_axis(products, longest[..., None, None], axis=-2)[..., 0, :]
    length = np.sqrt((row * row).sum(axis=-1, keepdims=True))
    return row / np.maximum(length, 1e-12) * np.where(row[..., :1] < 0, -1, 1)


def _body_info(joints: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R, 9) what the format says of each body in each frame; hands' states are unknown, the lean is the trunk's."""
    skeleton, count = _skeleton(), len(joints)
    spine = joints[:, skeleton.centre, :3] - joints[:, skeleton.joint("spine_base"), :3]
    lean = spine[:, [0, 2]] / np.maximum(np.abs(spine).sum(axis=1, keepdims=True), 1e-6)
    hands = np.stack((random.integers(0, 2, size=count), np.zeros(count), np.zeros(count), np.zeros(count)), axis=1)
    return np.column_stack((np.zeros(count), hands, np.zeros(count), lean, np.full(count, TRACKED)))

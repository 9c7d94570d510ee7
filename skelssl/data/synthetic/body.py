"""The body: proportions, joint limits and forward kinematics of ntu25.

A person's own frame of reference has x to the left, y up and z forward at the place and in the direction in which the
motion begins; metres and radians. Arms and legs are given by where wrists and ankles should be; what no joint can do
is cut off, so that limits and the lengths of bones hold for every pose.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from skelssl import skeletons
from skelssl.data.synthetic.geometry import cross, dot, perpendicular, rotation, unit

SKELETON = "ntu25"
SIDES = ("left", "right")
MIRROR = np.array([1.0, -1.0])[:, None, None] * np.array([1.0, 0, 0]) + np.array([0, 1.0, 1.0])  # of x, by side

# Ranges in radians: of flexion, lateral bend and turn, or of a hinge, or how far a limb's first bone gets from an axis.
PELVIS = (-0.5, 1.1)
TRUNK = ((-0.4, 1.2), (-0.6, 0.6), (-0.9, 0.9))
NECK = ((-0.8, 0.9), (-0.6, 0.6), (-1.2, 1.2))
ELBOW = (0.06, 2.55)
KNEE = (0.06, 2.5)
ANKLE = (0.9, 2.3)  # between shank and foot
SHOULDER_AXIS, SHOULDER_CONE = unit(np.array([0.6, 0.0, 0.6])), 2.1
HIP_AXIS, HIP_CONE = unit(np.array([0.2, -0.75, 0.6])), 1.3

# Where elbows and knees point, of the left side.
ELBOW_POLE = unit(np.array([0.55, -0.6, -0.7]))
KNEE_POLE = unit(np.array([0.15, 0.45, 1.0]))

# Bones in metres of a body whose head is at 1.73 m, x outwards.
BONES = {
    "lower_spine": (0.0, 0.30, 0.0),
    "upper_spine": (0.0, 0.23, 0.0),
    "neck": (0.0, 0.08, 0.0),
    "head": (0.0, 0.15, 0.02),
    "shoulder": (0.17, -0.05, -0.01),
    "upper_arm": (0.0, -0.28, 0.0),
    "forearm": (0.0, -0.25, 0.0),
    "hand": (0.0, 0.075, 0.0),  # along the forearm, as are thumb and tip
    "thumb": (-0.03, 0.03, 0.02),
    "tip": (0.03, 0.05, 0.0),
    "hip": (0.085, -0.06, 0.0),
    "thigh": (0.0, -0.42, 0.0),
    "shank": (0.0, -0.40, 0.0),
    "foot": (0.0, 0.0, 0.14),
}
ANKLE_HEIGHT = 0.09


@dataclass(frozen=True)
class Body:
    """Proportions of one person.

    Attributes:
        size: of everything, 1 for the body of `BONES`.
        bones: vectors in metres, right ones like left ones.
    """

    size: float
    bones: dict[str, np.ndarray]

    def length(self, bone: str) -> float:
        return float(np.linalg.norm(self.bones[bone]))

    @property
    def leg(self) -> float:
        return self.length("thigh") + self.length("shank")

    @property
    def arm(self) -> float:
        return self.length("upper_arm") + self.length("forearm")

    @property
    def standing(self) -> float:
        """Height of the base of the spine over the floor, the knees hardly bent."""
        return 0.985 * self.leg + self.size * ANKLE_HEIGHT - float(self.bones["hip"][1])


def draw_body(random: np.random.Generator) -> Body:
    """A body between 1.45 and 1.95 m, its parts of different proportions."""
    size = random.uniform(0.82, 1.06)
    trunk, arms, legs, width = random.uniform(0.92, 1.08, size=4)
    scales = {
        "lower_spine": trunk, "upper_spine": trunk, "upper_arm": arms, "forearm": arms, "thigh": legs, "shank": legs,
        "shoulder": width, "hip": width,
    }  # fmt: skip
    return Body(size, {name: size * scales.get(name, 1.0) * np.array(bone) for name, bone in BONES.items()})


@dataclass
class Pose:
    """What a body does in T frames, before its limits.

    Attributes:
        pelvis: (T, 3) place of the base of the spine.
        turn: (T) direction of the pelvis, 0 forwards, positive to the left.
        tilt: (T) of the pelvis, positive forwards.
        trunk, neck: (T, 3) flexion, lateral bend, turn.
        hands: (2, T, 3) places of the left and the right wrist, from the middle of the shoulders in the chest's own
            directions, the right one mirrored: x is outwards.
        reach: (2, T, 3) places of the wrists in the person's frame.
        reaching: (2, T) from 0, where `hands` counts, to 1, where `reach` does.
        feet: (2, T, 3) places of the ankles in the person's frame.
    """

    pelvis: np.ndarray
    turn: np.ndarray
    tilt: np.ndarray
    trunk: np.ndarray
    neck: np.ndarray
    hands: np.ndarray
    feet: np.ndarray
    reach: np.ndarray = field(init=False)
    reaching: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.reach = np.zeros_like(self.hands)
        self.reaching = np.zeros(self.hands.shape[:2])

    def __len__(self) -> int:
        return len(self.pelvis)


def forward_kinematics(body: Body, pose: Pose) -> np.ndarray:
    """(T, V, 3) joints of a pose within the joints' limits, in the person's frame."""
    bones, zero = body.bones, np.zeros(len(pose))
    pelvis = rotation(np.clip(pose.tilt, *PELVIS), zero, pose.turn)
    half = rotation(*(_clipped(pose.trunk, TRUNK) / 2).T)
    lower = pelvis @ half
    chest = lower @ half
    head = chest @ rotation(*_clipped(pose.neck, NECK).T)
    places = {"spine_base": pose.pelvis}
    places["spine_middle"] = pose.pelvis + lower @ bones["lower_spine"]
    places["spine_shoulder"] = places["spine_middle"] + chest @ bones["upper_spine"]
    places["neck"] = places["spine_shoulder"] + head @ bones["neck"]
    places["head"] = places["neck"] + head @ bones["head"]
    places |= _arms(body, pose, chest, places["spine_shoulder"])
    places |= _legs(body, pose, pelvis)
    return np.stack([places[name] for name in _joints()], axis=1)


@cache
def _joints() -> tuple[str, ...]:
    return skeletons.get(SKELETON).joints


def _clipped(angles: np.ndarray, ranges: tuple[tuple[float, float], ...]) -> np.ndarray:
    low, high = np.array(ranges).T
    return np.clip(angles, low, high)


def _arms(body: Body, pose: Pose, chest: np.ndarray, middle: np.ndarray) -> dict[str, np.ndarray]:
    """Shoulders, elbows, wrists and hands; solved for two left arms, one of them the mirrored right one."""
    bones, weight = body.bones, pose.reaching[..., None]
    reach = ((pose.reach - middle)[..., None, :] @ chest)[..., 0, :] * MIRROR
    target = pose.hands + weight * (reach - pose.hands) - bones["shoulder"]
    lengths = body.length("upper_arm"), body.length("forearm")
    upper, lower, normal = _limb(target, lengths, ELBOW_POLE, ELBOW, SHOULDER_AXIS, SHOULDER_CONE)
    own = {"shoulder": np.broadcast_to(bones["shoulder"], target.shape)}
    own["elbow"] = own["shoulder"] + lengths[0] * upper
    own["wrist"] = own["elbow"] + lengths[1] * lower
    across = cross(lower, normal)
    for name, bone, start in (("hand", "hand", "wrist"), ("thumb", "thumb", "hand"), ("hand_tip", "tip", "thumb")):
        x, y, z = bones[bone]
        own[name] = own[start] + y * lower + x * normal + z * across
    return _by_side(own, chest, middle)


def _legs(body: Body, pose: Pose, pelvis: np.ndarray) -> dict[str, np.ndarray]:
    """Hips, knees, ankles and feet; feet lie flat where the ankles allow it."""
    bones = body.bones
    target = ((pose.feet - pose.pelvis)[..., None, :] @ pelvis)[..., 0, :] * MIRROR - bones["hip"]
    lengths = body.length("thigh"), body.length("shank")
    upper, lower, _ = _limb(target, lengths, KNEE_POLE, KNEE, HIP_AXIS, HIP_CONE)
    own = {"hip": np.broadcast_to(bones["hip"], target.shape)}
    own["knee"] = own["hip"] + lengths[0] * upper
    own["ankle"] = own["knee"] + lengths[1] * lower
    down = -pelvis[:, 1]  # of the floor, in the directions of the pelvis
    forward = perpendicular(np.broadcast_to(np.array([0.0, 0.0, 1.0]), down.shape), down)
    flat = unit(forward + 0.2 * down) * MIRROR
    angle = np.clip(np.arccos(np.clip(dot(flat, lower), -1, 1)), *ANKLE)
    own["foot"] = own["ankle"] + body.length("foot") * (
        np.cos(angle) * lower + np.sin(angle) * perpendicular(flat, lower)
    )
    return _by_side(own, pelvis, pose.pelvis)


def _by_side(own: dict[str, np.ndarray], frame: np.ndarray, origin: np.ndarray) -> dict[str, np.ndarray]:
    """Points (2, T, 3) of both sides in a bone's directions, the right ones mirrored, in the person's frame."""
    placed = {name: ((points * MIRROR)[..., None, :] @ frame.swapaxes(1, 2))[..., 0, :] for name, points in own.items()}
    return {f"{side}_{name}": placed[name][i] + origin for name in own for i, side in enumerate(SIDES)}


def _limb(
    target: np.ndarray,
    lengths: tuple[float, float],
    pole: np.ndarray,
    hinge: tuple[float, float],
    axis: np.ndarray,
    cone: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of a limb's two bones, and the axis of the hinge between them, that take its end to a target.

    Args:
        target: (2, T, 3) from the limb's root.
        lengths: of the bones.
        pole: where the hinge points.
        hinge: range of its flexion.
        axis, cone: the first bone stays within the angle `cone` of this axis.
    """
    first, second = lengths
    low, high = (np.sqrt(first**2 + second**2 + 2 * first * second * np.cos(angle)) for angle in reversed(hinge))
    distance = np.clip(np.sqrt(dot(target, target)), low, high)
    along = unit(target)
    aside = perpendicular(np.broadcast_to(pole, along.shape), along)
    cosine = np.clip((first**2 + distance**2 - second**2) / (2 * first * distance), -1, 1)
    upper = _into_cone(cosine * along + np.sqrt(1 - cosine**2) * aside, axis, cone)
    normal = perpendicular(cross(along, aside), upper)
    bend = np.clip((distance**2 - first**2 - second**2) / (2 * first * second), -1, 1)
    lower = bend * upper + np.sqrt(1 - bend**2) * cross(upper, normal)
    return upper, lower, normal


def _into_cone(direction: np.ndarray, axis: np.ndarray, cone: float) -> np.ndarray:
    near = np.cos(cone) * axis + np.sin(cone) * perpendicular(direction, axis)
    return np.where(dot(direction, axis) < np.cos(cone), near, direction)

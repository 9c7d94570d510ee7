"""Motions of two persons, who stand opposite each other at some distance."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skelssl.data.synthetic.body import Pose
from skelssl.data.synthetic.geometry import smooth, through, turned
from skelssl.data.synthetic.performer import Performance, standing, walk

Pair = tuple[Performance, Performance]


@dataclass(frozen=True)
class Interaction:
    """A class of motions of two persons.

    Attributes:
        motion: gives both poses, each in its person's own frame, and the distance at which they begin in metres; the
            second person faces the first.
        seconds: usual duration.
        whole: it goes on from the first frame to the last.
    """

    motion: Callable[[Pair], tuple[Pose, Pose, float]]
    seconds: float
    whole: bool = False


def _opposite(point: np.ndarray, distance: float) -> np.ndarray:
    """A point in the frame of the person opposite."""
    return turned(point - np.array([0, 0, distance]), np.pi)


def _shake_hands(pair: Pair) -> tuple[Pose, Pose, float]:
    first, second = pair
    poses = standing(first), standing(second)
    arm = (first.body.arm + second.body.arm) / 2
    distance = 1.5 * arm + first.random.uniform(0.0, 0.12)
    hand = first.leading
    height = 0.6 * (first.body.standing + second.body.standing) + first.random.uniform(-0.05, 0.05)
    held = first.during(0.3, 0.3)
    shake = 0.07 * first.vigour * first.swing(1.4, 2.2) * smooth(2 * held - 1)
    middle = np.zeros((len(held), 3)) + np.array([0, height, distance / 2])
    middle[:, 1] += shake
    for pose, where, forward in ((poses[0], middle, 1.0), (poses[1], _opposite(middle, distance), 1.0)):
        # hands overlap: each wrist stays behind the point where they meet
        pose.reach[hand] = where - np.array([0, 0, 0.06 * forward])
        pose.reaching[hand] = held
        pose.trunk[:, 0] += 0.1 * held
    return *poses, distance


def _push(pair: Pair) -> tuple[Pose, Pose, float]:
    """The first person pushes with one hand or both, the second one steps back."""
    first, second = pair
    pushing, pushed = standing(first), standing(second)
    distance = 1.15 * first.body.arm + first.random.uniform(0.0, 0.1)
    touch = through(first.phase, [0, 0.35, 0.55, 1], [0.0, 1, 1, 0])
    back = first.vigour * through(first.phase, [0.35, 0.7], [0.0, 1])
    lean = through(first.phase, [0.33, 0.5, 0.9], [0.0, 1, 0])
    retreat = second.body.size * 0.35
    pushed.pelvis[:, 2] -= retreat * back
    for side, start in ((second.leading, 0.38), (1 - second.leading, 0.55)):
        step = first.vigour * through(first.phase, [start, start + 0.2], [0.0, 1])
        pushed.feet[side, :, 2] -= retreat * step
        pushed.feet[side, :, 1] += 0.08 * second.body.size * np.sin(np.pi * np.clip(step / first.vigour, 0, 1))
    pushed.tilt -= 0.2 * lean
    pushed.trunk[:, 0] -= 0.15 * lean
    pushed.hands[..., 2] += 0.2 * second.body.size * lean
    pushed.hands[..., 0] += 0.1 * second.body.size * lean
    pushing.pelvis[:, 2] += 0.12 * first.body.size * touch
    pushing.tilt += 0.15 * touch
    pushing.trunk[:, 0] += 0.12 * touch
    chest = pushed.pelvis + np.array([0, 0.42 * second.body.size, 0.14 * second.body.size])
    both = first.random.uniform() < 0.7
    for hand in (0, 1) if both else (first.leading,):
        # the right hand of the first person touches what the second one has on its left
        aside = np.array([0.12 * second.body.size * (-1 if hand == 0 else 1), 0, 0])
        pushing.reach[hand] = _opposite(chest + aside, distance)
        pushing.reaching[hand] = touch
    return pushing, pushed, distance


def _walk_towards(pair: Pair) -> tuple[Pose, Pose, float]:
    poses = tuple(_walking(one) for one in pair)
    ways = [float(pose.pelvis[-1, 2]) for pose in poses]
    return poses[0], poses[1], sum(ways) + pair[0].random.uniform(0.75, 1.3)


def _walk_apart(pair: Pair) -> tuple[Pose, Pose, float]:
    """Back to back."""
    poses = tuple(_walking(one) for one in pair)
    distance = pair[0].random.uniform(0.75, 1.3)
    for pose in poses:
        pose.pelvis, pose.feet, pose.turn = turned(pose.pelvis, np.pi), turned(pose.feet, np.pi), pose.turn + np.pi
    return poses[0], poses[1], distance


def _walking(performance: Performance) -> Pose:
    pose = standing(performance)
    pace = performance.random.uniform(0.8, 1.1) * performance.subject.tempo
    cycles = performance.random.uniform() + pace * performance.seconds
    before = pose.pelvis[0].copy()
    walk(performance, pose, cycles, performance.random.uniform(0.9, 1.2) * performance.body.leg, 0.0)
    shift = np.array([0, 0, pose.pelvis[0, 2] - before[2]])
    pose.pelvis -= shift
    pose.feet -= shift
    return pose


PAIRS: dict[str, Interaction] = {
    "shake hands": Interaction(_shake_hands, 2.0),
    "push": Interaction(_push, 1.5),
    "walk towards each other": Interaction(_walk_towards, 1.6, whole=True),
    "walk apart": Interaction(_walk_apart, 1.6, whole=True),
}

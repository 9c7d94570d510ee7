"""Motions of one person. Several differ in the order of time alone: sit down and stand up, pick up and put down."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skelssl.data.synthetic.body import Pose
from skelssl.data.synthetic.geometry import smooth, through
from skelssl.data.synthetic.performer import Performance, move_hand, ready, sit, standing, walk


@dataclass(frozen=True)
class Action:
    """A class of motions.

    Attributes:
        motion: of a person.
        seconds: usual duration.
        whole: it goes on from the first frame to the last.
        carrying: what hands carry tells it from another class.
    """

    motion: Callable[[Performance], Pose]
    seconds: float
    whole: bool = False
    carrying: bool = False


def _drink(performance: Performance) -> Pose:
    pose = ready(performance)
    move_hand(performance, pose, performance.leading, [0, 0.35, 0.65, 1], [None, "mouth", "mouth", None])
    pose.neck[:, 0] -= 0.35 * performance.vigour * performance.during(0.45, 0.45)
    return pose


def _put_on_hat(performance: Performance) -> Pose:
    return _hat(performance, [0, 0.45, 0.6, 1], ["belly", "hat", "hat", None])


def _take_off_hat(performance: Performance) -> Pose:
    return _hat(performance, [0, 0.4, 0.55, 1], [None, "hat", "hat", "belly"])


def _hat(performance: Performance, times: list[float], places: list[str | None]) -> Pose:
    """With one hand or with both."""
    pose = ready(performance)
    both = performance.random.uniform() < 0.5
    for hand in (0, 1) if both else (performance.leading,):
        move_hand(performance, pose, hand, times, places)
    pose.neck[:, 0] += 0.2 * performance.during(0.5, 0.5)
    return pose


def _sit_down(performance: Performance) -> Pose:
    pose = standing(performance)
    sit(performance, pose, smooth(performance.phase))
    return pose


def _stand_up(performance: Performance) -> Pose:
    pose = standing(performance)
    sit(performance, pose, smooth(1 - performance.phase))
    return pose


def _pick_up(performance: Performance) -> Pose:
    return _to_the_floor(performance, [None, None, "belly", "belly"])


def _put_down(performance: Performance) -> Pose:
    return _to_the_floor(performance, ["belly", "belly", None, None])


def _to_the_floor(performance: Performance, places: list[str | None]) -> Pose:
    """A hand reaches the floor, knees and hips bent as the person likes; the other hand helps half of the time."""
    pose, body, hand, random = standing(performance), performance.body, performance.leading, performance.random
    down = through(performance.phase, [0, 0.45, 0.55, 1], [0.0, 1, 1, 0])
    squat = random.uniform(0.25, 0.6)
    pose.pelvis[:, 1] -= squat * body.leg * down
    pose.pelvis[:, 2] -= 0.15 * body.size * down
    pose.tilt += (1.25 - 0.9 * squat) * down
    pose.trunk[:, 0] += 0.55 * down
    pose.neck[:, 0] -= 0.3 * down
    hands = (0, 1) if random.uniform() < 0.5 else (hand,)
    spot = body.size * np.array([0.0, random.uniform(0.1, 0.25), random.uniform(0.3, 0.45)])
    for side in hands:
        move_hand(performance, pose, side, [0, 0.45, 0.55, 1], places)
        width = body.size * (0.1 if len(hands) == 2 else 0.03)
        pose.reach[side] = spot + np.array([width if side == 0 else -width, 0, 0])
        pose.reaching[side] = smooth(1.6 * down - 0.6)
    return pose


def _wave(performance: Performance) -> Pose:
    pose, hand = ready(performance), performance.leading
    move_hand(performance, pose, hand, [0, 0.22, 0.8, 1], [None, "greeting", "greeting", None])
    swing = performance.swing(1.2, 2.0) * performance.during(0.22, 0.22)
    pose.hands[hand, :, 0] += 0.15 * performance.body.size * performance.vigour * swing
    pose.trunk[:, 1] += 0.04 * swing
    return pose


def _clap(performance: Performance) -> Pose:
    pose = ready(performance)
    apart = 0.15 * (1 + performance.swing(1.3, 2.2)) * performance.vigour * performance.during(0.2, 0.2)
    for hand in (0, 1):
        move_hand(performance, pose, hand, [0, 0.2, 0.82, 1], [None, "chest", "chest", None])
        _between(performance, pose, hand, 0.03 + apart)
    return pose


def _rub_hands(performance: Performance) -> Pose:
    pose = ready(performance)
    slide = 0.08 * performance.vigour * performance.swing(1.3, 2.2) * performance.during(0.2, 0.2)
    for hand, sign in ((0, 1), (1, -1)):
        move_hand(performance, pose, hand, [0, 0.2, 0.82, 1], [None, "chest", "chest", None])
        _between(performance, pose, hand, np.full(len(pose), 0.04))
        pose.hands[hand, :, 2] += sign * performance.body.size * slide
    return pose


def _between(performance: Performance, pose: Pose, hand: int, half: np.ndarray) -> None:
    """Both hands at one height before the middle of the body while they act, `half` (T) metres from it."""
    together = performance.during(0.2, 0.18)
    rows = pose.hands[hand]
    meeting = np.stack((performance.body.size * half, rows[:, 1], rows[:, 2]), axis=-1)
    if hand == 1:
        meeting[:, 1:] = pose.hands[0, :, 1:]
    pose.hands[hand] += together[:, None] * (meeting - rows)


def _throw(performance: Performance) -> Pose:
    pose, hand = standing(performance), performance.leading
    times: list[float] = [0, 0.45, 0.65, 0.75, 1]
    move_hand(performance, pose, hand, times, [None, "behind head", "ahead", "across", None])
    wind = through(performance.phase, times, [0.0, -1, 0.8, 0.9, 0])
    pose.trunk[:, 2] -= 0.45 * performance.outwards * performance.vigour * wind
    pose.trunk[:, 0] += 0.3 * performance.vigour * wind
    pose.pelvis[:, 2] += 0.1 * performance.body.size * wind
    return pose


def _kick(performance: Performance) -> Pose:
    pose, body, foot = standing(performance), performance.body, performance.leading
    back, up = 0.3 * body.leg, 0.85 * body.leg * min(performance.vigour, 1.1)
    height = performance.random.uniform(0.45, 0.8) * body.leg
    times: list[float] = [0, 0.35, 0.6, 1]
    path = [np.zeros(3), np.array([0, 0.25 * body.leg, -back]), np.array([0, height, up]), np.zeros(3)]
    pose.feet[foot] += through(performance.phase, times, path)
    lean = through(performance.phase, times, [0.0, 1, -1, 0])
    pose.tilt += 0.25 * lean
    pose.pelvis[:, 0] -= performance.outwards * performance.subject.stance * performance.during(0.3, 0.3)
    for hand, sign in ((foot, -1), (1 - foot, 1)):
        pose.hands[hand, :, 2] -= sign * 0.12 * body.size * lean
        pose.hands[hand, :, 0] += 0.12 * body.size * performance.during(0.3, 0.3)
    return pose


def _jump(performance: Performance) -> Pose:
    """Once or several times."""
    pose, body = standing(performance), performance.body
    jumps = performance.random.integers(1, 4)
    part = np.mod(performance.phase * jumps, 1) * ((performance.phase > 0) & (performance.phase < 1))
    crouch = through(part, [0, 0.3, 0.45, 0.7, 0.82, 1], [0.0, 1, -0.1, -0.1, 1, 0])
    flight = np.clip((part - 0.43) / 0.3, 0, 1)
    rise = 0.26 * body.size * performance.vigour * 4 * flight * (1 - flight)
    pose.pelvis[:, 1] += rise - 0.2 * body.leg * performance.vigour * np.maximum(crouch, 0)
    pose.feet[..., 1] += 0.9 * rise
    pose.tilt += 0.3 * crouch
    pose.trunk[:, 0] += 0.25 * crouch
    swing = through(part, [0, 0.3, 0.5, 1], [0.0, -1, 1, 0]) * performance.vigour
    pose.hands[..., 2] += 0.28 * body.size * swing
    pose.hands[..., 1] += 0.3 * body.size * np.maximum(swing, 0)
    return pose


def _bow(performance: Performance) -> Pose:
    pose = standing(performance)
    bend = performance.vigour * through(performance.phase, [0, 0.42, 0.58, 1], [0.0, 1, 1, 0])
    pose.tilt += 0.7 * bend
    pose.trunk[:, 0] += 0.5 * bend
    pose.neck[:, 0] += 0.3 * bend
    pose.pelvis[:, 2] -= 0.12 * performance.body.size * bend
    pose.hands[..., 2] += 0.1 * performance.body.size * bend
    return pose


def _walk(performance: Performance) -> Pose:
    pose = standing(performance)
    walk(performance, pose, _cycles(performance), _stride(performance), performance.random.uniform(-0.08, 0.08))
    return pose


def _walk_in_a_circle(performance: Performance) -> Pose:
    pose = standing(performance)
    side = performance.outwards
    stride = 0.75 * _stride(performance)
    walk(performance, pose, _cycles(performance), stride, side * performance.random.uniform(0.9, 1.5))
    pose.trunk[:, 1] -= 0.06 * side
    return pose


def _cycles(performance: Performance) -> np.ndarray:
    pace = performance.random.uniform(0.8, 1.1) * performance.subject.tempo
    return performance.random.uniform() + pace * performance.seconds


def _stride(performance: Performance) -> float:
    return performance.random.uniform(1.2, 1.5) * performance.body.leg * min(performance.vigour, 1.1)


SINGLE: dict[str, Action] = {
    "drink": Action(_drink, 1.5),
    "put on a hat": Action(_put_on_hat, 1.2, carrying=True),
    "take off a hat": Action(_take_off_hat, 1.2, carrying=True),
    "sit down": Action(_sit_down, 1.2),
    "stand up": Action(_stand_up, 1.2),
    "pick up": Action(_pick_up, 1.2, carrying=True),
    "put down": Action(_put_down, 1.2, carrying=True),
    "wave": Action(_wave, 1.5),
    "clap": Action(_clap, 1.5),
    "rub hands": Action(_rub_hands, 1.5),
    "throw": Action(_throw, 1.1),
    "kick": Action(_kick, 1.0),
    "jump": Action(_jump, 1.3),
    "bow": Action(_bow, 1.3),
    "walk": Action(_walk, 2.0, whole=True),
    "walk in a circle": Action(_walk_in_a_circle, 2.2, whole=True),
}

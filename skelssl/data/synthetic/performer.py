"""Who acts and how: subjects with their habits, one performance of an action, and the poses that actions start from."""

from dataclasses import dataclass

import numpy as np

from skelssl.data.synthetic.body import ANKLE_HEIGHT, Body, Pose, draw_body
from skelssl.data.synthetic.geometry import Row, smooth, through

FRAMES_PER_SECOND = 30
FEWEST, MOST = 30, 90  # frames of a recording
ATTENTIVE, FARTHEST = (
    0.1,
    2.6,
)  # share of performances that begin in the right direction; radians away from it otherwise
SEATED = 0.5  # share of performances of what can be done standing or seated

# Places of a wrist in metres, of a body of size 1, from the middle of the shoulders: x outwards, y up, z forward.
PLACES: dict[str, Row] = {
    "mouth": (0.09, 0.09, 0.21),
    "hat": (0.12, 0.31, 0.09),
    "belly": (0.07, -0.29, 0.30),
    "chest": (0.10, -0.12, 0.34),
    "greeting": (0.36, 0.17, 0.17),
    "hip": (0.27, -0.42, -0.02),
    "lap": (0.14, -0.38, 0.26),
    "behind head": (0.33, 0.20, -0.12),
    "ahead": (0.04, 0.06, 0.48),
    "across": (-0.10, -0.32, 0.30),
}


@dataclass(frozen=True)
class Subject:
    """One person: a body and habits.

    Attributes:
        body: proportions.
        dominant: 0 for a left-handed person, 1 for a right-handed one.
        vigour: size of movements, 1 for the usual one.
        tempo: speed of movements, likewise.
        stoop: (3) usual flexion, lateral bend and turn of the trunk.
        chin: usual flexion of the neck.
        stance: half the distance of the feet in metres.
        elbows: how far hanging hands are from the body, in metres.
        balance: (3) how far the body sways to the left, up and forward, in metres.
    """

    body: Body
    dominant: int
    vigour: float
    tempo: float
    stoop: np.ndarray
    chin: float
    stance: float
    elbows: float
    balance: np.ndarray


def draw_subject(random: np.random.Generator) -> Subject:
    """A person drawn from the population."""
    body = draw_body(random)
    return Subject(
        body=body,
        dominant=int(random.uniform() < 0.8),
        vigour=random.uniform(0.75, 1.25),
        tempo=random.uniform(0.75, 1.3),
        stoop=random.normal(scale=(0.06, 0.03, 0.05)) + np.array([0.06, 0.0, 0.0]),
        chin=random.normal(0.05, 0.08),
        stance=body.size * random.uniform(0.07, 0.16),
        elbows=body.size * random.uniform(0.03, 0.16),
        balance=body.size * random.uniform(0.003, 0.02, size=3) * np.array([1, 0.3, 1]),
    )


@dataclass(frozen=True)
class Performance:
    """One repetition of an action by one subject.

    Attributes:
        subject: who acts.
        seconds: (T) from the begin of the recording.
        phase: (T) 0 before the action begins, 1 after its end.
        leading: 0 where the left hand or foot acts, 1 where the right one does.
        vigour: size of this repetition's movements.
        seated: whether an action that allows both is done on a seat.
        empty_handed: hands that rest are not held before the body, as if they carried something.
        random: for the action's own choices.
    """

    subject: Subject
    seconds: np.ndarray
    phase: np.ndarray
    leading: int
    vigour: float
    seated: bool
    empty_handed: bool
    random: np.random.Generator

    @property
    def body(self) -> Body:
        return self.subject.body

    @property
    def outwards(self) -> float:
        """Sign of x on the leading side."""
        return -1.0 if self.leading else 1.0

    def place(self, name: str, spread: float = 0.03) -> np.ndarray:
        """(3) about the named one of `PLACES`, a little elsewhere each time."""
        return self.body.size * (np.array(PLACES[name]) + self.random.normal(scale=spread, size=3))

    def swing(self, low: float, high: float) -> np.ndarray:
        """(T) sine of a frequency between `low` and `high` per second times the subject's tempo, at any phase."""
        start, frequency = self.random.uniform(0, 2 * np.pi), self.random.uniform(low, high) * self.subject.tempo
        return np.sin(2 * np.pi * frequency * self.seconds + start)

    def during(self, rise: float, fall: float) -> np.ndarray:
        """(T) from 0 to 1 within the first `rise` of the action, back within the last `fall`."""
        return smooth(self.phase / rise) * smooth((1 - self.phase) / fall)


def draw_timing(
    random: np.random.Generator, seconds: float, tempo: float, whole: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(T) seconds and (T) phase of a recording in which an action of `seconds` begins late and ends early.

    Args:
        random: of the onset and the rest after the action.
        seconds: usual duration.
        tempo: of the actors.
        whole: the action is a way of moving, from the first frame to the last.
    """
    acting = FRAMES_PER_SECOND * seconds / tempo * random.uniform(0.85, 1.15)
    before, after = FRAMES_PER_SECOND * random.uniform(0, 1.6), FRAMES_PER_SECOND * random.uniform(0, 1.0)
    count = int(np.clip(acting + (0 if whole else before + after), FEWEST, MOST))
    frames = np.arange(count)
    if whole:
        return frames / FRAMES_PER_SECOND, frames / count
    acting = min(acting, 0.85 * count)
    begin = (count - acting) * before / (before + after)
    return frames / FRAMES_PER_SECOND, np.clip((frames - begin) / acting, 0, 1)


def draw_performance(
    random: np.random.Generator, subject: Subject, timing: tuple[np.ndarray, np.ndarray], empty_handed: bool = False
) -> Performance:
    """How a subject does it this time."""
    usual = random.uniform() < 0.6
    return Performance(
        subject=subject,
        seconds=timing[0],
        phase=timing[1],
        leading=subject.dominant if usual else 1 - subject.dominant,
        vigour=subject.vigour * random.uniform(0.85, 1.15),
        seated=bool(random.uniform() < SEATED),
        empty_handed=empty_handed,
        random=random,
    )


def facing(performance: Performance, whole: bool) -> np.ndarray:
    """(T) directions in which the person faces: often elsewhere at first, then where the action needs it.

    Whoever is on the way from the first frame on turns less.
    """
    random = performance.random
    if random.uniform() < ATTENTIVE:
        return np.zeros(len(performance.phase))
    away, seconds = random.uniform(-1, 1) * FARTHEST * (0.45 if whole else 1), random.uniform(0.3, 0.8)
    return away * (1 - smooth(performance.seconds / seconds))


def look_around(performance: Performance, pose: Pose) -> None:
    """The trunk is turned aside at first, and the head with it."""
    random = performance.random
    aside = random.uniform(-1, 1) * 0.8 * (1 - smooth(performance.seconds / random.uniform(0.4, 1.2)))
    pose.trunk[:, 2] += aside
    pose.neck[:, 2] += 0.5 * aside


def standing(performance: Performance) -> Pose:
    """A body that stands, breathes and sways; hands hang, or rest on a hip or before the body."""
    subject, body, random = performance.subject, performance.body, performance.random
    count = len(performance.phase)
    sway = np.stack([performance.swing(0.15, 0.6) for _ in range(3)], axis=-1)
    feet = np.zeros((2, count, 3))
    feet[..., 0] = subject.stance * np.array([[1], [-1]])
    feet[..., 1] = body.size * ANKLE_HEIGHT
    feet[..., 2] = body.size * random.normal(scale=0.04, size=(2, 1))
    trunk = np.tile(subject.stoop + random.normal(scale=(0.04, 0.03, 0.05)), (count, 1))
    trunk += 0.02 * sway
    neck = np.zeros((count, 3)) + np.array([subject.chin, 0, 0]) + random.normal(scale=(0.1, 0.05, 0.25))
    pose = Pose(
        pelvis=np.array([0, body.standing, 0]) + subject.balance * (sway - [0, 1, 0]),
        turn=np.zeros(count),
        tilt=np.zeros(count),
        trunk=trunk,
        neck=neck,
        hands=_idle_hands(performance)[:, None] + 0.01 * body.size * sway,
        feet=feet,
    )
    look_around(performance, pose)
    return pose


def _idle_hands(performance: Performance) -> np.ndarray:
    """(2, 3) places where the hands rest."""
    subject, body, random = performance.subject, performance.body, performance.random
    shoulder = body.bones["shoulder"]
    hanging = shoulder + np.array([subject.elbows, -0.95 * body.arm, 0.06 * body.size])
    hands = np.array([hanging, hanging]) + body.size * random.normal(scale=0.02, size=(2, 3))
    rest = random.uniform(size=2)
    for hand in range(2):
        if rest[hand] < 0.15:
            hands[hand] = performance.place("hip")
        elif rest[hand] < 0.3 and not performance.empty_handed:
            hands[hand] = performance.place("belly", spread=0.05)
    return hands


def seat(performance: Performance) -> np.ndarray:
    """(3) shift of the pelvis from standing to sitting, the feet where they are."""
    body = performance.body
    height = 0.95 * body.length("shank") + body.size * ANKLE_HEIGHT + performance.random.uniform(-0.04, 0.05)
    return np.array([0, height - body.standing, -0.92 * body.length("thigh")])


def sit(performance: Performance, pose: Pose, seated: np.ndarray) -> None:
    """Moves a standing pose to a seat, by how far (T) it is `seated` from 0 to 1.

    On the way the trunk leans forward, as balance needs it.
    """
    way = np.stack((smooth(seated * 1.2), seated, smooth(seated)), axis=-1)
    pose.pelvis += way * seat(performance)
    lean = 4 * seated * (1 - seated)
    pose.tilt += (0.45 + 0.1 * performance.vigour) * lean - 0.1 * seated
    pose.trunk[:, 0] += 0.35 * lean + 0.05 * seated
    pose.neck[:, 0] -= 0.25 * lean
    lap = np.stack([performance.place("lap", spread=0.04) for _ in range(2)])
    pose.hands += smooth(1.3 * seated - 0.3)[None, :, None] * (lap[:, None] - pose.hands)


def ready(performance: Performance) -> Pose:
    """Standing or seated, for actions that allow both."""
    pose = standing(performance)
    if performance.seated:
        sit(performance, pose, np.ones(len(pose)))
    return pose


def walk(performance: Performance, pose: Pose, cycles: np.ndarray, stride: float, curvature: float) -> None:
    """Makes a standing pose walk: feet stay where they are set down, arms swing against them.

    Args:
        performance: of vigour and proportions.
        pose: changed in place.
        cycles: (T) of two steps each; falling numbers walk backwards.
        stride: metres of a cycle.
        curvature: of the path, per metre, positive to the left.
    """
    size = performance.body.size
    body_at, heading = _on_path(stride * cycles, curvature)
    pose.pelvis += body_at
    pose.turn += heading
    pose.pelvis[:, 1] += size * (0.018 * np.cos(4 * np.pi * cycles) - 0.03)
    for side, offset in enumerate((0.0, 0.5)):
        whole, part = np.divmod(cycles + offset, 1)
        swing = np.clip((part - 0.6) / 0.4, 0, 1)
        foot_at, foot_heading = _on_path(stride * (whole + smooth(swing) - offset + 0.3), curvature)
        across = pose.feet[side, :, 0].copy()
        pose.feet[side] += foot_at
        pose.feet[side, :, 0] += across * (np.cos(foot_heading) - 1)
        pose.feet[side, :, 2] -= across * np.sin(foot_heading)
        pose.feet[side, :, 1] += size * 0.1 * np.sin(np.pi * swing)
        arm = -0.17 * size * performance.vigour * np.cos(2 * np.pi * (cycles + offset))
        pose.hands[side, :, 2] += arm
        pose.hands[side, :, 1] += np.maximum(arm, 0) * 0.5
    pose.trunk[:, 2] += 0.12 * performance.vigour * np.cos(2 * np.pi * cycles)


def _on_path(way: np.ndarray, curvature: float) -> tuple[np.ndarray, np.ndarray]:
    """(T, 3) places and (T) directions after `way` metres along a circle's arc."""
    bend = curvature if abs(curvature) > 1e-3 else 1e-3
    heading = bend * way
    return np.stack(((1 - np.cos(heading)) / bend, 0 * way, np.sin(heading) / bend), axis=-1), heading


def move_hand(performance: Performance, pose: Pose, hand: int, times: list[float], places: list[str | None]) -> None:
    """Moves a hand through named places, None being where it rests, at times of the action's phase."""
    rest = pose.hands[hand].copy()
    points = [np.zeros(3) if place is None else performance.place(place) for place in places]
    held = through(performance.phase, times, [float(place is not None) for place in places])[:, None]
    here = through(performance.phase, times, points)
    pose.hands[hand] = here + (1 - held) * rest

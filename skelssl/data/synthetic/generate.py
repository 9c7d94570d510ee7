"""Recordings by name: each is a pure function of a seed and its NTU file name, so that any of them can be generated."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from skelkern import NtuRecording
from skelssl.data.readers.ntu import NAME
from skelssl.data.synthetic.actions import SINGLE
from skelssl.data.synthetic.body import Pose, forward_kinematics
from skelssl.data.synthetic.geometry import turned
from skelssl.data.synthetic.interactions import PAIRS
from skelssl.data.synthetic.performer import (
    Performance,
    Subject,
    draw_performance,
    draw_subject,
    draw_timing,
    facing,
    standing,
)
from skelssl.data.synthetic.sensor import AZIMUTHS, draw_camera, record, seen

SUFFIX = ".skeleton"
CLASSES = (*SINGLE, *PAIRS)  # A001 and on
TRAINING_OF = 3  # of so many subjects in a row the last one is for testing
BYSTANDER = 0.15  # share of the recordings of one person's actions in which another person stands about
_SUBJECT, _SETUP, _SCENE, _RECORDING = range(4)  # what a generator is for


@dataclass(frozen=True, order=True)
class Take:
    """What the name of a recording says; all numbers begin at 1."""

    setup: int
    camera: int
    subject: int
    repetition: int
    action: int

    @property
    def name(self) -> str:
        return f"S{self.setup:03}C{self.camera:03}P{self.subject:03}R{self.repetition:03}A{self.action:03}"


def take_of(name: str) -> Take:
    """The numbers in a name such as S001C002P003R001A017.

    Raises:
        ValueError: it is not such a name, or there is no such camera or action.
    """
    match = NAME.fullmatch(name + SUFFIX)
    if match is None:
        raise ValueError(f"name: expected one such as S001C002P003R001A017, found {name!r}")
    take = Take(*map(int, match.groups()))
    if take.camera not in AZIMUTHS or not 1 <= take.action <= len(CLASSES):
        raise ValueError(f"name: expected cameras 1 to {len(AZIMUTHS)} and actions 1 to {len(CLASSES)}, found {name}")
    return take


def recording(seed: int, take: Take) -> NtuRecording:
    """What the take's camera records of its scene.

    Args:
        seed: of the data set, at least 0.
        take: which recording.
    """
    camera = draw_camera(np.random.default_rng([seed, _SETUP, take.setup]), take.camera)
    random = np.random.default_rng([seed, _RECORDING, *vars(take).values()])
    return record([seen(body, camera) for body in scene(seed, take)], random)


def scene(seed: int, take: Take) -> list[np.ndarray]:
    """Bodies (T, V, 3) of the persons in the scene, y upwards over the floor; the same for all three cameras."""
    return _scene(seed, replace(take, camera=1))


@lru_cache(maxsize=256)  # what a setup's cameras see one after the other
def _scene(seed: int, take: Take) -> list[np.ndarray]:
    random = np.random.default_rng([seed, _SCENE, take.setup, take.subject, take.repetition, take.action])
    subject, name = _subject(seed, take.subject), CLASSES[take.action - 1]
    # the first time towards the one outer camera, the second time towards the other one, as in NTU RGB+D
    facing = (np.pi / 4 if take.repetition % 2 else -np.pi / 4) + random.normal(scale=0.3)
    place = random.normal(scale=0.12, size=3) * np.array([1, 0, 1])
    if name in PAIRS:
        bodies, facing = _pair(seed, take, subject, random), facing + np.pi / 4
    else:
        action = SINGLE[name]
        timing = draw_timing(random, action.seconds, subject.tempo, action.whole)
        performance = draw_performance(random, subject, timing, action.carrying)
        bodies = [_performed(performance, action.motion(performance), action.whole)]
        if random.uniform() < BYSTANDER:
            bodies.append(_bystander(seed, take, timing, random))
    middle = np.concatenate(bodies, axis=1).mean(axis=(0, 1)) * np.array([1, 0, 1])
    return [turned(body - middle, facing) + place for body in bodies]


def _pair(seed: int, take: Take, first: Subject, random: np.random.Generator) -> list[np.ndarray]:
    """Both persons in the first one's frame."""
    second = _other(seed, take, random)
    action = PAIRS[CLASSES[take.action - 1]]
    timing = draw_timing(random, action.seconds, (first.tempo + second.tempo) / 2, action.whole)
    pair = draw_performance(random, first, timing), draw_performance(random, second, timing)
    here, opposite, distance = action.motion(pair)
    across = turned(_performed(pair[1], opposite, action.whole), np.pi) + np.array([0, 0, distance])
    return [_performed(pair[0], here, action.whole), across]


def _bystander(seed: int, take: Take, timing: tuple[np.ndarray, np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Someone who stands about, beside the person who acts."""
    performance = draw_performance(random, _other(seed, take, random), timing)
    joints = _performed(performance, standing(performance), whole=True)
    place = np.array([random.choice([-1, 1]) * random.uniform(0.8, 1.4), 0, random.uniform(-0.8, 0.8)])
    return turned(joints, random.uniform(-np.pi, np.pi)) + place


def _other(seed: int, take: Take, random: np.random.Generator) -> Subject:
    """Another subject of the same side of the cross-subject split."""
    return _subject(seed, take.subject + TRAINING_OF * int(random.integers(1, 4)))


def _performed(performance: Performance, pose: Pose, whole: bool) -> np.ndarray:
    """(T, V, 3) in the person's frame, turned on the spot to where the person faces."""
    joints = forward_kinematics(performance.body, pose)
    middle = pose.pelvis[:, None] * np.array([1, 0, 1])
    return turned(joints - middle, facing(performance, whole)[:, None]) + middle


@lru_cache(maxsize=64)
def _subject(seed: int, number: int) -> Subject:
    return draw_subject(np.random.default_rng([seed, _SUBJECT, number]))

"""Generated motions of a 25-joint body by forward kinematics: subjects, viewpoints, speeds and sensor noise.

A body is the ntu25 tree with a rest direction and a length for every bone; an action is a function of time that turns
the bones of some joints and moves the whole body.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelssl import skeletons
from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS
from skelssl.data.store import Header, Store
from skelssl.data.writer import write_store
from skelssl.skeletons import Skeleton

SKELETON = "ntu25"

# Rest direction (x to the body's left, y up, z forward) and length in metres of the bone that ends in each joint, for a
# body that stands with hanging arms. Right joints mirror the left ones.
REST: dict[str, tuple[tuple[float, float, float], float]] = {
    "spine_middle": ((0, -1, 0), 0.24),
    "spine_base": ((0, -1, 0), 0.28),
    "neck": ((0, 1, 0), 0.08),
    "head": ((0, 1, 0), 0.17),
    "left_shoulder": ((1, -0.25, 0), 0.18),
    "left_elbow": ((0.1, -1, 0), 0.28),
    "left_wrist": ((0.05, -1, 0.1), 0.25),
    "left_hand": ((0, -1, 0.1), 0.08),
    "left_thumb": ((-0.3, -1, 0.6), 0.04),
    "left_hand_tip": ((0.2, -1, -0.4), 0.07),
    "left_hip": ((1, -0.3, 0), 0.11),
    "left_knee": ((0, -1, 0), 0.42),
    "left_ankle": ((0, -1, 0), 0.41),
    "left_foot": ((0, -0.4, 1), 0.13),
}

# Angles (T) in radians about the x axis (forward swing), z axis (sideways) and y axis of named joints' bones and all
# that hangs on them, and the shift (T, 3) of the body in metres.
Angles = dict[str, tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]]
Pose = tuple[Angles, np.ndarray]


@dataclass(frozen=True)
class Performance:
    """How one repetition of an action is done."""

    phase: np.ndarray  # (T), 0 at its begin, 1 at its end
    repeats: float
    vigour: float
    side: str  # "left" or "right", the hand or foot that leads


def _cycle(performance: Performance) -> np.ndarray:
    return np.sin(2 * np.pi * performance.repeats * performance.phase)


def _ramp(performance: Performance) -> np.ndarray:
    """Smoothly from 0 to 1 in the middle of the sequence."""
    progress = np.clip((performance.phase - 0.2) / 0.6, 0, 1)
    return progress * progress * (3 - 2 * progress)


def _bump(performance: Performance) -> np.ndarray:
    """Smoothly from 0 to 1 and back."""
    return np.sin(np.pi * np.clip((performance.phase - 0.15) / 0.7, 0, 1)) ** 2


def _still(performance: Performance) -> np.ndarray:
    return np.zeros((len(performance.phase), 3))


def _sideways(performance: Performance) -> float:
    return 1.0 if performance.side == "left" else -1.0


def _wave(performance: Performance) -> Pose:
    side, swing = _sideways(performance), 0.5 * performance.vigour * _cycle(performance)
    angles: Angles = {
        f"{performance.side}_elbow": (-0.4, side * 1.9, 0.0),
        f"{performance.side}_wrist": (0.0, side * (0.7 + swing), 0.0),
    }
    return angles, _still(performance)


def _walk(performance: Performance) -> Pose:
    swing = 0.5 * performance.vigour * _cycle(performance)
    angles: Angles = {
        "left_knee": (swing, 0.0, 0.0),
        "right_knee": (-swing, 0.0, 0.0),
        "left_ankle": (np.maximum(0, -1.2 * swing) + 0.1, 0.0, 0.0),
        "right_ankle": (np.maximum(0, 1.2 * swing) + 0.1, 0.0, 0.0),
        "left_elbow": (0.8 * swing, 0.0, 0.0),
        "right_elbow": (-0.8 * swing, 0.0, 0.0),
    }
    shift = _still(performance)
    shift[:, 2] = 0.7 * performance.repeats * performance.phase
    return angles, shift


def _sit(performance: Performance) -> Pose:
    down = performance.vigour * _ramp(performance)
    angles: Angles = {
        "left_knee": (-1.45 * down, 0.0, 0.0),
        "right_knee": (-1.45 * down, 0.0, 0.0),
        "left_ankle": (1.45 * down, 0.0, 0.0),
        "right_ankle": (1.45 * down, 0.0, 0.0),
    }
    shift = _still(performance)
    shift[:, 1], shift[:, 2] = -0.4 * down, -0.35 * down
    return angles, shift


def _bow(performance: Performance) -> Pose:
    bend = 1.1 * performance.vigour * _bump(performance)
    # the trunk hangs on the shoulders: turning what is below them forwards is bending, seen from the hips
    angles: Angles = {"spine_middle": (bend, 0.0, 0.0), "neck": (bend * 0.3, 0.0, 0.0)}
    shift = _still(performance)
    shift[:, 1], shift[:, 2] = -0.2 * bend, 0.35 * bend
    return angles, shift


def _kick(performance: Performance) -> Pose:
    lift = performance.vigour * _bump(performance)
    angles: Angles = {
        f"{performance.side}_knee": (-1.3 * lift, 0.0, 0.0),
        f"{performance.side}_ankle": (0.9 * lift * (1 - lift), 0.0, 0.0),
        "left_elbow": (0.3 * lift, 0.3 * lift, 0.0),
        "right_elbow": (0.3 * lift, -0.3 * lift, 0.0),
    }
    return angles, _still(performance)


def _clap(performance: Performance) -> Pose:
    apart = 0.35 + 0.3 * performance.vigour * _cycle(performance)
    angles: Angles = {
        "left_elbow": (-1.0, 0.1, 0.0),
        "right_elbow": (-1.0, -0.1, 0.0),
        "left_wrist": (-0.5, 0.0, -0.6 + apart),
        "right_wrist": (-0.5, 0.0, 0.6 - apart),
    }
    return angles, _still(performance)


ACTIONS: dict[str, Callable[[Performance], Pose]] = {
    "wave": _wave,
    "walk": _walk,
    "sit down": _sit,
    "bow": _bow,
    "kick": _kick,
    "clap": _clap,
}


def synthesise(
    out: Path | str,
    *,
    subjects: int = 12,
    repetitions: int = 8,
    noise: float = 0.03,
    seed: int = 0,
    preprocessing: str = "centred",
) -> Store:
    """Generates every action by every subject and writes a store with a cross-subject split.

    The first two thirds of the subjects are `train`, the others `test`.

    Args:
        out: the store's folder.
        subjects: people of different proportions.
        repetitions: of each action by each subject, seen from another direction each time.
        noise: standard deviation in metres of each coordinate's error.
        seed: of everything.
        preprocessing: as for recorded data.
    """
    skeleton, generator = skeletons.get(SKELETON), np.random.default_rng(seed)
    bodies = [_body(skeleton, generator) for _ in range(subjects)]
    rows = [(a, s) for a in range(len(ACTIONS)) for s in range(subjects) for _ in range(repetitions)]
    sequences = []
    for action, subject in rows:
        pose = list(ACTIONS.values())[action](_performance(generator))
        joints = _turned(_pose_joints(skeleton, bodies[subject], pose), generator.uniform(-np.pi, np.pi))
        joints = joints + noise * generator.normal(size=joints.shape)
        sequences.append(PERSON_PREPROCESSINGS[preprocessing](joints[:, None], skeleton))
    labels, people = np.array(rows).T
    last = subjects - subjects // 3
    header = Header(
        dataset="synthetic",
        skeleton=SKELETON,
        preprocessing=preprocessing,
        units="metres",
        class_names=list(ACTIONS),
        names=[f"a{a + 1:02d}_s{s + 1:02d}_{number:05d}" for number, (a, s) in enumerate(rows)],
        history={"generated by seed": seed} if seed else {},
    )
    splits = {"train": np.flatnonzero(people < last), "test": np.flatnonzero(people >= last)}
    return write_store(out, header, sequences, {"labels": labels, "subjects": people + 1}, splits)


def _body(skeleton: Skeleton, generator: np.random.Generator) -> np.ndarray:
    """(V, 3) rest vectors of the bones of one subject; those of both sides are equally long."""
    size, vectors = generator.uniform(0.85, 1.15), np.zeros((skeleton.num_joints, 3))
    for name, (direction, length) in REST.items():
        vector = np.array(direction) / np.linalg.norm(direction) * length * size * generator.uniform(0.9, 1.1)
        vectors[skeleton.joint(name)] = vector
        mirrored = skeleton.mirror_order[skeleton.joint(name)]
        vectors[mirrored] = vector * ((-1, 1, 1) if mirrored != skeleton.joint(name) else (1, 1, 1))
    return vectors


def _performance(generator: np.random.Generator) -> Performance:
    frames = int(generator.integers(30, 90))
    begin, end = generator.uniform(0, 0.15), generator.uniform(0.85, 1)
    return Performance(
        phase=np.linspace(begin, end, frames),
        repeats=generator.uniform(1.5, 4),
        vigour=generator.uniform(0.7, 1.3),
        side=("left", "right")[generator.integers(2)],
    )


def _pose_joints(skeleton: Skeleton, body: np.ndarray, pose: Pose) -> np.ndarray:
    """(T, V, 3) by forward kinematics: every bone is turned by its own joint's angles and those of all above it."""
    angles, shift = pose
    frames = len(shift)
    turns = np.empty((frames, skeleton.num_joints, 3, 3))
    joints = np.zeros((frames, skeleton.num_joints, 3))
    turns[:, skeleton.centre] = np.eye(3)
    joints[:, skeleton.centre] = shift
    for joint in _from_the_centre(skeleton):
        parent = skeleton.parents[joint]
        own = _rotation(angles.get(skeleton.joints[joint], (0.0, 0.0, 0.0)), frames)
        turns[:, joint] = turns[:, parent] @ own
        joints[:, joint] = joints[:, parent] + np.einsum("tij,j->ti", turns[:, joint], body[joint])
    return joints


def _from_the_centre(skeleton: Skeleton) -> list[int]:
    """Joints but the centre, parents before children."""
    order = [skeleton.centre]
    for joint in order:
        order += [child for child, parent in skeleton.bones if parent == joint]
    return order[1:]


def _rotation(angles: tuple[np.ndarray | float, ...], frames: int) -> np.ndarray:
    """(T, 3, 3): about z, then y, then x."""
    x, z, y = (np.broadcast_to(angle, frames) for angle in angles)
    result = np.broadcast_to(np.eye(3), (frames, 3, 3))
    for axis, angle in ((0, x), (1, y), (2, z)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.zeros((frames, 3, 3))
        turn[:, axis, axis] = 1
        turn[:, first, first] = turn[:, second, second] = np.cos(angle)
        turn[:, second, first] = np.sin(angle)
        turn[:, first, second] = -turn[:, second, first]
        result = result @ turn
    return result


def _turned(joints: np.ndarray, angle: float) -> np.ndarray:
    """Seen from another direction: the whole sequence turned about the vertical axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return joints @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])

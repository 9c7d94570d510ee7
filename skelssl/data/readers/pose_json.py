"""Poses in JSON: what the files of OpenPose, MMPose, COCO, MediaPipe and NW-UCLA look like, and which one a file is."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skelssl import skeletons
from skelssl.data.poses import Person, Poses, poses_of_frames
from skelssl.data.store import StoreError
from skelssl.skeletons import Skeleton

LARGEST_FILE = 2**29  # bytes
MOST_FRAMES = 1_000_000
MOST_PERSONS = 100  # in a frame
FARTHEST = 1e6
OPENPOSE_NAME = re.compile(r"(?:.*_)?(\d+)_keypoints\.json")
FRAME_NUMBER = re.compile(r"(\d{1,9})(?:\.\w+)?$")  # at the end of an image's name
BY_JOINTS = {17: "coco17", 18: "openpose18", 25: "openpose25", 33: "mediapipe33"}
WHOLE_BODY = 133  # of COCO-WholeBody, whose first 17 are those of COCO
WORLD = ("pose_world_landmarks", "worldLandmarks")  # in Python, and in JavaScript
HIPS = ("left_hip", "right_hip")
AWAY = 0.05  # metres from the origin, where the middle of the hips of landmarks of the world is
FORMS = (
    "a folder of OpenPose's *_keypoints.json, or JSON of MMPose (instance_info, instances), COCO results (image_id, "
    "keypoints), MediaPipe (pose_world_landmarks) or NW-UCLA (skeletons)"
)


class _FormError(ValueError):
    """Something is not as the format has it; the message does not name the file."""


@dataclass(frozen=True)
class _Reading:
    """What is given beside a file: layout and upwards axis, None for the format's, and a seen joint's least score."""

    skeleton: Skeleton | None
    up: str | None
    least_score: float

    def layout(self, joints: int) -> Skeleton:
        """The one given, or the one with so many joints."""
        if self.skeleton is None and joints in BY_JOINTS:
            return skeletons.get(BY_JOINTS[joints])
        known = ", ".join(f"{number} ({name})" for number, name in BY_JOINTS.items())
        expected = known if self.skeleton is None else f"{self.skeleton.num_joints} ({self.skeleton.name})"
        if self.skeleton is None or self.skeleton.num_joints != joints:
            raise _FormError(f"expected joints {expected}, found {joints}")
        return self.skeleton

    def person(self, points: np.ndarray, scores: np.ndarray, number: int | None = None) -> Person:
        """Checked; joints below the least score, and those of score 0, were not seen."""
        if not (np.abs(points[scores > 0]) <= FARTHEST).all():
            raise _FormError(f"expected coordinates up to {FARTHEST:g}, found {np.abs(points).max():g}")
        if (scores < 0).any():
            raise _FormError(f"expected scores of at least 0, found {scores.min():g}")
        return Person(points, np.where(scores >= self.least_score, scores, 0), number)


def read_json(path: Path, skeleton: str | None, units: str | None, up: str | None, least_score: float) -> Poses:
    """The persons of a recording, followed through its frames; see `skelssl.data.poses.follow`.

    Points of images are pixels, and those in space metres, y downwards: the axes of a camera. MMPose's poses in space
    have those of the model that made them.

    Args:
        path: a JSON file, or a folder of OpenPose's.
        skeleton: layout of the joints, a name or a YAML file; by default the format's with so many joints.
        units, up: instead of the format's.
        least_score: joints of a lower one were not seen.

    Raises:
        StoreError: the file is of no known form; the message names the place and what was expected there.
    """
    reading = _Reading(None if skeleton is None else skeletons.get(skeleton), up, least_score)
    try:
        if path.is_dir():
            frames = _openpose_folder(path, reading)
        else:
            data = _load(path)
            if isinstance(data, dict) and "skeletons" in data:
                return _nw_ucla(path, data["skeletons"])
            frames = _frames(data, reading)
        return _as_poses(path, frames, reading, units)
    except _FormError as error:
        raise StoreError(f"{path}: {error}") from None


def _as_poses(path: Path, frames: Sequence[Sequence[Person]], reading: _Reading, units: str | None) -> Poses:
    frames = [[person for person in persons if (person.scores > 0).any()] for persons in frames]
    persons = [person for of_frame in frames for person in of_frame]
    if not persons:
        raise _FormError(f"expected a person in one of its {len(frames)} frames, found none")
    forms = {person.points.shape for person in persons}
    if len(forms) > 1:
        raise _FormError(f"expected persons of one form (joints, coordinates), found {sorted(forms)}")
    joints, width = forms.pop()
    units = units or ("pixels" if width == 2 else "metres")
    if (units == "pixels") != (width == 2):
        raise _FormError(f"expected {'two' if units == 'pixels' else 'three'} coordinates in {units}, found {width}")
    return poses_of_frames(str(path), frames, reading.layout(joints), units, reading.up or "-y")


def _load(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise _FormError(f"expected at most {LARGEST_FILE} bytes, found {size}")
        return json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except _FormError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise _FormError(f"expected JSON: {error}") from None


def _refuse_constant(text: str) -> None:
    raise _FormError(f"expected finite numbers, found {text}")


def _frames(data: Any, reading: _Reading) -> list[list[Person]]:
    """The persons of every frame of a file."""
    if isinstance(data, dict) and "people" in data:
        return [_openpose_frame(data, reading)]
    if isinstance(data, dict) and "instance_info" in data:
        return _mmpose(_a_list(data["instance_info"], "instance_info"), reading)
    if isinstance(data, dict) and "frames" in data:
        return _mediapipe(_a_list(data["frames"], "frames"), reading)
    if isinstance(data, list) and data:
        first = next((one for one in data if one), None)
        if isinstance(first, dict) and "instances" in first:
            return _mmpose(data, reading)
        if isinstance(first, dict) and {"image_id", "keypoints"} <= set(first):
            return _coco_results(data, reading)
        if isinstance(first, list) or (isinstance(first, dict) and ({"pose_landmarks", *WORLD} & set(first))):
            return _mediapipe(data, reading)
    found = f"the keys {', '.join(map(str, data))[:80]}" if isinstance(data, dict) else type(data).__name__
    raise _FormError(f"expected {FORMS}, found {found}")


def _openpose_folder(folder: Path, reading: _Reading) -> list[list[Person]]:
    """A file for each frame, by the number in its name; numbers have to follow each other."""
    matches = ((OPENPOSE_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    files = sorted((int(match[1]), path) for match, path in matches if match is not None)
    if not files:
        raise _FormError("expected files such as video_000000000000_keypoints.json, found none")
    if len(files) > MOST_FRAMES:
        raise _FormError(f"expected at most {MOST_FRAMES} frames, found {len(files)}")
    frames = []
    for place, (number, path) in enumerate(files):
        if number != files[0][0] + place:
            raise _FormError(f"expected frame {files[0][0] + place}, found {path.name}")
        try:
            frames.append(_openpose_frame(_load(path), reading))
        except _FormError as error:
            raise _FormError(f"{path.name}: {error}") from None
    return frames


def _openpose_frame(data: Any, reading: _Reading) -> list[Person]:
    """Points in space where the file has them, else points of the image."""
    if not isinstance(data, dict) or "people" not in data:
        raise _FormError("expected the key people, as OpenPose writes it, found none")
    persons = []
    for place, one in enumerate(_few(data["people"], "people")):
        where = f"people[{place}]"
        if not isinstance(one, dict):
            raise _FormError(f"{where}: expected keys and values, found {type(one).__name__}")
        key, width = ("pose_keypoints_3d", 4) if one.get("pose_keypoints_3d") else ("pose_keypoints_2d", 3)
        table = _table(one.get(key), width, f"{where}.{key}")
        number = one.get("person_id", [-1])
        known = number[0] if isinstance(number, list) and len(number) == 1 and type(number[0]) is int else -1
        persons.append(reading.person(table[:, :-1], table[:, -1], known if known >= 0 else None))
    return persons


def _mmpose(data: Sequence[Any], reading: _Reading) -> list[list[Person]]:
    """Of each frame its instances; frames in the order of the list."""
    frames = []
    for time, frame in enumerate(_limited(data)):
        if not isinstance(frame, dict) or "instances" not in frame:
            raise _FormError(f"frame {time}: expected the key instances, found none")
        persons = []
        for place, one in enumerate(_few(frame["instances"], f"frame {time}: instances")):
            where = f"frame {time}: instances[{place}]"
            if not isinstance(one, dict):
                raise _FormError(f"{where}: expected keys and values, found {type(one).__name__}")
            points = _array(one.get("keypoints"), 2, f"{where}.keypoints")
            scores = _array(one.get("keypoint_scores"), 1, f"{where}.keypoint_scores")
            if len(scores) != len(points) or points.shape[1] not in (2, 3):
                form = f"as many scores as joints of 2 or 3 coordinates, found {scores.shape} and {points.shape}"
                raise _FormError(f"{where}: expected {form}")
            if points.shape[1] == 3 and None in (reading.skeleton, reading.up):
                raise _FormError(f"{where}: expected --skeleton and --up for poses in space, which have several")
            points, scores = _body_alone(points, scores, reading)
            persons.append(reading.person(points, scores, _whole(one.get("track_id"))))
        frames.append(persons)
    return frames


def _coco_results(data: Sequence[Any], reading: _Reading) -> list[list[Person]]:
    """A list of persons, each with the frame it is in; frames without any are empty."""
    found: dict[int, list[Person]] = {}
    for place, one in enumerate(data):
        where = f"[{place}]"
        if not isinstance(one, dict):
            raise _FormError(f"{where}: expected keys and values, found {type(one).__name__}")
        table = _table(one.get("keypoints"), 3, f"{where}.keypoints")
        points, scores = _body_alone(table[:, :2], table[:, 2], reading)
        number = _whole(one.get("idx", one.get("track_id")))
        time = _frame_number(one.get("image_id"), where)
        found.setdefault(time, []).append(reading.person(points, scores, number))
        if len(found[time]) > MOST_PERSONS:
            raise _FormError(f"{where}: expected at most {MOST_PERSONS} persons of image_id {one['image_id']}")
    first, end = min(found), max(found) + 1
    if end - first > MOST_FRAMES:
        raise _FormError(f"expected at most {MOST_FRAMES} frames, found image_id from {first} to {end - 1}")
    return [found.get(time, []) for time in range(first, end)]


def _frame_number(value: Any, where: str) -> int:
    if type(value) is int and value >= 0:
        return value
    match = FRAME_NUMBER.search(value) if isinstance(value, str) else None
    if match is None:
        raise _FormError(
            f"{where}.image_id: expected a number, or a name that ends with one, found {str(value)[:40]!r}"
        )
    return int(match[1])


def _mediapipe(data: Sequence[Any], reading: _Reading) -> list[list[Person]]:
    """Of each frame the 33 landmarks of one person, or a list of persons, or nothing; in metres about the hips.

    A person is the one of the same place in the list: all of them are about the origin, where nearness says nothing.
    """
    frames = []
    for time, frame in enumerate(_limited(data)):
        where = f"frame {time}"
        if isinstance(frame, dict):
            key = next((key for key in WORLD if key in frame), None)
            if key is None:
                raise _FormError(
                    f"{where}: expected {WORLD[0]}, in metres, found {', '.join(map(str, frame))[:80] or 'nothing'}; "
                    "pose_landmarks are shares of an image's width and height"
                )
            where, frame = f"{where}: {key}", frame[key]
        persons = _few(frame or [], where)
        if persons and isinstance(persons[0], dict):
            persons = [persons]
        frames.append(
            [_landmarks(one, f"{where}: person {number}", number, reading) for number, one in enumerate(persons)]
        )
    return frames


def _landmarks(data: Any, where: str, number: int, reading: _Reading) -> Person:
    layout = skeletons.get(BY_JOINTS[33])
    rows = _a_list(data, where)
    if len(rows) != layout.num_joints:
        raise _FormError(f"{where}: expected {layout.num_joints} landmarks, found {len(rows)}")
    values = []
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not {"x", "y", "z"} <= set(row):
            raise _FormError(f"{where}: landmark {place}: expected x, y and z, found {str(row)[:40]}")
        values.append([row["x"], row["y"], row["z"], row.get("visibility", 1.0)])
    table = _array(values, 2, where)
    middle = table[[layout.joint(hip) for hip in HIPS], :3].mean(axis=0)
    if np.abs(middle).max() > AWAY:
        found = ", ".join(f"{value:.3g}" for value in middle)
        raise _FormError(
            f"{where}: expected landmarks of the world, whose hips are about the origin, found them about ({found})"
        )
    return reading.person(table[:, :3], table[:, 3], number)


def _nw_ucla(path: Path, data: Any) -> Poses:
    """(T, 20, 3) metres of one person; joints at exactly 0 were lost."""
    layout = skeletons.get("nw_ucla20")
    points = _array(data, 3, "skeletons")
    if points.shape[1:] != (layout.num_joints, 3) or not len(points):
        raise _FormError(f"skeletons: expected (frames, {layout.num_joints}, 3), found {points.shape}")
    frames = [[Person(one, one.any(axis=1).astype(np.float64), 0)] for one in points]
    return poses_of_frames(str(path), frames, layout, "metres", "y")


def _body_alone(points: np.ndarray, scores: np.ndarray, reading: _Reading) -> tuple[np.ndarray, np.ndarray]:
    """Of the joints of COCO-WholeBody those of the body."""
    if len(points) == WHOLE_BODY and (reading.skeleton is None or reading.skeleton.num_joints != WHOLE_BODY):
        return points[:17], scores[:17]
    return points, scores


def _table(data: Any, width: int, where: str) -> np.ndarray:
    """(V, width) of numbers one after the other."""
    flat = _array(data, 1, where)
    if not len(flat) or len(flat) % width:
        raise _FormError(f"{where}: expected {width} numbers for each joint, found {len(flat)}")
    return flat.reshape(-1, width)


def _array(data: Any, axes: int, where: str) -> np.ndarray:
    """Finite numbers with so many axes; texts and yes or no are none."""
    values = _a_list(data, where)
    try:
        found = np.asarray(values)
    except ValueError:
        raise _FormError(f"{where}: expected lists of one length, found others") from None
    if found.ndim != axes or found.dtype.kind not in "fiu":
        raise _FormError(f"{where}: expected numbers in {axes} axes, found {found.shape} {found.dtype}")
    found = found.astype(np.float64)
    if not np.isfinite(found).all():
        raise _FormError(f"{where}: expected finite numbers, found infinity")
    return found


def _whole(value: Any) -> int | None:
    """A person's number, None where there is none."""
    return value if type(value) is int and 0 <= value < 2**62 else None


def _a_list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise _FormError(f"{where}: expected a list, found {type(data).__name__}")
    return data


def _few(data: Any, where: str) -> list[Any]:
    """Persons of a frame."""
    found = _a_list(data, where)
    if len(found) > MOST_PERSONS:
        raise _FormError(f"{where}: expected at most {MOST_PERSONS} persons, found {len(found)}")
    return found


def _limited(data: Sequence[Any]) -> Sequence[Any]:
    if len(data) > MOST_FRAMES:
        raise _FormError(f"expected at most {MOST_FRAMES} frames, found {len(data)}")
    return data

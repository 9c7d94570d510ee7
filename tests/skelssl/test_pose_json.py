"""JSON of pose estimators: the same poses from every format, and what is said of files that are damaged."""

import json

import numpy as np
import pytest
from test_embed import COCO, image_of
from test_show import standing

from skelssl import skeletons
from skelssl.data.fit import Wanted, fitted, windows
from skelssl.data.readers import pose_json
from skelssl.data.readers.nw_ucla import prepare_nw_ucla
from skelssl.data.readers.pose_files import Described, read_poses
from skelssl.data.recordings import History
from skelssl.data.store import StoreError

FRAMES = 6
MEDIAPIPE = skeletons.get("mediapipe33")


def saved(path, data):
    path.write_text(json.dumps(data))
    return path


def openpose_folder(folder, points, scores=None):
    """points (T, V, 2), scores (T, V), as OpenPose writes them."""
    folder.mkdir()
    scores = np.ones(points.shape[:2]) if scores is None else scores
    for number, (of_frame, certain) in enumerate(zip(points, scores, strict=True)):
        flat = np.concatenate([of_frame, certain[:, None]], axis=1).ravel().tolist()
        people = [{"person_id": [-1], "pose_keypoints_2d": flat, "pose_keypoints_3d": []}]
        saved(folder / f"cam_{number:012}_keypoints.json", {"version": 1.3, "people": people})
    return folder


def mmpose(points, joints=17):
    """Two persons, the second one 700 pixels away and only in some frames."""
    frames = []
    for number, of_frame in enumerate(points):
        persons = [of_frame, of_frame + 700] if number > 1 else [of_frame]
        padded = [np.concatenate([one, np.zeros((joints - 17, 2))]) for one in persons]
        instances = [{"keypoints": one.tolist(), "keypoint_scores": [0.9] * joints} for one in padded]
        frames.append({"frame_id": number, "instances": instances})
    return frames


def coco_results(points, name):
    return [
        {"image_id": name(number), "category_id": 1, "keypoints": np.c_[one, np.full(17, 0.8)].ravel().tolist()}
        for number, one in enumerate(points)
    ]


def world(frames=FRAMES):
    """(T, 33, 3) in the axes of a camera, hips about the origin."""
    points = standing(MEDIAPIPE, frames)[:, 0]
    points -= points[:, [MEDIAPIPE.joint("left_hip"), MEDIAPIPE.joint("right_hip")]].mean(axis=1, keepdims=True)
    return points * np.array([-1, -1, 1])


def landmarks(points):
    return [dict(zip(("x", "y", "z", "visibility"), [*map(float, point), 0.9], strict=True)) for point in points]


@pytest.mark.parametrize("layout", ["openpose18", "openpose25"])
def test_a_folder_of_openpose(layout, tmp_path):
    skeleton = skeletons.get(layout)
    points = standing(skeleton, FRAMES)[:, 0, :, :2] * 100
    scores = np.ones(points.shape[:2])
    points[2, 4], scores[2, 4] = 0, 0  # as OpenPose writes joints that it does not find
    (poses,) = read_poses(openpose_folder(tmp_path / "x", points, scores))
    assert poses.skeleton == skeleton and (poses.units, poses.up) == ("pixels", "-y")
    assert np.allclose(poses.bodies.joints[2, 4], (points[1, 4] + points[3, 4]) / 2)
    (tmp_path / "x" / "cam_000000000003_keypoints.json").unlink()
    with pytest.raises(StoreError, match=r"x: expected frame 3, found cam_000000000004_keypoints\.json"):
        read_poses(tmp_path / "x")


def test_mmpose_with_and_without_its_frame_around_it(tmp_path):
    points = image_of(FRAMES)
    plain, whole = (saved(tmp_path / f"{joints}.json", mmpose(points, joints)) for joints in (17, 133))
    framed = saved(tmp_path / "framed.json", {"meta_info": {}, "instance_info": mmpose(points)})
    for path in (plain, whole, framed):
        (poses,) = read_poses(path)
        assert poses.skeleton == COCO
        assert np.diff(poses.bodies.frame_offsets).tolist() == [1, 1, 2, 2, 2, 2]
        assert np.array_equal(poses.bodies.joints[poses.bodies.ids == 0], points)
    with pytest.raises(StoreError, match="expected a person in one of its 6 frames, found none"):
        read_poses(plain, Described(least_score=0.95))


@pytest.mark.parametrize("name", [int, "{}.jpg".format, "clip_{:05}.png".format])
def test_coco_results(name, tmp_path):
    points = image_of(FRAMES)
    results = coco_results(points, name)
    (poses,) = read_poses(saved(tmp_path / "x.json", [*results[:2], *results[3:]]))
    assert np.allclose(poses.bodies.joints, points), "the person that is missing in frame 2 is between"
    assert (poses.scores == 0.8).all()


@pytest.mark.parametrize("form", ["tasks", "lists", "persons", "javascript", "frames"])
def test_mediapipe(form, tmp_path):
    points = world()
    frames = [landmarks(each) for each in points]
    data = {
        "lists": frames,
        "tasks": [{"pose_landmarks": [], "pose_world_landmarks": [each]} for each in frames],
        "persons": [[each] for each in frames],
        "javascript": [{"worldLandmarks": [each]} for each in frames],
        "frames": {"frames": [{"pose_world_landmarks": each} for each in frames]},
    }[form]
    (poses,) = read_poses(saved(tmp_path / "x.json", data))
    assert np.array_equal(poses.bodies.joints, points)
    fit, notes = fitted(poses, Wanted("mediapipe33", 1, 3, "metres", "raw"))
    assert np.array_equal(fit.bodies.joints, points * np.array([-1, -1, 1])) and notes == []


def test_published_files_of_nw_ucla_are_prepared_as_their_store(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    points = generator.normal(size=(12, 20, 3))
    points[3, 5] = 0  # lost
    path = saved(tmp_path / "a01_s01_e00_v01.json", {"skeletons": points.tolist(), "label": 1})
    monkeypatch.setattr("skelssl.data.readers.nw_ucla.VIEWS", {1: 1, 2: 0, 3: 0})
    store = prepare_nw_ucla(tmp_path, tmp_path / "store")
    wanted = Wanted("nw_ucla20", 1, 3, "metres", "yaw-aligned")
    fit, _ = fitted(*read_poses(path), wanted)
    (window,) = windows(fit, wanted, None, 1, History())
    assert np.array_equal(window.frames.astype(np.float32), store.sample(0))


ONE = mmpose(image_of(2))
WRONG = [
    ("{", "expected JSON: "),
    ("[" * 100_000, "expected JSON: "),
    ("{}", "expected a folder of OpenPose's"),
    ("[1, 2]", "found list"),
    ('{"a": 1}', "found the keys a"),
    (json.dumps(ONE).replace("0.9", "NaN", 1), "expected finite numbers, found NaN"),
    (json.dumps(ONE).replace("0.9", "1e999", 1), "frame 0: instances[0].keypoint_scores: expected finite numbers"),
    (json.dumps(ONE).replace("0.9", '"0.9"', 1), "frame 0: instances[0].keypoint_scores: expected numbers in 1 axes"),
    (json.dumps(ONE).replace("0.9", "-1", 1), "expected scores of at least 0, found -1"),
    (json.dumps(ONE).replace("0.9, ", "", 1), "frame 0: instances[0]: expected as many scores as joints"),
    (json.dumps([*ONE, 3]), "frame 2: expected the key instances, found none"),
    (json.dumps([{"instances": ONE[0]["instances"] * 101}]), "instances: expected at most 100 persons, found 101"),
    (json.dumps({"people": [{"pose_keypoints_2d": [1, 2]}]}), "people[0].pose_keypoints_2d: expected 3 numbers for"),
    (json.dumps({"people": [{"pose_keypoints_2d": [1] * 57}]}), "expected joints 17 (coco17), 18 (openpose18), 25"),
    (json.dumps({"people": [{}]}), "people[0].pose_keypoints_2d: expected a list, found NoneType"),
    (json.dumps(coco_results(image_of(1), "x{}y".format)), "[0].image_id: expected a number, or a name that ends"),
    (json.dumps(coco_results(image_of(2), lambda n: 10**7 * n)), "expected at most 1000000 frames, found image_id"),
    (json.dumps([landmarks(world()[0])[:32]]), "frame 0: person 0: expected 33 landmarks, found 32"),
    (json.dumps([landmarks(world()[0] + 0.5)]), "expected landmarks of the world, whose hips are about the origin"),
    (json.dumps([{"pose_landmarks": []}]), "frame 0: expected pose_world_landmarks, in metres, found pose_landmarks"),
    (json.dumps([[{"x": 1}] * 33]), "landmark 0: expected x, y and z"),
    (json.dumps({"skeletons": [[1, 2]]}), "skeletons: expected numbers in 3 axes, found (1, 2)"),
    (json.dumps([{"instances": [{"keypoints": [[1, 2, 3]], "keypoint_scores": [1]}]}]), "expected --skeleton and --up"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_damage_is_named(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(StoreError) as error:
        read_poses(tmp_path / "x.json")
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "x.json"))


def test_files_beyond_the_limit_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pose_json, "LARGEST_FILE", 100)
    with pytest.raises(StoreError, match="expected at most 100 bytes, found"):
        read_poses(saved(tmp_path / "x.json", ONE))

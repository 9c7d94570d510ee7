import itertools

import numpy as np
import pytest

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data.prepare import prepare
from skelssl.data.store import StoreError
from skelssl.data.synthetic import body as anatomy
from skelssl.data.synthetic import generate, sensor
from skelssl.data.synthetic.body import Pose, draw_body, forward_kinematics
from skelssl.data.synthetic.dataset import synthesise, synthesise_raw, takes, write_raw
from skelssl.data.synthetic.generate import CLASSES, Take, recording, scene, take_of
from skelssl.data.synthetic.interactions import PAIRS
from skelssl.data.synthetic.sensor import Camera, orientations, seen
from skelssl.data.synthetic.text import raw_text, rounded
from skelssl.data.verify import verify

SKELETON = skeletons.get("ntu25")
SLACK = 1e-6


def column(points, name):
    return points[..., SKELETON.joint(name), :]


def angle(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.arccos(np.clip(cosine, -1, 1))


def bone(points, child, parent):
    return column(points, child) - column(points, parent)


def bone_lengths(points):
    children, parents = np.array(SKELETON.bones).T
    return np.linalg.norm(points[..., children, :] - points[..., parents, :], axis=-1)


def scenes(actions=CLASSES, subjects=(1, 2, 3), repetitions=(1, 2)):
    for action, subject, repetition in itertools.product(actions, subjects, repetitions):
        bodies = scene(0, Take(1, 1, subject, repetition, CLASSES.index(action) + 1))
        yield bodies if action in PAIRS else bodies[:1]  # without bystanders


def wild_poses(frames=400):
    """Poses that no one could take: limits must hold all the same."""
    random = np.random.default_rng(0)
    pose = Pose(
        pelvis=random.normal(size=(frames, 3)),
        turn=random.normal(size=frames) * 3,
        tilt=random.normal(size=frames) * 3,
        trunk=random.normal(size=(frames, 3)) * 3,
        neck=random.normal(size=(frames, 3)) * 3,
        hands=random.normal(size=(2, frames, 3)),
        feet=random.normal(size=(2, frames, 3)) * 2,
    )
    return forward_kinematics(draw_body(random), pose)


def all_bodies():
    yield wild_poses()
    for bodies in scenes(subjects=(1, 5)):
        yield from bodies


def test_elbows_and_knees_bend_within_their_ranges_and_one_way_only():
    for points in all_bodies():
        for side, (ends, hinge) in itertools.product(
            ("left", "right"),
            ((("shoulder", "elbow", "wrist"), anatomy.ELBOW), (("hip", "knee", "ankle"), anatomy.KNEE)),
        ):
            root, middle, end = (f"{side}_{name}" for name in ends)
            flexion = angle(bone(points, middle, root), bone(points, end, middle))
            assert hinge[0] - SLACK <= flexion.min() and flexion.max() <= hinge[1] + SLACK


def test_knees_bend_forwards():
    for (points,) in scenes(("sit down", "walk", "jump", "pick up", "kick")):
        across = bone(points, "left_hip", "right_hip")
        forward = np.cross(across, bone(points, "spine_middle", "spine_base"))
        forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
        for side in ("left", "right"):
            middle = (column(points, f"{side}_hip") + column(points, f"{side}_ankle")) / 2
            assert ((column(points, f"{side}_knee") - middle) * forward).sum(-1).min() > -0.02, "as the trunk leans"


def test_shoulders_and_hips_stay_within_their_cones_and_ankles_within_their_range():
    for points in all_bodies():
        left = bone(points, "left_hip", "right_hip")
        left /= np.linalg.norm(left, axis=-1, keepdims=True)
        for sign, side in ((1, "left"), (-1, "right")):
            foot = angle(bone(points, f"{side}_ankle", f"{side}_knee"), bone(points, f"{side}_foot", f"{side}_ankle"))
            assert anatomy.ANKLE[0] - SLACK <= foot.min() and foot.max() <= anatomy.ANKLE[1] + SLACK
            outwards = (bone(points, f"{side}_knee", f"{side}_hip") * sign * left).sum(-1)
            thigh = np.linalg.norm(bone(points, f"{side}_knee", f"{side}_hip"), axis=-1)
            lowest = np.cos(min(np.pi, anatomy.HIP_CONE + np.arccos(anatomy.HIP_AXIS[0])))
            assert (outwards / thigh).min() >= lowest - SLACK


def test_a_limb_leaves_its_cone_by_no_angle():
    random = np.random.default_rng(1)
    directions = anatomy.unit(random.normal(size=(1000, 3)))
    for axis, cone in ((anatomy.SHOULDER_AXIS, anatomy.SHOULDER_CONE), (anatomy.HIP_AXIS, anatomy.HIP_CONE)):
        found = anatomy._into_cone(directions, axis, cone)
        outside = angle(directions, axis) > cone
        assert outside.any() and angle(found, axis).max() <= cone + SLACK
        np.testing.assert_array_equal(found[~outside], directions[~outside])


def test_trunk_and_neck_stay_within_their_ranges():
    for points in all_bodies():
        bend = angle(bone(points, "spine_middle", "spine_base"), bone(points, "spine_shoulder", "spine_middle"))
        assert bend.max() < sum(max(map(abs, limits)) for limits in anatomy.TRUNK[:2]) / 2 + 0.1
        nod = angle(bone(points, "neck", "spine_shoulder"), bone(points, "spine_shoulder", "spine_middle"))
        assert nod.max() < 1.2


def test_bones_keep_their_lengths_and_both_sides_are_equal():
    for points in all_bodies():
        lengths = bone_lengths(points)
        np.testing.assert_allclose(lengths, np.broadcast_to(lengths[:1], lengths.shape), atol=1e-9)
        by_child = dict(zip((child for child, _ in SKELETON.bones), lengths[0], strict=True))
        for child, length in by_child.items():
            assert by_child[SKELETON.mirror_order[child]] == pytest.approx(length)


def test_people_differ_in_size_and_stand_on_the_floor():
    heights = []
    for (points,) in scenes(("drink", "wave", "bow", "throw"), subjects=range(1, 9), repetitions=(1,)):
        ankles = np.minimum(column(points, "left_ankle")[:, 1], column(points, "right_ankle")[:, 1])
        assert ankles.min() > 0.05 and ankles.max() < 0.2
        heights.append(bone_lengths(points)[0].sum())
    assert max(heights) / min(heights) > 1.15


def rise(points, name):
    height = column(points, name)[:, 1]
    return height[-1] - height[0]


def test_actions_are_what_they_are_called():
    size = (1, 4, 7)
    assert all(rise(points, "spine_base") < -0.25 for (points,) in scenes(("sit down",), size))
    assert all(rise(points, "spine_base") > 0.25 for (points,) in scenes(("stand up",), size))
    for (points,) in scenes(("pick up", "put down"), size):
        hands = np.minimum(column(points, "left_wrist"), column(points, "right_wrist"))[:, 1]
        assert hands.min() < 0.45, "a hand near the floor"
    for (points,) in scenes(("jump",), size):
        feet = np.minimum(column(points, "left_ankle"), column(points, "right_ankle"))[:, 1]
        assert np.ptp(feet) > 0.08, "both feet leave the floor"
    for (points,) in scenes(("kick",), size):
        assert max(np.ptp(column(points, f"{side}_foot")[:, 1]) for side in ("left", "right")) > 0.2
    for (points,) in scenes(("put on a hat", "take off a hat"), size):
        over = [column(points, f"{side}_hand")[:, 1] - column(points, "head")[:, 1] for side in ("left", "right")]
        assert np.max(over) > 0.0, "a hand over the head"
    for (points,) in scenes(("clap", "rub hands"), size):
        assert np.linalg.norm(bone(points, "left_wrist", "right_wrist"), axis=-1).min() < 0.2
    for (points,) in scenes(("walk",), size):
        assert np.linalg.norm(np.ptp(column(points, "spine_base")[:, [0, 2]], axis=0)) > 0.6


def test_planted_feet_do_not_slide():
    """Once whoever walks has turned, one foot at least is at rest at any time."""
    for (points,) in scenes(("walk",), (1, 4, 7)):
        ankles = np.stack([column(points, "left_ankle"), column(points, "right_ankle")])[:, 30:]
        speed = np.linalg.norm(np.diff(ankles, axis=1), axis=-1).min(axis=0)
        assert np.median(speed) < 2e-3


def test_persons_touch_where_they_should():
    for first, second in scenes(("shake hands",), range(1, 7)):
        between = np.linalg.norm(
            np.stack([column(first, f"{s}_hand") for s in ("left", "right")])
            - np.stack([column(second, f"{s}_hand") for s in ("left", "right")]), axis=-1
        )  # fmt: skip
        assert between.min() < 0.2
        assert 0.5 < np.linalg.norm(column(first, "spine_base") - column(second, "spine_base"), axis=-1).min() < 1.4
    for first, second in scenes(("push",), range(1, 7)):
        hands = np.stack([column(first, f"{s}_hand") for s in ("left", "right")])
        assert np.linalg.norm(hands - column(second, "spine_shoulder"), axis=-1).min() < 0.3
    for action, sign in (("walk towards each other", -1), ("walk apart", 1)):
        for first, second in scenes((action,), range(1, 7)):
            apart = np.linalg.norm(column(first, "spine_base") - column(second, "spine_base"), axis=-1)
            assert sign * (apart[-1] - apart[0]) > 0.7 and apart.min() > 0.4


def test_classes_differ_and_no_two_recordings_are_alike():
    lengths = [tuple(bodies[0][:30].round(6).ravel()) for bodies in scenes(subjects=(1, 2))]
    assert len(set(lengths)) == len(lengths)
    assert len(CLASSES) >= 20 and sum(name in PAIRS for name in CLASSES) >= 4
    persons = {name: set() for name in CLASSES}
    for subject, (number, name) in itertools.product(range(1, 15), enumerate(CLASSES, start=1)):
        persons[name].add(len(scene(0, Take(1, 1, subject, 1, number))))
    assert all(persons[name] == {2} for name in PAIRS)
    assert all(1 in counts for name, counts in persons.items() if name not in PAIRS)
    assert set.union(*persons.values()) == {1, 2}, "with bystanders"


def test_a_recording_depends_on_seed_and_name_alone():
    take = take_of("S002C003P004R001A018")
    assert take == Take(2, 3, 4, 1, 18) and take.name == "S002C003P004R001A018"
    first = raw_text(recording(0, take))
    recording(0, take_of("S002C001P004R001A018"))
    assert raw_text(recording(0, take)) == first
    assert raw_text(recording(1, take)) != first
    with pytest.raises(ValueError, match="expected one such as S001C002P003R001A017, found 'S1C1'"):
        take_of("S1C1")
    with pytest.raises(ValueError, match="expected cameras 1 to 3 and actions 1 to 20, found S001C004P001R001A001"):
        take_of("S001C004P001R001A001")


def recordings(count=60, seed=0):
    return [recording(seed, take) for take in takes(12, 1)[:: 720 // count]]


def test_raw_text_is_read_back_to_the_last_digit():
    """By the parser that reads NTU RGB+D; among the recordings are some with empty frames."""
    whole = recordings()
    none = whole[0].joints[:0]
    empty = type(whole[0])(np.zeros(4, np.int64), whole[0].body_ids[:0], whole[0].body_info[:0], none)
    for one in (*whole, empty):
        expected, found = rounded(one), parse_ntu_skeleton(raw_text(one))
        for name in ("frame_offsets", "body_ids", "body_info", "joints"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_text_looks_as_published_files_do():
    lines = raw_text(recording(0, Take(1, 1, 2, 1, 1))).decode().splitlines()
    frames = int(lines[0])
    assert 30 <= frames <= 90 and lines[1] == "1" and lines[3] == "25"
    assert len(lines[2].split()) == 10 and lines[2].startswith("7205759403")
    assert [len(line.split()) for line in lines[4:29]] == [12] * 25
    assert "  " not in "".join(lines)
    joint = recording(0, Take(1, 1, 1, 1, 1))
    joint.joints[3, 7, 2] = np.nan
    with pytest.raises(ValueError, match="joints: expected finite numbers below 200, found nan"):
        raw_text(joint)


def test_cameras_see_the_same_scene_from_three_sides():
    cameras = [Camera(azimuth, 1.5, 3.0, 0.2) for azimuth in sensor.AZIMUTHS.values()]
    assert np.allclose(np.rad2deg(sorted(camera.azimuth for camera in cameras)), [-45, 0, 45])
    points = scene(0, Take(1, 1, 1, 1, 8))[0]
    views = [seen(points, camera) for camera in cameras]
    for view in views:
        np.testing.assert_allclose(bone_lengths(view), bone_lengths(points), atol=1e-9)
        assert view[..., 2].min() > 2 and view[..., 2].max() < 4.5
    # whoever faces a camera has the left shoulder at smaller x: Kinect's x is the camera's left
    facing = np.zeros((1, 25, 3)) + np.array([0, 1.0, 0])
    facing[0, SKELETON.joint("left_shoulder"), 0] = 0.2
    facing[0, SKELETON.joint("right_shoulder"), 0] = -0.2
    across = bone(seen(facing, Camera(0.0, 1.0, 3.0, 0.0)), "right_shoulder", "left_shoulder")
    np.testing.assert_allclose(across, [[0.4, 0, 0]], atol=1e-12)
    middle = seen(np.array([0, 1.0, 0]), Camera(0.3, 1.8, 3.0, np.arctan2(0.8, 3.0)))
    np.testing.assert_allclose(middle[:2], 0, atol=1e-12)


def test_orientations_turn_y_into_the_bone():
    points = scene(0, Take(1, 1, 1, 1, 8))[0]
    w, x, y, z = np.moveaxis(orientations(points), -1, 0)
    second = np.stack((2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)), axis=-1)
    for name, parent in (("left_knee", "left_hip"), ("right_elbow", "right_shoulder"), ("neck", "spine_shoulder")):
        direction = bone(points, name, parent)
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        np.testing.assert_allclose(column(second, name), direction, atol=1e-9)
    assert not np.any(column(orientations(points), "head"))


def test_noise_grows_with_distance_and_hands_jitter():
    points = scene(0, Take(1, 1, 1, 1, 4))[0]
    errors = []
    for distance in (2.0, 4.0):
        there = points + np.array([0, 0, distance])
        noisy = sensor._track(there, np.random.default_rng(0)).joints - there
        errors.append(np.median(np.abs(noisy), axis=(0, 2)))
    assert (errors[1] > 2 * errors[0]).mean() > 0.9
    assert errors[0][SKELETON.joint("left_hand_tip")] > 1.5 * errors[0][SKELETON.joint("spine_middle")]


def test_tracking_is_lost_bodies_leave_and_ghosts_appear(monkeypatch):
    states = np.concatenate([one.joints[..., 11].ravel() for one in recordings(120)])
    assert set(states) == {0, 1, 2} and 0.01 < (states < 2).mean() < 0.3
    monkeypatch.setattr(sensor, "LEAVES", 1.0)
    monkeypatch.setattr(sensor, "GHOST", 0.0)
    counts = [np.diff(one.frame_offsets) for one in recordings(20)]
    assert all(0 < (count < count.max()).sum() <= len(count) / 2 for count in counts)
    monkeypatch.setattr(sensor, "GHOST", 1.0)
    monkeypatch.setattr(generate, "BYSTANDER", 0.0)
    generate._scene.cache_clear()
    monkeypatch.setattr(sensor, "LEAVES", 0.0)
    single = [recording(0, Take(1, 1, subject, 1, 1)) for subject in range(1, 20)]
    assert all(np.diff(one.frame_offsets).max() == 2 for one in single)
    assert all(len(set(one.body_ids)) >= 2 for one in single)
    generate._scene.cache_clear()


def test_the_chain_from_text_to_store_is_the_store_made_at_once(tmp_path):
    """Two subjects, all cameras and classes; files by NTU names, read by the reader of NTU RGB+D."""
    chain = synthesise_raw(tmp_path / "raw", tmp_path / "chain", 3, 1)
    once = synthesise(tmp_path / "once", 3, 1)
    assert chain.header.hashes == once.header.hashes and len(chain) == 3 * 3 * 20
    assert verify(chain.path).problems == []
    assert len(list((tmp_path / "raw").glob("S001C00?P00?R001A0??.skeleton"))) == 180
    assert set(once.subjects[once.select("xsub_test")]) == {3} and set(once.subjects[once.select("xsub_train")]) == {
        1,
        2,
    }
    assert set(once.cameras[once.select("xview_test")]) == {1} and set(once.cameras[once.select("xview_train")]) == {
        2,
        3,
    }
    assert np.bincount(once.labels).tolist() == [9] * 20
    with pytest.raises(StoreError, match="expected a new or empty folder for raw files"):
        write_raw(tmp_path / "raw", takes(1, 1))
    (tmp_path / "raw" / "S001C001P001R001A099.skeleton").write_text("0\n")
    again = prepare("synthetic", tmp_path / "raw", tmp_path / "again", "raw")
    assert again.header.history["left out"] == {"not of synthetic": ["S001C001P001R001A099"]}


def test_parts_of_the_data_set(tmp_path):
    store = synthesise(tmp_path / "store", 2, 1, cameras=[2], actions=["walk", "drink"], persons=1, preprocessing="raw")
    assert store.header.class_names == ["drink", "walk"] and store.frames.shape[1] == 1 and store.splits == {}
    assert store.header.names == [f"S001C002P00{p}R001A0{a}" for p in (1, 2) for a in ("01", "15")]
    for arguments, message in (
        ({"subjects": 0}, "subjects: expected 1 to 999, found 0"),
        ({"repetitions": 1000}, "repetitions: expected 1 to 999, found 1000"),
        ({"cameras": [4]}, "cameras: expected some of 1, 2, 3, found 4"),
        ({"actions": ["sleep"]}, "actions: expected some of drink, .*, found sleep"),
        ({"seed": -1}, "seed: expected at least 0, found -1"),
        ({"preprocessing": "none"}, "preprocessing: expected one of .*, found 'none'"),
    ):
        with pytest.raises(StoreError, match=message):
            synthesise(tmp_path / "other", **{"subjects": 1, "repetitions": 1, **arguments})
    assert not (tmp_path / "other").exists()

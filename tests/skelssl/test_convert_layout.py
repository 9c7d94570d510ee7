import itertools

import numpy as np
import pytest

from skelssl import skeletons
from skelssl.skeletons.convert import Source, convert_layout, landmarks

LAYOUTS = [skeletons.get(name) for name in skeletons.names()]
NTU, COCO, OPENPOSE = (skeletons.get(name) for name in ("ntu25", "coco17", "openpose18"))


def points_of(skeleton, frames=4, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, 2, skeleton.num_joints, 3)).astype(np.float32)


@pytest.mark.parametrize("skeleton", LAYOUTS, ids=lambda skeleton: skeleton.name)
def test_to_itself_is_the_identity(skeleton):
    x = points_of(skeleton)
    found = convert_layout(x, skeleton, skeleton)
    np.testing.assert_array_equal(found.points, x)
    assert found.scores.min() == 1 and found.lost == found.missing == ()


@pytest.mark.parametrize(("src", "dst"), list(itertools.permutations(LAYOUTS, 2)), ids=lambda skeleton: skeleton.name)
def test_shared_joints_come_back(src, dst):
    """There and back again, joints of one name are where they were; what stands in mirrors as the layouts do."""
    x = points_of(src)
    there = convert_layout(x, src, dst)
    back = convert_layout(there.points, dst, src, there.scores)
    shared = [joint for joint in src.joints if joint in dst.joints]
    places = [src.joints.index(joint) for joint in shared]
    assert {"left_shoulder", "right_hip", "left_knee"} <= set(shared)
    np.testing.assert_array_equal(back.points[..., places, :], x[..., places, :])
    mirrored = convert_layout(x[:, :, src.mirror_order], src, dst).points
    np.testing.assert_allclose(mirrored, there.points[:, :, dst.mirror_order], rtol=1e-6, atol=1e-7)


def test_every_joint_of_the_library_has_a_line():
    named = set(landmarks())
    assert {joint for skeleton in LAYOUTS for joint in skeleton.joints} == named
    assert {other for ways in landmarks().values() for others in ways.values() for other in others} <= named


def test_coco_to_ntu_by_hand():
    x = points_of(COCO)
    found = convert_layout(x, COCO, NTU)
    hips = [COCO.joint("left_hip"), COCO.joint("right_hip")]
    np.testing.assert_allclose(found.points[..., NTU.joint("spine_base"), :], x[..., hips, :].mean(axis=-2), rtol=1e-6)
    assert found.sources["spine_base"] == Source("mean", ("left_hip", "right_hip"))
    assert found.sources["left_hand"] == Source("near", ("left_wrist",))
    assert found.sources["head"] == Source("mean", ("left_ear", "right_ear"))
    assert (
        found.sources["spine_shoulder"] == found.sources["neck"] == Source("mean", ("left_shoulder", "right_shoulder"))
    )
    assert found.missing == ("left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb")
    assert found.lost == ("nose", "left_eye", "right_eye")
    thumb = NTU.joint("left_thumb")
    assert (found.points[..., thumb, :] == 0).all() and (found.scores[..., thumb] == 0).all()
    assert "left_hand: left_wrist (near)" in str(found) and "lost: nose, left_eye, right_eye" in str(found)


def test_without_neighbours():
    found = convert_layout(points_of(COCO), COCO, NTU, near=False)
    assert found.sources["left_hand"] == Source("missing", ())
    assert found.sources["spine_base"].way == "mean"


def test_nan_was_not_seen():
    x = points_of(COCO)
    left, right = COCO.joint("left_hip"), COCO.joint("right_hip")
    x[0, :, left, 1] = np.nan
    x[1, :, [left, right]] = np.nan
    found, base = convert_layout(x, COCO, NTU), NTU.joint("spine_base")
    np.testing.assert_array_equal(found.points[0, :, base], x[0, :, right])
    assert (found.points[1, :, base] == 0).all() and (found.scores[1, :, base] == 0).all()
    assert np.isfinite(found.points).all() and found.scores[2:, :, base].min() == 1


def test_joints_that_were_not_seen_count_nowhere():
    x, scores = points_of(COCO), np.full((4, 2, 17), 0.5, np.float32)
    left, right = COCO.joint("left_hip"), COCO.joint("right_hip")
    x[0, :, left] = np.nan
    scores[0, :, left], scores[1, :, right], scores[2, :, [left, right]] = 0, 0.25, 0
    found, base = convert_layout(x, COCO, NTU, scores), NTU.joint("spine_base")
    np.testing.assert_array_equal(found.points[0, :, base], x[0, :, right])
    assert found.scores[0, 0, base] == 0.5 and found.scores[1, 0, base] == 0.25
    assert found.scores[2, 0, base] == 0 and (found.points[2, :, base] == 0).all()
    assert np.isfinite(found.points[:, :, base]).all()


def test_a_users_own_layout_takes_part_by_names(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "joints: [pelvis, tail, left_shoulder, right_shoulder]\n"
        "parents: {tail: pelvis, left_shoulder: pelvis, right_shoulder: pelvis}\nparts: {}\n"
    )
    mine = skeletons.get(path)
    found = convert_layout(points_of(mine), mine, OPENPOSE)
    assert found.sources["neck"] == Source("mean", ("left_shoulder", "right_shoulder"))
    assert found.lost == ("pelvis", "tail") and "nose" in found.missing


def test_pictures_keep_two_coordinates_and_doubles_their_digits():
    x = points_of(COCO).astype(np.float64)[..., :2]
    found = convert_layout(x, COCO, OPENPOSE)
    assert found.points.shape == (4, 2, 18, 2) and found.points.dtype == np.float64


@pytest.mark.parametrize(
    ("shape", "scores", "message"),
    [
        ((4, 16, 3), None, r"x: expected \(..., 17, C\) for 'coco17', found \(4, 16, 3\)"),
        ((17,), None, "x: expected"),
        ((4, 17, 3), np.ones((4, 16)), r"scores: expected \(4, 17\), at least 0 each, found \(4, 16\)"),
        ((4, 17, 3), -np.ones((4, 17)), "at least 0"),
        ((4, 17, 3), np.full((4, 17), np.nan), "at least 0"),
    ],
)
def test_wrong_shapes_and_scores(shape, scores, message):
    with pytest.raises(ValueError, match=message):
        convert_layout(np.zeros(shape), COCO, NTU, scores)

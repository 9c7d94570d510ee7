import numpy as np
import pytest

from skelssl import skeletons
from skelssl.data.synthetic import ACTIONS, synthesise
from skelssl.data.verify import verify


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return synthesise(
        tmp_path_factory.mktemp("data") / "store", subjects=3, repetitions=2, preprocessing="raw", noise=0
    )


def test_store_is_whole_and_cross_subject(store):
    assert len(store) == 6 * 3 * 2
    assert verify(store.path).problems == []
    train, test = (set(store.subjects[store.select(split)]) for split in ("train", "test"))
    assert train == {1, 2}
    assert test == {3}
    assert np.bincount(store.labels).tolist() == [6] * 6


def test_bones_keep_their_lengths_and_both_sides_are_equal(store):
    skeleton = skeletons.get("ntu25")
    children, parents = np.array(skeleton.bones).T
    order = np.array(skeleton.mirror_order)
    for sample in range(0, len(store), 5):
        joints = store.sample(sample)[:, 0].astype(np.float64)
        lengths = np.linalg.norm(joints[:, children] - joints[:, parents], axis=-1)
        np.testing.assert_allclose(lengths, lengths[:1].repeat(len(lengths), 0), atol=1e-5)
        by_child = dict(zip(children, lengths[0], strict=True))
        for child in children:
            assert by_child[child] == pytest.approx(by_child[order[child]], abs=1e-5)


def joint_path(store, action, joint):
    """(samples, 3) extent of a joint's movement in every sequence of an action."""
    number = list(ACTIONS).index(action)
    column = skeletons.get("ntu25").joint(joint)
    return np.array([np.ptp(store.sample(i)[:, 0, column], axis=0) for i in np.flatnonzero(store.labels == number)])


def test_actions_are_what_they_are_called(store):
    assert joint_path(store, "sit down", "spine_base")[:, 1].min() > 0.2
    assert np.abs(joint_path(store, "wave", "spine_base")).max() < 1e-5
    hands = np.maximum(joint_path(store, "wave", "left_hand"), joint_path(store, "wave", "right_hand"))
    assert np.linalg.norm(hands, axis=1).min() > 0.1
    feet = np.maximum(joint_path(store, "kick", "left_foot"), joint_path(store, "kick", "right_foot"))
    assert feet[:, 1].min() > 0.3
    assert np.linalg.norm(joint_path(store, "walk", "spine_base")[:, [0, 2]], axis=1).min() > 0.5
    assert joint_path(store, "bow", "head")[:, 1].min() > 0.1


def test_people_stand_upright_before_they_act(store):
    skeleton = skeletons.get("ntu25")
    for sample in np.flatnonzero(store.labels == list(ACTIONS).index("kick")):
        first = store.sample(sample)[0, 0]
        height = first[skeleton.joint("head"), 1] - first[skeleton.joint("left_ankle"), 1]
        assert 1.1 < height < 2.1


def test_noise_seed_and_subjects_count(tmp_path):
    stores = [synthesise(tmp_path / f"{n}", subjects=3, repetitions=1, seed=seed) for n, seed in enumerate((0, 0, 1))]
    assert np.array_equal(stores[0].frames, stores[1].frames)
    assert stores[0].frames.shape != stores[2].frames.shape or not np.array_equal(stores[0].frames, stores[2].frames)

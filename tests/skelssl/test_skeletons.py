import numpy as np
import pytest

from skelssl import skeletons
from skelssl.skeletons.graph import adjacency, hop_distances


def test_degrees_of_ntu25_are_the_published_ones():
    published = (3, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1, 4, 1, 2, 1, 2)
    assert skeletons.get("ntu25").degrees == published


def test_mirror_order_of_ntu25_is_the_published_flip():
    published = (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22)
    assert skeletons.get("ntu25").mirror_order == published


def test_bones_of_ntu25_are_the_published_pairs():
    published = [
        *[(1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)],
        *[(13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8)],
        *[(24, 25), (25, 12)],
    ]
    assert list(skeletons.get("ntu25").bones) == [(child - 1, parent - 1) for child, parent in published]


@pytest.mark.parametrize("name", skeletons.names())
def test_every_skeleton_is_whole(name):
    skeleton = skeletons.get(name)
    assert len(skeleton.bones) == skeleton.num_joints - 1
    assert sorted(joint for part in skeleton.parts.values() for joint in part) == list(range(skeleton.num_joints))
    order = np.array(skeleton.mirror_order)
    assert (order[order] == np.arange(skeleton.num_joints)).all()
    assert hop_distances(skeleton).max() < skeleton.num_joints
    parents = np.array(skeleton.parents)
    assert (order[parents] == parents[order]).all(), "the mirror image of a bone is a bone"


def test_centres():
    assert skeletons.get("ntu25").centre == 20
    assert skeletons.get("nw_ucla20").centre == 2


def test_spatial_partition_by_hand():
    skeleton = skeletons.get("ntu25")
    spatial = adjacency(skeleton)
    assert spatial.shape == (3, 25, 25)
    assert np.count_nonzero(spatial) == 25 + 2 * 24
    np.testing.assert_allclose(spatial.sum(axis=(0, 1)), 1, rtol=1e-6)
    elbow, shoulder = skeleton.joint("left_elbow"), skeleton.joint("left_shoulder")
    assert spatial[1, elbow, shoulder] == pytest.approx(1 / 3)  # from the farther joint into the nearer one
    assert spatial[2, shoulder, elbow] == pytest.approx(1 / 3)
    assert spatial[1, shoulder, elbow] == spatial[2, elbow, shoulder] == 0
    assert spatial[0, skeleton.centre, skeleton.centre] == pytest.approx(1 / 5)


@pytest.mark.parametrize(
    ("partition", "max_hop", "subsets"), [("uniform", 1, 1), ("distance", 2, 3), ("spatial", 2, 5)]
)
def test_partitions_split_the_same_neighbourhood(partition, max_hop, subsets):
    skeleton = skeletons.get("nw_ucla20")
    split = adjacency(skeleton, partition, max_hop)
    assert split.shape[0] == subsets
    np.testing.assert_allclose(split.sum(axis=0), adjacency(skeleton, "uniform", max_hop)[0], rtol=1e-6)
    assert (np.count_nonzero(split, axis=0) <= 1).all()


def test_wrong_partition():
    with pytest.raises(ValueError, match="expected one of uniform, distance, spatial, found 'radial'"):
        adjacency(skeletons.get("ntu25"), "radial")


OWN = "joints: [hip, left_hand, right_hand]\nparents: {left_hand: hip, right_hand: hip}\nparts: {all: [hip]}\n"


def test_a_users_own_skeleton(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    skeleton = skeletons.get(path)
    assert (skeleton.name, skeleton.centre, skeleton.mirror_order) == ("mine", 0, (0, 2, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("parts:", "party:", "expected the keys joints, parents, parts"),
        ("right_hand: hip", "right_hand: right_hand", "expected one joint without a parent"),
        ("left_hand: hip", "left_hand: foot", "'foot' is not among the joints"),
        ("hip, left_hand,", "hip, hip, left_hand,", "a name occurs twice"),
        ("hip, left_hand,", "hip, left_foot, left_hand,", "no mirror image 'right_foot'"),
        ("{left_hand: hip, right_hand: hip}", "{left_hand: right_hand, right_hand: left_hand}", "round in a circle"),
    ],
)
def test_broken_files_are_named(tmp_path, old, new, message):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(ValueError, match=f"mine.yaml: .*{message}"):
        skeletons.get(path)


def test_unknown_skeleton():
    with pytest.raises(ValueError, match="expected one of azure32, .*, uwa3d15 or a YAML file, found 'kinect'"):
        skeletons.get("kinect")
    with pytest.raises(ValueError, match="expected one of spine_base, .* found 'tail'"):
        skeletons.get("ntu25").joint("tail")

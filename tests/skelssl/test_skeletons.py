from pathlib import Path

import numpy as np
import pytest
import yaml

from skelssl import skeletons
from skelssl.data.preprocessings.persons import yaw_aligned
from skelssl.skeletons.graph import adjacency, directed_adjacency, hop_distances


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
    ("partition", "max_hop", "subsets"),
    [("uniform", 1, 1), ("distance", 2, 3), ("spatial", 2, 5), ("spatial-official", 2, 5)],
)
def test_partitions_split_the_same_neighbourhood(partition, max_hop, subsets):
    skeleton = skeletons.get("nw_ucla20")
    split = adjacency(skeleton, partition, max_hop)
    assert split.shape[0] == subsets
    np.testing.assert_allclose(split.sum(axis=0), adjacency(skeleton, "uniform", max_hop)[0], rtol=1e-6)
    assert (np.count_nonzero(split, axis=0) <= 1).all()


def test_official_partition_knows_the_centre_one_bone_around():
    skeleton = skeletons.get("ntu25")
    paper, official = adjacency(skeleton), adjacency(skeleton, "spatial-official")
    np.testing.assert_allclose(official.sum(axis=(1, 2)), [8.95, 13.3, 2.75], rtol=1e-6)  # the code's own
    np.testing.assert_allclose(official.sum(axis=0), paper.sum(axis=0))
    wrist, elbow = skeleton.joint("left_wrist"), skeleton.joint("left_elbow")
    assert official[1, wrist, elbow] == official[1, elbow, wrist] == pytest.approx(1 / 3)
    np.testing.assert_array_equal(official[:, skeleton.centre], paper[:, skeleton.centre])


def test_wrong_partition():
    with pytest.raises(
        ValueError, match="expected one of uniform, distance, spatial, spatial-official, found 'radial'"
    ):
        adjacency(skeletons.get("ntu25"), "radial")


def test_directed_subsets_are_the_joint_its_parent_and_its_children():
    skeleton = skeletons.get("ntu25")
    own, from_parent, from_children = directed_adjacency(skeleton)
    parents = [parent for _, parent in skeleton.bones]
    np.testing.assert_array_equal(own, np.eye(25))
    for child, parent in skeleton.bones:
        assert from_parent[parent, child] == 1
        assert from_children[child, parent] == pytest.approx(1 / parents.count(parent))
    assert np.count_nonzero(from_parent) == np.count_nonzero(from_children) == 24


ROOT = Path(__file__).parents[2]
OWN = """
joints: [hip, spine, chest, l_hand, r_hand, tail]
edges: [[hip, spine], [chest, spine], [chest, l_hand], [r_hand, chest], [hip, tail]]
centre: hip
mirror: [[l_hand, r_hand]]
parts: {trunk: [hip, spine, chest], hands: [l_hand, r_hand]}
roles: {left_shoulder: l_hand, right_shoulder: r_hand}
"""
PARENTS = "parents: {spine: hip, chest: spine, l_hand: chest, r_hand: chest, tail: hip}\n"
EDGES = "edges: [[hip, spine], [chest, spine], [chest, l_hand], [r_hand, chest], [hip, tail]]\n"
CENTRE = "centre: hip\n"


def own(tmp_path, *replacements):
    """The file OWN with replacements (old, new); every old text is there."""
    text = OWN
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_users_own_skeleton(tmp_path):
    skeleton = skeletons.get(own(tmp_path))
    assert (skeleton.name, skeleton.centre, skeleton.parents) == ("mine", 0, (0, 0, 1, 2, 2, 0))
    assert skeleton.mirror == ((3, 4),) and skeleton.mirror_order == (0, 1, 2, 4, 3, 5)
    assert skeleton.parts == {"trunk": (0, 1, 2), "hands": (3, 4)}
    assert skeleton.role("left_shoulder") == 3 and not skeleton.has_role("head")
    assert adjacency(skeleton).shape == (3, 6, 6)


def test_the_example_of_the_documentation(tmp_path):
    path = tmp_path / "example.yaml"
    path.write_text((ROOT / "docs" / "data.md").read_text().split("```yaml\n")[1].partition("```")[0])
    skeleton = skeletons.get(path)
    assert skeleton.joints[skeleton.centre] == "chest" and skeleton.joints[skeleton.role("head")] == "skull"
    assert skeleton.mirror_order == (0, 1, 2, 5, 6, 3, 4)


def test_edges_and_parents_say_the_same(tmp_path):
    by_edges = skeletons.get(own(tmp_path))
    assert skeletons.get(own(tmp_path, (EDGES, PARENTS), (CENTRE, ""))) == by_edges


@pytest.mark.parametrize("name", skeletons.names())
def test_every_skeleton_can_be_written_as_edges(name, tmp_path):
    skeleton = skeletons.get(name)
    edges = [[skeleton.joints[parent], skeleton.joints[child]] for child, parent in reversed(skeleton.bones)]
    data = {"joints": list(skeleton.joints), "edges": edges, "centre": skeleton.joints[skeleton.centre]}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    found = skeletons.get(path)
    assert (found.parents, found.mirror_order) == (skeleton.parents, skeleton.mirror_order)
    assert sorted(joint for part in found.parts.values() for joint in part) == list(range(found.num_joints))


def test_parts_are_chains_from_the_centre_unless_named(tmp_path):
    parts = skeletons.get(own(tmp_path, ("parts: {trunk: [hip, spine, chest], hands: [l_hand, r_hand]}\n", ""))).parts
    assert parts == {"hip": (0,), "spine": (1, 2), "l_hand": (3,), "r_hand": (4,), "tail": (5,)}


def test_without_mirror_images_every_joint_is_its_own(tmp_path):
    for mirror in ("mirror: []", ""):
        skeleton = skeletons.get(own(tmp_path, ("mirror: [[l_hand, r_hand]]", mirror)))
        assert skeleton.mirror_order == (0, 1, 2, 3, 4, 5) and skeleton.mirror == ()


def test_named_pairs_alone_count(tmp_path):
    text = "joints: [hip, left_hand, claw]\nparents: {left_hand: hip, claw: hip}\nmirror: [[left_hand, claw]]\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert skeletons.get(path).mirror_order == (0, 2, 1)


@pytest.mark.parametrize("name", skeletons.names())
def test_shoulders_and_hips_of_every_skeleton(name):
    skeleton = skeletons.get(name)
    for role in ("left_shoulder", "right_shoulder", "left_hip", "right_hip"):
        assert skeleton.joints[skeleton.role(role)] == role


def test_roles_of_other_names(tmp_path):
    assert [skeletons.get(name).role("spine_base") for name in ("ntu25", "nw_ucla20", "azure32", "smpl24")] == [0] * 4
    with pytest.raises(ValueError, match="skeleton 'mine': expected a joint that is the left_hip, found none.*roles:"):
        skeletons.get(own(tmp_path)).role("left_hip")


def test_yaw_alignment_needs_shoulders_of_any_name(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 1, 6, 3))
    line = yaw_aligned(x, skeletons.get(own(tmp_path)))[:, 0]
    across = (line[:, 4] - line[:, 3]).mean(axis=0)
    assert across[0] > 0 and abs(across[2]) < 1e-12
    bare = skeletons.get(own(tmp_path, ("roles: {left_shoulder: l_hand, right_shoulder: r_hand}\n", "")))
    with pytest.raises(ValueError, match="the left_shoulder, found none of that name"):
        yaw_aligned(x, bare)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\njoints: [*b, *b]\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("parts:", "party:", "expected the keys joints, parents, .* roles, found 'party'"),
        ("joints:", "7:", "expected the keys joints, .* found 7"),
        ("joints: [hip, spine, chest, l_hand, r_hand, tail]\n", "", "expected the key joints, found none"),
        (EDGES, "", "expected either parents, or edges and centre, found centre"),
        (CENTRE, "", "expected either parents, or edges and centre, found edges"),
        (EDGES, PARENTS, "expected either parents, or edges and centre, found parents and centre"),
        (EDGES + CENTRE, "", "expected either parents, or edges and centre, found none"),
        ("[hip, spine, chest, l_hand, r_hand, tail]", "[]", "joints: expected at least one, found none"),
        ("[hip, spine, chest, l_hand, r_hand, tail]", "hip", "joints: expected a list of names, found 'hip'"),
        ("[hip, spine, chest, l_hand, r_hand, tail]", "", "joints: expected a list of names, found nothing"),
        ("[hip, spine, chest, l_hand, r_hand, tail]", "{hip: 1}", "joints: expected a list .* found a mapping of 1"),
        ("l_hand, r_hand, tail]", "l_hand, r_hand, 7]", "joints: expected names, found 7; quotes make a name"),
        ("l_hand, r_hand, tail]", "l_hand, r_hand, no]", "joints: expected names, found False"),
        ("l_hand, r_hand, tail]", "l_hand, r_hand, ~]", "joints: expected names, found nothing"),
        ("l_hand, r_hand, tail]", "l_hand, r_hand, '']", "joints: expected names, found ''"),
        ("l_hand, r_hand, tail]", "l_hand, r_hand, [tail]]", "joints: expected names, found a list of 1"),
        ("joints: [hip,", "joints: [hip, hip,", "joints: 'hip' occurs twice"),
        ("[hip, tail]]", "[hip, foot]]", "edges: 'foot' is not among the joints"),
        (", [hip, tail]]", "]", "edges: none leads from the centre 'hip' to 'tail'"),
        ("[hip, tail]]", "[hip, tail], [tail, chest]]", "edges: the one of 'tail' and 'chest' closes a circle"),
        ("[hip, tail]]", "[hip, tail], [tail, hip]]", "edges: 'tail' and 'hip' are connected twice"),
        ("[hip, tail]]", "[tail, tail]]", "edges: expected two joints in a pair, found 'tail' with itself"),
        ("[hip, tail]]", "[hip, tail, chest]]", "edges: expected pairs of joints, found a list of 3"),
        ("[hip, tail]]", "hip]", "edges: expected pairs of joints, found 'hip'"),
        ("[hip, tail]]", "[0, 5]]", "edges: expected names, found 0"),
        (EDGES, "edges: 5\n", "edges: expected a list of pairs of joints, found 5"),
        (EDGES, "edges:\n", "edges: expected a list of pairs of joints, found nothing"),
        ("centre: hip", "centre: middle", "centre: 'middle' is not among the joints"),
        ("centre: hip", "centre: [hip]", "centre: expected names, found a list of 1"),
        (
            EDGES + CENTRE,
            PARENTS.replace("tail: hip", "tail: tail"),
            "expected one joint without a parent, found .'hip', 'tail'",
        ),
        (EDGES + CENTRE, PARENTS.replace("tail: hip", "tail: foot"), "parents: tail: 'foot' is not among the joints"),
        (EDGES + CENTRE, PARENTS.replace("tail: hip", "foot: hip"), "parents: 'foot' is not among the joints"),
        (EDGES + CENTRE, PARENTS.replace("spine: hip", "spine: chest"), "the parents of 'spine' go round in a circle"),
        (
            EDGES + CENTRE,
            PARENTS.replace("tail: hip", "tail: hip, tail: chest"),
            "expected every key once, found 'tail' 2 times",
        ),
        (EDGES + CENTRE, "parents: [hip]\n", "parents: expected names with values, found a list of 1"),
        ("[[l_hand, r_hand]]", "[[l_hand, claw]]", "mirror: 'claw' is not among the joints"),
        ("[[l_hand, r_hand]]", "[[l_hand, r_hand], [tail, l_hand]]", "mirror: 'l_hand' occurs twice"),
        ("[[l_hand, r_hand]]", "{l_hand: r_hand}", "mirror: expected a list of pairs of joints, found a mapping of 1"),
        ("hands: [l_hand,", "hands: [chest, l_hand,", "parts: 'chest' occurs twice"),
        ("hands: [l_hand,", "hands: [l_claw,", "parts: hands: 'l_claw' is not among the joints"),
        ("hands: [l_hand, r_hand]", "hands: l_hand", "parts: hands: expected a list of names, found 'l_hand'"),
        ("hands: [l_hand, r_hand]", "3: [l_hand]", "parts: expected names, found 3"),
        ("left_shoulder: l_hand", "left_wing: l_hand", "roles: expected head, left_shoulder, .* found 'left_wing'"),
        ("left_shoulder: l_hand", "left_shoulder: l_claw", "roles: left_shoulder: 'l_claw' is not among the joints"),
        ("left_shoulder: l_hand", "left_shoulder: 2", "roles: left_shoulder: expected names, found 2"),
        (
            "roles: {left_shoulder: l_hand, right_shoulder: r_hand}",
            "roles: [head]",
            "roles: expected names with values",
        ),
        ("mirror: [[l_hand, r_hand]]", "joints: [hip]", "expected every key once, found 'joints' 2 times"),
        (OWN, "", "the file: expected names with values, found nothing"),
        (OWN, "just text", "the file: expected names with values, found 'just text'"),
        (OWN, "joints: [hip", "expected YAML: while parsing"),
        (OWN, BOMB, "expected no aliases, found .a"),
        (OWN, "[" * 60_000, "expected YAML, found brackets within brackets without end"),
        (OWN, "joints: [" + "hip, " * 20_000, "expected at most 65536 characters, found 100009"),
        (OWN, "joints: !!python/object:os.system [ls]", "expected YAML: could not determine a constructor"),
        (OWN, "? [hip]\n: 1", "expected YAML: .* unhashable key"),
    ],
)
def test_broken_files_are_named(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=f"mine.yaml: {message}"):
        skeletons.get(own(tmp_path, (old, new)))


def test_sides_by_name_need_both(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("joints: [hip, left_foot]\nparents: {left_foot: hip}\n")
    with pytest.raises(
        ValueError, match="mine.yaml: 'left_foot' has no mirror image 'right_foot'; pairs of other names"
    ):
        skeletons.get(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"joints: [h\xfcfte]\n")
    with pytest.raises(ValueError, match="mine.yaml: expected UTF-8 text, found a byte that is not at 10"):
        skeletons.get(path)


def test_unknown_skeleton():
    with pytest.raises(ValueError, match="expected one of azure32, .*, uwa3d15 or a YAML file, found 'kinect'"):
        skeletons.get("kinect")
    with pytest.raises(ValueError, match="expected one of spine_base, .* found 'tail'"):
        skeletons.get("ntu25").joint("tail")

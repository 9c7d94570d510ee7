import itertools

import numpy as np
import pytest

from skelssl import skeletons
from skelssl.data.readers.uwa3d import ACTIONS, prepare_uwa3d
from skelssl.data.store import StoreError
from skelssl.data.verify import verify


def motion(seed, frames=7):
    """(frames, 15, 3) in metres, three of them away from the sensor."""
    return np.random.default_rng(seed).normal(size=(frames, 15, 3)).round(5) + np.array([0, 0, 3])


def text(joints, separator=" "):
    return "\n".join(separator.join(f"{value:.5f}" for value in frame) for frame in joints.reshape(len(joints), -1))


@pytest.fixture
def folder(tmp_path):
    """Two actions of two subjects in all four views."""
    folder = tmp_path / "uwa3d"
    folder.mkdir()
    numbers = itertools.product((1, 30), (2, 5), (1, 2, 3, 4))
    for seed, (action, subject, view) in enumerate(numbers):
        (folder / f"a{action:02}_s{subject:02}_e00_v{view:02}.txt").write_text(text(motion(seed)))
    return folder


def test_samples_and_cross_view_splits(folder, tmp_path):
    store = prepare_uwa3d(folder, tmp_path / "store", "raw")
    assert len(store) == 16
    assert store.labels.tolist() == [0] * 8 + [29] * 8
    assert store.subjects.tolist() == ([2] * 4 + [5] * 4) * 2
    assert store.cameras.tolist() == [1, 2, 3, 4] * 4
    for seed in range(16):
        np.testing.assert_array_equal(store.sample(seed)[:, 0], np.float32(motion(seed)))
    pairs = [name.removesuffix("_test") for name in store.splits if name.endswith("_test")]
    assert len(pairs) == 12
    assert {f"view{view}" for view in (1, 2, 3, 4)} < set(store.splits)
    for pair in pairs:
        train, test = (set(store.cameras[store.select(f"{pair}_{half}")]) for half in ("train", "test"))
        assert pair == f"v{''.join(map(str, sorted(train)))}_v{min(test)}"
        assert len(train) == 2
        assert not train & test
    assert verify(store.path).problems == []


def test_yaw_aligned_faces_the_same_way(folder, tmp_path):
    store, skeleton = prepare_uwa3d(folder, tmp_path / "store"), skeletons.get("uwa3d15")
    left, right = skeleton.joint("left_shoulder"), skeleton.joint("right_shoulder")
    for sample in range(len(store)):
        across = (store.sample(sample)[:, 0, right] - store.sample(sample)[:, 0, left]).mean(axis=0)
        assert across[0] > 0
        assert abs(across[2]) < 1e-5
        assert not store.sample(sample)[:, :, skeleton.centre].any()


def test_lost_joints_commas_and_millimetres(folder, tmp_path):
    joints = motion(0)
    joints[3, 8] = 0
    (folder / "a01_s02_e00_v01.txt").write_text(text(joints, ","))
    (folder / "a01_s02_e00_v02.txt").write_text(text(motion(1) * 1000))
    raw = prepare_uwa3d(folder, tmp_path / "raw", "raw")
    assert not raw.sample(0)[3, 0, 8].any()
    np.testing.assert_allclose(raw.sample(1)[:, 0], motion(1), rtol=1e-6)
    assert raw.header.history == {"left out": {}, "millimetres, taken to metres": ["a01_s02_e00_v02"]}
    centred = prepare_uwa3d(folder, tmp_path / "centred", "centred")
    neck = skeletons.get("uwa3d15").joint("neck")
    expected = (joints[2, 8] + joints[4, 8]) / 2 - joints[3, neck]
    np.testing.assert_allclose(centred.sample(0)[3, 0, 8], expected, rtol=1e-5)
    assert centred.header.history["lost joints interpolated"] == ["a01_s02_e00_v01: 1"]


def test_damaged_and_unknown_files_are_left_out_and_named(folder, tmp_path):
    (folder / "a01_s02_e00_v01.txt").write_text("1 2 3\n")
    (folder / "a01_s02_e00_v02.txt").write_text("")
    (folder / "a31_s02_e00_v02.txt").write_text(text(motion(0)))
    (folder / "readme.txt").write_text("skeletons")
    store = prepare_uwa3d(folder, tmp_path / "store")
    assert len(store) == 14
    assert store.header.history["left out"] == {
        "not a name of the data set": ["readme.txt"],
        "unknown action or view": ["a31_s02_e00_v02.txt"],
        "damaged": [
            "a01_s02_e00_v01: line 1: expected 45 numbers, found 3",
            "a01_s02_e00_v02: expected lines of 45 numbers, found none",
        ],
    }


def test_wrong_sources_are_refused(folder, tmp_path):
    (folder / "deeper").mkdir()
    (folder / "deeper" / "a01_s02_e00_v01.txt").write_text(text(motion(0)))
    with pytest.raises(StoreError, match="a01_s02_e00_v01.txt occurs more than once"):
        prepare_uwa3d(folder, tmp_path / "store")
    with pytest.raises(StoreError, match="expected one of raw, centred, yaw-aligned, yaw-scaled, found 'agcn'"):
        prepare_uwa3d(folder, tmp_path / "store", "agcn")
    for path in folder.rglob("*_v03.txt"):
        path.unlink()
    with pytest.raises(StoreError, match=r"such as a01_s01_e00_v03.txt of every view, found none of view 3"):
        prepare_uwa3d(folder, tmp_path / "store")
    assert list(tmp_path.iterdir()) == [folder]


def test_classes():
    assert len(set(ACTIONS)) == len(ACTIONS) == 30

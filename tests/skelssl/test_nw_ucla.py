import io
import json
import tarfile
import zipfile

import numpy as np
import pytest

from skelssl import skeletons
from skelssl.data.archive import LARGEST_FILE
from skelssl.data.preprocessings.persons import PERSON_PREPROCESSINGS, interpolate_lost_joints
from skelssl.data.readers import nw_ucla
from skelssl.data.store import StoreError
from skelssl.data.verify import verify

FILES = [("a01_s01_e00_v01", 1), ("a12_s03_e02_v02", 10), ("a08_s02_e01_v03", 7), ("a01_s01_e00_v03", 1)]


def file_content(file_name, file_label, seed, **changes):
    skeleton = np.random.default_rng(seed).normal(size=(5, 20, 3)).round(4).tolist()
    return json.dumps({"file_name": file_name, "skeletons": skeleton, "label": file_label} | changes)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four files; the last is a copy of the first."""
    monkeypatch.setattr(nw_ucla, "VIEWS", {1: 1, 2: 1, 3: 2})
    folder = tmp_path / "all_sqe"
    folder.mkdir()
    for seed, (name, label) in enumerate(FILES):
        (folder / f"{name}.json").write_text(file_content(name, label, seed % 3))
    return folder


def pack(folder, kind):
    target = folder.with_suffix(f".{kind}")
    if kind == "zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in folder.iterdir():
                archive.write(path, f"all_sqe/{path.name}")
    else:
        with tarfile.open(target, "w:xz") as archive:
            archive.add(folder, "all_sqe")
    return target


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.xz"])
def test_reads_folder_and_archives(small, tmp_path, kind):
    source = small if kind == "folder" else pack(small, kind)
    store = nw_ucla.prepare_nw_ucla(source, tmp_path / "store", "raw")
    assert store.header.names == sorted(name for name, _ in FILES)
    assert store.labels.tolist() == [0, 0, 6, 9]
    assert store.cameras.tolist() == [1, 3, 3, 2]
    assert store.subjects.tolist() == [1, 1, 2, 3]
    assert store.select("train").tolist() == [0, 3]
    assert store.select("test").tolist() == [1, 2]
    assert store.select("test_unseen").tolist() == [2]
    expected = json.loads((small / "a12_s03_e02_v02.json").read_text())["skeletons"]
    np.testing.assert_array_equal(store.sample(3)[:, 0], np.float32(expected))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 2}, r"a01_s01_e00_v01.json: expected label 1 for action 1, found 2"),
        ({"skeletons": [[[0.0] * 3] * 19]}, r"a01_s01_e00_v01.json: expected skeletons of shape \(frames, 20, 3\)"),
        ({"skeletons": []}, r"a01_s01_e00_v01.json: expected skeletons of shape"),
        ({"skeletons": [[[float("nan")] * 3] * 20]}, r"a01_s01_e00_v01.json: expected finite coordinates"),
        ({"skeletons": "none"}, r"a01_s01_e00_v01.json: expected skeletons of shape"),
    ],
)
def test_a_damaged_file_is_named(small, tmp_path, changes, message):
    (small / "a01_s01_e00_v01.json").write_text(file_content("a01_s01_e00_v01", 1, 0, **changes))
    with pytest.raises(StoreError, match=message):
        nw_ucla.prepare_nw_ucla(small, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_truncated_missing_and_wrong_sources_are_named(small, tmp_path):
    (small / "a12_s03_e02_v02.json").write_text('{"skeletons": [[')
    with pytest.raises(StoreError, match=r"a12_s03_e02_v02.json: expected JSON with 'skeletons' and 'label'"):
        nw_ucla.prepare_nw_ucla(small, tmp_path / "store")
    (small / "a12_s03_e02_v02.json").unlink()
    with pytest.raises(StoreError, match="expected 1 sequences of view 2, as published, found 0"):
        nw_ucla.prepare_nw_ucla(small, tmp_path / "store")
    (tmp_path / "archive inside").mkdir()
    with pytest.raises(StoreError, match="expected files such as a01_s01_e00_v01.json .* found none"):
        nw_ucla.prepare_nw_ucla(tmp_path / "archive inside", tmp_path / "store")
    with pytest.raises(StoreError, match="expected a folder or an archive, found nothing"):
        nw_ucla.prepare_nw_ucla(tmp_path / "absent.tar", tmp_path / "store")
    (tmp_path / "text.tar").write_text("hello")
    with pytest.raises(StoreError, match="expected a folder, a zip or a tar archive"):
        nw_ucla.prepare_nw_ucla(tmp_path / "text.tar", tmp_path / "store")
    with pytest.raises(StoreError, match="expected one of raw, centred, yaw-aligned, yaw-scaled, found 'pyskl'"):
        nw_ucla.prepare_nw_ucla(small, tmp_path / "store", "pyskl")


def test_giant_archive_members_are_refused(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar", "w") as archive:
        member = tarfile.TarInfo("all_sqe/a01_s01_e00_v01.json")
        member.size = LARGEST_FILE + 1
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(StoreError, match="expected at most 67108864 bytes for one sequence"):
        nw_ucla.prepare_nw_ucla(tmp_path / "bomb.tar", tmp_path / "store")


def test_centring_puts_the_centre_at_the_origin():
    skeleton = skeletons.get("nw_ucla20")
    sequence = np.random.default_rng(0).normal(size=(6, 1, 20, 3))
    found = PERSON_PREPROCESSINGS["centred"](sequence, skeleton)
    assert (found[:, :, skeleton.centre] == 0).all()
    np.testing.assert_allclose(found[:, :, 5] - found[:, :, 9], sequence[:, :, 5] - sequence[:, :, 9])


def test_yaw_alignment_undoes_the_camera_position():
    skeleton = skeletons.get("nw_ucla20")
    sequence = np.random.default_rng(0).normal(size=(6, 1, 20, 3))
    found = PERSON_PREPROCESSINGS["yaw-aligned"](sequence, skeleton)
    line = (found[:, 0, skeleton.joint("right_shoulder")] - found[:, 0, skeleton.joint("left_shoulder")]).mean(0)
    assert line[0] > 0
    assert line[2] == pytest.approx(0, abs=1e-12)
    angle = 0.7
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    np.testing.assert_allclose(PERSON_PREPROCESSINGS["yaw-aligned"](sequence @ turn, skeleton), found, atol=1e-12)


def test_scaling_fills_the_same_box_whoever_performs():
    skeleton = skeletons.get("nw_ucla20")
    sequence = np.random.default_rng(0).normal(size=(6, 1, 20, 3))
    found = PERSON_PREPROCESSINGS["yaw-scaled"](sequence, skeleton)
    np.testing.assert_allclose(found.min(axis=(0, 1, 2)), -1)
    np.testing.assert_allclose(found.max(axis=(0, 1, 2)), 1)
    np.testing.assert_allclose(PERSON_PREPROCESSINGS["yaw-scaled"](1.3 * sequence, skeleton), found, atol=1e-12)


def test_scaling_leaves_an_axis_without_extent():
    skeleton = skeletons.get("nw_ucla20")
    found = PERSON_PREPROCESSINGS["yaw-scaled"](np.zeros((2, 1, 20, 3)), skeleton)
    assert (found == 0).all()


def test_lost_joints_are_interpolated_between_the_frames_that_have_them():
    sequence = np.ones((5, 1, 3, 3)) * np.arange(1, 6)[:, None, None, None]
    sequence[[2, 4], 0, 1] = 0
    sequence[:, 0, 2] = 0  # lost throughout: nothing to interpolate from
    repaired, replaced = interpolate_lost_joints(sequence)
    assert replaced == 2
    assert repaired[:, 0, 1, 0].tolist() == [1, 2, 3, 4, 4]
    assert (repaired[:, 0, 2] == 0).all()


def test_published_files(nw_ucla_archive, tmp_path):
    store = nw_ucla.prepare_nw_ucla(nw_ucla_archive, tmp_path / "store")
    assert {name: len(split) for name, split in store.splits.items()} == {
        "test": 464,
        "test_unseen": 369,
        "train": 1020,
        "view1": 516,
        "view2": 504,
        "view3": 464,
    }
    assert np.bincount(store.labels).tolist() == [150, 152, 141, 173, 148, 149, 142, 142, 145, 142]
    assert np.bincount(store.labels[store.select("test_unseen")]).tolist() == [48, 0, 0, 49, 47, 47, 43, 43, 47, 45]
    repaired = store.header.history["lost joints interpolated"]
    assert repaired == ["a04_s01_e01_v01: 6", "a04_s04_e02_v01: 6"]
    report = verify(store.path)
    assert report.problems == []
    assert any("95 of the 464 sequences of 'test' are exact copies" in remark for remark in report.remarks)
    listed = (nw_ucla_archive.parent / "test_unseen.txt").read_text().split()
    assert {store.header.names[i] for i in store.select("test_unseen")} == {
        name.removesuffix(".json") for name in listed
    }

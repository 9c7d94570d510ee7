"""Features of new recordings: those of the store where the recordings are the store's, and what becomes of others."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_show import raw_text, standing
from tiny import RECIPE, write_run

from skelssl import skeletons
from skelssl.cli import main
from skelssl.data.fit import TRUNK, Depth, Wanted, fitted, spans, windows, with_every_joint
from skelssl.data.poses import GAP, Person, poses_of_frames
from skelssl.data.readers.ntu import prepare_ntu
from skelssl.data.readers.pose_files import Described, read_poses
from skelssl.data.recordings import History
from skelssl.data.store import StoreError, open_store
from skelssl.embed import embed
from skelssl.protocols.classify import linear
from skelssl.protocols.context import open_context
from skelssl.protocols.features import encode

NTU, COCO = skeletons.get("ntu25"), skeletons.get("coco17")
STATES = np.full(25, 2)


def moving(persons, frames, seed):
    """(T, M, 25, 3) of persons who stand and tremble."""
    generator = np.random.default_rng(seed)
    return standing(NTU, frames, persons) + 0.05 * generator.normal(size=(frames, persons, 25, 3))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Four raw files, their store, and a run on it."""
    folder = tmp_path_factory.mktemp("raw")
    (folder / "files").mkdir()
    for number in range(4):
        frames = [[(1 + m, joints, STATES) for m, joints in enumerate(t)] for t in moving(1 + number % 2, 14, number)]
        (folder / "files" / f"S001C001P001R001A{number + 1:03}.skeleton").write_text(raw_text(frames))
    store = prepare_ntu("ntu60", folder / "files", folder / "store", "agcn")
    recipe = replace(RECIPE, dataset="ntu60", preprocessing="agcn", training=replace(RECIPE.training, split="all"))
    np.save(folder / "store" / "split.all.npy", np.arange(4))
    store = open_store(folder / "store")
    return store, write_run(folder / "run", recipe, store), sorted((folder / "files").iterdir())


def test_raw_files_get_the_features_of_their_store(raw, tmp_path, capsys):
    store, run, files = raw
    context = open_context(run, store, test="all")
    expected = encode(context.trained_encoder(), context.recipe, store, np.arange(4))
    out = tmp_path / "new" / "features.npz"
    main(["embed", str(run), *map(str, files), "--out", str(out), "--csv", str(tmp_path / "x.csv")])
    with np.load(out, allow_pickle=False) as found:
        assert torch.equal(torch.from_numpy(found["features"]), expected)
        assert len(np.unique(found["features"], axis=0)) == 4
        assert found["names"].tolist() == [str(file) for file in files]
        assert found["first_frame"].tolist() == [0] * 4 and found["end_frame"].tolist() == [14] * 4
        assert json.loads(str(found["about"]))["preprocessing"] == "agcn"
    assert "0-13" in capsys.readouterr().out
    with (tmp_path / "x.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0][:4] == ["name", "first_frame", "end_frame", "feature 0"]
    assert np.array_equal(np.array([line[3:] for line in lines[1:]], np.float32), expected.numpy())


def test_classes_are_those_of_the_linear_protocol(raw, tmp_path, capsys):
    store, run, files = raw
    context = open_context(run, store, test="all")
    features, labels = context.features["trained"][0][0], context.labels[0]
    expected = linear((features, labels), (features, labels), context.classes, context.recipe.evaluation, 0)
    out = tmp_path / "features.npz"
    main(["embed", str(run), *map(str, files), "--out", str(out), "--data", str(store.path)])
    with np.load(out) as found:
        assert np.array_equal(found["probabilities"], expected.scores.numpy())
        predicted = found["predicted"].tolist()
    assert predicted == [store.header.class_names[label] for label in expected.last]
    assert predicted[0] in capsys.readouterr().out


def test_windows_are_samples_of_their_own(raw, tmp_path):
    run = raw[1]
    long = moving(2, 50, 9)
    np.savez(tmp_path / "long.npz", whole=long, part=long[42:50], empty=np.zeros_like(long[:3]))
    with np.load(tmp_path / "long.npz") as arrays:
        assert list(arrays) == ["whole", "part", "empty"]
    found = embed(run, [tmp_path / "long.npz"], window=8, stride=6, described=Described("ntu25"))
    assert found.frames[1:].tolist() == [[first, first + 8] for first in range(0, 43, 6)]
    assert np.array_equal(found.features[0], found.features[-1]), "the last window is the part"
    assert list(found.history["left out"]) == ["no body"]
    assert spans(7, 8, 4) == [(0, 7)] and spans(9, 8, 4) == [(0, 8), (1, 9)] and spans(0, 8, 4) == []


def test_arrays_of_raw_data_keep_their_persons_and_places(store, tmp_path):
    run = write_run(tmp_path / "run", RECIPE, store)
    np.save(tmp_path / "x.npy", store.sample(5)[:, 0])
    found = embed(run, [tmp_path / "x.npy"], described=Described("nw_ucla20"))
    context = open_context(run, store)
    assert torch.equal(
        torch.from_numpy(found.features), encode(context.trained_encoder(), RECIPE, store, np.array([5]))
    )


def test_joints_that_were_not_seen_lie_between_frames(tmp_path):
    x = np.arange(5.0)[:, None, None] * np.ones((5, 17, 3)) + 1
    holes = x.copy()
    holes[2, 4], holes[:, 9] = np.nan, np.nan
    np.save(tmp_path / "x.npy", holes)
    (poses,) = read_poses(tmp_path / "x.npy", Described("coco17"))
    assert np.array_equal(poses.bodies.joints[2, 4], x[2, 4])
    assert (poses.scores[:, 9] == 0).all()
    fit, _ = fitted(poses, Wanted("coco17", 1, 3, "metres", "raw"))
    assert np.array_equal(fit.bodies.joints[:, 9], x[:, 7]), "a wrist that is nowhere lies at the elbow"


def test_the_nearest_joint_stands_for_a_lost_one():
    points = np.arange(17.0)[None, :, None] * np.ones((2, 17, 2))
    known = np.ones((2, 17), bool)
    known[0, [COCO.joint("left_ankle"), COCO.joint("left_knee")]] = False
    known[1] = False
    found = with_every_joint(points, known, COCO)
    hip = COCO.joint("left_hip")
    assert found[0, COCO.joint("left_ankle"), 0] == found[0, COCO.joint("left_knee"), 0] == hip
    assert not found[1].any()


def image_of(frames=6, shift=0.0):
    """coco17 points (T, 17, 2) of an image: y downwards, left to the right."""
    points = standing(COCO, frames)[:, 0, :, :2]
    return np.stack([1000 - 100 * points[..., 0] + shift, 900 - 100 * points[..., 1]], axis=-1)


def test_poses_of_images_need_leave_and_stand_upright(tmp_path):
    np.save(tmp_path / "x.npy", image_of())
    (poses,) = read_poses(tmp_path / "x.npy", Described("coco17"))
    wanted = Wanted("nw_ucla20", 1, 3, "metres", "raw")
    with pytest.raises(StoreError, match="expected points in space, as the encoder takes, found points of an image"):
        fitted(poses, wanted)
    fit, notes = fitted(poses, wanted, Depth(zero=True))
    joint, body = skeletons.get("nw_ucla20").joint, fit.bodies.joints[0]
    assert body[joint("head"), 1] > body[joint("left_knee"), 1], "y upwards"
    assert body[joint("right_shoulder"), 0] > body[joint("left_shoulder"), 0], "right to the right, as a Kinect has it"
    trunk = body[[joint("left_shoulder"), joint("right_shoulder")]] - body[[joint("left_hip"), joint("right_hip")]]
    assert np.linalg.norm(trunk.mean(axis=0)) == pytest.approx(TRUNK)
    assert not body[:, 2].any() and any("depth is 0" in note for note in notes)
    assert any("coco17 as nw_ucla20" in note and "hip_centre" in note for note in notes)
    scaled, _ = fitted(poses, wanted, Depth(zero=True, scale=0.01))
    wrist = scaled.bodies.joints[:, joint("left_wrist"), :2]
    assert np.array_equal(wrist, poses.bodies.joints[:, COCO.joint("left_wrist")] * 0.01 * -1)


def test_encoders_of_images_take_points_and_scores_as_they_are():
    frames = [[Person(points, np.full(17, 0.5))] for points in image_of()]
    poses = poses_of_frames("x", frames, COCO, "pixels", "-y")
    fit, notes = fitted(poses, Wanted("coco17", 2, 3, "pixels", "pyskl"))
    (window,) = windows(fit, Wanted("coco17", 2, 3, "pixels", "pyskl"), None, 1, History())
    assert notes == [] and window.frames.shape == (6, 2, 17, 3)
    assert np.array_equal(window.frames[:, 0, :, :2], image_of()) and (window.frames[:, 0, :, 2] == 0.5).all()
    assert not window.frames[:, 1].any()
    with pytest.raises(StoreError, match=r"preprocessing: expected one of raw, pyskl for 3 channels in pixels"):
        list(windows(fit, Wanted("coco17", 2, 3, "pixels", "agcn"), None, 1, History()))


def test_persons_are_followed_where_no_numbers_are_given():
    one, other = image_of(20), image_of(20, shift=600)
    frames = [[Person(one[t], np.ones(17)), Person(other[t], np.ones(17))][:: 1 if t % 2 else -1] for t in range(20)]
    frames[4], frames[10] = frames[4][:0], [Person(one[10], np.ones(17))]
    poses = poses_of_frames("x", frames, COCO, "pixels", "-y")
    assert np.diff(poses.bodies.frame_offsets).tolist() == [2] * 20, "short gaps are closed"
    found = poses.bodies.joints.reshape(20, 2, 17, 2)
    order = [0, 1] if np.array_equal(found[0, 0], one[0]) else [1, 0]
    assert np.allclose(found[:, order[0]], one) and np.allclose(found[:, order[1]], other)


def test_who_is_gone_for_long_is_another_person_unless_numbers_say_otherwise():
    points = image_of(GAP + 4)
    frames = [[Person(points[t], np.ones(17))] if t in (0, 1, GAP + 3) else [] for t in range(GAP + 4)]
    assert np.unique(poses_of_frames("x", frames, COCO, "pixels", "-y").bodies.ids).tolist() == [0, 1]
    numbered = [[replace(person, number=7) for person in persons] for persons in frames]
    assert poses_of_frames("x", numbered, COCO, "pixels", "-y").bodies.ids.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (np.zeros((3, 17, 3)), [], "expected --skeleton, the layout of its joints"),
        (np.zeros((3, 17, 3)), ["--skeleton", "ntu25"], "with 25 joints of 'ntu25', C of 2 to 4, found (3, 1, 17, 3)"),
        (np.zeros((3, 25, 3)), ["--skeleton", "ntu25"], "expected a body in at least one window, found"),
        (np.ones((3, 25, 2)), ["--skeleton", "ntu25"], "found points of an image; --depth zero"),
        (np.ones((3, 25, 3)), ["--skeleton", "ntu25", "--stride", "3"], "stride: expected 1 to the frames of a window"),
        (np.ones((3, 25, 3)), ["--skeleton", "ntu25", "--window", "0"], "window: expected at least 1 frame, found 0"),
        (np.ones((3, 25, 3)), ["--skeleton", "ntu25", "--units", "feet"], "units: expected metres or pixels"),
        (np.ones((3, 25, 3)), ["--skeleton", "ntu25", "--scale", "nan"], "scale: expected a finite number above 0"),
        (-np.ones((3, 25, 4)), ["--skeleton", "ntu25"], "expected scores of at least 0, found -1"),
        (np.array([["a"]]), ["--skeleton", "ntu25"], "found (1, 1)"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(raw, array, options, message, tmp_path, capsys):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(SystemExit) as exit:
        main(["embed", str(raw[1]), str(tmp_path / "x.npy"), "--out", str(tmp_path / "out.npz"), *options])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_failed_write_keeps_the_old_file(raw, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    out = tmp_path / "features.npz"
    out.write_bytes(b"old")
    monkeypatch.setattr("skelssl.embed.np.savez", full)
    with pytest.raises(SystemExit):
        main(["embed", str(raw[1]), str(raw[2][0]), "--out", str(out)])
    assert f"{out}: cannot be written" in capsys.readouterr().err
    assert out.read_bytes() == b"old" and list(tmp_path.iterdir()) == [out]

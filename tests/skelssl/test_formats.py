"""Readers and writers of the field's formats: round trips, lengths, errors, damage, memory."""

import io
import itertools
import pickle
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
from fuzz import mutations

from skelssl.cli import main
from skelssl.data.convert import convert
from skelssl.data.formats import pyskl_pkl
from skelssl.data.formats.npy import map_npy
from skelssl.data.prepare import prepare
from skelssl.data.readers.ntu import published, splits
from skelssl.data.store import Header, StoreError, open_store
from skelssl.data.verify import verify
from skelssl.data.writer import write_store

JOINTS = (25, 3)


@pytest.fixture(scope="module")
def ntu(tmp_path_factory):
    """12 sequences of 3 to 14 frames with names of NTU RGB+D 60, every third of two persons."""
    generator = np.random.default_rng(0)
    names, sequences = [], []
    for number, (camera, subject, action) in enumerate(itertools.product((1, 2, 3), (1, 3), (1, 60))):
        names.append(f"S017C{camera:03}P{subject:03}R001A{action:03}")
        frames = generator.normal(size=(3 + number, 2, *JOINTS)).astype(np.float32)
        frames[:, 1] *= number % 3 == 0
        sequences.append(frames)
    numbers = {
        "labels": [0, 59] * 6,
        "subjects": [1, 1, 3, 3] * 3,
        "cameras": np.repeat([1, 2, 3], 4),
        "setups": [17] * 12,
    }
    per_sample = {key: np.array(value) for key, value in numbers.items()}
    header = Header("ntu60", "ntu25", "agcn", "metres", published()["classes"][:60], names)
    path = tmp_path_factory.mktemp("ntu") / "store"
    return write_store(path, header, sequences, per_sample, splits("ntu60", per_sample))


def check_same(found, expected, order=None):
    order = np.arange(len(expected)) if order is None else order
    assert len(found) == len(order)
    for one, other in enumerate(order):
        np.testing.assert_array_equal(found.sample(one), expected.sample(other))
    np.testing.assert_array_equal(found.labels, expected.labels[order])
    assert found.header.class_names == expected.header.class_names and found.header.dataset == "ntu60"


def agcn_folder(store, folder, lengths=True, suffix="_data_joint.npy"):
    for protocol, half in itertools.product(("xsub", "xview"), ("train", "val")):
        chosen = store.select(f"{protocol}_{half.replace('val', 'test')}")
        (folder / protocol).mkdir(parents=True, exist_ok=True)
        points = np.zeros((len(chosen), 3, 300, 25, 2), np.float32)
        for row, sample in zip(points, chosen, strict=True):
            frames = store.sample(sample).transpose(3, 0, 2, 1)
            row[:, : frames.shape[1]] = frames
        np.save(folder / protocol / f"{half}{suffix}", points)
        if lengths:
            np.save(folder / protocol / f"{half}_num_frame.npy", np.diff(store.offsets)[chosen])
        labels = [f"{store.header.names[i]}.skeleton" for i in chosen], store.labels[chosen].tolist()
        (folder / protocol / f"{half}_label.pkl").write_bytes(pickle.dumps(labels, protocol=2))


class TestRoundTrips:
    def test_ctrgcn_npz(self, ntu, tmp_path):
        assert [path.name for path in convert("ctrgcn-npz", ntu.path, tmp_path)] == ["NTU60_CS.npz", "NTU60_CV.npz"]
        for name, protocol in (("NTU60_CS.npz", "xsub"), ("NTU60_CV.npz", "xview")):
            found = prepare("ctrgcn-npz", tmp_path / name, tmp_path / "store")
            halves = [ntu.select(f"{protocol}_{half}") for half in ("train", "test")]
            check_same(found, ntu, np.concatenate(halves))
            assert found.select(f"{protocol}_test").tolist() == list(range(len(halves[0]), 12))
            assert found.header.names[0] == "train_0" and found.header.preprocessing == "ctrgcn"
            assert any("of one protocol" in remark for remark in verify(found.path).remarks)

    def test_ctrgcn_npz_is_what_its_feeder_reads(self, ntu, tmp_path):
        convert("ctrgcn-npz", ntu.path, tmp_path)
        with np.load(tmp_path / "NTU60_CS.npz") as arrays:
            points, labels = arrays["x_train"], arrays["y_train"]
        train = ntu.select("xsub_train")
        assert points.shape == (6, 300, 150) and points.dtype == np.float32
        assert labels.shape == (6, 60) and labels.dtype == np.float64
        np.testing.assert_array_equal(np.where(labels > 0)[1], ntu.labels[train])
        clips = points.reshape(6, 300, 2, 25, 3)
        np.testing.assert_array_equal(clips[1, : len(ntu.sample(train[1]))], ntu.sample(train[1]))

    def test_pyskl_pkl(self, ntu, tmp_path):
        convert("pyskl-pkl", ntu.path, tmp_path / "ntu60_3danno.pkl")
        found = prepare("pyskl-pkl", tmp_path / "ntu60_3danno.pkl", tmp_path / "store")
        check_same(found, ntu)
        assert found.header.names == ntu.header.names
        for key in ("subjects", "cameras", "setups"):
            np.testing.assert_array_equal(getattr(found, key), getattr(ntu, key))
        assert set(found.splits) == set(ntu.splits)
        for name, samples in ntu.splits.items():
            np.testing.assert_array_equal(found.splits[name], samples)

    def test_pyskl_pkl_is_a_pickle_of_plain_arrays(self, ntu, tmp_path):
        convert("pyskl-pkl", ntu.path, tmp_path / "a.pkl")
        data = pickle.loads((tmp_path / "a.pkl").read_bytes())
        assert set(data["split"]) == {"xsub_train", "xsub_val", "xview_train", "xview_val"}
        persons = [annotation["keypoint"].shape[0] for annotation in data["annotations"]]
        assert persons == [2, 1, 1] * 4
        annotation = data["annotations"][3]
        assert annotation["total_frames"] == 6 and annotation["label"] == 59
        np.testing.assert_array_equal(annotation["keypoint"], ntu.sample(3).transpose(1, 0, 2, 3))

    def test_frame50(self, ntu, tmp_path):
        convert("frame50", ntu.path, tmp_path / "first")
        found = prepare("frame50", tmp_path / "first", tmp_path / "store")
        assert set(np.diff(found.offsets)) == {50} and set(found.splits) == set(ntu.splits)
        place = found.header.names.index(ntu.header.names[5])
        ends = ntu.sample(5)[[0, -1]]
        np.testing.assert_allclose(found.sample(place)[[0, -1]], ends, atol=1e-6)
        convert("frame50", found.path, tmp_path / "second")
        again = prepare("frame50", tmp_path / "second", tmp_path / "again")
        assert again.header.hashes == found.header.hashes
        assert again.header.names == found.header.names
        one = prepare("frame50", tmp_path / "first" / "xview", tmp_path / "one")
        assert set(one.splits) == {"xview_train", "xview_test"} and len(one) == 12

    def test_frame50_with_labels_alone(self, ntu, tmp_path):
        convert("frame50", ntu.path, tmp_path / "f")
        for half in ("train", "val"):
            pickled = tmp_path / "f" / "xsub" / f"{half}_label.pkl"
            _, labels = pickle.loads(pickled.read_bytes())
            np.save(pickled.with_suffix(".npy"), np.array(labels)[:, None])
            pickled.unlink()
        found = prepare("frame50", tmp_path / "f" / "xsub", tmp_path / "store")
        assert found.header.names[:2] == ["train_0", "train_1"] and found.header.dataset == "ntu60"
        with pytest.raises(StoreError, match="expected names of samples where there are several"):
            prepare("frame50", tmp_path / "f", tmp_path / "other")

    @pytest.mark.parametrize("lengths", [True, False])
    def test_agcn_npy(self, ntu, tmp_path, lengths):
        agcn_folder(ntu, tmp_path / "a", lengths)
        found = prepare("agcn-npy", tmp_path / "a", tmp_path / "store")
        order = [ntu.header.names.index(name) for name in found.header.names]
        check_same(found, ntu, order)
        assert found.header.preprocessing == "agcn"
        assert {name: len(samples) for name, samples in found.splits.items()} == {
            name: len(samples) for name, samples in ntu.splits.items()
        }

    def test_agcn_npy_of_setups_and_of_stgcn(self, ntu, tmp_path):
        agcn_folder(ntu, tmp_path / "a", lengths=False, suffix="_data.npy")
        (tmp_path / "a" / "xview").rename(tmp_path / "a" / "xsetup")
        found = prepare("agcn-npy", tmp_path / "a", tmp_path / "store")
        assert set(found.splits) == {"xsub_train", "xsub_test", "xset_train", "xset_test"}
        assert found.header.preprocessing == "raw"

    def test_the_command_line(self, ntu, tmp_path, capsys):
        main(["convert", "pyskl-pkl", str(ntu.path), "--out", str(tmp_path / "a.pkl")])
        main(["prepare", "pyskl-pkl", str(tmp_path / "a.pkl"), "--out", str(tmp_path / "store")])
        assert "12 sequences, 102 frames; xsub_test 6, xsub_train 6, xview_test 4" in capsys.readouterr().out


ITSELF: list = []
ITSELF += [ITSELF, ITSELF]


def annotation(name="a", persons=1, frames=4, joints=17, channels=2, label=0, scores=True):
    points = np.random.default_rng(len(name)).normal(size=(persons, frames, joints, channels)).astype(np.float16)
    found = {"frame_dir": name, "label": label, "total_frames": frames, "keypoint": points, "img_shape": (1080, 1920)}
    return found | ({"keypoint_score": np.ones((persons, frames, joints), np.float16)} if scores else {})


def pyskl_file(path, annotations, split=None):
    path.write_bytes(
        pickle.dumps({"split": split or {"train": ["a"], "val": []}, "annotations": annotations}, protocol=2)
    )
    return path


class TestPyskl:
    def test_points_of_images_keep_scores_and_size(self, tmp_path):
        file = pyskl_file(tmp_path / "hrnet.pkl", [annotation(), annotation("bb", label=1)])
        found = prepare("pyskl-pkl", file, tmp_path / "store")
        assert found.frames.shape == (8, 1, 17, 3) and (found.frames[..., 2] == 1).all()
        assert (found.header.skeleton, found.header.units) == ("coco17", "pixels")
        assert set(found.splits) == {"train", "test"}
        assert any("float16" in reason for reason in found.header.history)
        convert("pyskl-pkl", found.path, tmp_path / "b.pkl")
        data = pickle.loads((tmp_path / "b.pkl").read_bytes())["annotations"][0]
        assert data["img_shape"] == (1080, 1920) and data["keypoint_score"].shape == (1, 4, 17)
        np.testing.assert_array_equal(data["keypoint"], annotation()["keypoint"])
        again = prepare("pyskl-pkl", tmp_path / "b.pkl", tmp_path / "again")
        np.testing.assert_array_equal(again.frames, found.frames)

    def test_of_many_persons_those_in_most_frames_stay_in_order(self, tmp_path):
        crowd = annotation(persons=4, scores=False)
        crowd["keypoint"][0, 1:] = 0
        crowd["keypoint"][2, 2:] = 0
        found = prepare("pyskl-pkl", pyskl_file(tmp_path / "a.pkl", [crowd]), tmp_path / "store")
        np.testing.assert_array_equal(found.sample(0), crowd["keypoint"][[1, 3]].transpose(1, 0, 2, 3))
        assert found.header.history["more than 2 persons, of which those in most frames are kept"] == ["a"]

    def test_empty_frames_at_the_end_stay_where_lengths_are_known(self, tmp_path):
        late = annotation(scores=False)
        late["keypoint"][:, 2:] = 0
        found = prepare("pyskl-pkl", pyskl_file(tmp_path / "a.pkl", [late]), tmp_path / "store")
        assert len(found.sample(0)) == 4 and not found.sample(0)[2:].any()

    def test_samples_without_a_body_are_left_out_of_splits_too(self, tmp_path):
        empty = annotation("bb", scores=False)
        empty["keypoint"][:] = 0
        file = pyskl_file(tmp_path / "a.pkl", [annotation(scores=False), empty], {"train": ["a", "bb"]})
        found = prepare("pyskl-pkl", file, tmp_path / "store")
        assert found.header.history["left out"] == {"no body": ["bb"]} and found.select("train").tolist() == [0]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda one: one.pop("keypoint"), "a: expected 'keypoint', found frame_dir, label"),
            (lambda one: (one.pop("keypoint"), one.update(raw_file="x")), "Kinetics keeps its points in other files"),
            (lambda one: one.pop("label"), "a.pkl: a: expected 'label'"),
            (lambda one: one.update(label=-1), r"expected labels in \[0, 100000\), found -1 of sample 0"),
            (lambda one: one.update(label="wave"), "expected whole numbers as labels, found str of sample 0"),
            (lambda one: one.update(label=ITSELF), "found list of sample 0"),
            (lambda one: one.update(total_frames=ITSELF), "expected .* frames, as total_frames says, found 4"),
            (lambda one: one.update(total_frames=np.arange(3)), "as total_frames says, found 4"),
            (lambda one: one.update(label=2**70), "found a number beyond 64 bits of sample 0"),
            (lambda one: one.update(frame_dir=5), "expected names of samples as text, found int"),
            (lambda one: one.update(keypoint=[1, 2]), r"expected keypoint \(M, T, V, C\) in floats, found list"),
            (lambda one: one.update(keypoint=np.zeros((4, 17, 2))), "expected keypoint"),
            (lambda one: one.update(keypoint=np.zeros((1, 4, 17, 5))), "17, 2 or 3"),
            (lambda one: one.update(keypoint=np.zeros((1, 4, 17, 2), int)), "in floats"),
            (lambda one: one.update(keypoint=np.full((1, 4, 17, 2), np.nan)), "a: expected finite coordinates"),
            (lambda one: one.update(total_frames=7), "expected 7 frames, as total_frames says, found 4"),
            (lambda one: one.update(keypoint_score=np.ones((1, 4, 16))), r"expected keypoint_score \(1, 4, 17\)"),
            (
                lambda one: one.update(keypoint=np.zeros((1, 4, 7, 2)), keypoint_score=np.ones((1, 4, 7))),
                "known skeleton",
            ),
        ],
    )
    def test_a_wrong_annotation_is_named(self, tmp_path, change, message):
        one = annotation()
        change(one)
        with pytest.raises(StoreError, match=message):
            prepare("pyskl-pkl", pyskl_file(tmp_path / "a.pkl", [one]), tmp_path / "store")
        assert not (tmp_path / "store").exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([1], "expected a dict with split and annotations, found list"),
            ({"split": {}}, "expected a dict with split and annotations, found split"),
            ({"split": {}, "annotations": []}, "annotations: expected a list of samples"),
            ({"split": [], "annotations": [annotation()]}, "split: expected a dict of lists"),
            ({"split": {"train": [1]}, "annotations": [annotation()]}, "split 'train': expected names"),
            (
                {"split": {"../x": ["a"]}, "annotations": [annotation()]},
                "split: expected names of letters, digits, - and _, found '../x'",
            ),
            ({"split": {"train": ["b"]}, "annotations": [annotation()]}, "expected names of annotations, found 'b'"),
            ({"split": {}, "annotations": [annotation(), annotation()]}, "a occurs more than once"),
            ({"split": {}, "annotations": [annotation(), 5]}, "annotation 1: expected 'frame_dir', found int"),
            ({"split": {}, "annotations": [annotation(), annotation("bb", scores=False)]}, "in all samples or in none"),
        ],
    )
    def test_a_wrong_file_is_named(self, tmp_path, content, message):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(StoreError, match=message):
            prepare("pyskl-pkl", tmp_path / "a.pkl", tmp_path / "store")


def npz_arrays(samples=3, classes=4):
    points = np.zeros((samples, 300, 150), np.float32)
    points[:, :5] = np.random.default_rng(1).normal(size=(samples, 5, 150))
    one_hot = np.eye(classes)[np.arange(samples) % classes]
    return {"x_train": points, "y_train": one_hot, "x_test": points, "y_test": one_hot}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_test": None}, "expected an array 'x_test', found x_train, y_train, y_test"),
        ({"x_train": np.zeros((3, 300, 149), np.float32)}, r"x_train: expected \(N, frames, 150\) floats, found"),
        ({"x_train": np.zeros((2, 300, 150), np.float32)}, "expected 3 samples, as labels, found 2"),
        ({"x_train": np.zeros((3, 300, 150), np.int32)}, "floats, found"),
        ({"x_train": np.array([{}, {}, {}], object)}, "expected numbers or text, found NumPy type '.O'"),
        ({"x_train": np.full((3, 300, 150), np.nan)}, r"x_train\[0\]: expected finite coordinates"),
        ({"x_train": np.full((3, 300, 150), 1e300)}, "found NaN or infinity"),
        ({"x_train": np.asfortranarray(np.ones((3, 300, 150)))}, "stored by rows"),
        ({"y_train": np.ones((3, 4))}, "y_train: expected a single 1 and zeros in each row, found others in row 0"),
        ({"y_train": np.zeros((3, 4))}, "expected a single 1"),
        ({"y_train": np.arange(3)}, r"expected \(N, classes\), one-hot, found \(3,\)"),
        ({"y_train": np.eye(3)}, r"expected as many classes in y_train and y_test, found \[3, 4\]"),
    ],
)
def test_a_wrong_npz_is_named(tmp_path, change, message):
    arrays = {key: array for key, array in (npz_arrays() | change).items() if array is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(StoreError, match=message):
        prepare("ctrgcn-npz", tmp_path / "a.npz", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_npz_without_a_known_protocol_has_train_and_test(tmp_path):
    arrays = npz_arrays()
    arrays["x_test"] = arrays["x_test"].copy()
    arrays["x_test"][1] = 0
    np.savez_compressed(tmp_path / "mine.npz", **arrays)
    found = prepare("ctrgcn-npz", tmp_path / "mine.npz", tmp_path / "store")
    assert set(found.splits) == {"train", "test"} and len(found) == 5 and set(np.diff(found.offsets)) == {5}
    assert found.header.history["left out"] == {"no body": ["test_1"]}
    assert (found.header.dataset, found.header.class_names[1]) == ("mine", "class 1")


def test_npz_bombs_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for key, array in npz_arrays().items():
            content = io.BytesIO()
            np.save(content, array)
            file.writestr(f"{key}.npy", content.getvalue() + bytes(50_000_000 if key == "x_test" else 0))
    with pytest.raises(StoreError, match="x_test: expected an array, found .* bytes that unpack to"):
        prepare("ctrgcn-npz", tmp_path / "a.npz", tmp_path / "store")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 300, 150)})
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("x_train.npy", header.getvalue())
        file.writestr("y_train.npy", header.getvalue())
    with pytest.raises(StoreError, match="y_train: expected .* bytes for the shape .* of float32, found 0"):
        prepare("ctrgcn-npz", tmp_path / "b.npz", tmp_path / "store")


def test_memory_is_that_of_some_samples(tmp_path):
    np.savez(tmp_path / "a.npz", **npz_arrays(240))  # 86 MB
    tracemalloc.start()
    try:
        found = prepare("ctrgcn-npz", tmp_path / "a.npz", tmp_path / "store")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 480
    assert peak < 30e6


class TestFolders:
    @pytest.fixture
    def folder(self, ntu, tmp_path):
        agcn_folder(ntu, tmp_path / "a")
        return tmp_path / "a" / "xsub"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("train_data_joint.npy", np.zeros((6, 3, 300, 25)), r"expected \(N, C, T, V, M\) floats"),
            ("train_data_joint.npy", np.ones((5, 3, 9, 25, 2)), "expected 6 samples, as labels, found 5"),
            ("train_data_joint.npy", np.ones((6, 3, 9, 25, 2), int), "floats"),
            ("train_data_joint.npy", np.ones((6, 3, 300, 20, 2)), "of the same channels, joints and persons"),
            ("val_num_frame.npy", np.full(6, 301), "expected 6 lengths of at most 300 frames, found 6 of at most 301"),
            ("val_num_frame.npy", np.full(6, -1), "expected lengths in"),
            ("val_num_frame.npy", np.full(6, 1.5), "whole numbers"),
            ("train_label.pkl", (["a"] * 6, [0] * 6), "a occurs more than once"),
            ("train_label.pkl", (list("abcdef"), [0] * 5), "expected as many labels as names, found 5 and 6"),
            ("train_label.pkl", [1, 2, 3], r"expected \(names, labels\), found list"),
            ("train_label.pkl", (list("abcdef"), [0.5] * 6), "whole numbers as labels"),
            ("train_label.pkl", None, "expected train_label.pkl or train_label.npy, found none"),
            ("val_data_joint.npy", None, "cannot be read: .*No such file"),
        ],
    )
    def test_what_is_wrong_is_named(self, folder, tmp_path, name, content, message):
        if content is None:
            (folder / name).unlink()
        elif name.endswith(".npy"):
            np.save(folder / name, content)
        else:
            (folder / name).write_bytes(pickle.dumps(content))
        with pytest.raises(StoreError, match=message):
            prepare("agcn-npy", folder, tmp_path / "store")
        assert not (tmp_path / "store").exists()

    def test_samples_that_differ_between_protocols(self, folder, tmp_path):
        points = np.load(folder / "train_data_joint.npy")
        points[2, 0, 0, 0, 0] += 1
        np.save(folder / "train_data_joint.npy", points)
        with pytest.raises(StoreError, match=r"S017.* differs from .*: read each folder alone"):
            prepare("agcn-npy", folder.parent, tmp_path / "store")

    def test_a_sample_in_both_halves(self, folder, tmp_path):
        for kind in ("data_joint.npy", "num_frame.npy", "label.pkl"):
            shutil.copy(folder / f"train_{kind}", folder / f"val_{kind}")
        with pytest.raises(StoreError, match="is in train_data_joint.npy as well"):
            prepare("agcn-npy", folder, tmp_path / "store")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(StoreError, match="expected train_position.npy and val_position.npy, or folders xsub"):
            prepare("frame50", tmp_path, tmp_path / "store")


def test_what_fails_while_it_is_written_leaves_nothing(ntu, tmp_path, monkeypatch):
    (tmp_path / "a.pkl").write_text("an older file")
    monkeypatch.setattr(pyskl_pkl, "_pickled_array", lambda array: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert("pyskl-pkl", ntu.path, tmp_path / "a.pkl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]
    assert (tmp_path / "a.pkl").read_text() == "an older file"
    with pytest.raises(StoreError, match="cannot be written"):
        convert("frame50", ntu.path, tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }", None),
        (
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)}",
            r"32 bytes for the shape \(2, 4\) of float32, found 24",
        ),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}", "expected sizes, found the shape"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999, 3)}", "expected sizes"),
        (b"{'descr': '<f4', 'fortran_order': False}", "expected a header with descr, shape and fortran_order"),
        (
            b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}",
            "expected numbers or text, found NumPy type '.O'",
        ),
        (b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3)}", "expected numbers or text"),
        (b"(" * 5000, "expected a header with"),
        (b"__import__('os').system('true')", "expected a header with"),
    ],
)
def test_headers_of_arrays(tmp_path, header, message):
    data = np.arange(6, dtype="<f4")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data.tobytes())
    if message is None:
        np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), data.reshape(2, 3))
    else:
        with pytest.raises(StoreError, match=message):
            map_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ctrgcn-npz", {"joints": 20}, "expected 25 joints and 3 channels for ctrgcn-npz, found 20 and 3"),
        ("ctrgcn-npz", {"frames": 301}, "expected at most 300 frames for ctrgcn-npz, found 301"),
        ("ctrgcn-npz", {"persons": 3}, "expected at most 2 persons for ctrgcn-npz, found 3"),
        ("frame50", {"persons": 3}, "expected at most 2 persons for frame50, found 3"),
        ("frame50", {"splits": {"all": [0]}}, "expected splits such as xsub_train and xsub_test, found all"),
        ("frame500", {}, "kind: expected one of ctrgcn-npz, pyskl-pkl, frame50, found 'frame500'"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, kind, change, message):
    size = {"frames": 4, "persons": 2, "joints": 25, "splits": {"train": [0], "test": [0]}} | change
    header = Header("mine", "ntu25", "raw", "metres", ["wave"], ["a"])
    sequence = np.ones((size["frames"], size["persons"], size["joints"], 3))
    write_store(tmp_path / "store", header, [sequence], {"labels": np.zeros(1, int)}, size["splits"])
    with pytest.raises(StoreError, match=message):
        convert(kind, tmp_path / "store", tmp_path / "out")


@pytest.mark.parametrize("kind", ["ctrgcn-npz", "pyskl-pkl", "frame50", "agcn-npy"])
def test_damage_ends_in_an_error_or_a_store(ntu, tmp_path, kind):
    """Heads and tails of files, where what describes them stands, are damaged."""
    targets = {"pyskl-pkl": ["a.pkl"], "ctrgcn-npz": ["NTU60_CS.npz"]}
    if kind == "agcn-npy":
        agcn_folder(ntu, tmp_path)
    else:
        convert(kind, ntu.path, tmp_path / "a.pkl" if kind == "pyskl-pkl" else tmp_path)
    names = targets.get(kind) or [path.name for path in sorted((tmp_path / "xsub").glob("train*"))]
    folder = tmp_path / "xsub" if (tmp_path / "xsub").is_dir() else tmp_path
    source = folder if kind in ("frame50", "agcn-npy") else tmp_path / names[0]
    for name, seed in zip(names, range(10), strict=False):
        whole = (folder / name).read_bytes()
        for damaged in mutations(whole[:400] + whole[-400:], seed, 36 // len(names)):
            (folder / name).write_bytes(damaged[:400] + whole[400:-400] + damaged[400:])
            try:
                open_store(prepare(kind, source, tmp_path / "store").path)
            except StoreError as error:
                assert str(error)
        (folder / name).write_bytes(whole)

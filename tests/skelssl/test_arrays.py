"""Arrays of one's own, described by a YAML file."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzz import mutations

from skelssl.data.prepare import prepare
from skelssl.data.store import StoreError
from skelssl.skeletons import FOLDER

ROOT = Path(__file__).parents[2]
SAMPLES, FRAMES, LENGTHS = 12, 9, np.arange(12) % 5 + 4


def arrays():
    """Two persons, 20 joints; frames behind a sequence's length are zero."""
    points = np.random.default_rng(0).normal(size=(SAMPLES, FRAMES, 2, 20, 3)).astype(np.float32)
    points[np.arange(FRAMES) >= LENGTHS[:, None]] = 0
    return {
        "points": points,
        "length": LENGTHS,
        "label": np.arange(SAMPLES) % 3,
        "subject": np.arange(SAMPLES) // 2,
        "name": np.array([f"clip{number}" for number in range(SAMPLES)]),
    }


DESCRIPTION = {
    "dataset": "gestures",
    "skeleton": "nw_ucla20",
    "units": "metres",
    "points": "mine.npz:points",
    "axes": "NTMVC",
    "lengths": "mine.npz:length",
    "labels": "mine.npz:label",
    "subjects": "mine.npz:subject",
    "names": "mine.npz:name",
    "class_names": ["wave", "bow", "clap"],
}


@pytest.fixture
def described(tmp_path):
    """Writes arrays and description, changed; returns the store."""

    def make(changed_arrays=(), **changed):
        np.savez(tmp_path / "mine.npz", **arrays() | dict(changed_arrays))
        data = {key: value for key, value in (DESCRIPTION | changed).items() if value is not None}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(data))
        return prepare("arrays", tmp_path / "mine.yaml", tmp_path / "store")

    return make


def check(store, points=None):
    points = arrays()["points"] if points is None else points
    assert len(store) == SAMPLES
    for number, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(store.sample(number), points[number, :length])
    np.testing.assert_array_equal(store.labels, arrays()["label"])


def test_a_complete_description(described):
    store = described(cameras=list(range(SAMPLES)))
    check(store)
    header = store.header
    assert (header.dataset, header.skeleton, header.units, header.preprocessing) == (
        "gestures",
        "nw_ucla20",
        "metres",
        "raw",
    )
    assert header.class_names == ["wave", "bow", "clap"] and header.names[11] == "clip11"
    assert store.cameras.tolist() == list(range(SAMPLES)) and store.setups.tolist() == [-1] * SAMPLES
    train, test = store.select("train"), store.select("test")
    assert len(train) + len(test) == SAMPLES and not set(store.subjects[train]) & set(store.subjects[test])
    assert "split drawn by subjects" in header.history


@pytest.mark.parametrize("axes", ["NCTVM", "MNTVC", "TNVCM"])
def test_any_order_of_axes(described, axes):
    points = arrays()["points"].transpose(["NTMVC".index(letter) for letter in axes])
    check(described({"points": points}, axes=axes))


def test_without_lengths_empty_frames_at_the_end_go(described):
    check(described(lengths=None))


def test_one_person_without_an_axis(described):
    found = described({"points": arrays()["points"][:, :, 0]}, axes="NTVC")
    check(found, arrays()["points"][:, :, :1])


def test_sequences_behind_each_other(described):
    flat = np.concatenate([points[:length] for points, length in zip(arrays()["points"], LENGTHS, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    check(described({"points": flat, "offset": offsets}, axes="TMVC", lengths=None, offsets="mine.npz:offset"))


def test_an_array_of_each_sequence(described, tmp_path):
    ragged = {
        f"seq_{n:02}": points[:length]
        for n, (points, length) in enumerate(zip(arrays()["points"], LENGTHS, strict=True))
    }
    store = described(ragged, axes="TMVC", lengths=None, points="mine.npz:seq_*", names=None)
    check(store)
    assert store.header.names[2] == "seq_02"
    (tmp_path / "clips").mkdir()
    for name, points in ragged.items():
        np.save(tmp_path / "clips" / f"{name}.npy", points)
    store = described(axes="TMVC", lengths=None, points="clips/*.npy", names=None)
    check(store)
    assert store.header.names[2] == "seq_02"


def test_mapped_files_and_a_skeleton_of_ones_own(described, tmp_path):
    np.save(tmp_path / "points.npy", np.asfortranarray(arrays()["points"]))
    (tmp_path / "body.yaml").write_text((FOLDER / "nw_ucla20.yaml").read_text())
    store = described(points="points.npy", skeleton="body.yaml")
    check(store)
    assert store.header.skeleton == str(tmp_path / "body.yaml")


def test_preprocessing(described, tmp_path):
    store = described({"points": arrays()["points"][:, :, :1]}, preprocessing="centred")
    assert store.header.preprocessing == "centred"
    again = prepare("arrays", tmp_path / "mine.yaml", tmp_path / "again", "raw")
    assert again.header.preprocessing == "raw" and not np.array_equal(again.frames, store.frames)


@pytest.mark.parametrize(
    "given",
    [[0, 5], ["clip0", "clip5"], "mine.npz:chosen", "mine.npz:flags"],
    ids=["numbers", "names", "array", "flags"],
)
def test_splits(described, given):
    more = {"chosen": np.array([0, 5]), "flags": np.isin(np.arange(SAMPLES), [0, 5])}
    store = described(more, splits={"mine_test": given, "mine_train": [1, 2]})
    assert set(store.splits) == {"mine_test", "mine_train"} and store.select("mine_test").tolist() == [0, 5]


def test_samples_without_a_body_leave_their_splits(described):
    points = arrays()["points"].copy()
    points[1] = 0
    store = described({"points": points}, splits={"train": [0, 1, 2], "test": ["clip11"]})
    assert store.select("train").tolist() == [0, 1] and store.select("test").tolist() == [10]
    assert store.header.names[1] == "clip2" and store.header.history["left out"] == {"no body": ["clip1"]}


def test_without_subjects_the_split_says_so(described):
    store = described(subjects=None, test_fraction=0.25)
    assert np.bincount(store.labels[store.select("test")]).tolist() == [1, 1, 1]
    assert "split drawn by samples, as subjects are not known" in store.header.history


ITSELF: list = []
ITSELF += [ITSELF, ITSELF]
NAN = arrays()["points"].copy()
NAN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("changed_arrays", "changed", "message"),
    [
        ({}, {"units": None}, "expected the keys axes, labels, points, skeleton, units, .* found no units"),
        ({}, {"colour": "red"}, "found unknown colour"),
        ({}, {"points": "mine.npz:x"}, "mine.npz: expected an array 'x', found points, length"),
        ({}, {"points": "other.npz:x"}, "other.npz: expected a .npz file"),
        ({}, {"points": "other.npy"}, "other.npy: cannot be read"),
        ({}, {"points": "mine.npz"}, "mine.yaml: points: expected file.npy or file.npz:key, found mine.npz"),
        ({}, {"points": 5}, "points: expected file.npy"),
        ({}, {"axes": "NTVC"}, "mine.npz: points: expected an array with the axes NTVC, found 5 axes"),
        ({}, {"axes": "NTTVC"}, "expected T, V, C, and perhaps N and M, each once, as in NCTVM, found 'NTTVC'"),
        ({}, {"axes": 7}, "axes: expected letters such as NCTVM, found 7"),
        ({}, {"axes": "NTMCV"}, "points: expected the 20 joints of nw_ucla20, found 3 of clip0"),
        ({"points": arrays()["points"][:, 0]}, {"axes": "TMVC"}, "expected an axis N, or the key offsets"),
        ({"points": NAN}, {}, "points: clip3: expected finite coordinates, found NaN"),
        ({"points": np.full((1, 2), "x")}, {}, "expected points as numbers, found <U1"),
        ({}, {"lengths": [1, 2]}, "expected 12 lengths of at most 9 frames, found 2 of at most 2"),
        ({"length": LENGTHS + 9}, {}, "expected 12 lengths of at most 9 frames"),
        ({"length": LENGTHS * 1.0}, {}, "lengths: expected whole numbers from 0 on"),
        ({}, {"offsets": [0, 3]}, "offsets: expected none beside an axis N"),
        ({"points": arrays()["points"][0]}, {"axes": "TMVC", "offsets": [0, 4]}, "offsets that rise from 0 to 9"),
        ({}, {"labels": None}, "found no labels"),
        ({"label": np.arange(12) * 1.0}, {}, r"labels: expected \(N\) whole numbers as labels, found \(12,\) float64"),
        ({"label": np.arange(12) - 1}, {}, r"labels: expected labels in \[0, 100000\), found -1 of sample 0"),
        ({"label": np.arange(12)}, {}, r"labels: expected labels in \[0, 3\), as class_names has them, found 11"),
        ({"label": np.zeros(11, int)}, {}, "labels: expected 12 numbers, one of each sample, found 11"),
        ({}, {"class_names": "wave"}, "class_names: expected a list of texts"),
        ({}, {"skeleton": "nw_ucla21"}, "skeleton: skeleton: expected one of azure32"),
        ({}, {"skeleton": "mine.yaml"}, "skeleton: .*expected the keys joints"),
        ({"name": np.array(["a"] * 12)}, {}, "names: a occurs more than once"),
        ({"name": np.arange(12)}, {}, "names: expected 12 texts"),
        ({}, {"subjects": [1]}, "subjects: expected 12 numbers"),
        ({"subject": np.zeros(12, int)}, {}, "subjects: expected at least two for a split by subjects, found 1"),
        ({}, {"splits": {"train": [12]}}, r"splits.train: expected samples in \[0, 12\), found 12"),
        ({}, {"splits": {"train": ["clip99"]}}, "splits.train: expected names of samples, found clip99"),
        ({}, {"splits": {"../x": [0]}}, "splits: expected names of letters, digits"),
        ({}, {"splits": {"train": [0.5]}}, "splits.train: expected samples by number or name"),
        ({}, {"splits": [1]}, "splits: expected names with samples"),
        ({}, {"test_fraction": 2.0}, "test_fraction: expected a number between 0 and 1, found 2.0"),
        ({}, {"labels": ITSELF}, "labels: expected numbers, texts or yes and no, of one kind, found "),
        ({}, {"axes": ITSELF}, "axes: expected letters such as NCTVM"),
        ({}, {"units": ITSELF}, "units: expected text"),
        ({}, {"splits": {"train": [1, "clip2"]}}, "splits.train: expected numbers, texts or yes and no, of one kind"),
        ({}, {"seed": "a"}, "seed: expected a whole number"),
        ({}, {"preprocessing": "agcnn"}, "preprocessing: expected one of raw, .* found 'agcnn'"),
    ],
)
def test_mistakes_are_named(described, tmp_path, changed_arrays, changed, message):
    with pytest.raises(StoreError, match=message):
        described(changed_arrays, **changed)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "content",
    ["[1, 2]", "a: [", "\xff", "", "!!python/object/apply:os.system ['true']"],
    ids=["list", "open", "bytes", "empty", "call"],
)
def test_files_that_describe_nothing(tmp_path, content):
    (tmp_path / "mine.yaml").write_bytes(content.encode("latin1"))
    with pytest.raises(StoreError, match="mine.yaml: expected"):
        prepare("arrays", tmp_path / "mine.yaml", tmp_path / "store")


def test_damaged_descriptions_and_arrays(described, tmp_path):
    described()
    for name in ("mine.yaml", "mine.npz"):
        whole = (tmp_path / name).read_bytes()
        for damaged in mutations(whole[:300] + whole[-300:], 1, 40):
            (tmp_path / name).write_bytes(damaged[:300] + whole[300:-300] + damaged[300:])
            try:
                prepare("arrays", tmp_path / "mine.yaml", tmp_path / "store")
            except StoreError as error:
                assert str(error)
        (tmp_path / name).write_bytes(whole)


def test_the_documented_example(tmp_path):
    text = (ROOT / "docs/data.md").read_text()
    example = re.search(r"```yaml\n(dataset:.*?)```", text, re.DOTALL)
    (tmp_path / "gestures.yaml").write_text(example[1])
    (tmp_path / "body.yaml").write_text((FOLDER / "nw_ucla20.yaml").read_text())
    mine = arrays()
    points = mine["points"].transpose(0, 4, 1, 3, 2)
    np.savez(tmp_path / "gestures.npz", points=points, length=LENGTHS, label=mine["label"], subject=mine["subject"])
    check(prepare("arrays", tmp_path / "gestures.yaml", tmp_path / "store"))

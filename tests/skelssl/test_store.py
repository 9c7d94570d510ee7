import errno
import json
import os

import numpy as np
import pytest

from skelssl.data import store as store_module
from skelssl.data.store import Header, StoreError, open_store
from skelssl.data.verify import verify
from skelssl.data.writer import write_store


def write_small(path, **changes):
    generator = np.random.default_rng(0)
    sequences = [generator.normal(size=(frames, 1, 20, 3)) for frames in (3, 1, 4, 2)]
    sequences[3] = sequences[0][:2]
    header = Header("mine", "nw_ucla20", "raw", "metres", ["wave", "walk"], ["a", "b", "c", "d"])
    arguments = {
        "header": header,
        "sequences": sequences,
        "per_sample": {"labels": np.array([0, 1, 0, 1])},
        "splits": {"train": np.array([0, 1]), "test": np.array([2, 3])},
    }
    return write_store(path, **arguments | changes)


def test_round_trip(tmp_path):
    store = write_small(tmp_path / "store")
    assert len(store) == 4
    assert store.frames.shape == (10, 1, 20, 3)
    assert store.offsets.tolist() == [0, 3, 4, 8, 10]
    assert store.sample(1).shape == (1, 1, 20, 3)
    assert store.select("test").tolist() == [2, 3]
    assert store.subjects.tolist() == [-1] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert verify(store.path).problems == []


def test_frames_are_mapped_and_writing_to_them_changes_no_file(tmp_path):
    store = write_small(tmp_path / "store")
    store.frames[:] = 7
    assert (open_store(store.path).frames != 7).all()


def test_an_older_store_is_replaced_but_nothing_else_is(tmp_path):
    write_small(tmp_path / "store")
    write_small(tmp_path / "store", splits={"all": np.arange(4)})
    assert list(open_store(tmp_path / "store").splits) == ["all"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="expected nothing or a store to replace, found other files"):
        write_small(tmp_path / "notes")
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "precious"


def test_a_full_disk_leaves_the_old_store(tmp_path, monkeypatch):
    write_small(tmp_path / "store")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module.np, "save", full)
    with pytest.raises(StoreError, match="could not be written: .*No space left on device"):
        write_small(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert len(open_store(tmp_path / "store")) == 4


def test_missing_and_newer_stores_are_refused(tmp_path):
    with pytest.raises(StoreError, match=r"expected a store, found no header.json"):
        open_store(tmp_path)
    store = write_small(tmp_path / "store")
    header = json.loads((store.path / "header.json").read_text())
    (store.path / "header.json").write_text(json.dumps(header | {"version": 2}))
    with pytest.raises(StoreError, match="expected format version 1, found 2"):
        open_store(store.path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("offsets", np.array([0, 3, 3, 8, 10]), r"offsets.npy: expected 5 rising whole numbers from 0 to 10"),
        ("labels", np.array([0, 1, 0, 2]), r"labels.npy: expected labels in \[0, 2\)"),
        ("labels", np.array([0, 1]), r"labels.npy: expected \(4,\) int64, found \(2,\)"),
        ("frames", np.zeros((10, 20, 3), np.float32), r"frames.npy: expected \(F, M, V, C\) float32"),
        ("split.test", np.array([4]), r"split 'test' names samples outside \[0, 4\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, name, array, message):
    store = write_small(tmp_path / "store")
    np.save(store.path / f"{name}.npy", array)
    with pytest.raises(StoreError, match=message):
        open_store(store.path)


def test_a_truncated_file_is_named(tmp_path):
    store = write_small(tmp_path / "store")
    file = store.path / "frames.npy"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(StoreError, match=r"frames.npy: cannot be read"):
        open_store(store.path)


def test_verify_finds_changed_bytes_and_nan(tmp_path):
    store = write_small(tmp_path / "store")
    frames = np.load(store.path / "frames.npy")
    frames[5] = np.nan
    np.save(store.path / "frames.npy", frames)
    report = verify(store.path)
    assert "frames.npy is not as it was written (its hash differs from header.json's)" in report.problems
    assert "1 samples hold NaN or infinity, the first is c" in report.problems
    assert str(report).endswith("not fit for use")


def test_verify_finds_copies_and_overlap_between_splits(tmp_path):
    sequences = [np.full((2, 1, 20, 3), value) for value in (1.0, 2.0, 1.0, 3.0)]
    splits = {"train": np.array([0, 1]), "test": np.array([1, 2, 3])}
    report = verify(write_small(tmp_path / "store", sequences=sequences, splits=splits).path)
    assert report.problems == ["1 samples are in 'test' and in its training split"]
    assert any(
        "1 of the 3 sequences of 'test' are exact copies" in remark and "c of a" in remark for remark in report.remarks
    )


def test_unknown_split(tmp_path):
    with pytest.raises(StoreError, match="expected a split of test, train, found 'val'"):
        write_small(tmp_path / "store").select("val")

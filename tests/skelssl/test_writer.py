import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skelssl.data.store import Header, StoreError, open_store
from skelssl.data.verify import verify
from skelssl.data.writer import StoreWriter

ROOT = Path(__file__).parents[2]
HEADER = Header("mine", "nw_ucla20", "raw", "metres", ["wave"], ["a", "b"])
LABELS = {"labels": np.zeros(2)}


def sequences():
    return [np.full((frames, 2, 20, 3), frames, np.float64) for frames in (3, 1)]


def test_sequences_go_to_the_disk_one_by_one(tmp_path):
    with StoreWriter(tmp_path / "store") as writer:
        for sequence in sequences():
            writer.add(sequence)
        assert not (tmp_path / "store").exists()
        store = writer.finish(HEADER, LABELS, {"all": np.arange(2)})
    assert store.frames.shape == (4, 2, 20, 3) and store.frames.dtype == np.float32
    assert store.frames.ctypes.data % 64 == 0
    np.testing.assert_array_equal(store.sample(0), sequences()[0])
    assert verify(store.path).problems == []
    assert os.listdir(tmp_path) == ["store"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((3, 2, 25, 3)), r"sequence 1: expected \(T, 2, 20, 3\) with T > 0, found \(3, 2, 25, 3\)"),
        (np.zeros((0, 2, 20, 3)), "with T > 0"),
        (np.zeros((3, 20, 3)), "found"),
    ],
)
def test_a_sequence_that_does_not_fit_is_named(tmp_path, wrong, message):
    with pytest.raises(StoreError, match=message), StoreWriter(tmp_path / "store") as writer:
        writer.add(sequences()[0])
        writer.add(wrong)
    assert os.listdir(tmp_path) == []


def test_a_store_of_nothing(tmp_path):
    with pytest.raises(StoreError, match="expected at least one sequence"), StoreWriter(tmp_path / "store") as writer:
        writer.finish(HEADER, LABELS, {})


class FullDisk:
    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_leaves_the_old_store(tmp_path):
    with StoreWriter(tmp_path / "store") as writer:
        for sequence in sequences():
            writer.add(sequence)
        writer.finish(HEADER, LABELS, {})
    full = pytest.raises(StoreError, match="store: the store could not be written: .*No space left")
    with full, StoreWriter(tmp_path / "store") as writer:
        writer._frames = FullDisk(writer._frames)
        writer.add(sequences()[0])
    assert os.listdir(tmp_path) == ["store"] and len(open_store(tmp_path / "store")) == 2


KILLED = """
import os, signal, sys
import numpy as np
from skelssl.data import writer
from skelssl.data.store import Header
path, moment = sys.argv[1:]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with writer.StoreWriter(path) as out:
    out.add(np.ones((5, 2, 20, 3)))
    if moment == "while adding":
        die()
    writer.shutil.rmtree = die  # what follows the second rename
    if moment == "between renames":
        before = writer.Path.rename
        writer.Path.rename = lambda self, to: (before(self, to), die())
    out.finish(Header("mine", "nw_ucla20", "raw", "metres", ["wave"], ["new"]), {"labels": np.zeros(1)}, {})
"""


@pytest.mark.parametrize(("moment", "names"), [("while adding", 2), ("between renames", 2), ("at the end", 1)])
def test_a_killed_process_leaves_the_old_store_or_the_new_one(tmp_path, moment, names):
    path = tmp_path / "store"
    with StoreWriter(path) as writer:
        for sequence in sequences():
            writer.add(sequence)
        writer.finish(HEADER, LABELS, {})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path[1:])])}
    found = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], env=environment, capture_output=True)
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()
    assert len(os.listdir(tmp_path)) > (moment != "between renames"), "something was left behind"
    with StoreWriter(path):  # the next writer clears it away
        pass
    assert os.listdir(tmp_path) == ["store"]
    assert len(open_store(path)) == names and verify(path).problems == []

import zipfile

import numpy as np
import pytest

from skelssl.data.preprocessings.agcn import LONGEST
from skelssl.data.readers.pku_mmd import RELEASES, prepare_pku_mmd, published
from skelssl.data.store import StoreError
from skelssl.data.verify import verify

LABELS = ["12,3,9,2", "1,11,20,1", "51,20,30,2"]  # action, first and last frame, confidence


def motion(seed, frames=30):
    """(frames, 2, 25, 3) as the text has it; the second person is there in the middle only."""
    joints = np.random.default_rng(seed).normal(size=(frames, 2, 25, 3)).round(6)
    joints[:5, 1] = 0
    joints[25:, 1] = 0
    return joints


def skeleton_text(joints):
    lines = (" ".join(f"{value:.6f}" for value in frame) for frame in joints.reshape(len(joints), -1))
    return "\n ".join(lines) + "\n"  # lines begin with a blank, as published


def split_text(training, test):
    return f"Training videos:\n{', '.join(training)}\nValidataion videos: \n{', '.join(test)}, \n"


def make_part(folder, names, split_files, skeletons="Data/PKU_Skeleton_Renew", labels="Label/Train_Label_PKU_final"):
    """A folder as published: four videos, two of them for training by subject, those of L and M by view."""
    for place in (skeletons, labels, "Split"):
        (folder / place).mkdir(parents=True)
    for seed, name in enumerate(names):
        (folder / skeletons / f"{name}.txt").write_text(skeleton_text(motion(seed)))
        (folder / labels / f"{name}.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "Split" / split_files["subject"]).write_text(split_text(names[:2], names[2:]))
    by_view = [[name for name in names if (name[-1] == "R") == is_test] for is_test in (False, True)]
    (folder / "Split" / split_files["view"]).write_text(split_text(*by_view))
    return folder


NAMES = {
    "pku-mmd-1": ["0002-L", "0002-R", "0364-M", "0364-R"],
    "pku-mmd-2": ["A01N01-L", "A01N01-R", "A26N13-M", "A26N13-R"],
}


@pytest.fixture(params=list(NAMES))
def kind(request):
    return request.param


@pytest.fixture
def part(kind, tmp_path):
    return make_part(tmp_path / "pku", NAMES[kind], RELEASES[kind].split_files)


def first_part(tmp_path):
    return make_part(tmp_path / "pku", NAMES["pku-mmd-1"], RELEASES["pku-mmd-1"].split_files)


def test_clips_and_splits_are_those_of_the_text(kind, part, tmp_path):
    store = prepare_pku_mmd(kind, part, tmp_path / "store", "raw")
    names = [f"{video}_{action}" for video in NAMES[kind] for action in ("a12_0001", "a01_0002", "a51_0003")]
    assert store.header.names == names
    assert store.labels.tolist() == [11, 0, 50] * 4
    assert store.cameras.tolist() == [1] * 3 + [3] * 3 + [2] * 3 + [3] * 3
    for seed in range(4):
        for sample, (start, end) in enumerate([(2, 9), (10, 20), (19, 30)], 3 * seed):
            clip = store.sample(sample)
            assert clip.shape == (end - start, 2, 25, 3)
            expected = np.float32(motion(seed)[start:end])
            # of two persons the one that moves more is the first
            assert any(np.array_equal(clip[:, order], expected) for order in ([0, 1], [1, 0]))
    assert store.select("xsub_train").tolist() == [0, 1, 2, 3, 4, 5]
    assert store.select("xsub_test").tolist() == [6, 7, 8, 9, 10, 11]
    assert store.select("xview_train").tolist() == [0, 1, 2, 6, 7, 8]
    assert store.select("xview_test").tolist() == [3, 4, 5, 9, 10, 11]
    assert store.header.history == {"left out": {}}
    problems = verify(store.path).problems
    assert [problem.partition(" has")[0] for problem in problems] == ["split 'xsub_train'", "split 'xsub_test'"]


def test_a_zip_archive_gives_the_same_store(kind, part, tmp_path):
    archive = tmp_path / "pku.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in part.rglob("*.txt"):
            packed.write(path, path.relative_to(part))
    stores = [prepare_pku_mmd(kind, source, tmp_path / f"{source.name}-store") for source in (part, archive)]
    assert stores[0].header.hashes == stores[1].header.hashes


def test_files_named_as_in_the_data_sets_description(tmp_path):
    """XXXX-V.skeleton and XXXX-V.label in one folder, split files as some releases name them."""
    part = first_part(tmp_path)
    expected = prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store").header.hashes
    for path in list(part.rglob("*.txt")):
        suffix = ".label" if "Label" in path.parent.name else ".skeleton"
        renamed = path.name.replace("-", "_") if path.parent.name == "Split" else path.stem + suffix
        path.rename(part / renamed)
    assert prepare_pku_mmd("pku-mmd-1", part, tmp_path / "renamed").header.hashes == expected


def test_classes():
    classes = published()["classes"]
    assert len(classes) == len(set(classes)) == 51
    assert [classes[number - 1] for number in (1, 12, 14, 51)] == [
        "bow",
        "giving something to other person",
        "handshaking",
        "writing",
    ]


def test_labels_at_the_ends_of_a_video_are_taken_as_far_as_it_goes(tmp_path):
    part = first_part(tmp_path)
    (part / "Label/Train_Label_PKU_final/0002-L.txt").write_text("3,0,4,2\n4,28,31\n5,31,40,1\n")
    store = prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store", "raw")
    assert store.header.names[:2] == ["0002-L_a03_0001", "0002-L_a04_0002"]
    np.testing.assert_array_equal(store.sample(0)[:, 0], np.float32(motion(0)[:4, 0]))
    np.testing.assert_array_equal(store.sample(1)[:, 0], np.float32(motion(0)[27:, 0]))
    assert store.header.history == {
        "left out": {"label beyond the end of the video": ["0002-L, line 3: frame 31 of 30"]},
        "label that begins at frame 0, taken for the first": ["0002-L_a03_0001"],
        "label that ends after the video, taken to its end": ["0002-L_a04_0002"],
    }


def test_long_clips_keep_their_frames_unless_the_preprocessing_cuts(tmp_path):
    part = first_part(tmp_path)
    (part / "Data/PKU_Skeleton_Renew/0002-L.txt").write_text(skeleton_text(motion(0, LONGEST + 30)))
    (part / "Label/Train_Label_PKU_final/0002-L.txt").write_text(f"1,11,{LONGEST + 30},2\n")
    lengths = [
        len(prepare_pku_mmd("pku-mmd-1", part, tmp_path / name, name).sample(0)) for name in ("raw", "agcn", "centred")
    ]
    assert lengths == [LONGEST + 20, LONGEST, LONGEST + 20]
    history = verify(tmp_path / "agcn").remarks
    assert f"more than {LONGEST} frames, of which the first are kept: 0002-L_a01_0001" in history


def test_damaged_labels_videos_and_missing_files_are_left_out_and_named(tmp_path):
    part = first_part(tmp_path)
    labels, videos = part / "Label/Train_Label_PKU_final", part / "Data/PKU_Skeleton_Renew"
    (labels / "0002-L.txt").write_text("12,3,9,2\n52,3,9,2\n0,3,9,2\n1,9,9,2\n1,9,8,2\n1,-3,8,2\n1;3;8;2\n\n")
    text = (videos / "0002-R.txt").read_text()
    (videos / "0002-R.txt").write_text(text.replace("0.000000", "nan", 1))
    (labels / "0364-M.txt").unlink()
    (labels / "0007-M.txt").write_text("1,2,3,2\n")
    (videos / "0001.txt").write_text("1 2 3\n")
    store = prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store")
    assert store.header.names == ["0002-L_a12_0001", "0364-R_a12_0001", "0364-R_a01_0002", "0364-R_a51_0003"]
    assert store.header.history["left out"] == {
        "not a name of pku-mmd-1": ["0001.txt"],
        "no skeleton file": ["0007-M"],
        "no label file": ["0364-M"],
        "unknown action": ["0002-L, line 2: 52", "0002-L, line 3: 0"],
        "label that ends before it begins": ["0002-L, line 4: 9 to 9", "0002-L, line 5: 9 to 8"],
        "damaged labels": [
            "0002-L, line 6: expected action,start,end,confidence, found '1,-3,8,2'",
            "0002-L, line 7: expected action,start,end,confidence, found '1;3;8;2'",
        ],
        "damaged": ["0002-R: line 1: expected a finite number, found 'nan'"],
    }


def test_a_video_on_no_list_is_for_test(tmp_path):
    part = first_part(tmp_path)
    (part / "Split/cross-subject.txt").write_text(split_text(["0002-L"], ["0002-R", "0364-M"]))
    store = prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store")
    assert store.select("xsub_test").tolist() == list(range(3, 12))
    assert store.header.history["not listed in cross-subject.txt, taken for test"] == ["0364-R"]


def test_split_files_that_are_missing_or_none_are_named(tmp_path):
    part = first_part(tmp_path)
    out, subjects = tmp_path / "store", part / "Split/cross-subject.txt"

    def refused(message, kind="pku-mmd-1"):
        with pytest.raises(StoreError, match=message):
            prepare_pku_mmd(kind, part, out)
        assert list(tmp_path.iterdir()) == [part]

    whole = subjects.read_text()
    subjects.write_text(whole.replace("Training", "Teaching"))
    refused(r"cross-subject.txt, line 1: expected 'Training videos:', found 'Teaching videos:'")
    subjects.write_text(whole.partition("Valid")[0])
    refused(r"cross-subject.txt: expected lists of training and validation videos, found no test video")
    subjects.write_text(whole.replace("0364-M", "0002-L"))
    refused(r"cross-subject.txt: expected each video in one list, found 0002-L in both")
    subjects.write_text(whole.encode("utf-16").decode("latin-1"), encoding="latin-1")
    refused(r"cross-subject.txt: expected plain text, found NUL bytes")
    subjects.write_text(whole)
    (part / "cross_subject.txt").write_text(whole.replace("0364-M", "0364-L"))
    refused(r"expected one split file by subject, found cross-subject.txt, cross_subject.txt")
    (part / "cross_subject.txt").write_text(whole)
    subjects.unlink()
    prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store")
    (part / "cross_subject.txt").unlink()
    with pytest.raises(StoreError, match=r"expected the split file cross-subject.txt beside the skeletons, found none"):
        prepare_pku_mmd("pku-mmd-1", part, tmp_path / "other")
    with pytest.raises(StoreError, match=r"expected files such as A01N01-L.txt, found none of pku-mmd-2"):
        prepare_pku_mmd("pku-mmd-2", part, tmp_path / "other")


def test_a_video_that_occurs_twice_is_named(tmp_path):
    part = first_part(tmp_path)
    (part / "0002-L.txt").write_text(skeleton_text(motion(9)))
    with pytest.raises(StoreError, match="expected one file with the skeletons of 0002-L, found two"):
        prepare_pku_mmd("pku-mmd-1", part, tmp_path / "store")

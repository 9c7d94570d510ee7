import itertools
import zipfile

import numpy as np
import pytest

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data import archive
from skelssl.data.preprocessings.agcn import LONGEST
from skelssl.data.preprocessings.agcn import agcn as agcn_of_bodies
from skelssl.data.preprocessings.choice import SLOTS
from skelssl.data.readers.ntu import prepare_ntu, published, splits
from skelssl.data.recordings import Bodies
from skelssl.data.store import StoreError, open_store
from skelssl.data.verify import verify

BODY = "72057594037927936 0 1 1 0 0 1 0.01 -0.1 2"


def motion(frames=6, bodies=1, seed=0):
    """(frames, bodies, 25, 3) around a place of its own for each body."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(1, bodies, 25, 3)) + np.array([0, 0, 3])
    return places + np.cumsum(random.normal(size=(frames, bodies, 25, 3)) * 0.05, axis=0)


def text(bodies):
    """A raw file; bodies: for each frame the bodies (25, 3) in it."""
    lines = [str(len(bodies))]
    for frame in bodies:
        lines.append(str(len(frame)))
        for body in frame:
            lines += [BODY, "25", *(f"{x:.9g} {y:.9g} {z:.9g} 0 0 0 0 0 0 0 0 2" for x, y, z in body)]
    return "\n".join(lines) + "\n"


def agcn(slots):
    return agcn_of_bodies(Bodies.from_slots(slots), skeletons.get("ntu25"), 2, lambda reason: None)


def name(setup=1, camera=1, subject=1, action=1, replication=1):
    return f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action:03}.skeleton"


@pytest.fixture
def raw(tmp_path):
    """A folder of files of NTU RGB+D 60 and one of 120 alone."""
    folder = tmp_path / "raw"
    (folder / "deeper").mkdir(parents=True)
    for number, (camera, subject, action) in enumerate(itertools.product((1, 2, 3), (1, 3), (1, 60))):
        place = folder / "deeper" if number % 2 else folder
        (place / name(17, camera, subject, action)).write_text(text(motion(seed=number)))
    (folder / name(18, 1, 45, 61)).write_text(text(motion()))
    return folder


def test_published_lists():
    lists = published()
    assert [len(lists[key]) for key in ("classes", "training_subjects_60", "training_subjects_120")] == [120, 20, 53]
    assert (len(lists["broken_60"]), len(lists["broken_120"])) == (302, 233)
    assert len({*lists["broken_60"], *lists["broken_120"]}) == 535
    assert set(lists["training_subjects_60"]) < set(lists["training_subjects_120"])
    assert (lists["classes"][0], lists["classes"][57]) == ("drink water", "handshaking")


def test_a_folder_becomes_a_store(raw, tmp_path):
    store = prepare_ntu("ntu60", raw, tmp_path / "store")
    assert len(store) == 12 and store.frames.shape == (72, 2, 25, 3)
    assert store.header.names == sorted(store.header.names) and len(store.header.class_names) == 60
    assert set(store.labels) == {0, 59} and set(store.setups) == {17}
    assert store.cameras[store.select("xview_test")].tolist() == [1] * 4
    assert store.subjects[store.select("xsub_train")].tolist() == [1] * 6
    assert store.header.history["left out"] == {"not of ntu60": ["S018C001P045R001A061"]}
    report = verify(store.path)
    assert all("samples, published are" in problem for problem in report.problems) and len(report.problems) == 4
    assert "left out: not of ntu60: S018C001P045R001A061" in report.remarks
    number = store.header.names.index("S017C001P001R001A001")
    np.testing.assert_allclose(store.sample(number), agcn(motion(seed=0)), atol=1e-6)


def test_ntu120_takes_all_and_splits_by_setup(raw, tmp_path):
    store = prepare_ntu("ntu120", raw, tmp_path / "store")
    assert len(store) == 13 and len(store.header.class_names) == 120
    assert store.setups[store.select("xset_train")].tolist() == [18]
    assert len(store.select("xset_test")) == 12
    assert 12 in store.select("xsub_train")


def test_a_zip_archive_is_the_same_and_nothing_is_unpacked(raw, tmp_path):
    packed = tmp_path / "raw.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for path in raw.rglob("*.skeleton"):
            out.write(path, f"../../nturgb+d_skeletons/{path.name}")
    before = sorted(tmp_path.parent.rglob("*.skeleton"))
    first, second = (prepare_ntu("ntu60", source, tmp_path / source.stem / "store") for source in (raw, packed))
    assert first.header.hashes == second.header.hashes
    assert sorted(tmp_path.parent.rglob("*.skeleton")) == before


def test_what_is_left_out_is_named(raw, tmp_path):
    whole = text(motion())
    (raw / name(1, 2, 5, 9, 2)).write_text(whole)
    (raw / f"{published()['broken_60'][0]}.skeleton").write_text(whole)
    (raw / name(2, 1, 1, 1)).write_text(whole[: len(whole) // 2])
    (raw / name(2, 1, 1, 2)).write_text("5\n" + "0\n" * 5)
    (raw / name(2, 1, 1, 3)).write_text(whole.replace("72057594037927936", "no number", 1))
    (raw / "notes.skeleton").write_text("to do")
    (raw / "S001C001P001R001A001.txt").write_text("of no interest")
    store = prepare_ntu("ntu60", raw, tmp_path / "store")
    left_out = store.header.history["left out"]
    assert "damaged: S002" in str(verify(store.path))
    assert len(store) == 13
    assert left_out["in the published list of missing or incomplete skeletons"] == ["S001C002P005R002A008"]
    assert left_out["no body"] == ["S002C001P001R001A002"]
    assert left_out["not a name of the data set"] == ["notes.skeleton"]
    assert [one.split(":")[0] for one in left_out["damaged"]] == ["S002C001P001R001A001", "S002C001P001R001A003"]
    assert "expected" in left_out["damaged"][0] and "found 'no number" in left_out["damaged"][1]


def test_sources_that_are_none(tmp_path, raw, monkeypatch):
    with pytest.raises(StoreError, match="expected a folder or an archive, found nothing"):
        prepare_ntu("ntu60", tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(StoreError, match=r"text.zip: expected a folder, a zip or a tar archive, found none, or"):
        prepare_ntu("ntu60", tmp_path / "text.zip", tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="expected files such as S001C001P001R001A001.skeleton, found none of ntu60"):
        prepare_ntu("ntu60", tmp_path / "empty", tmp_path / "store")
    (raw / "deeper" / name(17, 1, 1, 1)).write_text(text(motion()))
    with pytest.raises(StoreError, match="S017C001P001R001A001 occurs more than once"):
        prepare_ntu("ntu60", raw, tmp_path / "store")
    monkeypatch.setattr(archive, "LARGEST_FILE", 100)
    with pytest.raises(StoreError, match="expected at most 100 bytes for one sequence, found"):
        prepare_ntu("ntu60", raw / "deeper", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_archive_that_grows_without_end_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr(name(), b"0\n" * 10_000_000)
    with pytest.raises(StoreError, match="expected text, found .* bytes that unpack to 20000000"):
        prepare_ntu("ntu60", tmp_path / "bomb.zip", tmp_path / "store")


def test_a_damaged_member_of_an_archive_is_named(tmp_path, raw):
    packed = tmp_path / "raw.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as out:
        for path in raw.glob("*.skeleton"):
            out.write(path, path.name)
    content = bytearray(packed.read_bytes())
    content[content.index(BODY.encode())] ^= 1
    packed.write_bytes(content)
    with pytest.raises(StoreError, match=r"raw.zip: S017.*skeleton cannot be read: Bad CRC-32"):
        prepare_ntu("ntu60", packed, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_there_survives_what_fails(raw, tmp_path):
    store = prepare_ntu("ntu60", raw, tmp_path / "store")
    (raw / "deeper" / name(17, 1, 1, 1)).write_text(text(motion()))
    with pytest.raises(StoreError, match="more than once"):
        prepare_ntu("ntu60", raw, tmp_path / "store")
    assert len(open_store(store.path)) == 12


def test_slots_are_bodies_in_the_order_of_the_file(tmp_path):
    bodies = motion(4, 6)
    frames = [list(bodies[0, :2]), [], list(bodies[2]), list(bodies[3, 3:4])]
    (tmp_path / name()).write_text(text(frames))
    parsed = parse_ntu_skeleton(tmp_path / name(), coordinates_only=True)
    slots = Bodies(parsed.joints, parsed.frame_offsets, parsed.body_ids).slots(SLOTS)
    assert slots.shape == (4, SLOTS, 25, 3)
    np.testing.assert_allclose(slots[0, :2], bodies[0, :2], atol=1e-6)
    np.testing.assert_allclose(slots[2], bodies[2, :SLOTS], atol=1e-6)
    np.testing.assert_allclose(slots[3, 0], bodies[3, 3], atol=1e-6)
    assert not slots[0, 2:].any() and not slots[1].any() and not slots[3, 1:].any()


def test_splits_by_hand():
    per_sample = {"subjects": np.array([1, 3, 100]), "cameras": np.array([1, 2, 3]), "setups": np.array([1, 2, 32])}
    found = {key: value.tolist() for key, value in splits("ntu60", per_sample).items()}
    assert found == {"xsub_train": [0], "xsub_test": [1, 2], "xview_train": [1, 2], "xview_test": [0]}
    found = {key: value.tolist() for key, value in splits("ntu120", per_sample).items()}
    assert found == {"xsub_train": [0, 2], "xsub_test": [1], "xset_train": [1, 2], "xset_test": [0]}


class TestAgcn:
    def test_the_first_persons_first_shoulders_are_along_x(self):
        found = agcn(motion(20, 2))
        assert found.shape == (20, 2, 25, 3)
        assert np.abs(found[:, 0, 1]).max() < 1e-12, "the middle of the spine is the origin of every frame"
        across = found[0, 0, 8] - found[0, 0, 4]
        np.testing.assert_allclose(across, [np.linalg.norm(across), 0, 0], atol=1e-12)

    def test_a_body_with_level_shoulders_stands_upright(self):
        slots = motion(5)
        slots[0, 0, 0], slots[0, 0, 1] = [1, 1, 1], [1, 1, 1.3]
        slots[0, 0, 4], slots[0, 0, 8] = [1.2, 1.1, 1.5], [0.8, 0.7, 1.5]
        found = agcn(slots)
        np.testing.assert_allclose(found[0, 0, 1] - found[0, 0, 0], [0, 0, 0.3], atol=1e-12)

    def test_distances_between_joints_and_persons_stay(self):
        bodies = motion(9, 2)
        found = agcn(bodies)
        order = [0, 1] if np.isclose(*(np.ptp(b[0, 0]) for b in (bodies, found))) else [1, 0]
        between = np.linalg.norm(found[:, 0] - found[:, 1], axis=-1)
        expected = np.linalg.norm(bodies[:, 0] - bodies[:, 1], axis=-1)
        np.testing.assert_allclose(between, expected, atol=1e-9)
        within = np.linalg.norm(found[:, :, 3] - found[:, :, 19], axis=-1)
        np.testing.assert_allclose(within, np.linalg.norm(bodies[:, :, 3] - bodies[:, :, 19], axis=-1)[:, order])

    def test_the_most_moving_two_of_four_come_first(self):
        slots = motion(30, 4)
        centre = slots.mean(axis=(0, 2), keepdims=True)
        slots = centre + (slots - centre) * np.array([1.0, 3.0, 0.5, 2.0])[None, :, None, None]
        expected = agcn(slots[:, [1, 3]])
        np.testing.assert_allclose(agcn(slots), expected)

    def test_gaps_are_closed_and_filled(self):
        slots = motion(8, 1)
        late = slots.copy()
        late[:3] = 0
        found = agcn(late)
        np.testing.assert_allclose(found[:5], agcn(slots[3:]))
        np.testing.assert_allclose(found[5:8], found[:3], err_msg="what is left over repeats the sequence")
        early = slots.copy()
        early[5:] = 0
        np.testing.assert_allclose(agcn(early), agcn(slots[:5])[[0, 1, 2, 3, 4, 0, 1, 2]])

    def test_long_sequences_end_after_300_frames(self):
        assert len(agcn(motion(LONGEST + 5))) == LONGEST

    def test_a_second_person_that_is_not_there_is_zero(self):
        assert not agcn(motion(5, 1))[:, 1].any()

    def test_what_cannot_be_turned_stays(self):
        point = np.ones((3, 1, 25, 3))
        assert np.isfinite(agcn(point)).all() and not agcn(point)[:, 0].any()

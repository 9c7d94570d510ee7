import numpy as np
import pytest

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data.pipeline import DataSet, write_recordings
from skelssl.data.preprocessings import PREPROCESSINGS
from skelssl.data.preprocessings.finite import with_finite_joints
from skelssl.data.recordings import Bodies, History, Recording

NTU = skeletons.get("ntu25")
BASE = NTU.joint("spine_base")
LEFT, RIGHT = NTU.joint("left_shoulder"), NTU.joint("right_shoulder")


def body(frames=30, at=0.0, speed=0.01, wide=False, seed=0):
    """(frames, 25, 3): a stiff body, higher than wide or the other way round, that goes along z."""
    random = np.random.default_rng(seed)
    pose = random.uniform(-1, 1, size=(25, 3)) * ([1.0, 0.3, 0.2] if wide else [0.3, 1.0, 0.2])
    path = np.zeros((frames, 1, 3))
    path[:, 0] = [at, 0, 3]
    path[:, 0, 2] += speed * np.arange(frames)
    return pose + path


def bodies(*parts, frames=None):
    """Of (name, first frame or frames, (n, 25, 3)) in the order of the file within a frame."""
    placed = [(np.arange(first, first + len(x)) if np.ndim(first) == 0 else first, name, x) for name, first, x in parts]
    length = frames or max(at[-1] for at, _, _ in placed) + 1
    rows = [
        [(name, x[np.flatnonzero(at == frame)[0]]) for at, name, x in placed if frame in at] for frame in range(length)
    ]
    flat = [row for frame in rows for row in frame]
    return Bodies(
        np.array([x for _, x in flat]).reshape(-1, 25, 3).astype(np.float32),
        np.concatenate([[0], np.cumsum([len(frame) for frame in rows])]),
        np.array([name for name, _ in flat], np.int64),
    )


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-6)


class TestFinite:
    def test_whole_bodies_are_not_touched(self):
        given = bodies((1, 0, body()))
        assert with_finite_joints(given, pytest.fail) is given
        empty = Bodies(np.zeros((0, 25, 3)), np.zeros(4, np.int64), np.zeros(0, np.int64))
        assert with_finite_joints(empty, pytest.fail) is empty

    @pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf, 1e7, -3e38])
    def test_a_joint_lies_between_its_nearest_frames(self, lost):
        one, other = body(12, speed=0.3), body(12, at=5, seed=1)
        given, notes = bodies((4, 0, one), (3, 0, other)), []
        given.joints[2 * np.array([0, 3, 4, 11]), LEFT, 2] = lost
        found = with_finite_joints(given, notes.append)
        assert notes == ["joints that were NaN, infinite or huge are interpolated"]
        expected = one.copy()
        expected[0, LEFT], expected[11, LEFT] = one[1, LEFT], one[10, LEFT]
        assert_same(found.joints[::2], expected)
        np.testing.assert_array_equal(found.joints[1::2], given.joints[1::2])
        assert found.ids is not None and found.frame_offsets.tolist() == given.frame_offsets.tolist()

    def test_time_counts_not_rows(self):
        one = body(3, speed=0)
        one[:, :, 1] += np.array([0, 5, 10])[:, None]
        given = bodies((1, np.array([0, 1, 10]), one))
        given.joints[1, RIGHT] = np.nan
        found = with_finite_joints(given, lambda reason: None)
        assert_same(found.joints[1, RIGHT, 1], one[0, RIGHT, 1] + 1)

    def test_a_body_without_a_joint_is_left_out(self):
        given, notes = bodies((1, 0, body(5)), (2, 2, body(5, at=1))), []
        given.joints[given.ids == 2, BASE] = np.nan
        given.joints[0, LEFT] = np.nan
        found = with_finite_joints(given, notes.append)
        assert notes == [
            "bodies with a joint that is NaN, infinite or huge in all their frames are left out",
            "joints that were NaN, infinite or huge are interpolated",
        ]
        assert found.ids.tolist() == [1] * 5 and np.diff(found.frame_offsets).tolist() == [1, 1, 1, 1, 1, 0, 0]
        assert np.isfinite(found.joints).all()

    @pytest.mark.parametrize("name", PREPROCESSINGS)
    def test_no_store_holds_what_a_file_says_is_nan(self, name, tmp_path):
        text = "3\n" + "1\n7 0 1 1 0 0 1 0 0 2\n25\n{}".format("0.1 nan 2 0 0 0 0 0 0 0 0 2\n" * 25)
        text += "1\n7 0 1 1 0 0 1 0 0 2\n25\n" + "".join(f"{j} {j * j % 7} 2 0 0 0 0 0 0 0 0 2\n" for j in range(25))
        text += "1\n7 0 1 1 0 0 1 0 0 2\n25\n" + "1e39 -inf infinity 0 0 0 0 0 0 0 0 2\n" * 25
        parsed = parse_ntu_skeleton(text.encode(), coordinates_only=True)
        given = [Bodies(parsed.joints, parsed.frame_offsets, parsed.body_ids)]
        given.append(bodies((1, 0, np.full((2, 25, 3), np.nan))))
        recordings = [Recording(str(number), one, 0) for number, one in enumerate(given)]
        data_set = DataSet("ntu60", "ntu25", ["drink water"], 2, lambda per_sample, names: {})
        store = write_recordings(recordings, data_set, name, History(), tmp_path / "store")
        assert np.isfinite(store.frames).all() and store.frames.any()
        assert store.header.names == ["0"] and store.header.history["left out"] == {"no body": ["1"]}
        assert store.header.history["joints that were NaN, infinite or huge are interpolated"] == ["0"]

import numpy as np
import pytest

from skelkern import parse_ntu_skeleton
from skelssl import skeletons
from skelssl.data.pipeline import DataSet, write_recordings
from skelssl.data.preprocessings import PREPROCESSINGS, find_preprocessing
from skelssl.data.preprocessings.finite import with_finite_joints
from skelssl.data.preprocessings.tracks import SHORTEST
from skelssl.data.recordings import Bodies, History, LeftOutError, Recording
from skelssl.data.store import StoreError

NTU = skeletons.get("ntu25")
BASE, MIDDLE, CENTRE = (NTU.joint(name) for name in ("spine_base", "spine_middle", "spine_shoulder"))
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


def apply(name, given, persons=2):
    notes = []
    found = find_preprocessing(name)(given, NTU, persons, notes.append)
    assert found.shape[1:] == (persons, 25, 3) and np.isfinite(found).all()
    return found, notes


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-6)


def nasty():
    """Two persons under four names, one lost for a while, beside short and wide noise, between empty frames."""
    return bodies(
        (1, np.r_[3:23, 30:50], body(40, speed=0.05)),
        (2, 8, body(20, at=1, seed=1)),
        (3, 35, body(22, at=1.2, speed=0.02, seed=2)),
        (4, 40, body(5, at=2, speed=1, seed=3)),
        (5, 10, body(30, at=-2, speed=0.5, wide=True, seed=4)),
        frames=60,
    )


def in_short(found):
    """Mean coordinates of either person and one of a joint in the middle of the recording."""
    return [*found.mean(axis=(0, 2)).ravel(), found[len(found) // 2, 0, RIGHT, 2]]


# What the public code of each computes of the recording, in float64.
OFFICIAL = {
    "aimclr50-official": (50, [0.034831, 0.649009, -0.118501, 0.016536, 0.407395, 0.015417, -0.133317]),
    "ctrgcn-official": (54, [0.209058, -0.390555, 0.590601, 0.590607, -0.227701, 0.028375, 1.383782]),
    "pyskl-official": (54, [-0.005818, 0.073549, 2.935122, 0.472425, 0.027556, 1.317861, 4.548884]),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_numbers_of_the_official_codes(name):
    length, expected = OFFICIAL[name]
    found, _ = apply(name, nasty())
    assert len(found) == length
    assert_same(in_short(found), expected)


class TestCtrgcn:
    def test_the_first_middle_of_the_spine_is_the_origin_of_all(self):
        one, other = body(speed=0.05), body(at=1, seed=1)
        found, notes = apply("ctrgcn", bodies((7, 0, other), (8, 0, one)))
        assert notes == []
        assert_same(found[:, 0], one - one[0, MIDDLE])
        assert_same(found[:, 1], other - one[0, MIDDLE])

    def test_short_and_wide_bodies_are_noise_beside_others_only(self):
        one = body()
        short, wide = body(SHORTEST - 1, at=1, speed=1), body(at=2, speed=1, wide=True)
        found, notes = apply("ctrgcn", bodies((1, 0, short), (2, 0, one), (3, 0, wide)))
        assert_same(found[:, 0], one - one[0, MIDDLE])
        assert not found[:, 1].any()
        assert notes == [
            "bodies that are there for fewer than 12 frames are left out",
            "bodies that are wider than high are left out",
        ]
        for alone in (short, wide):
            found, notes = apply("ctrgcn", bodies((1, 0, alone)))
            assert_same(found[:, 0], alone - alone[0, MIDDLE])
            assert notes == []

    def test_short_bodies_stay_where_there_is_no_longer_one(self):
        one, other = body(3, speed=0.1), body(4, at=1)
        found, notes = apply("ctrgcn", bodies((1, 0, one), (2, 0, other)))
        assert found.shape[0] == 4 and notes == []
        assert_same(found[:, 1], other - one[0, MIDDLE])

    def test_wide_frames_do_not_count_as_motion(self):
        steady = body(speed=0.02)
        jumps = body(at=1, speed=0)
        jumps[20:] = body(10, at=9, speed=3, wide=True)
        found, _ = apply("ctrgcn", bodies((1, 0, jumps), (2, 0, steady)))
        assert_same(found[:, 0], steady - steady[0, MIDDLE])

    def test_a_body_under_a_new_name_is_the_same_person(self):
        one, other = body(40, speed=0.05), body(40, at=1)
        given = bodies((1, 0, one[:20]), (2, 0, other), (3, 20, one[20:]))
        found, notes = apply("ctrgcn", given)
        assert "bodies under several names are taken for one person" in notes
        order = [0, 1] if np.allclose(found[0, 0, MIDDLE], 0) and abs(found[0, 1, MIDDLE, 0]) > 0.5 else [1, 0]
        between = np.linalg.norm(found[:, 0, MIDDLE] - found[:, 1, MIDDLE], axis=-1)
        assert_same(between, np.linalg.norm(one[:, MIDDLE] - other[:, MIDDLE], axis=-1))
        assert found[:, order].any(axis=(2, 3)).all()

    def test_a_third_body_at_a_time_is_left_out_and_named(self):
        three = [body(at=place, speed=speed, seed=place) for place, speed in enumerate((0.01, 0.05, 0.03))]
        found, notes = apply("ctrgcn", bodies(*((name, 0, x) for name, x in enumerate(three))))
        assert notes == ["more than 2 bodies at a time, of which those that move most are kept"]
        assert_same(found[:, 0], three[1] - three[1][0, MIDDLE])
        assert_same(found[:, 1], three[2] - three[1][0, MIDDLE])

    def test_one_person_of_a_recording_of_two(self):
        one, other = body(speed=0.05), body(at=1)
        found, notes = apply("ctrgcn", bodies((1, 0, other), (2, 0, one)), persons=1)
        assert_same(found[:, 0], one - one[0, MIDDLE])
        assert notes == ["more than 1 bodies at a time, of which those that move most are kept"]

    def test_frames_without_anybody_go_whoever_is_absent_is_zero(self):
        one, late = body(20, speed=0.05), body(15, at=1)
        given = bodies((1, np.r_[2:12, 14:24], one), (2, 14, late), frames=35)
        found, notes = apply("ctrgcn", given)
        assert notes == ["frames without a body are left out"]
        assert len(found) == 10 + 15
        assert not found[:10, 1].any() and not found[20:, 0].any()
        assert_same(found[10:, 1], late - one[0, MIDDLE])

    def test_a_gap_moves_a_body_in_the_official_code_only(self):
        through, lost = body(30, speed=0.05), body(20, at=1)
        given = bodies((1, 0, through), (2, np.r_[0:10, 20:30], lost))
        found, _ = apply("ctrgcn", given)
        assert not found[10:20, 1].any()
        assert_same(found[20:, 1], lost[10:] - through[0, MIDDLE])
        official, _ = apply("ctrgcn-official", given)
        assert_same(official[10:20, 1], lost[10:] - through[0, MIDDLE])
        assert not official[20:, 1].any()

    def test_a_second_person_in_two_parts_the_later_one_moving_more(self):
        through = body(60, speed=0.05)
        early, late = body(20, at=1, speed=0.01), body(30, at=1, speed=0.02)
        given = bodies((1, 0, through), (2, 0, early), (3, 30, late))
        found, _ = apply("ctrgcn", given)
        assert found[:20, 1].any(axis=(1, 2)).all() and found[30:, 1].any(axis=(1, 2)).all()
        official, notes = apply("ctrgcn-official", given)
        assert not official[:20, 1].any(), "taken to overlap with one that begins 10 frames later"
        assert "more than 2 bodies at a time, of which those that move most are kept" in notes


class TestPyskl:
    def test_coordinates_stay(self):
        one, other = body(speed=0.05), body(at=1, seed=1)
        found, notes = apply("pyskl", bodies((1, 0, other), (2, 0, one)))
        assert_same(found, np.stack([one, other], axis=1))
        assert notes == []

    def test_the_one_who_is_there_at_the_begin_comes_first(self):
        moves, waits = body(20, speed=0.05), body(30, at=1)
        found, _ = apply("pyskl", bodies((1, 0, waits), (2, 10, moves)))
        assert_same(found[:, 0], waits)
        assert_same(found[10:, 1], moves)

    def test_empty_frames_between_others_stay_in_the_official_code_only(self):
        one, other = body(20, speed=0.05), body(20, at=1)
        noise = body(5, at=3)
        given = bodies((1, 0, one), (2, 23, other), (3, 19, noise))
        assert len(apply("pyskl", given)[0]) == 40
        official, _ = apply("pyskl-official", given)
        assert len(official) == 43 and not official[20:23].any()

    def test_aligned_as_the_loader_does(self):
        moves, waits = body(20, speed=0.05), body(30, at=1)
        found, notes = apply("pyskl-aligned", bodies((1, 0, moves), (2, 0, waits)))
        assert len(found) == 30 and notes == [], "the one who is there longer comes first"
        assert_same(found[0, 0, MIDDLE], np.zeros(3))
        assert not found[20:, 1].any()
        assert_same(np.linalg.norm(found[:, 0, MIDDLE], axis=-1), 0.01 * np.arange(30))
        across = found[0, 0, RIGHT] - found[0, 0, LEFT]
        assert_same(across, [np.linalg.norm(across), 0, 0])
        between = np.linalg.norm(found[:20, 0] - found[:20, 1], axis=-1)
        assert_same(between, np.linalg.norm(waits[:20] - moves, axis=-1))

    def test_aligned_frames_without_the_first_person_go(self):
        moves, waits = body(20, speed=0.05), body(21, at=1)
        found, notes = apply("pyskl-aligned", bodies((1, 0, moves), (2, 12, waits)))
        assert len(found) == 21 and found[:, 0].any(axis=(1, 2)).all()
        assert "frames without the first person are left out" in notes


class TestAimclr50:
    def test_each_body_is_relative_to_itself_and_seen_from_the_front(self):
        one, other = body(50), body(50, at=2, seed=1)
        found, notes = apply("aimclr50", bodies((1, 0, one), (2, 0, other)))
        assert notes == [] and not found[:, :, CENTRE].any()
        across = found[:, :, RIGHT] - found[:, :, LEFT]
        assert np.abs(across[..., 2] / across[..., 0]).max() < np.tan(np.radians(1.5)) and (across[..., 0] > 0).all()
        for person, given in enumerate((one, other)):
            assert_same(found[:, person, :, 1], given[..., 1] - given[:, [CENTRE], 1])

    def test_shoulders_that_cross_the_line_are_turned_the_wrong_way_as_in_the_code(self):
        angles = np.repeat([0.3, -0.1], [40, 10])
        turning = np.zeros((50, 25, 3))
        turning[:, RIGHT, 0], turning[:, RIGHT, 2] = 0.6 * np.cos(angles), 0.6 * np.sin(angles)
        across = apply("aimclr50", bodies((1, 0, turning)))[0][:, 0, RIGHT]
        np.testing.assert_allclose(np.arctan2(across[:, 2], across[:, 0]), np.repeat([0, -0.2], [40, 10]), atol=5e-3)

    @pytest.mark.parametrize("frames", [1, 3, 50, 200])
    def test_any_length_becomes_50_frames(self, frames):
        stiff = body(frames, speed=0)
        assert_same(apply("aimclr50", bodies((1, 0, stiff)))[0], apply("aimclr50", bodies((1, 0, stiff[:1])))[0])

    def test_frames_are_resized_with_centres_at_half_integers(self):
        rising = np.repeat(body(1), 100, axis=0)
        rising[:, BASE, 1] += np.arange(100)
        found = apply("aimclr50", bodies((1, 0, rising)))[0][:, 0, BASE, 1]
        assert_same(found - (found[0] - 0.5), 0.5 + 2 * np.arange(50))

    def test_the_first_bodies_of_the_file_not_those_that_move(self):
        waits, follows, moves = body(20, speed=0), body(20, at=1, seed=1), body(20, at=2, seed=2, speed=1)
        found, notes = apply("aimclr50", bodies((1, 0, waits), (2, 0, follows), (3, 0, moves)))
        assert notes == ["more than 2 bodies, of which the first ones of each frame are kept"]
        assert_same(found, apply("aimclr50", bodies((1, 0, waits), (2, 0, follows)))[0])

    def test_empty_frames_cut_off_the_end_in_the_official_code_only(self):
        one = body(40)
        one[:, BASE, 1] += np.arange(40)
        late = bodies((1, 10, one), frames=60)
        found, notes = apply("aimclr50", late)
        assert notes == ["frames without a body are left out"]
        assert_same(found, apply("aimclr50", bodies((1, 0, one)))[0])
        official, _ = apply("aimclr50-official", late)
        assert not official[:12].any()
        assert official[-1, 0, BASE, 1] < found[-1, 0, BASE, 1] - 9

    def test_long_recordings_end_after_300_frames(self):
        long = body(310)
        found, notes = apply("aimclr50", bodies((1, 0, long)))
        assert notes == ["frames after the first 300 are left out"]
        assert_same(found, apply("aimclr50", bodies((1, 0, long[:300])))[0])
        with pytest.raises(LeftOutError, match="no body in the first 300 frames"):
            apply("aimclr50", bodies((1, 305, body(3))))


class TestPersons:
    def test_raw_keeps_every_frame_and_whoever_is_absent_is_zero(self):
        one, late = body(20, speed=0.05), body(8, at=1)
        found, _ = apply("raw", bodies((1, 2, one), (2, 6, late), frames=25))
        assert len(found) == 25 and not found[:2].any() and not found[22:].any()
        assert_same(found[2:22, 0], one)
        assert_same(found[6:14, 1], late)
        assert not found[14:, 1].any()

    @pytest.mark.parametrize("name", ["centred", "yaw-aligned"])
    def test_each_person_is_its_own_origin_and_the_absent_stay_zero(self, name):
        one, late = body(20, speed=0.05), body(8, at=1)
        found, _ = apply(name, bodies((1, 0, one), (2, 6, late)))
        assert not found[:, :, CENTRE].any()
        assert not found[:6, 1].any() and not found[14:, 1].any()
        assert found[6:14, 1].any(axis=(1, 2)).all()


@pytest.mark.parametrize("name", PREPROCESSINGS)
class TestAll:
    def test_what_is_given_stays(self, name):
        given = bodies((1, 0, body()), (2, 3, body(at=1, seed=1)))
        before = given.joints.copy()
        apply(name, given)
        np.testing.assert_array_equal(given.joints, before)

    def test_any_number_of_bodies_and_persons(self, name):
        for count in range(1, 6):
            given = bodies(*((number, 0, body(13, at=number, seed=number)) for number in range(count)))
            for persons in (1, 2, 3):
                found, _ = apply(name, given, persons)
                assert found.any(axis=(0, 2, 3)).sum() == min(count, persons)

    def test_one_frame(self, name):
        assert apply(name, bodies((1, 0, body(1))))[0][:, 0].any()

    def test_names_twice_in_a_frame_and_bodies_at_zero(self, name):
        one = body(20, speed=0.02)
        twice = Bodies(np.repeat(one, 2, axis=0), np.arange(0, 41, 2), np.full(40, 7))
        assert apply(name, twice)[0][:, 0].any()
        nobody = Bodies(np.zeros((20, 25, 3)), np.arange(21), np.full(20, 9))
        beside = Bodies(
            np.stack([one, nobody.joints], axis=1).reshape(-1, 25, 3), np.arange(0, 41, 2), np.tile([7, 9], 20)
        )
        assert_same(apply(name, beside)[0], apply(name, bodies((7, 0, one)))[0])


def test_names_of_preprocessings():
    with pytest.raises(StoreError, match="expected one of raw, .*aimclr50.*, found 'agcm'"):
        find_preprocessing("agcm")


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

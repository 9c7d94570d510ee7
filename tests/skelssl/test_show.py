import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from skelssl import skeletons
from skelssl.cli import main
from skelssl.data.store import Header, StoreError
from skelssl.data.writer import write_store
from skelssl.report.clip import augmented, in_layout, read_clip
from skelssl.report.drawing import BACK, LEFT, MIDDLE, PERSONS, RIGHT, Painter, project
from skelssl.report.film import frame_at, frame_times, write_film
from skelssl.views.augmentations import AUGMENTATIONS

NTU = skeletons.get("ntu25")


def standing(skeleton, frames=12, persons=1, upwards=1):
    """(T, M, V, 3): left to the left, joints farther from the centre lower, every joint at a place of its own."""
    steps = np.zeros(skeleton.num_joints)
    for joint in range(skeleton.num_joints):
        place = joint
        while place != skeleton.centre:
            place = skeleton.parents[place]
            steps[joint] += 1
    sides = np.zeros(skeleton.num_joints)
    for left, right in skeleton.mirror:
        sides[left], sides[right] = -1, 1
    across = sides * (0.1 + 0.03 * steps) + 1e-3 * np.arange(skeleton.num_joints)
    points = np.stack([across + 2.0, upwards * (2.0 - 0.2 * steps), 3 + 0.01 * np.arange(len(steps))], axis=-1)
    return np.stack(
        [
            np.stack([points + np.array([1.5 * person + 0.01 * t, 0, 1.5 * person]) for person in range(persons)])
            for t in range(frames)
        ]
    )


def raw_text(frames):
    """A `.skeleton` file of frames, each a list of (id, joints (25, 3), states (25))."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for number, joints, states in bodies:
            lines += [f"{number} 0 1 1 0 0 1 0.0 0.0 2", str(len(joints))]
            lines += [f"{x} {y} {z} 0 0 0 0 0 0 0 1 {state}" for (x, y, z), state in zip(joints, states, strict=True)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def array(tmp_path):
    def save(x, name="x.npy"):
        np.save(tmp_path / name, x)
        return str(tmp_path / name)

    return save


@pytest.fixture
def two_persons(tmp_path):
    """Person 7 comes in frame 2; person 5's left hand is not tracked in frames 3 and 4."""
    x = standing(NTU, 8, 2)
    frames = []
    for t, (first, second) in enumerate(x):
        states = np.full(25, 2)
        states[NTU.joint("left_hand")] = 0 if t in (3, 4) else 2
        frames.append([(5, first, states)] + ([(7, second, np.full(25, 2))] if t >= 2 else []))
    path = tmp_path / "S001C001P001R001A009.skeleton"
    path.write_text(raw_text(frames))
    return str(path)


@pytest.fixture
def store(tmp_path):
    """One sample as stored raw and one with its centre as origin in every frame."""
    x = standing(NTU).astype(np.float32)
    centred = x - x[:, :, NTU.centre : NTU.centre + 1]
    header = Header("own", "ntu25", "centred", "metres", ["wave", "bow"], ["first", "7"])
    return write_store(tmp_path / "store", header, [x, centred], {"labels": np.array([0, 1])}, {})


def colours_of(picture):
    """Which of (person, side) are in a picture."""
    found = {tuple(colour) for colour in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    return {(person, side) for person, sides in enumerate(PERSONS) for side in range(3) if sides[side] in found}


def painted(clip, frame=0, view="front"):
    return Painter(project(clip, view), 100, (300, 300)).frame(frame)


def test_a_recording(two_persons):
    clip = read_clip(two_persons)
    assert clip.points.shape == (8, 2, 25, 3) and clip.title == "standing up (from sitting position), A009 of NTU RGB+D"
    hand = NTU.joint("left_hand")
    assert np.flatnonzero(~clip.seen[:, 0, hand]).tolist() == [3, 4] and clip.known[:, 0].all()
    assert not clip.seen[:2, 1].any() and not clip.known[:2, 1].any() and clip.seen[2:, 1].all()
    np.testing.assert_allclose(clip.points[3, 0, hand, 0], standing(NTU)[3, 0, hand, 0], rtol=1e-6)


def test_persons_and_sides_have_colours_of_their_own(two_persons):
    clip = read_clip(two_persons)
    one, two = ({(person, side) for side in (LEFT, MIDDLE, RIGHT)} for person in (0, 1))
    assert colours_of(painted(clip, 0)) == one
    assert colours_of(painted(clip, 5)) == one | two


def test_left_is_where_the_left_joints_are(array):
    clip = read_clip(array(standing(NTU)), skeleton="ntu25")
    pixels = np.asarray(painted(clip)).astype(int)
    middles = [np.argwhere((pixels == PERSONS[0][side]).all(axis=-1))[:, 1].mean() for side in (LEFT, RIGHT)]
    assert middles[0] < 140 < 160 < middles[1]


def test_lost_joints_are_rings_without_a_limb(two_persons):
    clip = read_clip(two_persons)
    projection = project(clip, "front")
    without = replace(clip, known=clip.seen)
    lost, gone = painted(clip, 3), painted(without, 3)
    difference = np.argwhere((np.asarray(lost) != np.asarray(gone)).any(axis=-1))
    assert len(difference) > 10, "the ring and the thin line to it"
    left, _, right, _ = projection.box
    column = 150 + (projection.places[3, 0, NTU.joint("left_hand"), 0] - (left + right) / 2) * 100
    assert np.abs(difference[:, 1] - column).min() < 3
    whole = painted(replace(clip, seen=clip.known), 3)
    assert (np.asarray(whole) == PERSONS[0][LEFT]).all(-1).sum() > (np.asarray(gone) == PERSONS[0][LEFT]).all(-1).sum()


@pytest.mark.parametrize("mark", [0.0, np.nan])
def test_missing_joints_are_not_drawn(array, mark):
    x = standing(NTU)
    for part in ("left_arm", "left_leg"):
        x[:, :, list(NTU.parts[part])] = mark
    clip = read_clip(array(x), skeleton="ntu25")
    assert (clip.known == clip.seen).all() and clip.seen.sum(axis=2).max() == 15
    assert colours_of(painted(clip)) == {(0, MIDDLE), (0, RIGHT)}


def test_scores_of_zero_were_not_seen(array):
    coco = skeletons.get("coco17")
    x = 100 * standing(coco)
    x[..., 2] = 0.9
    x[4, 0, coco.joint("nose"), 2] = 0
    clip = read_clip(array(x), skeleton="coco17")
    assert (clip.units, clip.up, clip.flat) == ("pixels", "-y", True)
    assert np.argwhere(~clip.seen).tolist() == [[4, 0, coco.joint("nose")]] and clip.known.all()
    metres = read_clip(array(x), skeleton="coco17", units="metres")
    assert metres.up == "y" and not metres.flat and metres.seen.all()


def test_pixels_have_y_downwards(array):
    coco = skeletons.get("coco17")
    x = 100 * standing(coco, upwards=-1)[..., :2] + 500
    for clip in (read_clip(array(x), skeleton="coco17"), read_clip(array(x), skeleton="coco17", up="y")):
        heights = project(clip, "front").places[0, 0, :, 1]
        assert (heights[coco.joint("nose")] > heights[coco.joint("left_ankle")]) == (clip.up == "-y")
    with pytest.raises(ValueError, match="views: expected front for points in pixels without depth, found side"):
        project(clip, "side")


def test_axes_and_views(array):
    x = standing(NTU)
    upright = project(read_clip(array(x), skeleton="ntu25"), "front")
    np.testing.assert_allclose(upright.places, x[..., :2], atol=1e-12)
    lying = x[..., [0, 2, 1]] * (1, -1, 1)  # z upwards, as 2s-AGCN turns it
    turned = project(read_clip(array(lying), skeleton="ntu25", up="z"), "front")
    np.testing.assert_allclose(turned.places, upright.places, atol=1e-12)
    np.testing.assert_allclose(turned.depths, upright.depths, atol=1e-12)
    side = project(read_clip(array(x), skeleton="ntu25"), "side")
    np.testing.assert_allclose(side.places[..., 0], x[..., 2])
    np.testing.assert_allclose(side.depths, -x[..., 0])


def test_samples_of_a_store(store):
    by_name, by_number = read_clip(f"{store.path}:first"), read_clip(f"{store.path}:0")
    np.testing.assert_array_equal(by_name.points, by_number.points)
    assert (by_name.title, by_name.details) == ("wave", ("first", "ntu25", "centred"))
    assert read_clip(f"{store.path}:7").title == "bow", "a name comes before a number"


def test_a_joint_that_became_the_origin_is_seen(store):
    raw, centred = read_clip(f"{store.path}:0"), read_clip(f"{store.path}:1")
    assert raw.seen.all() and not raw.pinned
    assert centred.seen.all() and centred.pinned
    bouncing = centred.points.copy()
    bouncing[6] *= 0.5
    low, _ = project(replace(centred, points=bouncing), "front").extents()
    np.testing.assert_allclose(low[:, 1], 0, atol=1e-12)


def test_a_joint_never_tracked_is_not_the_origin(array):
    x = standing(NTU)
    x[:, :, NTU.joint("neck")] = 0
    assert (~read_clip(array(x), skeleton="ntu25").seen).sum() == 12


def test_agcn_has_z_upwards(tmp_path):
    x = standing(NTU)[..., [0, 2, 1]].astype(np.float32)
    header = Header("own", "ntu25", "agcn", "metres", ["wave"], ["a"])
    path = write_store(tmp_path / "agcn", header, [x], {"labels": np.array([0])}, {}).path
    assert read_clip(f"{path}:a").up == "z" and read_clip(f"{path}:a", up="y").up == "y"


def test_augmentations_do_what_their_names_say(two_persons):
    clip = read_clip(two_persons)
    views = {name: augmented(clip, name, 3) for name in AUGMENTATIONS}
    order, hand = list(NTU.mirror_order), NTU.joint("left_hand")
    np.testing.assert_allclose(views["flip"].points, clip.points[:, :, order], rtol=1e-6)
    np.testing.assert_array_equal(views["flip"].seen, clip.seen[:, :, order])
    for name in ("shear", "rotation"):
        matrix, *_ = np.linalg.lstsq(clip.points[clip.known], views[name].points[clip.known], rcond=None)
        np.testing.assert_allclose(views[name].points[clip.known], clip.points[clip.known] @ matrix, atol=1e-4)
        assert abs(matrix - np.eye(3)).max() > 0.01
        assert (abs(matrix.T @ matrix - np.eye(3)).max() < 1e-4) == (name == "rotation")
        np.testing.assert_array_equal(views[name].seen, clip.seen)
    rows = {row.tobytes() for row in clip.points.astype(np.float32)}
    assert all(row.tobytes() in rows for row in views["crop"].points.astype(np.float32))
    assert len(views["pstl-matm"].points) == 6 and views["pstl-matm"].seconds == pytest.approx(clip.seconds)
    removed = ~views["pstl-csm"].seen[5].any(axis=0)
    assert removed.sum() == 8 and views["pstl-csm"].known[5].all() and not views["pstl-csm"].pinned
    assert not views["flip"].seen[3, 0, order[hand]]


def test_augmentations_are_those_of_the_seed(two_persons):
    clip = read_clip(two_persons)
    one, again, other = (augmented(clip, "pstl", seed).points for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("frames", [1, 3])
def test_short_clips_can_be_augmented_and_written(array, tmp_path, frames):
    clip = read_clip(array(standing(NTU, frames)), skeleton="ntu25")
    views = [augmented(clip, name, 0) for name in AUGMENTATIONS]
    write_film([clip, views[-1]], tmp_path / "x.png", key_frames=3)
    write_film([clip], tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as picture:
        assert picture.n_frames == frames


def test_another_layout(two_persons):
    there, conversion = in_layout(read_clip(two_persons), "nw_ucla20")
    assert there.skeleton.name == "nw_ucla20" and there.points.shape == (8, 2, 20, 3)
    hand = there.skeleton.joint("left_hand")
    assert not there.seen[3, 0, hand] and there.known[3, 0, hand]
    assert "left_thumb" in conversion.lost


@pytest.mark.parametrize("name", skeletons.names())
def test_every_layout_is_drawn(name, array):
    skeleton = skeletons.get(name)
    clip = read_clip(array(standing(skeleton, 3, 2)), skeleton=name)
    everyone = {(person, side) for person in (0, 1) for side in (LEFT, RIGHT)}
    assert everyone <= colours_of(painted(clip, 2, "front"))
    assert {(0, RIGHT), (1, RIGHT)} <= colours_of(painted(clip, 2, "side")), "right is nearer to who stands there"


def test_a_users_own_layout_without_sides(array, tmp_path):
    (tmp_path / "worm.yaml").write_text("joints: [a, b, c]\nedges: [[a, b], [b, c]]\ncentre: b\n")
    clip = read_clip(array(np.random.default_rng(0).normal(size=(4, 3, 3))), skeleton=str(tmp_path / "worm.yaml"))
    assert colours_of(painted(clip)) == {(0, MIDDLE)}
    write_film([clip], tmp_path / "x.png")


def test_frames_last_as_long_as_they_were(array):
    clip = read_clip(array(standing(NTU, 100)), skeleton="ntu25")
    times, durations = frame_times([clip])
    assert len(times) == 100 and set(durations) == {30, 40} and sum(durations) == 3330
    times, durations = frame_times([replace(clip, rate=120.0)])
    assert len(times) == 34 and min(durations) >= 20 and sum(durations) == 840
    slow = replace(clip, rate=15.0)
    times, durations = frame_times([clip, slow])
    assert len(times) == 200 and [frame_at(clip, t) for t in times[[0, 50, 150]]] == [0, 50, 99]
    assert [frame_at(slow, t) for t in times[[0, 50, 150]]] == [0, 25, 75]
    long = replace(clip, points=np.broadcast_to(clip.points[:1], (5000, *clip.points.shape[1:])))
    times, durations = frame_times([long])
    assert len(times) <= 600 and sum(durations) == pytest.approx(5000 / 30 * 1000, abs=10)


def test_an_animation(two_persons, tmp_path, capsys):
    out = tmp_path / "new" / "x.gif"
    main(["show", two_persons, "--augment", "pstl-csm", "--views", "front,side", "--out", str(out)])
    assert capsys.readouterr().out == f"picture: {out}\n"
    with Image.open(out) as picture:
        durations = []
        pictures = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            durations.append(picture.info["duration"])
            pictures.append(np.asarray(picture.convert("RGB")).astype(int))
        assert picture.info["loop"] == 0
    assert len(pictures) == 8 and sum(durations) == 270
    assert all((abs(one - other).max(axis=-1) > 60).sum() > 50 for one, other in itertools.pairwise(pictures))
    assert (abs(pictures[0][-3, -3] - BACK) <= 4).all()


def test_key_frames(two_persons, tmp_path):
    sizes = {}
    for frames in (1, 4):
        main(["show", two_persons, "--frames", str(frames), "--out", str(tmp_path / "x.png")])
        with Image.open(tmp_path / "x.png") as picture:
            sizes[frames] = picture.width
            assert (0, LEFT) in colours_of(picture)
    assert sizes[4] > 3 * sizes[1]


def test_the_same_in_another_layout_says_what_is_lost(two_persons, tmp_path, capsys):
    main(["show", two_persons, "--layout", "coco17", "--out", str(tmp_path / "x.png")])
    assert "lost: spine_base, spine_middle" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :, :20], r"x.npy: expected \(T, M, 25, C\) for 'ntu25', C of 2 to 4, found \(12, 1, 20, 3\)"),
        (lambda x: x[..., :1], r"expected .* found \(12, 1, 25, 1\)"),
        (lambda x: x[:0], r"expected .* found \(0, 1, 25, 3\)"),
        (lambda x: x[0, 0], r"expected .* found \(25, 3\)"),
        (lambda x: x * 0, "expected joints to draw, found none that was seen"),
        (lambda x: x * np.nan, "expected joints to draw, found none that was seen"),
        (lambda x: x * 1e9, r"expected coordinates up to 1e\+06, found"),
        (lambda x: x.astype(str), "expected numbers, found <U"),
        (lambda x: x.astype(complex), "expected numbers, found complex128"),
        (lambda x: np.repeat(x, 9, axis=1), r"at most 20000 frames of 8 persons, found \(12, 9\)"),
        (lambda x: np.array([{}], dtype=object), "x.npy: expected an .npy file of numbers: .*objects"),
    ],
)
def test_arrays_that_are_no_sample(array, change, message):
    with np.errstate(over="ignore"), pytest.raises(StoreError, match=message):
        read_clip(array(change(standing(NTU))), skeleton="ntu25")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{store}:2"], "expected a name such as first or a number below 2, found '2'"),
        (["{store}:second"], "expected a name such as first or a number below 2, found 'second'"),
        (["{store}"], "expected STORE:NAME, STORE:NUMBER, a .skeleton or an .npy file"),
        (["nowhere:0"], "nowhere: expected a store"),
        (["nowhere.npy", "--skeleton", "ntu25"], "nowhere.npy: expected an .npy file, found nothing"),
        (["nowhere.npy"], "expected --skeleton, the layout of its joints: azure32, "),
        (["nowhere.skeleton"], "nowhere.skeleton"),
        (["{store}:0", "--out", "x.jpg"], "expected a file that ends in .gif or .png, found 'x.jpg'"),
        (["{store}:0", "--views", "top"], "views: expected front or side, or both, found top"),
        (["{store}:0", "--frames", "0"], "frames: expected 1 to 50 key frames, found 0"),
        (["{store}:0", "--fps", "0"], "fps: expected 1 to 1000, found 0.0"),
        (["{store}:0", "--fps", "nan"], "fps: expected 1 to 1000, found nan"),
        (["{store}:0", "--up", "x"], "up: expected y, -y or z, found 'x'"),
        (["{store}:0", "--units", "feet"], "units: expected metres or pixels, found 'feet'"),
        (["{store}:0", "--skeleton", "coco17"], "expected (T, M, 17, C) for 'coco17', C of 2 to 4, found"),
        (["{store}:0", "--augment", "blur"], "augment: expected one of crop, crop-resize, shear, rotation, vertical-"),
        (["{store}:0", "--layout", "kinect"], "skeleton: expected one of azure32"),
        (["{store}:0", "{store}:1", "--augment", "flip"], "expected two clips at most"),
        (["{store}:0", "--colour", "red"], "unknown arguments: --colour red"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(arguments, message, store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    given = [argument.format(store=store.path) for argument in arguments]
    with pytest.raises(SystemExit) as exit:
        main(["show", *(["--out", "x.gif"] if "--out" not in given else []), *given])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.count("\n") == 1 and message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_damaged_recording_is_named(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_text("2\n1\n")
    with pytest.raises(StoreError, match=r"S001C001P001R001A001.skeleton"):
        read_clip(str(path))
    path.write_text("2\n0\n0\n")
    with pytest.raises(StoreError, match="S001C001P001R001A001.skeleton: expected .* found"):
        read_clip(str(path))

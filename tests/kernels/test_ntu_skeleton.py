import numpy as np
import pytest

import skelkern
from skelkern.ops.ntu_skeleton import reference

NUMBERS = [
    *("0", "-0", "1", "-1.5", "0.1", ".5", "5.", "00012.5", "123456789.123456789", "0.30000001192092896"),
    *("1e5", "-2.5E-3", "1e-45", "1e-60", "3.4028236e38", "1e39", "9007199254740993", "16777217", "16777219"),
    *("0.1234567890123456789012345678901234567890", "123456789012345678901234567890", "8388608.5", "nan", "-inf"),
    *("1e400", "-1e400", "1e-400", "-1E-99999999999999999999", "2e99999999999999999999", "0.001e-400", "0.001e400"),
    *("1" + "0" * 400, "-" + "9" * 350 + ".5", "0." + "0" * 400 + "1", "0" * 20 + "1" + "0" * 400 + "e-300"),
    *("1.00000005960464477539062500", "1.0000000596046448", "72057594037931103.999"),
]


def body_text(values, joint_values, body_id=72057594037931101, end="\n"):
    lines = [f"{body_id} " + " ".join(values), "25", *(" ".join(row) for row in joint_values)]
    return end.join(lines)


def recording_text(frames, seed=0, end="\n"):
    """Text with the given number of bodies in each frame."""
    random = np.random.default_rng(seed)
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(bodies))
        for body in range(bodies):
            values = [f"{value:.7g}" for value in random.normal(size=9)]
            joints = [[f"{value:.8g}" for value in row] for row in 100 * random.normal(size=(25, 12))]
            lines.append(body_text(values, joints, 2**56 + body, end))
    return (end.join(lines) + end).encode()


def arrays_of(recording):
    return recording.frame_offsets, recording.body_ids, recording.body_info, recording.joints


def assert_equal(recording, expected):
    for ours, theirs in zip(arrays_of(recording), expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes(), "bitwise, NaN and -0 included"


@pytest.mark.parametrize("frames", [[], [0], [1], [1, 0, 2, 5, 1], [2] * 150])
@pytest.mark.parametrize("coordinates_only", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_is_the_reference(frames, coordinates_only, end):
    text = recording_text(frames, end=end)
    expected = reference.parse_ntu_skeleton(text, coordinates_only)
    assert_equal(skelkern.parse_ntu_skeleton(text, coordinates_only=coordinates_only), expected)
    without_end = text.rstrip(b"\r\n")
    assert_equal(skelkern.parse_ntu_skeleton(without_end, coordinates_only=coordinates_only), expected)


def test_blanks_around_values_and_lines_at_the_end():
    text = recording_text([1, 2])
    spaced = text.replace(b" ", b" \t ").replace(b"\n", b" \n") + b"\n \r\n"
    assert_equal(skelkern.parse_ntu_skeleton(spaced), reference.parse_ntu_skeleton(text))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("padding", ["", " "])
def test_numbers_are_rounded_as_python_rounds_them(number, padding):
    """In front of every other text and at the very end, where fewer than 8 characters are left to read."""
    joints = [["1"] * 12 for _ in range(24)] + [["1"] * 11 + [number]]
    text = "1\n1\n" + body_text([number] + ["2"] * 8, joints) + padding
    found = skelkern.parse_ntu_skeleton(text.encode())
    with np.errstate(over="ignore"):
        expected = np.float32(float(number))
    assert found.body_info[0, 0].tobytes() == expected.tobytes()
    assert found.joints[0, 24, 11].tobytes() == expected.tobytes()


def test_random_numbers_are_rounded_as_python_rounds_them():
    random = np.random.default_rng(0)
    values = zip(random.normal(size=900), random.integers(1, 20, size=900), 300 * "gef", strict=True)
    texts = [f"{value:.{digits}{style}}" for value, digits, style in values]
    joints = [texts[12 * i : 12 * i + 12] for i in range(75)]
    bodies = "\n".join(body_text(["0"] * 9, joints[25 * i : 25 * i + 25]) for i in range(3))
    found = skelkern.parse_ntu_skeleton(f"1\n3\n{bodies}\n".encode()).joints
    assert np.array_equal(found.ravel(), np.array([float(text) for text in texts], dtype=np.float32))


def test_several_files_in_parallel(tmp_path):
    texts = [recording_text([1, number % 3, 2], seed=number) for number in range(20)]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.skeleton").write_bytes(text)
    paths = [tmp_path / f"{number}.skeleton" for number in range(20)]
    for threads in (1, 3, None):
        for recording, text in zip(skelkern.parse_ntu_skeleton(paths, threads=threads), texts, strict=True):
            assert_equal(recording, reference.parse_ntu_skeleton(text))
    mixed = skelkern.parse_ntu_skeleton([str(paths[3]), texts[5], paths[4]])
    for recording, text in zip(mixed, (texts[3], texts[5], texts[4]), strict=True):
        assert_equal(recording, reference.parse_ntu_skeleton(text))
    assert skelkern.parse_ntu_skeleton([]) == []


GOOD = recording_text([1, 2]).decode().split("\n")


def changed(line, text):
    lines = list(GOOD)
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the number of frames, found the end of the text"),
        ("x", "line 1: expected the number of frames, found 'x'"),
        ("-1\n", "line 1: expected the number of frames, found '-1'"),
        ("1.5\n", "line 1: expected the number of frames, found '1.5'"),
        ("99999999999999999999\n", "line 1: expected the number of frames, found '99999999999999999999'"),
        (changed(1, "2 3"), "line 1: expected the number of frames, found '3'"),
        (changed(1, "3"), "expected the number of bodies, found the end of the text"),
        (changed(1, "1"), "line 30: expected the end of the text after the last frame, found '2'"),
        (changed(1, "1000000000000"), "expected the number of bodies, found the end of the text"),
        (changed(2, "1000000000000"), "expected a body's id and 9 values, found "),
        (changed(3, "1 2 3 4 5 6 7 8 9"), "line 3: expected a body's id and 9 values, found the end of the line"),
        (changed(3, "1 2 3 4 5 6 7 8 9 10 11"), "line 3: expected a body's id and 9 values, found '11'"),
        (changed(3, "1.5 2 3 4 5 6 7 8 9 10"), "line 3: expected a body's id and 9 values, found '1.5 2 3"),
        (changed(4, "24"), "line 4: expected 25, the number of joints, found '24'"),
        (changed(5, "1 2 3 4 5 6 7 8 9 10 11"), "line 5: expected a joint's 12 values, found the end of the line"),
        (changed(6, "1 2 3 4 5 6 7 8 9 10 11 12 13"), "line 6: expected the end of a joint's 12 values, found '13'"),
        (changed(7, "1 2 3x 4 5 6 7 8 9 10 11 12"), "line 7: expected a joint's 12 values, found '3x 4 5"),
        (changed(8, "1 2 - 4 5 6 7 8 9 10 11 12"), "line 8: expected a joint's 12 values, found '- 4 5"),
        ("\n".join(GOOD[:40]), "expected a joint's 12 values, found the end of the text"),
    ],
)
def test_wrong_text_is_located(text, message, tmp_path):
    path = tmp_path / "wrong.skeleton"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        skelkern.parse_ntu_skeleton([recording_text([1]), path])
    assert message in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="^source 0, line "):
        skelkern.parse_ntu_skeleton(text.encode())


def test_coordinates_only_does_not_look_at_the_rest():
    text = changed(5, "1 2 3 not a number").encode()
    found = skelkern.parse_ntu_skeleton(text, coordinates_only=True)
    assert found.joints[0, 0].tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="line 5: expected a joint's 3 coordinates, found the end of the line"):
        skelkern.parse_ntu_skeleton(changed(5, "1 2").encode(), coordinates_only=True)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing.skeleton"):
        skelkern.parse_ntu_skeleton(tmp_path / "missing.skeleton")
    with pytest.raises(IsADirectoryError):
        skelkern.parse_ntu_skeleton(tmp_path)
    with pytest.raises(TypeError, match="source 1: expected a path or bytes, found int"):
        skelkern.parse_ntu_skeleton([b"0\n", 3])
    with pytest.raises(ValueError, match="threads: expected at least 1, found 0"):
        skelkern.parse_ntu_skeleton(b"0\n", threads=0)


def test_results_outlive_each_other():
    texts = [recording_text([2] * 50, seed) for seed in range(3)]
    recordings = [skelkern.parse_ntu_skeleton(text) for text in texts]
    expected = recordings[2].joints.copy()
    joints = recordings[2].joints
    del recordings
    skelkern.parse_ntu_skeleton(texts[0])
    assert np.array_equal(joints, expected)

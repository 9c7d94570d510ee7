"""Recordings as raw `.skeleton` text of NTU RGB+D; all numbers of a recording are formatted together."""

import numpy as np

from skelkern import NtuRecording

# Decimals of each of a joint's twelve numbers: metres, pixels of both cameras, quaternion, tracking state.
DECIMALS = np.array([7, 7, 7, 3, 3, 3, 3, 7, 7, 7, 7, 0])
HEAD = b"\n%d %d %d %d %d %d %d %.6f %.6f %d\n%d"
WORDS = {0: 2, 3: 3, 7: 4}  # of a number, by decimals
LARGEST = np.array([200.0] * 3 + [9999.0] * 4 + [200.0] * 5)  # so that digits fit, and all of them into 32 bits
NEW_LINE = 2  # where separators for a line's first number begin in _SIGNS

_DIGITS = np.array([f"{number:04d}".encode() for number in range(10000)]).view(np.uint32)
_INTEGERS = np.array([str(number).encode().ljust(4, b"\0") for number in range(10000)], dtype="S4").view(np.uint32)
_POINTS = np.array([f".{number:03d}".encode() for number in range(1000)]).view(np.uint32)
_SIGNS = np.array([b" ", b" -", b"\n", b"\n-"], dtype="S4").view(np.uint32)


def rounded(recording: NtuRecording) -> NtuRecording:
    """The recording at the precision of its text."""
    scale = 10.0**DECIMALS
    joints = (np.rint(recording.joints * scale) / scale).astype(np.float32)
    return NtuRecording(
        recording.frame_offsets, recording.body_ids, recording.body_info.round(6).astype(np.float32), joints
    )


def raw_text(recording: NtuRecording) -> bytes:
    """The text of a recording.

    Every number is made of words of four bytes, in which zero bytes stand for nothing: separator and sign, integer
    part, point and three decimals, four decimals. At the end the zero bytes are taken out.

    Raises:
        ValueError: a number of a joint is not finite or too large for its column.
    """
    joints = np.asarray(recording.joints, dtype=np.float64)
    fitting = np.abs(joints) < LARGEST
    if not fitting.all():
        number = np.argwhere(~fitting)[0]
        found, largest = joints[tuple(number)], LARGEST[number[-1]]
        raise ValueError(f"joints: expected finite numbers below {largest:.0f}, found {found}")
    counts = np.diff(recording.frame_offsets)
    heads, lines = _heads(recording, counts), _lines(joints)
    size = lines.shape[1] * lines.shape[2] * lines.itemsize
    parts = heads.view(np.uint8).reshape(len(joints), heads.itemsize), lines.view(np.uint8).reshape(len(joints), size)
    bodies = np.concatenate(parts, axis=1)
    first = f"{len(counts)}".encode()
    last = b"\n0" * int((np.cumsum(counts[::-1]) == 0).sum())
    return first + bodies.tobytes().translate(None, b"\0") + last + b"\n"


def _heads(recording: NtuRecording, counts: np.ndarray) -> np.ndarray:
    """(R) what comes before each body's joints: counts of frames that begin with it or are empty, and its own line."""
    begins = [b""] * len(recording.body_ids)
    empty = b""
    for first, count in zip(recording.frame_offsets[:-1].tolist(), counts.tolist(), strict=True):
        if count:
            begins[first] = empty + f"\n{count}".encode()
        empty = b"" if count else empty + b"\n0"
    heads = []
    for begin, number, info in zip(begins, recording.body_ids.tolist(), recording.body_info.tolist(), strict=True):
        heads.append(begin + HEAD % (number, *info, recording.joints.shape[1]))
    return np.array(heads, dtype=np.bytes_)


def _lines(joints: np.ndarray) -> np.ndarray:
    """(R, V, words) uint32: a joint's numbers, those of equally many decimals together."""
    separators = np.zeros(joints.shape[-1], dtype=np.int64)
    separators[0] = NEW_LINE
    groups = np.flatnonzero(np.diff(DECIMALS)) + 1
    columns = zip(
        np.split(joints, groups, axis=-1), np.split(separators, groups), np.split(DECIMALS, groups), strict=True
    )
    words = [_words(values, separator, int(decimals[0])) for values, separator, decimals in columns]
    flat = [group.reshape(*joints.shape[:2], group.shape[2] * group.shape[3]) for group in words]
    return np.concatenate(flat, axis=-1)


def _words(values: np.ndarray, separators: np.ndarray, decimals: int) -> np.ndarray:
    """(R, V, N, 2, 3 or 4) uint32 of N numbers of a joint."""
    scaled = np.rint(np.abs(values) * 10**decimals).astype(np.int32)
    whole = scaled // 10**decimals
    part = scaled - whole * 10**decimals
    words = np.empty((*values.shape, WORDS[decimals]), dtype=np.uint32)
    words[..., 0] = _SIGNS[separators + ((values < 0) & (scaled > 0))]
    words[..., 1] = _INTEGERS[whole]
    if decimals == 3:
        words[..., 2] = _POINTS[part]
    elif decimals == 7:
        upper = part // 10**4
        words[..., 2], words[..., 3] = _POINTS[upper], _DIGITS[part - upper * 10**4]
    return words

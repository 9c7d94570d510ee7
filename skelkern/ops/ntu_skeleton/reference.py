"""The text of an NTU RGB+D recording, line by line in Python."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def parse_ntu_skeleton(text: bytes, coordinates_only: bool = False) -> Arrays:
    """(frame_offsets, body_ids, body_info, joints) of well-formed text; see `skelkern.parse_ntu_skeleton`."""
    lines = iter(text.decode("ascii").split("\n"))
    offsets, ids, info, joints = [0], [], [], []
    for _ in range(int(next(lines))):
        bodies = int(next(lines))
        offsets.append(offsets[-1] + bodies)
        for _ in range(bodies):
            first, *values = next(lines).split()
            ids.append(int(first))
            info.append([float(value) for value in values])
            rows = [next(lines).split() for _ in range(int(next(lines)))]
            joints.append([[float(value) for value in row[: 3 if coordinates_only else 12]] for row in rows])
    return (
        np.array(offsets, dtype=np.int64),
        np.array(ids, dtype=np.int64),
        np.array(info, dtype=np.float32).reshape(-1, 9),
        np.array(joints, dtype=np.float32).reshape(-1, 25, 3 if coordinates_only else 12),
    )

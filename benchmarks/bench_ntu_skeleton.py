"""Parsing raw NTU RGB+D text, against readers in the style of ST-GCN's and CTR-GCN's generation scripts."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from race import OURS, Case
from torch import Tensor

import skelkern

Folder = TemporaryDirectory[str]  # removed when the race is over

BODY = "bodyID clipedEdges handLeftConfidence handLeftState handRightConfidence handRightState isResticted leanX leanY"
JOINT = "x y z depthX depthY colorX colorY orientationW orientationX orientationY orientationZ trackingState"


def official(folder: Folder, values: int) -> Tensor:
    """Line by line into dictionaries, as ST-GCN, 2s-AGCN and HiCo read the files."""
    joints = []
    for path in sorted(Path(folder.name).iterdir()):
        with path.open() as file:
            for _ in range(int(file.readline())):
                for _ in range(int(file.readline())):
                    dict(zip([*BODY.split(), "trackingState"], map(float, file.readline().split()), strict=True))
                    rows = [
                        dict(zip(JOINT.split(), map(float, file.readline().split()), strict=True))
                        for _ in range(int(file.readline()))
                    ]
                    joints.append([list(row.values())[:values] for row in rows])
    return torch.from_numpy(np.array(joints, dtype=np.float32))


def all_lines(folder: Folder, values: int) -> Tensor:
    """All lines at once and a cursor, as CTR-GCN reads the files."""
    joints = []
    for path in sorted(Path(folder.name).iterdir()):
        lines = np.array(path.read_text().splitlines())
        at = 1
        for _ in range(int(lines[0])):
            bodies = int(lines[at])
            at += 1
            for _ in range(bodies):
                at += 2
                rows = [np.array(line.split(), dtype=np.float32)[:values] for line in lines[at : at + 25]]
                joints.append(np.stack(rows))
                at += 25
    return torch.from_numpy(np.stack(joints))


def ours(folder: Folder, values: int) -> Tensor:
    recordings = skelkern.parse_ntu_skeleton(sorted(Path(folder.name).iterdir()), coordinates_only=values == 3)
    return torch.from_numpy(np.concatenate([recording.joints for recording in recordings]))


def write_recordings(files: int, frames: int) -> Folder:
    """A folder of files in the format, with one or two bodies and as many digits as the data set has."""
    folder, random = Folder(prefix="skelkern-ntu-"), np.random.default_rng(0)
    for number in range(files):
        lines = [str(frames)]
        for _ in range(frames):
            bodies = 1 + number % 2
            lines.append(str(bodies))
            for body in range(bodies):
                lines += [f"7205759403793110{body} 0 1 1 1 1 0 {random.normal():.7g} {random.normal():.7g} 2", "25"]
                values = random.normal(size=(25, 11)) * [1, 1, 1, 200, 200, 500, 500, 1, 1, 1, 1]
                lines += [" ".join(f"{value:.7g}" for value in row) + " 2" for row in values]
        (Path(folder.name) / f"{number:03}.skeleton").write_text("\n".join(lines) + "\n")
    return folder


def case(files: int, frames: int, values: int, sizes: str = "standard") -> Case:
    bodies = frames * (files + files // 2)
    return Case(
        f"{files} files of {frames} frames, {'coordinates' if values == 3 else 'all columns'}",
        {"official": official, "all lines, NumPy": all_lines, OURS: ours},
        lambda: (write_recordings(files, frames), values),
        0,
        bodies * 25 * (12 * 9 + 4 * values),  # about 9 characters a value
        (),
        sizes,
    )


CASES = [
    case(2, 5, 12, sizes="smoke"),
    case(40, 100, 12),
    case(40, 100, 3),
]


def test_ntu_skeleton(compare, case):
    compare(case)

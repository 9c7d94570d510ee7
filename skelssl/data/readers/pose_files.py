"""Poses from the files that `skelssl embed` takes."""

import math
from dataclasses import dataclass
from pathlib import Path

from skelssl.data.poses import Poses
from skelssl.data.readers.pose_arrays import read_arrays, read_recording
from skelssl.data.readers.pose_json import read_json
from skelssl.data.store import StoreError

UNITS = ("metres", "pixels")
UPWARDS = ("y", "-y", "z")


@dataclass(frozen=True)
class Described:
    """What files do not say about themselves; None: as the format has it.

    Attributes:
        skeleton: layout of the joints, a name or a YAML file.
        units: of the coordinates.
        up: axis that points upwards.
        least_score: joints of a lower one count as not seen.
    """

    skeleton: str | None = None
    units: str | None = None
    up: str | None = None
    least_score: float = 0.0

    def __post_init__(self) -> None:
        if self.units not in (None, *UNITS):
            raise ValueError(f"units: expected {' or '.join(UNITS)}, found {self.units!r}")
        if self.up not in (None, *UPWARDS):
            raise ValueError(f"up: expected {', '.join(UPWARDS)}, found {self.up!r}")
        if not 0 <= self.least_score < math.inf:
            raise ValueError(f"least score: expected a number of at least 0, found {self.least_score}")


AS_FILES_SAY = Described()


def read_poses(path: Path, described: Described = AS_FILES_SAY) -> list[Poses]:
    """The recordings of a file: of an `.npz` every array, of others one.

    Raises:
        StoreError: there is no such file, or it is not as its format has it; the message names file and place.
    """
    if not path.exists():
        raise StoreError(f"{path}: expected a file or folder, found nothing")
    if path.suffix == ".skeleton":
        return [read_recording(path)]
    if path.suffix in (".npy", ".npz"):
        return read_arrays(path, described.skeleton, described.units, described.up)
    if path.is_dir() or path.suffix == ".json":
        return [read_json(path, described.skeleton, described.units, described.up, described.least_score)]
    raise StoreError(f"{path}: expected .skeleton, .npy, .npz, .json or a folder, found {path.suffix or 'no ending'!r}")

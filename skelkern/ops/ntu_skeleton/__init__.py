"""Raw skeleton files of NTU RGB+D (`.skeleton`)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch

from skelkern import _cpu

Source = str | os.PathLike[str] | bytes


@dataclass(frozen=True)
class NtuRecording:
    """One recording: R bodies in F frames, in the order of the file.

    Attributes:
        frame_offsets: (F + 1) int64; rows frame_offsets[f] to frame_offsets[f + 1] of the others are of frame f.
        body_ids: (R) int64, the tracking id of each body.
        body_info: (R, 9) float32: clipped edges, left hand's confidence and state, right hand's confidence and state,
            whether restricted, lean x and y, tracking state.
        joints: (R, 25, 12) float32: x, y, z in metres, depth image x and y, colour image x and y in pixels, orientation
            w, x, y, z, tracking state. With coordinates_only (R, 25, 3).
    """

    frame_offsets: np.ndarray
    body_ids: np.ndarray
    body_info: np.ndarray
    joints: np.ndarray


@overload  # a str is a sequence, too: the first that fits counts
def parse_ntu_skeleton(  # type: ignore[overload-overlap]
    source: Source, *, coordinates_only: bool = ..., threads: int | None = ...
) -> NtuRecording: ...
@overload
def parse_ntu_skeleton(
    source: Sequence[Source], *, coordinates_only: bool = ..., threads: int | None = ...
) -> list[NtuRecording]: ...
def parse_ntu_skeleton(
    source: Source | Sequence[Source], *, coordinates_only: bool = False, threads: int | None = None
) -> NtuRecording | list[NtuRecording]:
    """Parses recordings of NTU RGB+D in their raw text format, any number of bodies, lines ending in LF or CRLF.

    Values are bitwise those of `float32(float(text))`. Several files are parsed in parallel.

    Source: Shahroudy et al., "NTU RGB+D", CVPR 2016; the layout is that of the data set's own reader.

    Args:
        source: a path, the bytes of a file, or a sequence of those.
        coordinates_only: read x, y and z only; the rest of a joint's line is not looked at.
        threads: at most so many; default torch's.

    Returns:
        A recording, or for a sequence a list of them in its order.

    Raises:
        OSError: a file cannot be read.
        TypeError: a source is neither a path nor bytes.
        ValueError: text is not in the format: the first line that is not, what was expected and what was found.
    """
    if isinstance(source, str | os.PathLike | bytes):
        return _parse([source], coordinates_only, threads)[0]
    return _parse(list(source), coordinates_only, threads)


def _parse(sources: list[Source], coordinates_only: bool, threads: int | None) -> list[NtuRecording]:
    for number, source in enumerate(sources):
        if not isinstance(source, str | os.PathLike | bytes):
            raise TypeError(f"source {number}: expected a path or bytes, found {type(source).__name__}")
    count = torch.get_num_threads() if threads is None else threads
    if count < 1:
        raise ValueError(f"threads: expected at least 1, found {count}")
    files = [os.fsencode(source) for source in sources if not isinstance(source, bytes)]
    of_files = iter(_cpu.parse_ntu_files(files, coordinates_only, count))
    recordings = []
    for number, source in enumerate(sources):
        if isinstance(source, bytes):
            result, name = _cpu.parse_ntu_text(source, coordinates_only), f"source {number}"
        else:
            result, name = next(of_files), os.fspath(source)
        arrays, line, expected, found, error_number = result
        if error_number:
            raise OSError(error_number, os.strerror(error_number), name)
        if arrays is None:
            raise ValueError(f"{name}, line {line}: expected {expected}, found {found.decode(errors='replace')}")
        recordings.append(NtuRecording(*arrays))
    return recordings

"""Times at which `sample_clips` reads a sequence: (B, T) float32, in frames of the sequence.

Arguments that differ from view to view are tensors (B); numbers hold for one view. Times compose by gathering: the
frames `kept` (B, T') of a clip sampled at `times` are those at `times.gather(1, kept)`.
"""

import torch
from torch import Tensor

from skelkern.checks import checks_values


def resize_times(start: Tensor | float, length: Tensor | float, frames: int) -> Tensor:
    """Frames [start, start + length) resized linearly to `frames`, with pixel centres at half-integers.

    As `torch.nn.functional.interpolate(mode="linear", align_corners=False)` on the cropped sequence: times are clamped
    inside the crop, so that no frame beyond it shows.

    Args:
        start: (B) first frame of the crop.
        length: (B) its number of frames, at least 1.
        frames: T, at least 1.
    """
    first, count = _columns(start, length)
    centres = (torch.arange(frames, device=first.device) + 0.5) * (count / frames) - 0.5
    return first + centres.clamp(min=0).minimum(count - 1)


def nearest_times(start: Tensor | float, length: Tensor | float, frames: int) -> Tensor:
    """Frames [start, start + length) resized to `frames` by taking whole frames, as interpolate(mode="nearest").

    Args:
        start: (B) first frame of the crop.
        length: (B) its number of frames, at least 1.
        frames: T, at least 1.
    """
    first, count = _columns(start, length)
    return first + (torch.arange(frames, device=first.device) * (count / frames)).floor().minimum(count - 1)


def mirror_times(start: Tensor | float, length: Tensor | float, frames: int) -> Tensor:
    """Frames start, start + 1, ..., mirrored at both ends of a sequence of `length` frames; the end frames show twice.

    With start in [-p, p] and frames = length this is the crop of AimCLR and PSTL out of p frames of mirror padding.

    Args:
        start: (B) first frame, may be negative.
        length: (B) frames of the sequence, at least 1.
        frames: T, at least 1.
    """
    first, count = _columns(start, length)
    place = (first + torch.arange(frames, device=first.device)).remainder(2 * count)
    return place.minimum(2 * count - 1 - place)


def _columns(start: Tensor | float, length: Tensor | float) -> tuple[Tensor, Tensor]:
    first, count = (torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1) for value in (start, length))
    if checks_values(count) and bool((count < 1).any()):
        raise ValueError(f"length: expected at least 1 frame, found {count.min().item():g}")
    return first, count

"""Skeleton clouds: a clip's joints as one set of points, their colours, and which of them stay visible."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from skelssl.skeletons import Skeleton
from skelssl.views.draws import Draws

Colouring = Literal["temporal", "spatial", "person"]
Absent = Literal["zeros", "masked", "repeat"]
Scale = Literal["cloud", "axis", "none"]
Masked = Literal["points", "frames", "joints"]

MASK = "mask"  # name of the draw of masked points


@dataclass(frozen=True)
class Clouds:
    """Points of clips, in the clips' order: frame by frame, joint by joint, person by person.

    Attributes:
        points: (B, N, 3), N = T · V · M.
        mask: (B, N) bool, points that count; None where all do.
    """

    points: Tensor
    mask: Tensor | None = None

    def chosen(self, index: Tensor) -> "Clouds":
        """The points at index (B, N')."""
        points = self.points.gather(1, index[:, :, None].expand(-1, -1, self.points.shape[2]))
        return Clouds(points, None if self.mask is None else counted(self.mask.gather(1, index)))


def spread_times(lengths: Tensor, frames: int, whole: bool = True) -> Tensor:
    """(B, T) times spread evenly over sequences of lengths (B), first and last frame included.

    Args:
        lengths: (B).
        frames: T; a sequence that is shorter shows frames several times.
        whole: rounded to frames of the sequence; otherwise between them, which repeats none.
    """
    share = torch.linspace(0, 1, frames, device=lengths.device)
    times = (lengths - 1)[:, None] * share
    return times.round() if whole else times


def clouds(clips: Tensor, scale: Scale = "cloud", absent: Absent = "zeros") -> Clouds:
    """The clouds of clips, moved and scaled.

    A person without any coordinate but 0 in a frame is absent from it, and has no say in centre and scale.

    Args:
        clips: (B, 3, T, V, M).
        scale: "cloud": the mean point becomes the origin, then the largest coordinate of either sign 1; "axis": every
            axis is stretched to [-1, 1]; "none": points stay where they are.
        absent: points of absent persons lie at the origin ("zeros"), do not count ("masked"), or are those of the first
            person present in their frame ("repeat").
    """
    if clips.dim() != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips: expected shape (B, 3, T, V, M), found {tuple(clips.shape)}")
    present = clips.ne(0).any(dim=(1, 3), keepdim=True)
    if absent == "repeat" and clips.shape[4] > 1:
        first = present.int().argmax(dim=4, keepdim=True).expand(*clips.shape[:4], 1)
        clips = clips.where(present, clips.gather(4, first))
        present = clips.ne(0).any(dim=(1, 3), keepdim=True)
    points = clips.flatten(2).transpose(1, 2)
    there = present.expand(-1, 1, -1, clips.shape[3], -1).flatten(1)
    scaled = _scaled(points, counted(there)[:, :, None], scale)
    if absent == "masked" and clips.shape[4] > 1:
        return Clouds(scaled, counted(there))
    return Clouds(scaled.masked_fill(~there[:, :, None], 0))


def counted(mask: Tensor) -> Tensor:
    """mask (B, N), all of it where a cloud would have no point left."""
    return mask | ~mask.any(dim=1, keepdim=True)


def _scaled(points: Tensor, there: Tensor, scale: Scale) -> Tensor:
    """points (B, N, 3) scaled by those that are there (B, N, 1)."""
    if scale == "none":
        return points
    if scale == "axis":
        low = points.masked_fill(~there, torch.inf).amin(dim=1, keepdim=True)
        high = points.masked_fill(~there, -torch.inf).amax(dim=1, keepdim=True)
        return (points - (low + high) / 2) / _not_zero((high - low) / 2)
    mean = (points * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True)
    centred = (points - mean) * there
    return centred / _not_zero(centred.abs().amax(dim=(1, 2), keepdim=True))


def _not_zero(extent: Tensor) -> Tensor:
    return extent.where(extent > 0, torch.ones_like(extent))


def ramp(place: Tensor) -> Tensor:
    """Colours (..., 3) of places (...) in [0, 1]: red to green to blue, linear in between, channels adding up to 1.

    Source: SCC (Yang et al., ICCV 2021), section 3.2, as recalled.
    """
    red, blue = (1 - 2 * place).clamp(min=0), (2 * place - 1).clamp(min=0)
    return torch.stack((red, 1 - red - blue, blue), dim=-1)


def cloud_colours(
    colouring: Colouring,
    skeleton: Skeleton,
    frames: int,
    persons: int,
    segments: int | None = None,
    by_part: bool = False,
    zero_based: bool = False,
) -> Tensor:
    """(N, 3) colours of a cloud's points, which depend on their place in the clip alone.

    Args:
        colouring: "temporal": by the frame; "spatial": by the joint; "person": red, and blue for the second of two.
        skeleton: joints, in the order of their colours, and parts, in the order of theirs.
        frames: T.
        persons: M.
        segments: "temporal" only: as many groups of frames, each of one colour; None: every frame has its own.
        by_part: "spatial" only: one colour for each of the skeleton's parts.
        zero_based: places are 0, ..., 1, instead of 1/n, ..., 1 for n colours.
    """
    time, joint, person = (torch.arange(size) for size in (frames, skeleton.num_joints, persons))
    if colouring == "temporal":
        number, count = _groups(frames, segments)[:, None, None], segments or frames
    elif colouring == "spatial":
        number, count = (_parts(skeleton), len(skeleton.parts)) if by_part else (joint, skeleton.num_joints)
        number = number[None, :, None]
    else:
        number, count, zero_based = person[None, None, :], persons, True
    number = number.expand(len(time), len(joint), len(person))
    places = number / max(count - 1, 1) if zero_based else (number + 1) / count
    return ramp(places).flatten(0, 2)


def _groups(frames: int, segments: int | None) -> Tensor:
    """(T) the segment of each frame."""
    return torch.arange(frames) * (segments or frames) // frames


def _parts(skeleton: Skeleton) -> Tensor:
    """(V) the part of each joint."""
    parts = torch.zeros(skeleton.num_joints, dtype=torch.int64)
    for number, joints in enumerate(skeleton.parts.values()):
        parts[list(joints)] = number
    return parts


def visible_points(
    draws: Draws, samples: Tensor, sizes: tuple[int, int, int], ratio: float, masked: Masked, view: str = MASK
) -> Tensor:
    """(B, N') points of every cloud that remain when a share of them is masked, ascending.

    Args:
        draws: of this epoch.
        samples: (B) that draws are keyed by.
        sizes: (T, V, M) of the clips.
        ratio: masked share; numbers are rounded, and at least one frame, joint or point remains.
        masked: "points" anywhere, whole "frames", or "joints" through all frames.
        view: name of the draw.
    """
    frames, joints, persons = sizes
    index = torch.arange(frames * joints * persons, device=samples.device).view(sizes)
    units = {"points": index.view(-1, 1), "frames": index.flatten(1), "joints": index.transpose(0, 1).flatten(1)}[
        masked
    ]
    kept = max(len(units) - round(ratio * len(units)), 1)
    points = units[draws.subset(samples, view, masked, len(units), kept)].flatten(1)
    return points.sort(dim=1).values if masked == "joints" else points

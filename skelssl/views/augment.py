"""Augmented views of skeleton sequences: what makes a view, and the one `sample_clips` call that makes them all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import skelkern
from skelssl.skeletons import Skeleton

STREAMS = ("joint", "motion", "bone")


@dataclass(frozen=True)
class SequenceBatch:
    """Sequences to draw views from, everything on one device.

    Attributes:
        frames: (F, M, V, C) frames, of the whole data set or a part of it.
        offsets: (P + 1) int64 first frame of each sequence.
        samples: (B) int64 samples of this batch, as the data set numbers them: what their draws are keyed by.
        places: (B) int64 which sequence of `offsets` is each of them; None where that is the sample's number.
    """

    frames: Tensor
    offsets: Tensor
    samples: Tensor
    places: Tensor | None = None

    @property
    def index(self) -> Tensor:
        """(B) which sequence of `offsets` is each sample."""
        return self.samples if self.places is None else self.places

    @property
    def lengths(self) -> Tensor:
        """(B) number of frames of each sample."""
        return self.offsets[self.index + 1] - self.offsets[self.index]


@dataclass(frozen=True)
class ViewPlan:
    """How one or several views of each sample of a batch are made.

    Attributes:
        times: (R, T) frames to show; R is B for one view, and views follow each other.
        next_times: (R, T) the frame after each of them, for motion; where it is the same frame there is no motion.
        linear: (R, 3, 3) map of points as row vectors, or None.
        joint_order: (R, V) joint that each joint shows, or None.
        linear_joints: (R, V) joints that `linear` maps; all if None.
        joint_keep: (R, V) joints that are not lost; all if None. Lost ones become 0.
    """

    times: Tensor
    next_times: Tensor
    linear: Tensor | None = None
    joint_order: Tensor | None = None
    linear_joints: Tensor | None = None
    joint_keep: Tensor | None = None


def whole_sequence(lengths: Tensor, frames: int) -> ViewPlan:
    """Every sequence resized linearly to `frames`, nothing else; a sequence of one frame repeats it."""
    return cropped(lengths, frames, torch.zeros(len(lengths), 1, device=lengths.device))


def cropped(lengths: Tensor, frames: int, start: Tensor) -> ViewPlan:
    """Sequences resized to `frames`, of which those from `start` (B, 1) on are shown, mirrored at both ends."""
    times = skelkern.resize_times(torch.zeros_like(lengths), lengths, frames)
    kept = skelkern.mirror_times(start, torch.full_like(start, frames), frames).long()
    following = (kept + 1).clamp(max=frames - 1)
    return ViewPlan(times.gather(1, kept), times.gather(1, following))


def resized(start: Tensor, length: Tensor, frames: int) -> ViewPlan:
    """Crops (R) resized to `frames`; motion leads to the next of these, and there is none at their end."""
    times = skelkern.resize_times(start, length, frames)
    return ViewPlan(times, torch.cat((times[:, 1:], times[:, -1:]), dim=1))


def sample_views(
    batch: SequenceBatch, plans: Sequence[ViewPlan], stream: str, skeleton: Skeleton
) -> tuple[Tensor, ...]:
    """The views (B, C, T, V, M) of all plans, sampled by one call.

    Streams are those of the whole sequence, augmented: "joint", "bone" (child minus parent, the centre 0) or "motion"
    (the next frame of the resized sequence minus this one, 0 at its end).
    """
    if stream not in STREAMS:
        raise ValueError(f"stream: expected one of {', '.join(STREAMS)}, found {stream!r}")
    times = [plan.times for plan in plans]
    if stream == "motion":
        times += [plan.next_times for plan in plans]
    rows = torch.cat(times)
    copies = len(times) // len(plans)
    views = len(rows) // copies // len(batch.index) if len(batch.index) else len(plans)
    clips = skelkern.sample_clips(
        batch.frames,
        batch.offsets,
        batch.index.repeat(views * copies),
        rows,
        linear=_stacked("linear", [plan.linear for plan in plans] * copies),
        linear_joints=_stacked("linear_joints", [plan.linear_joints for plan in plans] * copies),
        joint_order=_stacked("joint_order", [plan.joint_order for plan in plans] * copies),
        joint_keep=_stacked("joint_keep", [plan.joint_keep for plan in plans] * copies),
    )
    if stream == "bone":
        clips = clips - clips[..., torch.tensor(skeleton.parents, device=clips.device), :]
    elif stream == "motion":
        here, following = clips.chunk(2)
        clips = following - here
    return clips.chunk(views)


def _stacked(name: str, options: Sequence[Tensor | None]) -> Tensor | None:
    present = [option for option in options if option is not None]
    if present and len(present) != len(options):
        raise ValueError(f"plans: expected all views or none to have a {name}, found {len(present)} of {len(options)}")
    return torch.cat(present) if present else None


def shear_matrices(factors: Tensor) -> Tensor:
    """(B, 3, 3) with ones on the diagonal and factors (B, 6) beside it, row by row."""
    one = factors.new_ones(len(factors), 1)
    return torch.cat([one, factors[:, :3], one, factors[:, 3:], one], dim=1).unflatten(1, (3, 3))


def rotation_matrices(angles: Tensor) -> Tensor:
    """(B, 3, 3) rotations about x, then y, then z by angles (B, 3) in radians; row vectors are multiplied with them."""
    zero, one = torch.zeros_like(angles[:, 0]), torch.ones_like(angles[:, 0])
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)
    about_x = torch.stack((one, zero, zero, zero, cx, -sx, zero, sx, cx), dim=1).unflatten(1, (3, 3))
    about_y = torch.stack((cy, zero, sy, zero, one, zero, -sy, zero, cy), dim=1).unflatten(1, (3, 3))
    about_z = torch.stack((cz, -sz, zero, sz, cz, zero, zero, zero, one), dim=1).unflatten(1, (3, 3))
    return about_x @ about_y @ about_z


def degrees(values: Tensor) -> Tensor:
    """Degrees to radians."""
    return values * (math.pi / 180)

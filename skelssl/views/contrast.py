"""The augmentation of ISC (Thoker et al., ACM MM 2021) and of HiCo: a crop, then a sheared pose or corrupted joints."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

import skelkern
from skelssl.views.augment import ViewPlan, shear_matrices
from skelssl.views.draws import as_integers, as_uniform


@dataclass(frozen=True)
class ContrastOptions:
    """How a view is drawn.

    Attributes:
        frames: T, to which every crop is resized.
        shortest: share of a sequence that a crop has at least, uniform up to all of it; it has `frames` frames in any
            case, where the sequence has them.
        shear: bound of the factors of a sheared pose, which every other view has.
        corrupted_joints: how many joints are broken in the other views, at least and at most: half of these views lose
            them, in the other half one random matrix maps them.
        central: share of a sequence, around its middle, that evaluation shows.
    """

    frames: int = 64
    shortest: float = 0.1
    shear: float = 1.0
    corrupted_joints: tuple[int, int] = (15, 15)
    central: float = 0.95


def words_needed(joints: int) -> dict[str, int]:
    """Number of random words that a view takes, by step."""
    return {"length": 1, "start": 1, "pose": 1, "shear": 6, "matrix": 9, "lost": 1, "count": 1, "joints": joints}


def contrast_views(lengths: Tensor, words: dict[str, Tensor], options: ContrastOptions) -> ViewPlan:
    """A crop of each sequence and either a sheared pose or corrupted joints, for all frames and persons alike.

    Args:
        lengths: (R) of the sequences.
        words: (R, count) by step, see `words_needed`.
        options: see `ContrastOptions`.
    """
    plan = random_crops(lengths, words, options)
    sheared = as_uniform(words["pose"]) < 0.5
    lost = as_uniform(words["lost"]) < 0.5
    low, high = options.corrupted_joints
    count = low + as_integers(words["count"], high - low + 1)
    corrupted = words["joints"].argsort(dim=1).argsort(dim=1) < count
    shear = shear_matrices(as_uniform(words["shear"], -options.shear, options.shear))
    matrix = as_uniform(words["matrix"], -1.0, 1.0).unflatten(1, (3, 3))
    return replace(
        plan,
        linear=torch.where(sheared[:, :, None], shear, matrix),
        linear_joints=sheared | (corrupted & ~lost),
        joint_keep=sheared | ~(corrupted & lost),
    )


def random_crops(lengths: Tensor, words: dict[str, Tensor], options: ContrastOptions) -> ViewPlan:
    """A crop of each sequence: a uniform share of its length at a uniform place, resized."""
    share = as_uniform(words["length"][:, 0], options.shortest, 1.0)
    kept = (lengths * share).floor().long().clamp(min=options.frames).minimum(lengths)
    start = as_integers(words["start"][:, 0], lengths - kept + 1)
    return resized(start, kept, options.frames)


def central_crops(lengths: Tensor, options: ContrastOptions) -> ViewPlan:
    """The middle of each sequence, resized."""
    start = ((1 - options.central) * lengths.double() / 2).long()
    return resized(start, lengths - 2 * start, options.frames)


def resized(start: Tensor, length: Tensor, frames: int) -> ViewPlan:
    """Crops (R) resized to `frames`; motion leads to the next of these, and there is none at their end."""
    times = skelkern.resize_times(start, length, frames)
    return ViewPlan(times, torch.cat((times[:, 1:], times[:, -1:]), dim=1))

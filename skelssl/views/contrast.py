"""The augmentation of ISC (Thoker et al., ACM MM 2021) and of HiCo: a crop, then a sheared pose or corrupted joints."""

from dataclasses import dataclass

from torch import Tensor

from skelssl.views.augment import ViewPlan, resized
from skelssl.views.augmentations import (
    CROP_RESIZE,
    POSE_OR_CORRUPTION,
    Words,
    crop_resize,
    pose_or_corruption,
    words_for,
)


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
    return words_for({**CROP_RESIZE, **POSE_OR_CORRUPTION}, joints)


def contrast_views(lengths: Tensor, words: Words, options: ContrastOptions) -> ViewPlan:
    """A crop of each sequence and either a sheared pose or corrupted joints, for all frames and persons alike.

    Args:
        lengths: (R) of the sequences.
        words: (R, count) by step, see `words_needed`.
        options: see `ContrastOptions`.
    """
    plan = crop_resize(lengths, words, options.frames, options.shortest)
    return pose_or_corruption(plan, words, options.shear, options.corrupted_joints)


def central_crops(lengths: Tensor, options: ContrastOptions) -> ViewPlan:
    """The middle of each sequence, resized."""
    start = ((1 - options.central) * lengths.double() / 2).long()
    return resized(start, lengths - 2 * start, options.frames)

"""Augmentations, each usable alone; the methods compose their views of the same functions.

Those of a plan take random words by step (`skelssl.views.draws`) and return the plan changed, so that all augmentations
of all views cost one `sample_clips` call. Those of clips say what is left of them. `augment` applies one by its name in
`AUGMENTATIONS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from skelssl.skeletons import Skeleton
from skelssl.views.augment import (
    SequenceBatch,
    ViewPlan,
    cropped,
    degrees,
    resized,
    rotation_matrices,
    sample_views,
    shear_matrices,
    whole_sequence,
)
from skelssl.views.clouds import Masked, visible_points
from skelssl.views.draws import Draws, as_integers, as_uniform

Words = dict[str, Tensor]
"""(R, count) random words of R views by step, as `Draws.words_of_steps` gives them."""
Vertical = Literal["x", "y", "z"]

# How many words an augmentation takes, by step; 0 is one for each joint (`words_for`).
CROP = {"crop": 1}
CROP_RESIZE = {"length": 1, "start": 1}
SHEAR = {"shear": 6}
ROTATION = {"main axis": 1, "rotation": 3}
VERTICAL_ROTATION = {"rotation": 1}
FLIP = {"flip": 1}
CORRUPTION = {"count": 1, "joints": 0, "matrix": 9, "lost": 1}
POSE_OR_CORRUPTION = {"pose": 1, **SHEAR, **CORRUPTION}


def words_for(steps: dict[str, int], joints: int) -> dict[str, int]:
    """Words by step, of constants such as CROP put together, on a skeleton of so many joints."""
    return {step: count or joints for step, count in steps.items()}


def crop(lengths: Tensor, words: Words, frames: int, ratio: int = 6) -> ViewPlan:
    """Sequences resized to `frames` and mirrored by a `ratio`-th of these at both ends, of which `frames` are shown.

    Source: temporal crop of AimCLR (Guo et al., AAAI 2022) and PSTL.

    Args:
        lengths: (R) of the sequences.
        words: of the steps in CROP.
        frames: T.
        ratio: frames / ratio frames are mirrored at either end.
    """
    padding = frames // ratio
    start = as_integers(words["crop"], 2 * padding + 1) - padding
    return cropped(lengths, frames, start.float())


def crop_resize(
    lengths: Tensor, words: Words, frames: int, shortest: float = 0.1, at_least: int | None = None
) -> ViewPlan:
    """A uniform share of each sequence at a uniform place, resized to `frames`.

    Source: temporal crop-resize of ISC (Thoker et al., ACM MM 2021) and HiCo.

    Args:
        lengths: (R) of the sequences.
        words: of the steps in CROP_RESIZE.
        frames: T.
        shortest: the smallest share; the largest is 1.
        at_least: frames that a crop has where the sequence has them; `frames` unless given.
    """
    share = as_uniform(words["length"][:, 0], shortest, 1.0)
    kept = (lengths * share).floor().long().clamp(min=frames if at_least is None else at_least).minimum(lengths)
    start = as_integers(words["start"][:, 0], lengths - kept + 1)
    return resized(start, kept, frames)


def shear(plan: ViewPlan, words: Words, bound: float = 1.0) -> ViewPlan:
    """Every coordinate gets a share of the others: a matrix of ones on the diagonal and factors beside it.

    Source: PSTL's shear, ISC's and HiCo's pose augmentation.

    Args:
        plan: whose points are mapped, all by one matrix a view.
        words: of the steps in SHEAR.
        bound: factors are uniform in [-bound, bound).
    """
    return _mapped(plan, shear_matrices(as_uniform(words["shear"], -bound, bound)))


def rotation(
    plan: ViewPlan, words: Words, main_angle: float = 30.0, other_angle: float = 1.0, symmetric: bool = False
) -> ViewPlan:
    """A rotation about one main axis out of x, y and z, and slightly about the others, x first.

    Source: rotation of AimCLR and PSTL.

    Args:
        plan: whose points are mapped.
        words: of the steps in ROTATION.
        main_angle, other_angle: bounds in degrees about the main axis and about the others.
        symmetric: angles of either sign.
    """
    main = as_integers(words["main axis"], 3) == torch.arange(3, device=words["rotation"].device)
    bound = torch.where(main, main_angle, other_angle)
    angles = bound * as_uniform(words["rotation"], -1.0 if symmetric else 0.0, 1.0)
    return _mapped(plan, rotation_matrices(degrees(angles)))


def vertical_rotation(plan: ViewPlan, words: Words, bound: float = 30.0, vertical: Vertical = "y") -> ViewPlan:
    """A rotation about the vertical axis: the camera moves around the scene.

    Source: an option of SCC; public code of point-cloud auto-encoders turns clouds about this axis.

    Args:
        plan: whose points are mapped.
        words: of the steps in VERTICAL_ROTATION.
        bound: the angle is uniform in [-bound, bound) degrees.
        vertical: the axis.
    """
    angles = degrees(as_uniform(words["rotation"], -bound, bound))
    axis = torch.arange(3, device=angles.device) == get_args(Vertical).index(vertical)
    return _mapped(plan, rotation_matrices(angles * axis))


def flip(plan: ViewPlan, words: Words, mirror_order: Tensor | Sequence[int], probability: float = 0.5) -> ViewPlan:
    """Left and right joints change places; coordinates stay, so that it is no reflection.

    Source: AimCLR and PSTL.

    Args:
        plan: whose joints change places.
        words: of the steps in FLIP.
        mirror_order: (V) the joint on the other side of each.
        probability: of a flip.
    """
    order = torch.as_tensor(mirror_order, device=words["flip"].device)
    flipped = as_uniform(words["flip"]) < probability
    return replace(plan, joint_order=torch.where(flipped, order, torch.arange(len(order), device=order.device)))


def lost_joints(plan: ViewPlan, words: Words, count: tuple[int, int] = (15, 15)) -> ViewPlan:
    """Some joints become 0 in all frames and of all persons.

    Source: one half of the joint corruption of ISC and HiCo.

    Args:
        plan: whose joints are lost.
        words: of the steps in CORRUPTION.
        count: how many joints, at least and at most.
    """
    return replace(plan, joint_keep=~_some_joints(words, count))


def jitter(plan: ViewPlan, words: Words, count: tuple[int, int] = (15, 15)) -> ViewPlan:
    """One random matrix with entries in [-1, 1) maps some joints, in all frames and of all persons.

    Source: the other half of the joint corruption of ISC and HiCo.

    Args:
        plan: whose points are mapped.
        words: of the steps in CORRUPTION.
        count: how many joints, at least and at most.
    """
    matrix = as_uniform(words["matrix"], -1.0, 1.0).unflatten(1, (3, 3))
    return replace(_mapped(plan, matrix), linear_joints=_some_joints(words, count))


def corruption(plan: ViewPlan, words: Words, count: tuple[int, int] = (15, 15)) -> ViewPlan:
    """`lost_joints` in every other view, `jitter` in the rest: the joint corruption of ISC and HiCo."""
    lost, broken = as_uniform(words["lost"]) < 0.5, _some_joints(words, count)
    return replace(jitter(plan, words, count), linear_joints=broken & ~lost, joint_keep=~(broken & lost))


def pose_or_corruption(plan: ViewPlan, words: Words, bound: float = 1.0, count: tuple[int, int] = (15, 15)) -> ViewPlan:
    """`shear` in every other view, `corruption` in the rest: the spatial augmentation of ISC and HiCo.

    Args:
        plan: whose points are mapped and lost.
        words: of the steps in POSE_OR_CORRUPTION.
        bound: see `shear`.
        count: see `lost_joints`.
    """
    pose = as_uniform(words["pose"]) < 0.5
    sheared, corrupted = shear(plan, words, bound), corruption(plan, words, count)
    assert sheared.linear is not None and corrupted.linear is not None
    assert corrupted.linear_joints is not None and corrupted.joint_keep is not None
    return replace(
        plan,
        linear=torch.where(pose[:, :, None], sheared.linear, corrupted.linear),
        linear_joints=pose | corrupted.linear_joints,
        joint_keep=pose | corrupted.joint_keep,
    )


def motion_attention(clips: Tensor) -> Tensor:
    """(B, T) how little each frame of clips (B, C, T, V, M) moves.

    The negative squared difference to the next frame, a mean over coordinates, joints and persons, and 0 for the last
    frame. Of a motion stream it is a second difference. Source: PSTL's motion attention.
    """
    attention = clips.new_zeros(len(clips), clips.shape[2])
    attention[:, :-1] = -clips.diff(dim=2).square().mean(dim=(1, 3, 4))
    return attention


def motion_attention_masking(clips: Tensor, draws: Draws, samples: Tensor, masked: int, view: str = "matm") -> Tensor:
    """Clips without their most moving frames, and as many others: MATM of PSTL.

    Args:
        clips: (B, C, T, V, M).
        draws: of this epoch.
        samples: (B) that draws are keyed by.
        masked: frames of least motion attention that go, and again frames at random; less than T / 2.
        view: name of the draw.

    Returns:
        (B, C, T - 2 masked, V, M), in order.
    """
    frames = clips.shape[2]
    kept, again = frames - masked, frames - 2 * masked
    still = motion_attention(clips).topk(kept, dim=1).indices.sort(dim=1).values
    still = still.gather(1, draws.subset(samples, view, "frames", kept, again))
    return clips.gather(2, still[:, None, :, None, None].expand(-1, clips.shape[1], -1, *clips.shape[3:]))


def central_spatial_masking(
    degrees_of_joints: Tensor, draws: Draws, step: Tensor, masked: int, repeated: bool = False, view: str = "csm"
) -> Tensor:
    """Joints that remain when some are removed, those with many bones rather than others: CSM of PSTL.

    Args:
        degrees_of_joints: (V) number of bones of each joint.
        draws: of this epoch.
        step: (1) that the draw is keyed by: one set serves a batch, whose graph must have one size.
        masked: joints to remove.
        repeated: draw from a list in which a joint stands as often as it has bones, so that it may come twice and fewer
            joints are removed, as PSTL's code does.
        view: name of the draw.

    Returns:
        (V') int64, ascending.
    """
    total = len(degrees_of_joints)
    remains = torch.ones(total, dtype=torch.bool, device=step.device)
    if repeated:
        joints = torch.arange(total, device=step.device).repeat_interleave(degrees_of_joints)
        remains[joints[draws.subset(step, view, "joints", len(joints), masked)[0]]] = False
        return remains.nonzero()[:, 0]
    remains[draws.weighted_subset(step, view, "joints", degrees_of_joints.float(), masked)[0]] = False
    # as many as are known beforehand: nothing waits for the device
    return remains.int().argsort(descending=True, stable=True)[: total - masked]


def _mapped(plan: ViewPlan, matrices: Tensor) -> ViewPlan:
    """The plan with matrices (R, 3, 3) behind the map that it has."""
    if plan.linear_joints is not None:
        raise ValueError("plan: expected one whose joints are all mapped alike, found one of corrupted joints")
    return replace(plan, linear=matrices if plan.linear is None else plan.linear @ matrices)


def _some_joints(words: Words, count: tuple[int, int]) -> Tensor:
    """(R, V) bool."""
    low, high = count
    number = low + as_integers(words["count"], high - low + 1)
    return words["joints"].argsort(dim=1).argsort(dim=1) < number


@dataclass(frozen=True)
class Augmentation:
    """An augmentation that `augment` applies alone.

    Attributes:
        words: random words that it takes, by step, see `words_for`.
        start: lengths (B), words and T -> plan.
        change: plan, words and skeleton -> plan.
        mask: clips (B, C, T, V, M), draws, samples (B) and skeleton -> clips, and which of their points are left
            (B, T', V, M); None where nothing is taken away from clips.
    """

    words: dict[str, int] = field(default_factory=dict)
    start: Callable[[Tensor, Words, int], ViewPlan] = lambda lengths, words, frames: whole_sequence(lengths, frames)
    change: Callable[[ViewPlan, Words, Skeleton], ViewPlan] = lambda plan, words, skeleton: plan
    mask: Callable[[Tensor, Draws, Tensor, Skeleton], tuple[Tensor, Tensor]] | None = None


def augment(
    name: str, batch: SequenceBatch, draws: Draws, skeleton: Skeleton, frames: int, stream: str = "joint"
) -> tuple[Tensor, Tensor]:
    """One augmentation of AUGMENTATIONS, alone and as strong as in its paper.

    Args:
        name: of the augmentation.
        batch: sequences of B samples.
        draws: of this epoch.
        skeleton: of the sequences.
        frames: T, to which sequences are resized.
        stream: "joint", "motion" or "bone".

    Returns:
        Clips (B, C, T', V, M), and which of their points are left (B, T', V, M) bool; what is lost is still in the
        clips, so that it can be zeroed, dropped or shown. T' = T, less where frames are masked.

    Raises:
        ValueError: there is no such augmentation or stream.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"augment: expected one of {', '.join(AUGMENTATIONS)}, found {name!r}")
    chosen, joints = AUGMENTATIONS[name], skeleton.num_joints
    words = draws.words_of_steps(batch.samples, [name], words_for(chosen.words, joints)) if chosen.words else {}
    plan = chosen.change(chosen.start(batch.lengths, words, frames), words, skeleton)
    [clips] = sample_views(batch, [replace(plan, joint_keep=None)], stream, skeleton)
    if chosen.mask is not None:
        return chosen.mask(clips, draws, batch.samples, skeleton)
    left = _all_left(clips)
    return clips, left if plan.joint_keep is None else left & plan.joint_keep[:, None, :, None]


def _all_left(clips: Tensor) -> Tensor:
    """(B, T, V, M) true."""
    return torch.ones_like(clips[:, 0], dtype=torch.bool)


def _pstl(plan: ViewPlan, words: Words, skeleton: Skeleton) -> ViewPlan:
    return flip(rotation(shear(plan, words), words), words, skeleton.mirror_order)


def _matm(clips: Tensor, draws: Draws, samples: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """A fifth of the frames, as 10 of 50, twice."""
    still = motion_attention_masking(clips, draws, samples, clips.shape[2] // 5)
    return still, _all_left(still)


def _csm(clips: Tensor, draws: Draws, samples: Tensor, skeleton: Skeleton) -> tuple[Tensor, Tensor]:
    """8 joints, as of 25; half of them where there are no more."""
    joints = torch.arange(skeleton.num_joints, device=clips.device)
    masked = 8 if len(joints) > 8 else len(joints) // 2
    bones = torch.tensor(skeleton.degrees, device=clips.device)
    kept = central_spatial_masking(bones, draws, samples.new_zeros(1), masked)
    return clips, _all_left(clips) & torch.isin(joints, kept)[:, None]


def _scc_mask(
    clips: Tensor, draws: Draws, samples: Tensor, skeleton: Skeleton, masked: Masked
) -> tuple[Tensor, Tensor]:
    """0.4 of the points, frames or joints."""
    frames, joints, persons = sizes = (clips.shape[2], clips.shape[3], clips.shape[4])
    index = visible_points(draws, samples, sizes, 0.4, masked)
    left = torch.zeros(len(clips), frames * joints * persons, dtype=torch.bool, device=clips.device)
    return clips, left.scatter(1, index, True).unflatten(1, sizes)


def _fifteen(skeleton: Skeleton) -> tuple[int, int]:
    """15 of 25 joints, and as large a share of others."""
    count = round(0.6 * skeleton.num_joints)
    return count, count


_PSTL = {**CROP, **SHEAR, **ROTATION, **FLIP}
AUGMENTATIONS = {
    "crop": Augmentation(CROP, crop),
    "crop-resize": Augmentation(CROP_RESIZE, partial(crop_resize, at_least=1)),
    "shear": Augmentation(SHEAR, change=lambda plan, words, _: shear(plan, words)),
    "rotation": Augmentation(ROTATION, change=lambda plan, words, _: rotation(plan, words)),
    "vertical-rotation": Augmentation(VERTICAL_ROTATION, change=lambda plan, words, _: vertical_rotation(plan, words)),
    "flip": Augmentation(FLIP, change=lambda plan, words, body: flip(plan, words, body.mirror_order, probability=1.0)),
    "lost-joints": Augmentation(CORRUPTION, change=lambda plan, words, body: lost_joints(plan, words, _fifteen(body))),
    "jitter": Augmentation(CORRUPTION, change=lambda plan, words, body: jitter(plan, words, _fifteen(body))),
    "isc": Augmentation(
        {**CROP_RESIZE, **POSE_OR_CORRUPTION},
        partial(crop_resize, at_least=1),
        lambda plan, words, body: pose_or_corruption(plan, words, count=_fifteen(body)),
    ),
    "pstl": Augmentation(_PSTL, crop, _pstl),
    "pstl-matm": Augmentation(_PSTL, crop, _pstl, _matm),
    "pstl-csm": Augmentation(_PSTL, crop, _pstl, _csm),
    "masked-points": Augmentation(mask=partial(_scc_mask, masked="points")),
    "masked-frames": Augmentation(mask=partial(_scc_mask, masked="frames")),
    "masked-joints": Augmentation(mask=partial(_scc_mask, masked="joints")),
}

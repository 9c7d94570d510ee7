"""A call as every compiled kernel takes it, the memory of its result, and the values it must have."""

import torch
from torch import Tensor

from skelkern.registration import float32

SIGNATURE = (
    "(Tensor frames, Tensor offsets, Tensor index, Tensor times, Tensor? linear, Tensor? linear_joints,"
    " Tensor? translation, Tensor? joint_order, Tensor? joint_keep) -> Tensor"
)


def sample_clips_problem(
    frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *options: Tensor | None
) -> tuple[tuple[Tensor | None, ...], bool, tuple[int, ...]]:
    """(arrays, whether frames are bfloat16, sizes)."""
    linear, *others = options
    arrays = (frames.contiguous(), offsets.contiguous(), index.contiguous(), float32(times), float32(linear))
    rest = (None if option is None else option.contiguous() for option in others)
    return (*arrays, *rest), frames.dtype == torch.bfloat16, (*frames.shape, offsets.shape[0] - 1, *times.shape)


def clips_shape(frames: Tensor, times: Tensor) -> tuple[int, int, int, int, int]:
    (_, persons, joints, channels), (views, length) = frames.shape, times.shape
    return views, channels, length, joints, persons


def empty_clips(frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *_: Tensor | None) -> Tensor:
    return frames.new_empty(clips_shape(frames, times), dtype=torch.float32)


def check_values(frames: Tensor, offsets: Tensor, index: Tensor, joint_order: Tensor | None) -> None:
    """Raises where an index would leave its array."""
    samples = offsets.shape[0] - 1
    _check_range("index", index, samples, "samples")
    first, end = offsets[index], offsets[index + 1]
    for view in ((first < 0) | (first >= end) | (end > frames.shape[0])).nonzero()[:1].flatten().tolist():
        raise ValueError(
            f"offsets: expected at least one frame inside [0, {frames.shape[0]}) for sample {index[view].item()}, "
            f"found [{first[view].item()}, {end[view].item()})"
        )
    if joint_order is not None:
        _check_range("joint_order", joint_order, frames.shape[2], "joints")


def _check_range(name: str, values: Tensor, count: int, what: str) -> None:
    wrong = values[(values < 0) | (values >= count)]
    if wrong.numel() > 0:
        raise ValueError(
            f"{name}: expected values in [0, {count}), as there are {count} {what}, found {wrong[0].item()}"
        )

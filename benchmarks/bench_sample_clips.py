"""A batch of augmented clips against per-sample NumPy, as loaders of the field do it, and against batched PyTorch."""

from functools import partial

import numpy as np
import torch
from race import OURS, Case
from torch import Tensor

import skelkern

JOINTS, PERSONS = 25, 2


def per_sample_numpy(
    frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, linear: Tensor, linear_joints: Tensor, order: Tensor
) -> Tensor:
    """One view after the other: resize the crop, reorder joints, map some of them, stack."""
    data, starts = frames.numpy(), offsets.numpy()
    clips = []
    for view, sample in enumerate(index.tolist()):
        sequence = data[starts[sample] : starts[sample + 1]]
        place = np.clip(times[view].numpy(), 0, len(sequence) - 1)
        before = np.floor(place).astype(np.int64)
        after = np.minimum(before + 1, len(sequence) - 1)
        weight = (place - before)[:, None, None, None]
        clip = sequence[before] * (1 - weight) + sequence[after] * weight
        clip = clip[:, :, order[view].numpy()]
        mapped = np.dot(clip, linear[view].numpy())
        clip = np.where(linear_joints[view].numpy()[None, None, :, None], mapped, clip)
        clips.append(clip.transpose(3, 0, 2, 1))
    return torch.from_numpy(np.ascontiguousarray(np.stack(clips), dtype=np.float32))


def batched(
    frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, linear: Tensor, linear_joints: Tensor, order: Tensor
) -> Tensor:
    """Gathers and products over the whole batch."""
    last = (offsets[index + 1] - offsets[index] - 1)[:, None]
    place = times.clamp(min=0).minimum(last)
    before = place.long()
    weight = (place - before)[..., None, None, None]
    start = offsets[index][:, None]
    clips = torch.lerp(frames[start + before], frames[start + (before + 1).minimum(last)], weight)
    clips = clips.gather(3, order[:, None, None, :, None].expand_as(clips))
    mapped = torch.einsum("btmvc,bcd->btmvd", clips, linear)
    clips = torch.where(linear_joints[:, None, None, :, None], mapped, clips)
    return clips.permute(0, 4, 1, 3, 2).contiguous()


def ours(
    frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, linear: Tensor, linear_joints: Tensor, order: Tensor
) -> Tensor:
    return skelkern.sample_clips(
        frames, offsets, index, times, linear=linear, linear_joints=linear_joints, joint_order=order
    )


def make_inputs(views: int, length: int, clip: int) -> tuple[Tensor, ...]:
    """Sequences of `length` frames; each view a random crop of at least half of one, sheared, half of them flipped."""
    frames = torch.randn(views * length, PERSONS, JOINTS, 3)
    crop = (length * (0.5 + 0.5 * torch.rand(views))).floor()
    times = skelkern.resize_times((torch.rand(views) * (length - crop)).floor(), crop, clip)
    flipped = torch.arange(JOINTS).flip(0)
    order = torch.where(torch.rand(views, 1) < 0.5, flipped, torch.arange(JOINTS))
    shear = torch.eye(3) + 0.5 * torch.randn(views, 3, 3)
    offsets = torch.arange(views + 1) * length
    return frames, offsets, torch.randperm(views), times, shear, torch.rand(views, JOINTS) < 0.8, order


def case(views: int, length: int, clip: int, sizes: str = "standard") -> Case:
    floats = views * clip * PERSONS * JOINTS * 3
    functions = {"official": per_sample_numpy, "plain, batched": batched, OURS: ours}
    inputs = partial(make_inputs, views, length, clip)
    # every clip frame reads two frames unless neighbours share them, and is written once; 3 multiply-adds a coordinate
    read = min(2 * clip, length)
    moved = 4 * (floats + views * read * PERSONS * JOINTS * 3)
    return Case(
        f"{views} clips, {length} to {clip} frames", functions, inputs, 9 * floats, moved, ("plain, batched",), sizes
    )


CASES = [
    case(4, 20, 16, sizes="smoke"),
    case(128, 64, 64),
    case(128, 300, 64),
    case(128, 300, 64, sizes="gpu"),
]


def test_sample_clips(compare, case):
    compare(case)

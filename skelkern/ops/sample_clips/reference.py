"""Textbook clip sampling: any dtype, any device."""

import torch
from torch import Tensor


def sample_clips(
    frames: Tensor,
    offsets: Tensor,
    index: Tensor,
    times: Tensor,
    linear: Tensor | None = None,
    linear_joints: Tensor | None = None,
    translation: Tensor | None = None,
    joint_order: Tensor | None = None,
    joint_keep: Tensor | None = None,
) -> Tensor:
    """See `skelkern.sample_clips`."""
    clips = interpolate(frames, offsets[index], offsets[index + 1], times)  # (B, T, M, V, C)
    if joint_order is not None:
        clips = clips.gather(3, joint_order[:, None, None, :, None].expand_as(clips))
    points, others = clips[..., :3], clips[..., 3:]
    if linear is not None:
        mapped = torch.einsum("btmvc,bcd->btmvd", points, linear.to(points.dtype))
        if linear_joints is not None:
            mapped = torch.where(linear_joints[:, None, None, :, None], mapped, points)
        points = mapped
    if translation is not None:
        points = points + translation[:, None, None, None].to(points.dtype)
    clips = torch.cat((points, others), dim=-1)
    if joint_keep is not None:
        clips = torch.where(joint_keep[:, None, None, :, None], clips, torch.zeros_like(clips))
    return clips.permute(0, 4, 1, 3, 2).contiguous()


def interpolate(frames: Tensor, first: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """Linear interpolation between the frames of each view's sample at times (B, T); a NaN time gives NaN."""
    last = (end - first - 1)[:, None]
    clamped = times.clamp(min=0).minimum(last.to(times.dtype))
    before = clamped.nan_to_num(0).floor().long()
    weight = (clamped - before)[..., None, None, None].to(torch.promote_types(frames.dtype, torch.float32))
    earlier = frames[first[:, None] + before].to(weight.dtype)
    later = frames[first[:, None] + (before + 1).minimum(last)].to(weight.dtype)
    return torch.where(weight == 0, earlier, earlier + weight * (later - earlier))

"""Batch normalisation over the batch of several processes, by the ops that normalise with given statistics."""

from typing import Any

import torch
from torch import Tensor

from skelkern.ops.block_tail import block_tail, channel_statistics
from skelkern.processes import JointBatch, group_name, of_each
from skelkern.statistics import merged, update_running

Statistics = tuple[Tensor, Tensor]  # mean and biased variance of every channel


def joint_arguments(x: Tensor, named: dict[str, Any], batch: JointBatch, known: Statistics | None) -> dict[str, Any]:
    """Arguments of `torch.nn.functional.batch_norm` that normalise by the statistics of a joint batch.

    No gradient reaches given statistics. It reaches them through weight and bias, as
    (x − m) r w + b = (x − m₀) r₀ (w r / r₀) + (b + (m₀ − m) r w), where m₀ and r₀ are the values of the mean m and of
    r = 1 / √(variance + eps): the factor is 1 and the difference 0, their gradients are not.

    Args:
        x: (N, C, *) of this process.
        named: arguments for x alone; the running statistics are moved towards those of the joint batch.
        batch: the joint batch.
        known: statistics of this process's x, where there are.
    """
    local = channel_statistics(x) if known is None else known
    mean, variance, count = _JointStatistics.apply(x, *local, batch)  # type: ignore[no-untyped-call]
    statistics = mean.detach(), variance.detach()
    update_running(named["running_mean"], named["running_var"], *statistics, count, named["momentum"])
    inverse_std = (variance + named["eps"]).rsqrt()
    weight, bias = inverse_std / inverse_std.detach(), (statistics[0] - mean) * inverse_std
    if named["weight"] is not None:
        weight, bias = weight * named["weight"], bias * named["weight"] + named["bias"]
    given = {"running_mean": statistics[0], "running_var": statistics[1], "weight": weight, "bias": bias}
    return {**named, **given, "training": False}


class _JointStatistics(torch.autograd.Function):
    """Mean and biased variance (C) of a joint batch and its number of values; of x (N, C, *) and its own statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, batch: JointBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        values = x.numel() // x.shape[1]
        own = torch.cat([mean.new_full((1,), values), mean, variance * values]).double()
        count, means, squares = merged(of_each(own, group_name(batch.group))).split([1, *[x.shape[1]] * 2])
        joint = means.to(mean.dtype), (squares / count).to(mean.dtype), count.squeeze()
        ctx.batch = batch
        ctx.save_for_backward(x, joint[0], count)
        ctx.mark_non_differentiable(joint[2])
        return joint

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_variance: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        x, mean, count = ctx.saved_tensors
        gradients = torch.stack([of_mean, of_variance]).double()
        torch.distributed.all_reduce(gradients, group=ctx.batch.group)
        shift, scale = (gradients / count).to(mean.dtype)
        of_x = block_tail(x, mean, torch.ones_like(mean), 2 * scale, shift, eps=0.0, relu=False)
        return of_x, None, None, None

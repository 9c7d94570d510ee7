"""Optimizers and how their rate goes over the epochs."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skelssl.engine.recipe import SolverOptions, TrainingOptions


def make_optimizer(
    options: TrainingOptions | SolverOptions, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """The recipe's optimizer of those parameters that learn."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if options.optimizer == "sgd":
        nesterov = isinstance(options, SolverOptions) and options.nesterov
        return torch.optim.SGD(
            learning, momentum=options.momentum, weight_decay=options.weight_decay, nesterov=nesterov, fused=True
        )
    return torch.optim.Adam(learning, weight_decay=options.weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next steps; where it is a tensor, in its place, from which a CUDA graph reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(options: TrainingOptions | SolverOptions, epoch: int) -> float:
    """Warm-up by equal steps, then a half cosine (PSTL, SCC) or tenfold drops at milestones (HiCo, ISC)."""
    rate = options.learning_rate
    if epoch < options.warmup_epochs:
        return rate * (epoch + (not options.warmup_from_zero)) / options.warmup_epochs
    if options.milestones:
        return rate * 0.1 ** sum(epoch >= milestone for milestone in options.milestones)
    progress = (epoch - options.warmup_epochs) / (options.epochs - options.warmup_epochs)
    final = options.final_learning_rate
    return final + (rate - final) * (1 + math.cos(math.pi * progress)) / 2

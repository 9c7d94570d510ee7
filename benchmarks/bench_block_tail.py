"""Batch normalisation, dropout, residual and ReLU, forward and backward, against the modules they replace."""

from functools import partial

import torch
from race import OURS, Case, clear_of_gates
from torch import Tensor

import skelkern

FRAMES, JOINTS = 50, 25


def before_relu(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, dropout: float) -> Tensor:
    y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)
    return torch.nn.functional.dropout(y, dropout) + residual


def official(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, dropout: float) -> Tensor:
    """One operation after the other, as in ST-GCN's unit."""
    return torch.relu(before_relu(x, weight, bias, residual, dropout))


def in_place(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, dropout: float) -> Tensor:
    """Uniform numbers instead of Bernoulli ones, which torch draws serially; no temporary that can be saved."""
    y = torch.nn.functional.batch_norm(x, None, None, weight, bias, training=True)
    if dropout > 0:
        y = y * (torch.rand_like(y) >= dropout).to(y.dtype).mul_(1 / (1 - dropout))
    return y.add_(residual).relu_()


def ours(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, dropout: float) -> Tensor:
    seed = torch.randint(2**63 - 1, (), device=x.device) if dropout > 0 else None
    return skelkern.block_tail(x, None, None, weight, bias, residual, training=True, dropout=dropout, seed=seed)


def case(channels: int, dropout: float, n: int = 64, sizes: str = "standard") -> Case:
    def draw() -> tuple[Tensor, ...]:
        shape = (n, channels, FRAMES, JOINTS)
        tensors = (torch.randn(shape), torch.rand(channels), torch.randn(channels), torch.randn(shape))
        return tuple(tensor.requires_grad_() for tensor in tensors)

    def inputs() -> tuple[Tensor, ...]:
        """Sizes of gradients, which are all that is compared under dropout, hold whatever side a gate takes."""
        return draw() if dropout > 0 else clear_of_gates(draw, lambda *tensors: [before_relu(*tensors, dropout)])

    elements = n * channels * FRAMES * JOINTS
    # forward reads x twice and the residual, writes y; backward reads x, y and y's gradient twice, writes two gradients
    moved = 4 * elements * (4 + 8)
    peers = {"official": official, "plain, in place": in_place, OURS: ours}
    functions = {name: partial(function, dropout=dropout) for name, function in peers.items()}
    name = f"{channels} channels, dropout {dropout}"
    return Case(name, functions, inputs, 20 * elements, moved, ("official", "plain, in place"), sizes, dropout > 0)


CASES = [
    case(8, 0.0, n=2, sizes="smoke"),
    case(8, 0.5, n=128, sizes="smoke"),
    case(16, 0.0),
    case(16, 0.5),
    case(64, 0.0),
    case(64, 0.5),
    case(64, 0.5, n=256, sizes="gpu"),
]


def test_block_tail(compare, case):
    compare(case)

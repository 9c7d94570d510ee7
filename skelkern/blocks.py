"""Torch's modules of a convolution block, run as fused ops: what `skelkern.nn` and `skelkern.dropin` have in common."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence

from skelkern.dispatch import cpu_kernel_why_not
from skelkern.joint_norm import Statistics, joint_arguments
from skelkern.ops.block_tail import BLOCK_TAIL, block_tail
from skelkern.ops.edge_conv import edge_conv
from skelkern.ops.graph_conv import graph_conv
from skelkern.ops.gru import gru, lstm, runs_kernel
from skelkern.ops.gru.packing import Sequences
from skelkern.ops.linear import linear
from skelkern.ops.temporal_conv import TEMPORAL_CONV, NormRelu, temporal_conv
from skelkern.ops.unified_downsampling import unified_downsampling
from skelkern.processes import current_batch


def norm_arguments(norm: _BatchNorm) -> dict[str, Any]:
    """The arguments of `torch.nn.functional.batch_norm` for one call of the module; counts the batch."""
    momentum = norm.momentum or 0.0
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    untracked = norm.running_mean is None or (norm.training and not norm.track_running_stats)
    return {
        "running_mean": None if untracked else norm.running_mean,
        "running_var": None if untracked else norm.running_var,
        "weight": norm.weight,
        "bias": norm.bias,
        "training": norm.training or untracked,
        "momentum": momentum,
        "eps": norm.eps,
    }


def norm_of(x: Tensor, norm: _BatchNorm, statistics: Statistics | None = None) -> dict[str, Any]:
    """`norm_arguments` for x (N, C, *), over the batch of all processes within `skelkern.joint_batch`.

    Args:
        x: what is normalised.
        norm: the module.
        statistics: of x, where they are known.
    """
    named, batch = norm_arguments(norm), current_batch()
    return joint_arguments(x, named, batch, statistics) if batch is not None and named["training"] else named


def new_seed(x: Tensor) -> Tensor:
    """Seed of a call's dropout, from torch's generator."""
    return torch.randint(2**63 - 1, (), device=x.device)


def tail(
    x: Tensor,
    norm: _BatchNorm,
    dropout: nn.Dropout | None = None,
    residual: Tensor | None = None,
    relu: bool = True,
    statistics: Statistics | None = None,
) -> Tensor:
    """relu(dropout(norm(x)) + residual); statistics: of x, where they are known."""
    share = dropout.p if dropout is not None and dropout.training else 0.0
    seed = new_seed(x) if share > 0 else None
    given = statistics if norm.training else None
    options: dict[str, Any] = {"dropout": share, "seed": seed, "relu": relu, "statistics": given}
    return block_tail(x, residual=residual, **norm_of(x, norm, given), **options)


def convolve(
    x: Tensor, convolution: nn.Conv2d, norm: _BatchNorm | None = None, with_statistics: bool = False
) -> tuple[Tensor, Statistics | None]:
    """convolution(x), or convolution(relu(norm(x))), of a (kernel, 1) convolution; with statistics of the result where
    the convolution takes them."""
    parameters = (convolution.weight, convolution.bias, *(() if norm is None else (norm.weight, norm.bias)))
    if not TEMPORAL_CONV.runs_kernel(x, *parameters) and BLOCK_TAIL.runs_kernel(x):
        # torch's convolution folds nothing in: the kernels of `block_tail` do what surrounds it
        x, norm, with_statistics = x if norm is None else tail(x, norm), None, False
    steps = (int(value[0]) for value in (convolution.stride, convolution.padding, convolution.dilation))
    before = None if norm is None else NormRelu(**norm_of(x, norm))
    found = temporal_conv(
        x,
        convolution.weight,
        convolution.bias,
        *steps,
        norm=before,
        with_statistics=with_statistics,
    )
    return (found[0], (found[1], found[2])) if with_statistics else (found, None)


def merged(convolutions: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """Weight (K·C', C, 1, 1) and bias (K·C') of the 1 x 1 convolutions of all subsets."""
    layers: Any = convolutions
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def similarities(x: Tensor, first: nn.ModuleList, second: nn.ModuleList) -> Tensor:
    """Mean products of two embeddings of every pair of joints: x (N, C, T, V) -> (N, K, V, V)."""
    subsets, n, v = len(first), x.shape[0], x.shape[3]
    pairs = nn.ModuleList(layer for pair in zip(first, second, strict=True) for layer in pair)
    mapped = temporal_conv(x, *merged(pairs))
    size = mapped.shape[1] // (2 * subsets) * mapped.shape[2]
    one, other = mapped.view(n * subsets, 2, size, v).unbind(1)
    return (torch.bmm(one.transpose(1, 2), other) / size).view(n, subsets, v, v)


def sum_over_subsets(x: Tensor, convolutions: nn.ModuleList, adjacency: Tensor) -> Tensor:
    """The sum of each subset's convolution behind its product with the graph."""
    weight, bias = merged(convolutions)
    return sum_behind_graph(x, weight, bias.view(len(convolutions), -1).sum(dim=0), adjacency)


def sum_behind_graph(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor) -> Tensor:
    """Each subset's weight (K·C', C) behind its product with the graph, and one bias (C') of the sum."""
    return graph_conv(x, weight, None, adjacency).add_(bias.view(1, -1, 1, 1))  # in place: it is kept by nobody


def edge_layer(layers: Any, x: Tensor, neighbors: Tensor, mask: Tensor | None = None) -> Tensor:
    """An edge convolution of (1 x 1 convolution, normalisation, LeakyReLU): x (B, N, C), neighbors (B, N, k)."""
    convolution, norm, activation = layers
    named, batch = norm_arguments(norm), current_batch()
    affine = named.pop("weight"), named.pop("bias")
    return edge_conv(
        *(x, neighbors, convolution.weight.flatten(1), *affine),
        **named,
        negative_slope=activation.negative_slope,
        mask=mask,
        group=None if batch is None else batch.group,
    )


def fold(layers: Any, code: Tensor, points: Tensor) -> Tensor:
    """FoldingNet's fold, point-wise convolutions with ReLUs between them, of the code word and every point.

    The first layer is linear in the code word and the point, so that the code word's part, all but D of its columns, is
    multiplied once per cloud and not once per point.

    Args:
        layers: convolution, ReLU, convolution, ReLU, convolution of kernel 1.
        code: (B, F).
        points: (B or 1, M, D).

    Returns:
        (B, M, D').
    """
    first, _, second, _, last = layers
    of_code, of_point = first.weight[:, :, 0].split([code.shape[1], points.shape[2]], dim=1)
    x = (linear(code, of_code, first.bias)[:, None] + linear(points, of_point)).relu_()
    hidden = linear(x.flatten(0, 1), second.weight[:, :, 0], second.bias, "relu")
    return linear(hidden, last.weight[:, :, 0], last.bias).unflatten(0, x.shape[:2])


def run_layers(module: nn.RNNBase, input: Sequences, state: Any) -> tuple[Any, Any] | None:
    """A call of a `torch.nn.GRU` or `torch.nn.LSTM`; None where torch shall do it."""
    data, sizes = (input.data, input.batch_sizes) if isinstance(input, PackedSequence) else (input, None)
    if module.proj_size > 0 or (sizes is None and data.dim() != 3):
        return None
    weights = cast(list[Tensor], module._flat_weights)
    states = state if isinstance(state, tuple) else (state,)
    name, function = ("lstm", lstm) if isinstance(module, nn.LSTM) else ("gru", gru)
    if not runs_kernel(name, data, *states, *weights, sizes):
        return None
    options: dict[str, Any] = {"bidirectional": module.bidirectional, "batch_first": module.batch_first}
    return function(input, state, weights, dropout=module.dropout if module.training else 0.0, **options)


def downsample(x: Tensor, convolution: nn.Conv1d, norm: nn.LayerNorm, pool: int) -> Tensor:
    """HiCo's unified down-sampling of x (N, T, C) by the parameters of its layers."""
    stride, padding = convolution.stride[0], cast(int, convolution.padding[0])
    parameters = (convolution.weight, convolution.bias, norm.weight, norm.bias)
    return unified_downsampling(x, *parameters, stride, padding, pool, norm.eps)


SMALL = 2**15  # elements below which torch's dropout is as fast


def drop(x: Tensor, share: float) -> Tensor | None:
    """x with a share of its elements 0 and the others scaled; None where torch's dropout shall do it."""
    if x.numel() < SMALL or not 0 < share < 1 or cpu_kernel_why_not(x):
        return None
    # rows of whole blocks of draws, where the number of elements allows
    length = next((size for size in (4096, 1024, 256, 64) if x.numel() % size == 0), x.numel() // x.shape[0])
    one = torch.ones(1, device=x.device)
    options: dict[str, Any] = {"eps": 0.0, "dropout": share, "seed": new_seed(x), "relu": False}
    return block_tail(x.reshape(-1, 1, length), one - 1, one, **options).view(x.shape)


def is_temporal(convolution: nn.Conv2d) -> bool:
    """Whether it is a convolution along the first of both dimensions alone, with zeros as padding."""
    return (
        convolution.kernel_size[1] == convolution.stride[1] == convolution.dilation[1] == 1
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
        and convolution.padding[1] == 0
    )

"""The ops as modules, with the field's usual names of parameters."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, downsample, drop, edge_layer, run_layers, tail
from skelkern.checks import check_choice
from skelkern.momentum import MemoryQueue, momentum_update
from skelkern.ops.chamfer import chamfer_distance
from skelkern.ops.cross_correlation import cross_correlation_loss
from skelkern.ops.graph_conv import graph_conv
from skelkern.ops.gru.packing import Sequences
from skelkern.ops.info_nce import info_nce
from skelkern.ops.knn import knn
from skelkern.ops.linear import linear
from skelkern.processes import current_batch

__all__ = [
    "GRU",
    "LSTM",
    "BatchNorm1d",
    "BlockTail",
    "Chamfer",
    "CrossCorrelationLoss",
    "Dropout",
    "EdgeConv",
    "GraphConv",
    "InfoNCE",
    "Linear",
    "MemoryQueue",
    "STGCNBlock",
    "UnifiedDownsampling",
    "momentum_update",
]


class GraphConv(nn.Module):
    """Spatial graph convolution with one linear map per adjacency subset.

    `conv.weight` (K·C', C, 1, 1) and `conv.bias` (K·C') are named, shaped and initialised as in ST-GCN's unit, whose
    state_dict loads.

    Args:
        in_channels: C.
        out_channels: C'.
        subsets: K.
        bias: whether the linear maps have one.
    """

    def __init__(self, in_channels: int, out_channels: int, subsets: int, bias: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, subsets * out_channels, kernel_size=1, bias=bias)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """x (N, C, T, V), adjacency (K, V, V) or (N, K, V, V) -> (N, C', T, V); see `skelkern.graph_conv`."""
        return graph_conv(x, self.conv.weight, self.conv.bias, adjacency)


class BatchNorm1d(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that takes the statistics of all processes within `skelkern.joint_batch`, on any device.

    Elsewhere, and in evaluation mode, torch's own forward. For two dimensions there is `BlockTail(C, relu=False)`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) or (N, C, L) -> the same shape."""
        if current_batch() is None or not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        return tail(input, self, relu=False)


class BlockTail(nn.BatchNorm2d):
    """Batch normalisation, then dropout, a residual and ReLU, in one pass; see `skelkern.block_tail`.

    A batch normalisation in every other respect: its state_dict, its statistics, its initialisation. Every call draws
    the seed of its dropout from torch's generator.

    Args:
        channels: C.
        dropout: probability of an element to become 0; active while `self.dropout` is in training mode.
        relu: whether the ReLU is applied.
        options: of `torch.nn.BatchNorm2d`.
    """

    def __init__(self, channels: int, dropout: float = 0.0, relu: bool = True, **options: Any):
        super().__init__(channels, **options)
        self.dropout = nn.Dropout(dropout)
        self.relu = relu

    def forward(
        self, input: Tensor, residual: Tensor | None = None, statistics: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """input, residual (N, C, T, V) -> the same shape; statistics: see `skelkern.block_tail`."""
        self._check_input_dim(input)
        return tail(input, self, self.dropout, residual, self.relu, statistics)


class STGCNBlock(nn.Module):
    """A block of ST-GCN: graph convolution, temporal convolution, residual, with fused kernels.

    Modules are named and initialised as in the block of ST-GCN and of the methods built on it, whose state_dict loads:
    `gcn.conv`, `tcn.0` (BatchNorm2d), `tcn.2` (Conv2d), `tcn.3` (BatchNorm2d), `residual.0` and `residual.1`.

    For backward it keeps its input, the results of both convolutions and its output: neither the activations between
    normalisation and temporal convolution nor a dropout mask.

    Source: Yan et al., "Spatial Temporal Graph Convolutional Networks", AAAI 2018, section 3.

    Args:
        in_channels: C.
        out_channels: C'.
        subsets: K, of the adjacency.
        stride: of the temporal convolution.
        dropout: probability, before the residual is added.
        residual: whether there is one; a 1 x 1 convolution with normalisation where the shape changes.
        kernel: frames of the temporal convolution, odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        subsets: int,
        stride: int = 1,
        dropout: float = 0.0,
        residual: bool = True,
        kernel: int = 9,
    ):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number of frames, found {kernel}")
        self.gcn = GraphConv(in_channels, out_channels, subsets)
        # numbered as the layers of the plain form: normalisation, ReLU, convolution, normalisation, dropout
        self.tcn = nn.ModuleDict(
            {
                "0": nn.BatchNorm2d(out_channels),
                "2": nn.Conv2d(out_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0)),
                "3": BlockTail(out_channels, dropout),
            }
        )
        self.has_residual = residual
        self.residual: nn.Module = nn.Identity()
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=(stride, 1)),
                BlockTail(out_channels, relu=False),
            )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """x (N, C, T, V), adjacency (K, V, V) or (N, K, V, V) -> (N, C', ⌈T / stride⌉, V)."""
        norm, convolution, end = cast(Any, (self.tcn["0"], self.tcn["2"], self.tcn["3"]))
        y, statistics = convolve(self.gcn(x, adjacency), convolution, norm, end.training)
        return cast(Tensor, end(y, self._shortcut(x), statistics))

    def _shortcut(self, x: Tensor) -> Tensor | None:
        if not self.has_residual:
            return None
        if isinstance(self.residual, nn.Identity):
            return x
        convolution, norm = cast(Any, self.residual)
        y, statistics = convolve(x, convolution, with_statistics=norm.training)
        return cast(Tensor, norm(y, statistics=statistics))


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` whose draws are made in parallel and made again in backward: no mask is kept.

    Small tensors, tensors of other types than the kernels' and `inplace` go to torch. Every call draws one seed from
    torch's generator.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        found = drop(input, self.p) if self.training and not self.inplace else None
        return super().forward(input) if found is None else found


class Linear(nn.Linear):
    """`torch.nn.Linear` on `skelkern.linear`, with an activation that costs no pass of its own.

    Args:
        in_features: C.
        out_features: C'.
        bias: whether there is one.
        activation: "relu" or None.
        options: of `torch.nn.Linear`.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, activation: str | None = None, **options: Any
    ):
        super().__init__(in_features, out_features, bias, **options)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """(*, C) -> (*, C')."""
        return linear(input, self.weight, self.bias, self.activation)


class GRU(nn.GRU):
    """`torch.nn.GRU` on `skelkern.gru`, where that is faster; torch's own forward elsewhere.

    A `torch.nn.GRU` in every other respect: its state_dict, its initialisation, its arguments and results.
    """

    def forward(self, input: Sequences, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """As `torch.nn.GRU`."""
        found = run_layers(self, input, hx)
        return cast(tuple[Any, Tensor], super().forward(input, hx) if found is None else found)


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` on `skelkern.lstm`, where that is faster; torch's own forward elsewhere.

    A `torch.nn.LSTM` in every other respect: its state_dict, its initialisation, its arguments and results.
    """

    def forward(self, input: Sequences, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """As `torch.nn.LSTM`."""
        found = run_layers(self, input, hx)
        return cast(tuple[Any, tuple[Tensor, Tensor]], super().forward(input, hx) if found is None else found)


class UnifiedDownsampling(nn.Module):
    """HiCo's module between two levels of its hierarchy; see `skelkern.unified_downsampling`.

    `conv.dw_conv.weight` (C, 1, K), `conv.dw_conv.bias`, `norm.weight` and `norm.bias` (C) are named as in HiCo's code.

    Args:
        channels: C.
        kernel_size: K, frames of the convolution.
        stride, padding: of the convolution, in frames.
        factor: frames of one maximum.
    """

    def __init__(self, channels: int, kernel_size: int = 5, stride: int = 1, padding: int = 2, factor: int = 2):
        super().__init__()
        self.conv = nn.Sequential()
        self.conv.dw_conv = nn.Conv1d(channels, channels, kernel_size, stride, padding, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, C) -> (N, T', C)."""
        return downsample(x, cast(nn.Conv1d, self.conv.dw_conv), self.norm, self.factor)


class CrossCorrelationLoss(nn.Module):
    """Redundancy-reduction loss of two batches of embeddings; see `skelkern.cross_correlation_loss`.

    Args:
        off_diagonal_weight: λ.
        eps: added to the variance.
    """

    def __init__(self, off_diagonal_weight: float, eps: float = 1e-5):
        super().__init__()
        self.off_diagonal_weight = off_diagonal_weight
        self.eps = eps

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        """z1, z2 (N, D) -> scalar."""
        return cross_correlation_loss(z1, z2, self.off_diagonal_weight, self.eps)

    def extra_repr(self) -> str:
        return f"off_diagonal_weight={self.off_diagonal_weight}, eps={self.eps}"


class InfoNCE(nn.Module):
    """Contrastive loss against a queue of negatives; see `skelkern.info_nce`.

    Args:
        temperature: τ.
        multi_positive: "log_sum" or "mean_log".
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, temperature: float = 0.07, multi_positive: str = "log_sum", reduction: str = "mean"):
        super().__init__()
        self.temperature = temperature
        self.multi_positive = multi_positive
        self.reduction = reduction

    def forward(self, query: Tensor, positives: Tensor, queue: Tensor) -> Tensor:
        """query (N, D), positives (N, D) or (N, P, D), queue (K, D) -> scalar, or (N) without reduction."""
        return info_nce(query, positives, queue, self.temperature, self.multi_positive, reduction=self.reduction)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, multi_positive={self.multi_positive!r}, reduction={self.reduction!r}"


class EdgeConv(nn.Sequential):
    """A layer of DGCNN: nearest neighbours in its own input, edge convolution, maximum; see `skelkern.edge_conv`.

    A Sequential of the 1 x 1 convolution `0` (C', 2C, 1, 1), the BatchNorm2d `1` and the LeakyReLU `2`, named, shaped
    and initialised as in the public DGCNN codes, whose state_dict loads.

    Args:
        in_channels: C.
        out_channels: C'.
        k: number of neighbours.
        negative_slope: of LeakyReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, k: int = 20, negative_slope: float = 0.2):
        super().__init__(
            nn.Conv2d(2 * in_channels, out_channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(negative_slope),
        )
        self.k = k

    def forward(self, x: Tensor, neighbors: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, N, C) -> (B, N, C'); neighbors (B, N, k), by default the nearest; mask (B, N) of points that count."""
        if neighbors is None:
            neighbors = knn(x, self.k, mask)
        return edge_layer(self, x, neighbors, mask)


class Chamfer(nn.Module):
    """Distance between clouds; see `skelkern.chamfer_distance`.

    Args:
        reduction: "sum_of_means", "max_of_means" or "sum".
        squared: squared distances instead of Euclidean ones.
        weights: of the coordinates, or None.
    """

    weights: Tensor | None

    def __init__(self, reduction: str = "sum_of_means", squared: bool = True, weights: Sequence[float] | None = None):
        super().__init__()
        check_choice("reduction", reduction, ("sum_of_means", "max_of_means", "sum"))
        self.reduction = reduction
        self.squared = squared
        self.register_buffer(
            "weights", None if weights is None else torch.tensor(weights, dtype=torch.float32), persistent=False
        )

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None) -> Tensor:
        """x (B, N, D), y (B, M, D), masks of points that count -> scalar."""
        distance = chamfer_distance(
            *(x, y, x_mask, y_mask), reduction=self.reduction, squared=self.squared, weights=self.weights
        )
        return cast(Tensor, distance)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, squared={self.squared}"

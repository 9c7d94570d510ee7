"""The adaptive graph convolution and the block of 2s-AGCN (Shi et al., CVPR 2019), which ISC uses too."""

from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, is_temporal, similarities, sum_over_subsets, tail
from skelkern.dropin.replacement import RefusedError, Replacement
from skelkern.dropin.stgcn import FRAMES, is_chain, is_shortcut, shortcut


def are_pointwise(convolutions: Any) -> bool:
    """Whether it is a list of 1 x 1 convolutions with bias."""
    return isinstance(convolutions, nn.ModuleList) and all(
        type(layer) is nn.Conv2d and layer.kernel_size == layer.stride == (1, 1) and layer.bias is not None
        for layer in convolutions
    )


class AdaptiveGraphConvolution(Replacement):
    """Similarities of all subsets from one product, then `skelkern.graph_conv` with a graph for each sample."""

    source = "2s-AGCN's adaptive graph convolution"
    fused = ("conv_a", "conv_b", "conv_d", "bn", "down", "soft", "relu")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Three lists of 1 x 1 convolutions, a graph `A` and a learned one `PA`."""
        lists = [getattr(module, name, None) for name in ("conv_a", "conv_b", "conv_d")]
        if not all(map(are_pointwise, lists)) or not isinstance(getattr(module, "PA", None), nn.Parameter):
            return False
        if (
            type(getattr(module, "bn", None)) is not nn.BatchNorm2d
            or type(getattr(module, "soft", None)) is not nn.Softmax
        ):
            return False
        if not is_shortcut(getattr(module, "down", None)):
            raise RefusedError("its residual is not of the usual form")
        return True

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(3, module.conv_d[0].in_channels, FRAMES, module.PA.shape[-1]),)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T, V)."""
        found = similarities(x, self.conv_a, self.conv_b).softmax(dim=-2)
        graph = found + (self.A.to(x.device) + self.PA)
        y = sum_over_subsets(x, self.conv_d, graph)
        return tail(y, self.bn, residual=shortcut(self.down, x))


class TemporalUnit(Replacement):
    """A temporal convolution that takes the statistics of the normalisation behind it."""

    source = "temporal convolution with batch normalisation"
    fused = ("conv", "bn", "drop")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """conv and bn, perhaps a dropout, of the usual classes."""
        names = {name for name, _ in module.named_children()}
        return names <= {"conv", "bn", "relu", "drop"} and is_temporal_unit(module)

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(3, module.conv.in_channels, FRAMES, 5),)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T', V)."""
        return end(self, x, None, relu=False)


def is_temporal_unit(module: Any) -> bool:
    """Whether it owns a temporal convolution `conv`, its normalisation `bn` and at most a dropout `drop`."""
    layers: list[Any] = [getattr(module, name, None) for name in ("conv", "bn", "drop")]
    if not is_chain(layers[:2], nn.Conv2d, nn.BatchNorm2d) or type(layers[2]) not in (nn.Dropout, type(None)):
        return False
    return is_temporal(layers[0])


def end(unit: Any, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """A temporal unit, with what follows it."""
    y, statistics = convolve(x, unit.conv, with_statistics=unit.bn.training)
    return tail(y, unit.bn, getattr(unit, "drop", None), residual, relu, statistics)


class Block(Replacement):
    """The temporal unit, the residual and the ReLU in two ops; the graph convolution is replaced on its own."""

    source = "2s-AGCN's block"
    fused = ("tcn1", "relu")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """gcn1, a temporal unit tcn1, relu and a residual."""
        names = {name for name, _ in module.named_children()}
        if not {"gcn1", "tcn1", "relu"} <= names <= {"gcn1", "tcn1", "relu", "residual"}:
            return False
        return is_temporal_unit(module.tcn1) and type(module.relu) is nn.ReLU

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return AdaptiveGraphConvolution.example(module.gcn1)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T', V)."""
        residual = self.residual(x)
        y = self.gcn1(x)
        return end(self.tcn1, y, residual if isinstance(residual, Tensor) else None, relu=True)


REPLACEMENTS: tuple[type[Replacement], ...] = (Block, AdaptiveGraphConvolution, TemporalUnit)

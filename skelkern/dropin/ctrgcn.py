"""The graph convolution of CTR-GCN (Chen et al., ICCV 2021), in its own code and in pyskl's."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, tail
from skelkern.dropin.replacement import Replacement
from skelkern.dropin.stgcn import FRAMES, is_shortcut, shortcut


class ChannelGraphConvolution(Replacement):
    """Both embeddings of the mean over frames instead of means of the embeddings; sum, residual and ReLU in one op.

    A mean over frames and a 1 x 1 convolution can change places: the embeddings cost one frame instead of all.
    """

    source = "CTR-GCN's graph convolution"
    fused = ("convs", "bn", "down", "soft", "relu", "tanh")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Units of four 1 x 1 convolutions each, and a share `alpha`."""
        units = getattr(module, "convs", None)
        if not isinstance(units, nn.ModuleList) or not isinstance(getattr(module, "alpha", None), nn.Parameter):
            return False
        names = ("conv1", "conv2", "conv3", "conv4")
        if not all(type(getattr(unit, name, None)) is nn.Conv2d for unit in units for name in names):
            return False
        return type(getattr(module, "bn", None)) is nn.BatchNorm2d and is_shortcut(getattr(module, "down", None))

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(3, module.convs[0].conv1.in_channels, FRAMES, _graph(module).shape[-1]),)

    into_second = False  # whether the sum goes over the first joint of the graph, as in pyskl

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T, V)."""
        mean = x.mean(dim=2, keepdim=True)
        formula = "ncuv,nctu->nctv" if self.into_second else "ncuv,nctv->nctu"
        found: list[Tensor] = []
        for unit, adjacency in zip(self.convs, _graph(self), strict=True):
            difference = unit.conv1(mean)[:, :, 0, :, None] - unit.conv2(mean)[:, :, 0, None, :]
            graph = unit.conv4(difference.tanh()) * self.alpha + adjacency
            found.append(torch.einsum(formula, graph, convolve(x, unit.conv3)[0]))
        return tail(functools.reduce(torch.add, found), self.bn, residual=shortcut(self.down, x))


class TransposedChannelGraphConvolution(ChannelGraphConvolution):
    """As pyskl has it: the graph's other joint is summed over."""

    source = "pyskl's CTR-GCN graph convolution"
    into_second = True

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """As CTR-GCN's own, without a `PA` beside the graph."""
        return (
            not hasattr(module, "PA")
            and isinstance(getattr(module, "A", None), nn.Parameter)
            and super().recognises(module)
        )


def _graph(module: Any) -> Tensor:
    graph: Tensor = module.PA if hasattr(module, "PA") else module.A
    return graph


REPLACEMENTS: tuple[type[Replacement], ...] = (TransposedChannelGraphConvolution, ChannelGraphConvolution)

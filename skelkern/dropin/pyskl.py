"""The units and the block of pyskl (Duan et al., ACM MM 2022), and 2s-AGCN's unit with attention, which it has too."""

from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import similarities, sum_behind_graph, sum_over_subsets, tail
from skelkern.dropin.agcn import are_pointwise, end, is_temporal_unit
from skelkern.dropin.replacement import Replacement
from skelkern.dropin.stgcn import FRAMES, is_shortcut, shortcut
from skelkern.ops.graph_conv import graph_conv


class GraphConvolution(Replacement):
    """On `skelkern.graph_conv`, with normalisation, residual and ReLU in one op."""

    source = "pyskl's graph convolution"
    fused = ("conv", "bn", "act", "down")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """A 1 x 1 convolution before or behind the product with the graph, by `conv_pos`."""
        if getattr(module, "conv_pos", None) not in ("pre", "post") or not hasattr(module, "adaptive"):
            return False
        kinds = [type(getattr(module, name, None)) for name in ("conv", "bn", "act")]
        down = getattr(module, "down", None)
        return kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] and (down is None or is_shortcut(down))

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(3, module.in_channels, FRAMES, module.A.shape[-1]),)

    def graph(self: Any) -> Tensor:
        """(K, V, V), with what has been learned about it."""
        if self.adaptive == "offset":
            return self.A + self.PA
        return self.A * self.PA if self.adaptive == "importance" else self.A

    def forward(self: Any, x: Tensor, A: Tensor | None = None) -> Tensor:
        """x (N, C, T, V) -> (N, C', T, V); A is ignored, as it is by the original."""
        residual = shortcut(self.down, x) if self.with_res else None
        graph, weight = GraphConvolution.graph(self), self.conv.weight
        if self.conv_pos == "pre":
            y = graph_conv(x, weight, self.conv.bias, graph)
        else:
            by_subset = weight.view(weight.shape[0], graph.shape[0], -1).transpose(0, 1).flatten(0, 1)
            y = sum_behind_graph(x, by_subset, self.conv.bias, graph)
        return tail(y, self.bn, residual=residual)


class AttentiveGraphConvolution(Replacement):
    """As 2s-AGCN's unit with a learned share of the similarities; the attention behind it stays with torch."""

    source = "adaptive graph convolution with attention"
    fused = ("conv_a", "conv_b", "conv_d", "bn", "down", "tan", "soft")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Lists of 1 x 1 convolutions and a tanh."""
        lists = [getattr(module, name, None) for name in ("conv_a", "conv_b", "conv_d")]
        adaptive = getattr(module, "adaptive", None)
        if not are_pointwise(lists[2]) or (adaptive and not all(map(are_pointwise, lists))):
            return False
        names = ("tan", "sigmoid", "relu", "bn")
        kinds = [type(getattr(module, name, None)) for name in names]
        return kinds == [nn.Tanh, nn.Sigmoid, nn.ReLU, nn.BatchNorm2d] and is_shortcut(getattr(module, "down", None))

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        joints = _learned_graph(module).shape[-1]
        return (torch.randn(3, module.conv_d[0].in_channels, FRAMES, joints),)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T, V)."""
        graph = _learned_graph(self)
        if self.adaptive:
            graph = graph + similarities(x, self.conv_a, self.conv_b).tanh() * self.alpha
        y = tail(sum_over_subsets(x, self.conv_d, graph), self.bn, residual=shortcut(self.down, x))
        return _attention(self, y) if self.attention else y


def _learned_graph(module: Any) -> Tensor:
    graph: Tensor = module.PA if hasattr(module, "PA") else module.A
    return graph


def _attention(module: Any, y: Tensor) -> Tensor:
    """Shares of joints, then of frames, then of channels, each added to 1: y (N, C, T, V)."""
    y = y * (1 + module.conv_sa(y.mean(dim=2)).sigmoid()[:, :, None])
    y = y * (1 + module.conv_ta(y.mean(dim=3)).sigmoid()[..., None])
    of_channels = module.fc2c(module.fc1c(y.mean(dim=(2, 3))).relu()).sigmoid()
    return y * (1 + of_channels[..., None, None])


class Block(Replacement):
    """The temporal unit, the residual and the ReLU in two ops; the graph convolution is replaced on its own."""

    source = "pyskl's block"
    fused = ("tcn", "relu")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """gcn with its channels, a temporal unit tcn, relu and a residual."""
        names = {name for name, _ in module.named_children()}
        if not {"gcn", "tcn", "relu"} <= names <= {"gcn", "tcn", "relu", "residual"}:
            return False
        if GraphConvolution.recognises(module.gcn) or AttentiveGraphConvolution.recognises(module.gcn):
            return is_temporal_unit(module.tcn) and type(module.relu) is nn.ReLU
        return False

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        kind = GraphConvolution if GraphConvolution.recognises(module.gcn) else AttentiveGraphConvolution
        return kind.example(module.gcn)

    def forward(self: Any, x: Tensor, A: Tensor | None = None) -> Tensor:
        """x (N, C, T, V) -> (N, C', T', V)."""
        residual = self.residual(x)
        y = self.gcn(x) if A is None else self.gcn(x, A)
        return end(self.tcn, y, residual if isinstance(residual, Tensor) else None, relu=True)


REPLACEMENTS: tuple[type[Replacement], ...] = (Block, GraphConvolution, AttentiveGraphConvolution)

"""The graph convolution and the block of ST-GCN (Yan et al., AAAI 2018), which CrosSCLR, AimCLR and PSTL share."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, is_temporal, tail
from skelkern.dropin.replacement import RefusedError, Replacement
from skelkern.ops.graph_conv import graph_conv

JOINTS, FRAMES = 7, 12  # of the example; the modules take any


def shortcut(residual: Any, x: Tensor) -> Tensor | None:
    """A block's residual branch: convolution with normalisation, or a function that returns x or 0."""
    if isinstance(residual, nn.Sequential):
        layers: Any = residual
        y, statistics = convolve(x, layers[0], with_statistics=layers[1].training)
        return tail(y, layers[1], relu=False, statistics=statistics)
    found = residual(x)
    return found if isinstance(found, Tensor) else None


def is_shortcut(residual: Any) -> bool:
    """Whether `shortcut` can run it."""
    if not isinstance(residual, nn.Module):
        return callable(residual)
    layers: list[Any] = list(residual) if isinstance(residual, nn.Sequential) else []
    return is_chain(layers, nn.Conv2d, nn.BatchNorm2d) and is_temporal(layers[0])


def is_chain(layers: Any, *kinds: type[nn.Module]) -> bool:
    """Whether the layers are exactly of these classes, one after the other."""
    return isinstance(layers, list | tuple | nn.Sequential) and [type(layer) for layer in layers] == list(kinds)


class GraphConvolution(Replacement):
    """On `skelkern.graph_conv`."""

    source = "ST-GCN's graph convolution"
    fused = ("conv",)

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """A 1 x 1 convolution to all subsets is all that it owns."""
        if [name for name, _ in module.named_children()] != ["conv"] or type(module.conv) is not nn.Conv2d:
            return False
        subsets = getattr(module, "kernel_size", None)
        if not isinstance(subsets, int) or module.conv.out_channels % subsets != 0:
            return False
        if module.conv.kernel_size != (1, 1) or module.conv.stride != (1, 1) or not is_temporal(module.conv):
            raise RefusedError("its convolution spans several frames or joints")
        return True

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        x = torch.randn(3, module.conv.in_channels, FRAMES, JOINTS)
        return x, torch.randn(module.kernel_size, JOINTS, JOINTS)

    def forward(self: Any, x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, T, V), A (K, V, V) -> y (N, C', T, V), A."""
        return graph_conv(x, self.conv.weight, self.conv.bias, A), A


class Block(Replacement):
    """Normalisation, ReLU and temporal convolution in one op, normalisation, dropout, residual and ReLU in another."""

    source = "ST-GCN's block"
    fused = ("tcn", "residual", "relu")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """gcn, tcn, residual and relu of the usual classes."""
        names = {name for name, _ in module.named_children()}
        if not {"gcn", "tcn", "relu"} <= names or not isinstance(module.tcn, nn.Sequential):
            return False
        if not is_chain(module.tcn, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d, nn.Dropout):
            return False
        convolution: Any = module.tcn[2]
        if not is_temporal(convolution) or not is_shortcut(getattr(module, "residual", None)):
            raise RefusedError("its temporal convolution or its residual is not of the usual form")
        return GraphConvolution.recognises(module.gcn)

    @classmethod
    def example(cls, module: Any) -> tuple[Any, ...]:
        return GraphConvolution.example(module.gcn)

    def forward(self: Any, x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, T, V), A (K, V, V) -> y (N, C', T', V), A."""
        residual = shortcut(self.residual, x)
        norm, _, convolution, end, dropout = self.tcn
        y, A = self.gcn(x, A)
        found, statistics = convolve(y, convolution, norm, end.training)
        return tail(found, end, dropout, residual, statistics=statistics), A


class BlockOfJoints(Block):
    """PSTL's, which is told the joints that are left."""

    source = "PSTL's block"

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """As ST-GCN's, with a third argument."""
        return "remain_joint" in inspect.signature(type(module).forward).parameters and super().recognises(module)

    @classmethod
    def example(cls, module: Any) -> tuple[Any, ...]:
        x, graph = super().example(module)
        return x[..., 1:], graph, list(range(1, JOINTS))

    def forward(self: Any, x: Tensor, A: Tensor, remain_joint: list[int]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x (N, C, T, V'), A (K, V, V), V' of the V joints -> y (N, C', T', V'), A (K, V', V')."""
        return Block.forward(self, x, A[:, remain_joint][:, :, remain_joint])


REPLACEMENTS: tuple[type[Replacement], ...] = (BlockOfJoints, Block, GraphConvolution)

"""The classifier of both public DGCNN codes (Wang et al., ACM TOG 2019) and the decoder of FoldingNet (CVPR 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import edge_layer, fold, tail
from skelkern.dropin.replacement import Replacement
from skelkern.dropin.stgcn import is_chain
from skelkern.ops.knn import knn
from skelkern.ops.temporal_conv import temporal_conv

POINTS = 40  # of the example
EDGE_LAYERS = ("conv1", "conv2", "conv3", "conv4")


class EdgeClassifier(Replacement):
    """`skelkern.knn` and `skelkern.edge_conv` for the four edge convolutions, which are no modules of their own."""

    source = "DGCNN's classifier"
    fused = (*EDGE_LAYERS, "conv5")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Four edge layers, a point-wise one and the head."""
        if not isinstance(getattr(module, "k", None), int):
            return False
        kinds = (nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU)
        if not all(is_chain(getattr(module, name, ()), *kinds) for name in EDGE_LAYERS):
            return False
        head = ("linear1", "bn6", "dp1", "linear2", "bn7", "dp2", "linear3")
        return is_chain(getattr(module, "conv5", ()), nn.Conv1d, nn.BatchNorm1d, nn.LeakyReLU) and all(
            hasattr(module, name) for name in head
        )

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(3, module.conv1[0].in_channels // 2, max(POINTS, 2 * module.k)),)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (B, D, N) -> (B, classes)."""
        points, found = x.transpose(1, 2), []
        for name in EDGE_LAYERS:
            points = edge_layer(getattr(self, name), points, knn(points, self.k))
            found.append(points)
        y = _pointwise(self.conv5, torch.cat(found, dim=2))
        pooled = torch.cat([nn.functional.adaptive_max_pool1d(y, 1)[..., 0], y.mean(dim=2)], dim=1)
        y = self.dp1(nn.functional.leaky_relu(self.bn6(self.linear1(pooled)), 0.2))
        return self.linear3(self.dp2(nn.functional.leaky_relu(self.bn7(self.linear2(y)), 0.2)))


def _pointwise(layers: Any, points: Tensor) -> Tensor:
    """(convolution, normalisation, activation) of points (B, N, C) -> (B, C', N)."""
    convolution, norm, activation = layers
    x = points.transpose(1, 2).unsqueeze(3)
    y, *statistics = temporal_conv(x, convolution.weight, convolution.bias, with_statistics=True)
    y = tail(y, norm, relu=False, statistics=(statistics[0], statistics[1]))
    activated: Tensor = activation(y[..., 0])
    return activated


class FoldingDecoder(Replacement):
    """The code word's part of each fold's first layer once per cloud instead of once per point."""

    source = "FoldingNet's decoder"
    fused = ("folding1", "folding2")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """Two folds of three point-wise convolutions, and a grid."""
        kinds = (nn.Conv1d, nn.ReLU, nn.Conv1d, nn.ReLU, nn.Conv1d)
        return callable(getattr(module, "build_grid", None)) and all(
            is_chain(getattr(module, name, ()), *kinds) for name in ("folding1", "folding2")
        )

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(2, 1, module.folding1[2].in_channels),)

    def forward(self: Any, x: Tensor) -> Tensor:
        """x (B, 1, F) -> (B, M, 3)."""
        grid = self.build_grid(1).to(x)
        return fold(self.folding2, x[:, 0], fold(self.folding1, x[:, 0], grid))


REPLACEMENTS: tuple[type[Replacement], ...] = (EdgeClassifier, FoldingDecoder)

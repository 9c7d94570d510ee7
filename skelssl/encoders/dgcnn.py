"""DGCNN (Wang et al., ACM TOG 2019), the encoder of skeleton clouds."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from skelkern.nn import EdgeConv


class DGCNN(nn.Module):
    """Four edge convolutions, each on the graph of its own input, all of them concatenated, and a maximum over points.

    state_dict keys are those of `DGCNN_Cls_Encoder` in the public auto-encoder code
    (UnsupervisedPointCloudReconstruction), which has every normalisation under two names.

    Args:
        in_channels: D of a point.
        feature_dim: F.
        k: neighbours of a point.
    """

    def __init__(self, in_channels: int = 3, feature_dim: int = 1024, k: int = 20):
        super().__init__()
        self.feature_dim = feature_dim
        self.conv1 = EdgeConv(in_channels, 64, k)
        self.conv2 = EdgeConv(64, 64, k)
        self.conv3 = EdgeConv(64, 128, k)
        self.conv4 = EdgeConv(128, 256, k)
        self.conv5 = nn.Sequential(
            nn.Conv1d(64 + 64 + 128 + 256, feature_dim, kernel_size=1, bias=False),
            nn.BatchNorm1d(feature_dim),
            nn.LeakyReLU(0.2),
        )
        for number in range(1, 6):
            self.add_module(f"bn{number}", self.get_submodule(f"conv{number}.1"))

    def forward(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """points (B, N, D), mask (B, N) of points that count (at least one of each cloud) -> (B, F)."""
        layers, x = [], points
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x, mask=mask)
            layers.append(x)
        convolution, norm, activation = cast(Any, self.conv5)
        mapped = nn.functional.linear(torch.cat(layers, dim=2), convolution.weight[:, :, 0])
        if mask is None:
            return activation(norm(mapped.flatten(0, 1))).view(mapped.shape).amax(dim=1)
        valid = torch.full_like(mapped, -torch.inf)
        valid[mask] = activation(norm(mapped[mask]))
        return valid.amax(dim=1)

"""FoldingNet's decoder (Yang et al., CVPR 2018): a plane folded twice into a cloud."""

import torch
from torch import Tensor, nn

from skelkern.blocks import fold

EXTENT = 0.3  # of the public code's plane


class Fold(nn.Sequential):
    """Three point-wise layers on the code word and a point: (B, F), (B or 1, M, D) -> (B, M, D')."""

    def __init__(self, feature_dim: int, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv1d(feature_dim + in_channels, feature_dim, 1),
            nn.ReLU(inplace=True),
            nn.Conv1d(feature_dim, feature_dim, 1),
            nn.ReLU(inplace=True),
            nn.Conv1d(feature_dim, out_channels, 1),
        )

    def forward(self, code: Tensor, points: Tensor) -> Tensor:  # type: ignore[override]
        return fold(self, code, points)


class FoldingNet(nn.Module):
    """Folds a grid into a surface in space, and that into the cloud.

    state_dict keys are those of `FoldNet_Decoder` in the public auto-encoder code
    (UnsupervisedPointCloudReconstruction) for a plane.

    Args:
        feature_dim: F of the code word.
        out_channels: D' of the points; 6 for a position and a colour.
        grid: rows and columns; M = rows · columns points come out.
        surface_channels: of a point between both folds: 3, its position.
        extent: the plane covers [-extent, extent] in both directions.
    """

    grid: Tensor

    def __init__(
        self,
        feature_dim: int = 1024,
        out_channels: int = 3,
        grid: tuple[int, int] = (45, 45),
        surface_channels: int = 3,
        extent: float = EXTENT,
    ):
        super().__init__()
        axes = (torch.linspace(-extent, extent, steps) for steps in grid)
        self.register_buffer("grid", torch.cartesian_prod(*axes), persistent=False)
        self.folding1 = Fold(feature_dim, 2, surface_channels)
        self.folding2 = Fold(feature_dim, surface_channels, out_channels)

    def forward(self, code: Tensor) -> Tensor:
        """code (B, F) -> (B, M, D')."""
        return self.folding2(code, self.folding1(code, self.grid[None]))

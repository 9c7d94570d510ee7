"""The ops as modules, with the field's usual names of parameters."""

from torch import Tensor, nn

from skelkern.ops.cross_correlation import cross_correlation_loss
from skelkern.ops.graph_conv import graph_conv


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

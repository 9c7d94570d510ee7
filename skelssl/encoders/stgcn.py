"""ST-GCN (Yan et al., AAAI 2018) in the narrow form of AimCLR and PSTL, with joints that can be removed."""

import torch
from torch import Tensor, nn

from skelkern.nn import BatchNorm1d, STGCNBlock
from skelssl.encoders.clips import check_clips
from skelssl.skeletons import Skeleton
from skelssl.skeletons.graph import adjacency


class STGCN(nn.Module):
    """Ten blocks with a learned importance of every edge, global average pooling, mean over persons.

    Source: PSTL (Zhou et al., AAAI 2023); state_dict keys are those of its encoder and of AimCLR's.

    Args:
        skeleton: joints and their graph.
        in_channels: C of the clips.
        hidden_channels: channels of the first blocks; later ones have 2 and 4 times as many.
        feature_dim: F, channels of the last block.
        dropout: of all blocks but the first.
        renormalise: after joints are removed, scale the columns of the adjacency back to a sum of 1. By default, as in
            PSTL, they are left as they are, and neighbours of removed joints get less input.
        official_partition: joints are parted as in the code, see `skelssl.skeletons.graph.adjacency`.
    """

    A: Tensor

    def __init__(
        self,
        skeleton: Skeleton,
        in_channels: int = 3,
        hidden_channels: int = 16,
        feature_dim: int = 256,
        dropout: float = 0.5,
        renormalise: bool = False,
        official_partition: bool = False,
    ):
        super().__init__()
        self.feature_dim = feature_dim
        self.renormalise = renormalise
        partition = "spatial-official" if official_partition else "spatial"
        self.register_buffer("A", torch.from_numpy(adjacency(skeleton, partition)))
        subsets, joints, _ = self.A.shape
        self.data_bn = BatchNorm1d(in_channels * joints)
        self.st_gcn_networks = nn.ModuleList(
            STGCNBlock(*channels, subsets, stride, dropout if number > 0 else 0.0, residual=number > 0)
            for number, (channels, stride) in enumerate(_blocks(in_channels, hidden_channels, feature_dim))
        )
        self.edge_importance = nn.ParameterList(torch.ones_like(self.A) for _ in self.st_gcn_networks)

    def forward(self, clips: Tensor, joints: Tensor | None = None) -> Tensor:
        """Features of clips.

        Args:
            clips: (N, C, T, V, M) float32.
            joints: (V') int64 joints to keep, ascending; the others are removed from clip and graph after the input
                normalisation, whose statistics they are part of.

        Returns:
            (N, F).
        """
        x = self._normalised(clips)
        if joints is not None:
            x = x[..., joints]
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            x = block(x, self._adjacency(importance, joints))
        persons = clips.shape[4]
        return x.mean(dim=(2, 3)).unflatten(0, (-1, persons)).mean(dim=1)

    def _normalised(self, clips: Tensor) -> Tensor:
        """Batch normalisation of every channel of every joint: (N, C, T, V, M) -> (N·M, C, T, V)."""
        check_clips(clips, self.data_bn.num_features // self.A.shape[1], self.A.shape[1])
        n, c, t, v, m = clips.shape
        by_joint = clips.permute(0, 4, 3, 1, 2).reshape(n * m, v * c, t)
        return self.data_bn(by_joint).view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()

    def _adjacency(self, importance: Tensor, joints: Tensor | None) -> Tensor:
        weights = self.A
        if joints is not None:
            weights, importance = (matrix[:, joints][:, :, joints] for matrix in (weights, importance))
            if self.renormalise:
                weights = weights / weights.sum(dim=(0, 1)).clamp(min=torch.finfo(weights.dtype).tiny)
        return weights * importance


def _blocks(in_channels: int, hidden: int, last: int) -> list[tuple[tuple[int, int], int]]:
    """((input channels, output channels), temporal stride) of the ten blocks."""
    outputs = [hidden] * 4 + [2 * hidden] * 3 + [4 * hidden] * 2 + [last]
    inputs = [in_channels, *outputs[:-1]]
    strides = [2 if number in (4, 7) else 1 for number in range(10)]
    return [((i, o), stride) for i, o, stride in zip(inputs, outputs, strides, strict=True)]

"""2s-AGCN (Shi et al., CVPR 2019), a graph network that learns its graph; the joint stream, as ISC has it."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, similarities, sum_over_subsets, tail
from skelssl.encoders.clips import check_clips
from skelssl.skeletons import Skeleton
from skelssl.skeletons.graph import directed_adjacency

EMBEDDING = 4  # output channels for one channel of an embedding
SMALL = 1e-6  # where learned graphs and the normalisations behind them start


class AdaptiveGraphConv(nn.Module):
    """Graph convolution by the skeleton, a learned graph, and each sample's own similarities of joints.

    Source: Shi et al., section 3.1, equation 3; modules are named and initialised as in the public code.

    Args:
        in_channels: C.
        out_channels: C'.
        graph: (K, V, V) the skeleton's.
    """

    A: Tensor

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor):
        super().__init__()
        subsets, embedding = len(graph), out_channels // EMBEDDING
        self.register_buffer("A", graph, persistent=False)
        self.PA = nn.Parameter(torch.full_like(graph, SMALL))
        self.conv_a = nn.ModuleList(_convolution(in_channels, embedding) for _ in range(subsets))
        self.conv_b = nn.ModuleList(_convolution(in_channels, embedding) for _ in range(subsets))
        self.conv_d = nn.ModuleList(_convolution(in_channels, out_channels) for _ in range(subsets))
        for layer in self.conv_d:
            nn.init.normal_(cast(Tensor, layer.weight), 0, math.sqrt(2 / (out_channels * in_channels * subsets)))
        self.down = nn.Sequential()
        if in_channels != out_channels:
            self.down.extend([_convolution(in_channels, out_channels), nn.BatchNorm2d(out_channels)])
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, SMALL)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', T, V)."""
        graph = similarities(x, self.conv_a, self.conv_b).softmax(dim=-2) + (self.A + self.PA)
        y = sum_over_subsets(x, self.conv_d, graph)
        shortcut: Any = self.down
        residual = _normalised(x, *shortcut) if len(shortcut) > 0 else x
        return tail(y, self.bn, residual=residual)


class TemporalUnit(nn.Module):
    """Convolution along time with its normalisation.

    Args:
        in_channels: C.
        out_channels: C'.
        kernel: frames, odd.
        stride: in frames.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 9, stride: int = 1):
        super().__init__()
        self.conv = _convolution(in_channels, out_channels, kernel, stride)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', ⌈T / stride⌉, V)."""
        return _normalised(x, self.conv, self.bn)


class AGCNBlock(nn.Module):
    """Adaptive graph convolution, temporal unit, residual and ReLU.

    Args:
        in_channels: C.
        out_channels: C'.
        graph: (K, V, V) the skeleton's.
        stride: of the temporal unit.
        residual: whether there is one; a strided 1 x 1 convolution with normalisation where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, graph: Tensor, stride: int = 1, residual: bool = True):
        super().__init__()
        self.gcn1 = AdaptiveGraphConv(in_channels, out_channels, graph)
        self.tcn1 = TemporalUnit(out_channels, out_channels, stride=stride)
        self.has_residual = residual
        self.residual: nn.Module = nn.Identity()
        if residual and (in_channels != out_channels or stride != 1):
            self.residual = TemporalUnit(in_channels, out_channels, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, C', ⌈T / stride⌉, V)."""
        residual = self.residual(x) if self.has_residual else None
        return _normalised(self.gcn1(x), self.tcn1.conv, self.tcn1.bn, residual, relu=True)


class AGCN(nn.Module):
    """Ten blocks, the mean over frames and joints, the mean over persons.

    Sources: Shi et al., CVPR 2019; ISC (Thoker et al., ACM MM 2021). state_dict keys are those of both public codes
    without the classifier `fc`; in ISC's files they follow `module.encoder_q.` or `module.encoder_r.`.

    Args:
        skeleton: joints and their graph.
        in_channels: C of the clips.
        persons: M of the clips, each of which has statistics of its own in the input normalisation.
        hidden_channels: of the first blocks; later ones have 2 and 4 times as many. A multiple of 4.

    Raises:
        ValueError: `hidden_channels` is no multiple of 4.
    """

    def __init__(self, skeleton: Skeleton, in_channels: int = 3, persons: int = 2, hidden_channels: int = 64):
        super().__init__()
        if hidden_channels < EMBEDDING or hidden_channels % EMBEDDING != 0:
            raise ValueError(f"hidden_channels: expected a multiple of {EMBEDDING}, found {hidden_channels}")
        self.in_channels, self.joints, self.persons = in_channels, skeleton.num_joints, persons
        self.feature_dim = 4 * hidden_channels
        self.data_bn = nn.BatchNorm1d(persons * in_channels * skeleton.num_joints)
        graph = torch.from_numpy(directed_adjacency(skeleton))
        outputs = [hidden_channels * factor for factor in (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)]
        for number, (into, out) in enumerate(zip([in_channels, *outputs], outputs, strict=False), start=1):
            block = AGCNBlock(into, out, graph, stride=2 if number in (5, 8) else 1, residual=number > 1)
            self.add_module(f"l{number}", block)

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> features (N, F).

        Raises:
            ValueError: the clips have another shape.
        """
        check_clips(clips, self.in_channels, self.joints, self.persons)
        n, c, t, v, m = clips.shape
        by_person = tail(clips.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t), self.data_bn, relu=False)
        x = by_person.view(n * m, v, c, t).permute(0, 2, 3, 1).contiguous()
        for number in range(1, 11):
            x = getattr(self, f"l{number}")(x)
        return x.flatten(2).mean(dim=2).view(n, m, self.feature_dim).mean(dim=1)


def _convolution(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0))
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


def _normalised(
    x: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d, residual: Tensor | None = None, relu: bool = False
) -> Tensor:
    """norm(convolution(x)) + residual, with a ReLU."""
    y, statistics = convolve(x, convolution, with_statistics=norm.training)
    return tail(y, norm, residual=residual, relu=relu, statistics=statistics)

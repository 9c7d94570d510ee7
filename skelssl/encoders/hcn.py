"""HCN (Li et al., IJCAI 2018), a convolutional network on sequences as images; up to its features, as ISC has it."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from skelkern import NormRelu, temporal_conv
from skelkern.blocks import convolve
from skelssl.encoders.clips import check_clips
from skelssl.skeletons import Skeleton

POOLINGS = 4  # by 2 each


class HCN(nn.Module):
    """Convolutions over joints' coordinates, then over images with one channel for each joint; maximum over persons.

    Positions and motions, the differences of frames, have branches of their own up to the fifth convolution. As in
    ISC's code, there is no activation behind the second to fourth one.

    Sources: Li et al., section 3; ISC (Thoker et al., ACM MM 2021). state_dict keys are those of ISC's code without the
    classifier `fc`; in its files they follow `module.encoder_q.` or `module.encoder_r.`.

    Args:
        skeleton: joints.
        in_channels: C of the clips.
        frames: T of the clips, and channels of the second convolution, which are the images' other side.
        hidden_channels: of the first convolution, even.
        dropout: probability of a channel to become 0.

    Raises:
        ValueError: `frames` is too small, or `hidden_channels` is odd.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        in_channels: int = 3,
        frames: int = 64,
        hidden_channels: int = 64,
        dropout: float = 0.5,
    ):
        super().__init__()
        if frames < 2**POOLINGS:
            raise ValueError(f"frames: expected at least {2**POOLINGS}, found {frames}")
        if hidden_channels < 2 or hidden_channels % 2 != 0:
            raise ValueError(f"hidden_channels: expected an even number, found {hidden_channels}")
        self.in_channels, self.joints, self.frames = in_channels, skeleton.num_joints, frames
        self.feature_dim = 4 * hidden_channels * (frames // 2**POOLINGS) ** 2
        for branch in ("", "m"):
            sizes = (in_channels, hidden_channels, frames, skeleton.num_joints)
            for number, layers in enumerate(_branch(*sizes, dropout), start=1):
                self.add_module(f"conv{number}{branch}", layers)
        self.conv5 = _activated(2 * hidden_channels, 2 * hidden_channels, dropout)
        self.conv6 = _activated(2 * hidden_channels, 4 * hidden_channels, dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(cast(Tensor, layer.bias))

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> features (N, F), F = 4 · hidden_channels · ⌊T / 16⌋².

        Raises:
            ValueError: the clips have another shape.
        """
        check_clips(clips, self.in_channels, self.joints, frames=self.frames)
        n, c, t, v, m = clips.shape
        positions = clips.permute(0, 4, 1, 2, 3).reshape(n * m, c, t, v)
        motions = positions.diff(dim=2)
        motions = nn.functional.interpolate(motions, size=(t, v), mode="bilinear", align_corners=False)
        x = torch.cat((self._images(positions, ""), self._images(motions, "m")), dim=1)
        x = _pooled(self.conv6, _pooled(self.conv5, x))
        return x.reshape(n, m, self.feature_dim).amax(dim=1)

    def _images(self, x: Tensor, branch: str) -> Tensor:
        """The first four convolutions of a branch: (N·M, C, T, V) -> (N·M, C', T / 4, T / 4)."""
        first, second, third, fourth = (getattr(self, f"conv{number}{branch}") for number in range(1, 5))
        x, _ = convolve(x, first[0])
        x = temporal_conv(x, second.weight, second.bias, padding=1, norm=_relu_alone(x))
        # joints become channels, and stay the last in memory
        return _pooled(fourth, _pooled(third, x.transpose(1, 2).contiguous().permute(0, 3, 1, 2)))


def _relu_alone(x: Tensor) -> NormRelu:
    """The ReLU before a temporal convolution, behind a normalisation that changes nothing."""
    mean, variance = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
    return NormRelu(mean, variance, eps=0.0)


def _pooled(layers: Any, x: Tensor) -> Tensor:
    """A convolution and what follows it, the pooling first: a quarter of the values is left for the others.

    ReLU and dropout of whole channels leave the order of values in a window as it is, or all of them 0.
    """
    convolution, *between, pooling = layers
    x = pooling(convolution(x))
    for layer in between:
        x = layer(x)
    return x


def _branch(in_channels: int, hidden: int, frames: int, joints: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Sequential(nn.Conv2d(in_channels, hidden, 1), nn.ReLU()),
        nn.Conv2d(hidden, frames, (3, 1), padding=(1, 0)),
        nn.Sequential(nn.Conv2d(joints, hidden // 2, 3, padding=1), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(hidden // 2, hidden, 3, padding=1), nn.Dropout2d(dropout), nn.MaxPool2d(2)),
    ]


def _activated(in_channels: int, out_channels: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout), nn.MaxPool2d(2)
    )

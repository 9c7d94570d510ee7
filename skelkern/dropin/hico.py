"""HiCo's unified down-sampling module (AAAI 2023)."""

from typing import Any

import torch
from torch import Tensor, nn

from skelkern.blocks import downsample
from skelkern.dropin.replacement import Replacement


class Downsampling(Replacement):
    """On `skelkern.unified_downsampling`."""

    source = "unified down-sampling"
    fused = ("conv", "norm", "relu", "maxpooling")

    @classmethod
    def recognises(cls, module: Any) -> bool:
        """A depthwise convolution along time, layer norm, ReLU and max-pooling, by the names of HiCo's code."""
        convolution, norm, relu, pooling = (
            getattr(module, name, None) for name in ("conv", "norm", "relu", "maxpooling")
        )
        convolution = getattr(convolution, "dw_conv", None)
        return (
            isinstance(convolution, nn.Conv1d)
            and convolution.groups == convolution.in_channels == convolution.out_channels
            and convolution.dilation == (1,)
            and convolution.padding_mode == "zeros"
            and not isinstance(convolution.padding, str)
            and isinstance(norm, nn.LayerNorm)
            and norm.normalized_shape == (convolution.in_channels,)
            and norm.bias is not None
            and isinstance(relu, nn.ReLU)
            and _is_plain(pooling)
        )

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        convolution = module.conv.dw_conv
        frames = convolution.kernel_size[0] + convolution.stride[0] * (3 * module.maxpooling.kernel_size - 1)
        return (torch.randn(3, frames, convolution.in_channels),)

    def forward(self: Any, input_tensor: Tensor) -> Tensor:
        """(N, T, C) -> (N, T', C)."""
        return downsample(input_tensor, self.conv.dw_conv, self.norm, self.maxpooling.kernel_size)


def _is_plain(pooling: Any) -> bool:
    """Whether its windows lie side by side, and those cut off are dropped."""
    return (
        isinstance(pooling, nn.MaxPool1d)
        and isinstance(pooling.kernel_size, int)
        and pooling.stride == pooling.kernel_size
        and pooling.padding == 0
        and pooling.dilation == 1
        and not pooling.return_indices
        and not pooling.ceil_mode
    )


REPLACEMENTS: tuple[type[Replacement], ...] = (Downsampling,)

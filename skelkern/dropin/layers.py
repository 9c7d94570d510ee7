"""Torch's own layers."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skelkern.blocks import convolve, drop, is_temporal, run_layers, tail
from skelkern.dropin.replacement import RefusedError, Replacement
from skelkern.ops.linear import linear, torch_is_as_fast

SMALLEST_WEIGHT = 2**11  # elements of a linear layer's weight below which no batch makes the kernel worth its call
SMALLEST_NORM = 2**19  # elements below which torch's normalisation is as fast


class Linear(Replacement):
    """On `skelkern.linear`, which leaves small products to torch."""

    source = "linear layer"

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """torch's own class, not a child of it."""
        if type(module) is not nn.Linear:
            return False
        reasons = torch_is_as_fast()
        if reasons:
            raise RefusedError(reasons[0])
        if module.weight.numel() < SMALLEST_WEIGHT:
            raise RefusedError("torch's product is as fast at its size")
        return True

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(5, 3, module.in_features),)

    def forward(self: Any, input: Tensor) -> Tensor:
        """(*, C) -> (*, C')."""
        return linear(input, self.weight, self.bias)


class Convolution(Replacement):
    """On `skelkern.temporal_conv`."""

    source = "temporal or 1 x 1 convolution"

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """torch's own class with a (kernel, 1) kernel."""
        return type(module) is nn.Conv2d and is_temporal(module)

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        frames = module.dilation[0] * (module.kernel_size[0] - 1) + 1 + 3 * module.stride[0]
        return (torch.randn(2, module.in_channels, frames, 5),)

    def forward(self: Any, input: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C', T', V)."""
        if input.dim() != 4 or input.shape[3] == 0:
            return self._conv_forward(input, self.weight, self.bias)
        return convolve(input, self)[0]


class BatchNorm(Replacement):
    """On `skelkern.block_tail`, without dropout, residual or ReLU."""

    source = "batch normalisation"

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """torch's own class for (N, C, T, V)."""
        return type(module) is nn.BatchNorm2d

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(2, module.num_features, -(-SMALLEST_NORM // (2 * module.num_features)), 1),)

    def forward(self: Any, input: Tensor) -> Tensor:
        """(N, C, T, V) -> the same shape."""
        if input.numel() < SMALLEST_NORM:
            return nn.BatchNorm2d.forward(self, input)
        self._check_input_dim(input)
        return tail(input, self, relu=False)


class Dropout(Replacement):
    """On `skelkern.nn.Dropout`'s draws: other elements are dropped than by torch from the same seed."""

    source = "dropout"

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """torch's own class; in place there is nothing to gain but the draws."""
        return type(module) is nn.Dropout and not module.inplace

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(9, 4, 1024),)

    def forward(self: Any, input: Tensor) -> Tensor:
        """Any shape."""
        found = drop(input, self.p) if self.training else None
        return nn.Dropout.forward(self, input) if found is None else found


class Recurrent(Replacement):
    """What GRU and LSTM have in common."""

    kind: ClassVar[type[nn.RNNBase]]

    @classmethod
    def recognises(cls, module: nn.Module) -> bool:
        """torch's own class without projections."""
        if type(module) is not cls.kind:
            return False
        if module.proj_size > 0:
            raise RefusedError("it projects its states")
        return True

    @classmethod
    def example(cls, module: Any) -> tuple[Tensor, ...]:
        return (torch.randn(4, 5, module.input_size),)

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        """As torch's."""
        found = run_layers(self, input, hx)
        return type(self)._original.forward(self, input, hx) if found is None else found


class GRU(Recurrent):
    """On `skelkern.gru`, which leaves small sizes to torch."""

    source = "GRU"
    kind = nn.GRU


class LSTM(Recurrent):
    """On `skelkern.lstm`, which leaves small sizes to torch."""

    source = "LSTM"
    kind = nn.LSTM


REPLACEMENTS: tuple[type[Replacement], ...] = (Linear, Convolution, BatchNorm, Dropout, GRU, LSTM)

"""How the Triton kernels of `block_tail` see a tensor, and how they divide it among programs."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from skelkern import gpu
from skelkern.ops.block_tail import sizes
from skelkern.ops.block_tail.reference import BLOCK
from skelkern.triton_support import Configuration

# most channels of a tile where they are last in memory; channels times items; warps
TILE = Configuration(rows=32, columns=32, warps=4)
HALF_TILE = Configuration(rows=64, columns=64, warps=4)  # of 2-byte elements without draws, which take registers
PROGRAMS = 8  # on each multiprocessor, of kernels that sum
MOST_SPLITS = 1024
MOST_ITEMS = 2**30  # of a channel, and positions of a row: the kernels' numbers of them have 32 bits


@dataclass(frozen=True)
class Layout:
    """n samples of channels and positions, the channels last in memory or not."""

    last: bool
    n: int
    channels: int
    length: int
    tile: Configuration

    @property
    def items(self) -> int:
        """Blocks of draws of a channel."""
        return self.n * triton.cdiv(self.length, BLOCK)

    def sizes(self) -> tuple[int, int, int]:
        """Items, channels and units of positions as the kernels take them."""
        return self.items, self.channels, self.length // self._aligned

    def options(self) -> dict[str, Any]:
        """Constants and warps of the kernels that go over tiles."""
        size, channels = self.tile.columns, min(self.tile.rows, triton.next_power_of_2(self.channels))
        if not self.last:
            channels = min(channels, max(1, size // triton.next_power_of_2(self.items)))
        items = min(size // channels, triton.next_power_of_2(self.items))
        tile = {"CHANNELS": channels, "ITEMS": items, "warps": self.tile.warps}
        return {"ALIGNED": self._aligned, "LAST": self.last, **tile}

    def grid(self) -> tuple[int]:
        """One program for every tile."""
        options = self.options()
        return (triton.cdiv(self.channels, options["CHANNELS"]) * triton.cdiv(self.items, options["ITEMS"]),)

    @property
    def _aligned(self) -> int:
        """Rows begin at multiples of this."""
        return 1 if self.last else math.gcd(self.length, 16)


def layout_of(x: Tensor, draws: bool) -> Layout:
    """The layout of x; without draws, which belong to samples, channels may be those of one long sample."""
    n, channels, length = sizes(x)
    last = length == 1 or channels_last(x)
    if last and not draws and n * length < MOST_ITEMS:
        n, length = 1, n * length
    layout = Layout(last, n, channels, length, TILE if draws or x.element_size() == 4 else HALF_TILE)
    if max(layout.items, length) >= MOST_ITEMS:
        raise ValueError(f"x: expected fewer than 2^30 positions, and blocks of {BLOCK}, found {tuple(x.shape)}")
    return layout


def channels_last(x: Tensor) -> bool:
    """Whether it is contiguous with its channels last, and only so."""
    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor in the memory format of `like`."""
    if not channels_last(like):
        return tensor.contiguous()
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def empty_as(like: Tensor, dtype: torch.dtype) -> Tensor:
    """Uninitialised memory of its shape and memory format."""
    if not channels_last(like):
        return like.new_empty(like.shape, dtype=dtype)
    return like.new_empty(like.movedim(1, -1).shape, dtype=dtype).movedim(-1, 1)


@dataclass(frozen=True)
class Splits:
    """The items of a channel divided into `count` parts of `items`, for kernels that sum."""

    layout: Layout
    items: int
    count: int

    def sizes(self) -> tuple[int, int, int, int]:
        """`Layout.sizes`, with the items of a part behind those of a channel."""
        items, channels, units = self.layout.sizes()
        return items, self.items, channels, units

    def grid(self) -> tuple[int]:
        """One program for every part of a tile's channels."""
        return (triton.cdiv(self.layout.channels, self.layout.options()["CHANNELS"]) * self.count,)


def split(layout: Layout, device: torch.device) -> Splits:
    """Parts of whole tiles, which occupy the device."""
    options = layout.options()
    wanted = PROGRAMS * gpu.multiprocessors(device) // triton.cdiv(layout.channels, options["CHANNELS"])
    items = triton.cdiv(layout.items, min(max(wanted, 1), MOST_SPLITS))
    items = triton.cdiv(items, options["ITEMS"]) * options["ITEMS"]
    return Splits(layout, items, triton.cdiv(layout.items, items))

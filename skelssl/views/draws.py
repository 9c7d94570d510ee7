"""Random numbers as pure functions of (seed, epoch, sample, view, step): the same on every device and in any order.

Counter-based (`skelkern.philox`): a draw's key is the seed; its counter holds the number within the draw, the sample,
the epoch and a hash of the names of view and step.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skelkern.philox import MASK, philox


@dataclass(frozen=True)
class Draws:
    """Draws of one epoch.

    Every method takes `samples` (B) int64, the numbers of the samples within their data set (or of anything else that
    distinguishes draws, such as the step for what a batch has in common), the names of the view and of the step that
    draws, and the shape of one sample's draw; it returns (B, *shape).
    """

    seed: int
    epoch: int

    def words(self, samples: Tensor, view: str, step: str, shape: tuple[int, ...]) -> Tensor:
        """Uniform 32-bit words in int64."""
        words = self.words_of_steps(samples, [view], {step: math.prod(shape)})[step]
        return words.reshape(len(samples), *shape)

    def words_of_steps(self, samples: Tensor, views: Sequence[str], counts: dict[str, int]) -> dict[str, Tensor]:
        """What `words` gives for every view and step, drawn together, which is as fast as one of them.

        Args:
            samples: (B).
            views: their names.
            counts: number of words of each step.

        Returns:
            (views · B, count) for each step, view after view.
        """
        device = samples.device
        blocks = {step: (count + 3) // 4 for step, count in counts.items()}
        block = torch.cat([torch.arange(number, device=device) for number in blocks.values()])
        names = [
            # filled on the device: a copy from the CPU could not be captured into a graph
            torch.full((number,), zlib.crc32(f"{view}/{step}".encode()), device=device)
            for view in views
            for step, number in blocks.items()
        ]
        epoch = torch.full((), self.epoch & MASK, device=device)
        counter = (block, samples[:, None] & MASK, epoch, torch.cat(names).view(len(views), 1, len(block)))
        key = (self.seed & MASK, self.seed >> 32 & MASK)
        words = torch.stack(torch.broadcast_tensors(*philox(counter, key)), dim=-1).flatten(0, 1)
        parts = words.split(list(blocks.values()), dim=1)
        return {step: part.flatten(1)[:, : counts[step]] for step, part in zip(counts, parts, strict=True)}

    def uniform(
        self, samples: Tensor, view: str, step: str, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0
    ) -> Tensor:
        """Uniform float32 in [low, high)."""
        return as_uniform(self.words(samples, view, step, shape), low, high)

    def integers(self, samples: Tensor, view: str, step: str, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform int64 in [0, high)."""
        return as_integers(self.words(samples, view, step, shape), high)

    def normal(self, samples: Tensor, view: str, step: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Standard normal float32 (Box-Muller)."""
        radius, angle = self.uniform(samples, view, step, (2, *shape)).unbind(dim=1)
        return (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)

    def subset(self, samples: Tensor, view: str, step: str, total: int, count: int) -> Tensor:
        """(B, count) different numbers out of [0, total), ascending."""
        return self.uniform(samples, view, step, (total,)).argsort(dim=1)[:, :count].sort(dim=1).values

    def weighted_subset(self, samples: Tensor, view: str, step: str, weights: Tensor, count: int) -> Tensor:
        """(B, count) different numbers out of [0, len(weights)), ascending, drawn one after the other by weight.

        Exponential races (Efraimidis and Spirakis, 2006) give the same law as drawing without replacement.
        """
        arrival = -torch.log1p(-self.uniform(samples, view, step, tuple(weights.shape))) / weights
        return arrival.argsort(dim=1)[:, :count].sort(dim=1).values

    def permutation(self, view: str, step: str, total: int) -> Tensor:
        """All of [0, total) in random order, on the CPU."""
        order = self.words(torch.zeros(1, dtype=torch.int64), view, step, (total,))[0]
        return torch.argsort(order, stable=True)


def as_uniform(words: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Words as uniform float32 in [low, high)."""
    return low + (high - low) * ((words >> 8).float() * 2.0**-24)


def as_integers(words: Tensor, high: int | Tensor) -> Tensor:
    """Words as uniform int64 in [0, high)."""
    return words * high >> 32

"""What the training loop and the protocols know of a method."""

from typing import Protocol, Self

import torch
from torch import Tensor, nn

from skelssl.views.augment import SequenceBatch, ViewPlan
from skelssl.views.draws import Draws


class MethodOptions(Protocol):
    """Every choice of a method, a frozen dataclass."""

    @property
    def stream(self) -> str:
        """What clips show: "joint", "motion" or "bone"."""
        ...

    def official(self) -> Self:
        """These options with every deviation of the official code from the paper."""
        ...

    def plain_view(self, lengths: Tensor) -> ViewPlan:
        """How evaluation shows sequences of lengths (B), without augmentation."""
        ...


class Method(nn.Module):
    """A method on its networks.

    Attributes:
        encoder: the network that pre-training is for: clips (N, C, T, V, M) -> features (N, F).
    """

    encoder: nn.Module

    def training_step(self, batch: SequenceBatch, draws: Draws, step: int) -> dict[str, Tensor]:
        """Loss of one batch; moves key networks and queues where the method has them.

        Views are made in full precision, whatever autocast is on.

        Args:
            batch: sequences.
            draws: of this epoch.
            step: number of this step since training began, for what the whole batch shares.

        Returns:
            `loss`, which has gradients, and its parts.
        """
        with torch.autocast(batch.frames.device.type, enabled=False):
            views = self.views(batch, draws, step)
        return self.losses(*views)

    def views(self, batch: SequenceBatch, draws: Draws, step: int) -> tuple[Tensor, ...]:
        """What is drawn of a batch, everything that depends on the number of the step; see `training_step`."""
        raise NotImplementedError

    def losses(self, *views: Tensor) -> dict[str, Tensor]:
        """The losses of what `views` gives; see `training_step`."""
        raise NotImplementedError

    def why_views_vary(self) -> str | None:
        """The option by which views of different steps differ in shape; None where all are alike."""
        return None

"""What the training loop and the protocols know of a method."""

from typing import Protocol, Self

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

        Args:
            batch: sequences.
            draws: of this epoch.
            step: number of this step since training began, for what the whole batch shares.

        Returns:
            `loss`, which has gradients, and its parts.
        """
        raise NotImplementedError

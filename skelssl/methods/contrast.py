"""What contrastive methods with a momentum encoder and queues (MoCo, He et al., CVPR 2020) share."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from skelkern.nn import Linear
from skelssl.methods.method import Method
from skelssl.skeletons import Skeleton
from skelssl.views.augment import SequenceBatch, sample_views
from skelssl.views.contrast import ContrastOptions, contrast_views, words_needed
from skelssl.views.draws import Draws

VIEWS = "query", "key"
Network = TypeVar("Network", bound=nn.Module)


def projection_head(in_features: int, hidden: int, out_features: int) -> nn.Sequential:
    """Two layers with a ReLU between them."""
    return nn.Sequential(Linear(in_features, hidden), nn.ReLU(inplace=True), Linear(hidden, out_features))


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of length 1, in float32 under autocast too: similarities are divided by a small temperature."""
    return nn.functional.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def key_network(query: Network) -> Network:
    """A copy that learns by momentum alone: no parameter of it takes a gradient."""
    return copy.deepcopy(query).requires_grad_(False)


def total(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """`loss`, the sum of all parts, and the parts for the log."""
    return {"loss": torch.stack(list(parts.values())).sum(), **{name: part.detach() for name, part in parts.items()}}


class ContrastMethod(Method):
    """A method on two views of each sequence, for queries and for keys."""

    skeleton: Skeleton
    options: Any

    def views(self, batch: SequenceBatch, draws: Draws, step: int) -> tuple[Tensor, ...]:
        """(N, C, T, V, M) for the queries and for the keys."""
        words = draws.words_of_steps(batch.samples, VIEWS, words_needed(self.skeleton.num_joints))
        plan = contrast_views(batch.lengths.repeat(len(VIEWS)), words, self.options.views)
        return sample_views(batch, [plan], self.options.stream, self.skeleton)


def check_contrast(temperature: float, momentum: float, views: ContrastOptions, skeleton: Skeleton) -> None:
    """Raises a ValueError where a contrastive method cannot be run with these options."""
    if not temperature > 0:
        raise ValueError(f"temperature: expected more than 0, found {temperature}")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: expected 0 to 1, found {momentum}")
    low, high = views.corrupted_joints
    if not 0 <= low <= high <= skeleton.num_joints:
        expected = f"two numbers of 0 to the skeleton's {skeleton.num_joints} joints, the first not above the second"
        raise ValueError(f"views.corrupted_joints: expected {expected}, found {views.corrupted_joints}")

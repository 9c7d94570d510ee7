"""HiCo: hierarchical contrast (Dong et al., AAAI 2023).

Two views of each sequence: one goes through the query network, one through its momentum copy. At every level of the
hierarchy queries are told from the keys in a queue: instance, temporal and spatial domain, clips and parts.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

import skelkern
from skelkern.nn import MemoryQueue, momentum_update
from skelssl.encoders.bigru import initialise_matrices
from skelssl.encoders.hierarchical import HierarchicalEncoder
from skelssl.methods.contrast import ContrastMethod, check_contrast, key_network, projection_head, total, unit
from skelssl.skeletons import Skeleton
from skelssl.views.augment import ViewPlan
from skelssl.views.contrast import ContrastOptions, central_crops


@dataclass(frozen=True)
class HiCoOptions:
    """Every choice of the method; the defaults are the paper's method, `official()` gives what its code computes.

    Attributes:
        stream: "joint", "motion" or "bone", of the augmented clip.
        views: how views are drawn and how evaluation shows sequences.
        encoder: sequence encoder of both branches.
        width: D of the encoder's tokens.
        levels: G, granularities.
        projection: width of the unit vectors that are contrasted.
        projection_hidden: width of the layer before.
        temperature: τ of all losses.
        momentum: share of itself that the key network keeps at every step.
        queue: K, keys of the instance and domain queues; those of clips and parts have G · K.
        queue_wraps_early: the pointers of the clip and part queues wrap at K, so that three quarters of these queues
            keep their initial noise.
    """

    stream: str = "joint"
    views: ContrastOptions = field(default_factory=ContrastOptions)
    encoder: Literal["gru", "lstm", "transformer"] = "transformer"
    width: int = 512
    levels: int = 4
    projection: int = 128
    projection_hidden: int = 512
    temperature: float = 0.2
    momentum: float = 0.999
    queue: int = 2048
    queue_wraps_early: bool = False

    def official(self) -> "HiCoOptions":
        """These options with every deviation of the official code from the paper."""
        return replace(self, queue_wraps_early=True)

    def plain_view(self, lengths: Tensor) -> ViewPlan:
        """The middle of the sequence, resized."""
        return central_crops(lengths, self.views)


class Projections(NamedTuple):
    """Unit vectors of each level of the hierarchy: (N, G, D) of clips and parts, (N, D) of the others."""

    clip: Tensor
    part: Tensor
    temporal: Tensor
    spatial: Tensor
    instance: Tensor


class HiCoNetwork(nn.Module):
    """The encoder and its five projectors; state_dict keys are those of the official code's `encoder_q.`.

    Args:
        hi_encoder: see `HierarchicalEncoder`; anything with its `levels`.
        options: widths of the projectors.
    """

    def __init__(self, hi_encoder: HierarchicalEncoder, options: HiCoOptions):
        super().__init__()
        self.hi_encoder = hi_encoder
        everything = hi_encoder.feature_dim
        of_level = everything // (2 * options.levels)
        self.clip_proj, self.part_proj = (_head(of_level, options) for _ in range(2))
        self.td_proj, self.sd_proj = (_head(everything // 2, options) for _ in range(2))
        self.instance_proj = _head(everything, options)

    def forward(self, clips: Tensor) -> Projections:
        """clips (N, C, T, V, M)."""
        temporal, spatial = self.hi_encoder.levels(clips)
        both = torch.cat((temporal, spatial), dim=1).flatten(1)
        found = (
            self.clip_proj(temporal),
            self.part_proj(spatial),
            self.td_proj(temporal.flatten(1)),
            self.sd_proj(spatial.flatten(1)),
            self.instance_proj(both),
        )
        return Projections(*map(unit, found))


def _head(width: int, options: HiCoOptions) -> nn.Sequential:
    head = projection_head(width, options.projection_hidden, options.projection)
    initialise_matrices(head)
    return head


class HiCo(ContrastMethod):
    """The method.

    Args:
        encoder: see `HierarchicalEncoder`.
        skeleton: joints.
        options: see `HiCoOptions`.
    """

    def __init__(self, encoder: HierarchicalEncoder, skeleton: Skeleton, options: HiCoOptions = HiCoOptions()):
        super().__init__()
        check_contrast(options.temperature, options.momentum, options.views, skeleton)
        self.skeleton = skeleton
        self.options = options
        self.encoder_q = HiCoNetwork(encoder, options)
        self.encoder_k = key_network(self.encoder_q)
        size, dim = options.queue, options.projection
        written = size if options.queue_wraps_early else None
        self.clip_queue = MemoryQueue(options.levels * size, dim, seed=0, written=written)
        self.part_queue = MemoryQueue(options.levels * size, dim, seed=1, written=written)
        self.temporal_queue = MemoryQueue(size, dim, seed=2)
        self.spatial_queue = MemoryQueue(size, dim, seed=3)
        self.instance_queue = MemoryQueue(size, dim, seed=4)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """The query network's."""
        return self.encoder_q.hi_encoder

    def losses(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """The losses of two views (N, C, T, V, M); moves the key network before, writes the queues after."""
        query = self.encoder_q(first)
        with torch.no_grad():
            momentum_update(self.encoder_k, self.encoder_q, self.options.momentum)
            key = self.encoder_k(second)
        parts = self._contrasts(query, key)
        self._enqueue(key)
        return total(parts)

    def _contrasts(self, query: Projections, key: Projections) -> dict[str, Tensor]:
        """The finest level is the anchor of clips and parts, and all levels are its positives; domains are crossed."""

        def loss(queries: Tensor, positives: Tensor, queue: MemoryQueue) -> Tensor:
            return skelkern.info_nce(queries, positives, queue.queue, self.options.temperature)

        return {
            "clip": loss(query.clip[:, 0], key.clip, self.clip_queue),
            "part": loss(query.part[:, 0], key.part, self.part_queue),
            "domain": loss(query.temporal, key.spatial, self.spatial_queue)
            + loss(query.spatial, key.temporal, self.temporal_queue),
            "instance": loss(query.instance, key.instance, self.instance_queue),
        }

    def _enqueue(self, key: Projections) -> None:
        self.clip_queue.enqueue(key.clip)
        self.part_queue.enqueue(key.part)
        self.temporal_queue.enqueue(key.temporal)
        self.spatial_queue.enqueue(key.spatial)
        self.instance_queue.enqueue(key.instance)

"""ISC: inter-skeleton contrast (Thoker et al., ACM MM 2021).

A sequence is shown in two forms, to encoders of different kinds: a recurrent one on frames as vectors, a graph network,
or a convolutional one on the clip as an image. Each form's queries are told from the other form's keys.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import skelkern
from skelkern.nn import MemoryQueue, momentum_update
from skelkern.processes import current_batch
from skelssl.methods.contrast import ContrastMethod, check_contrast, key_network, projection_head, total, unit
from skelssl.skeletons import Skeleton
from skelssl.views.augment import ViewPlan
from skelssl.views.contrast import ContrastOptions, central_crops

FORMS = {"sequence": "bigru", "graph": "agcn", "image": "hcn"}  # and the encoder of each


@dataclass(frozen=True)
class ISCOptions:
    """Every choice of the method; the defaults are the paper's method, `official()` gives what its code computes.

    Attributes:
        stream: "joint", "motion" or "bone".
        forms: two of "sequence", "graph" and "image", which contrast with each other, or one, which contrasts with
            itself (intra-skeleton contrast). The first one's encoder is what pre-training is for.
        views: how views are drawn and how evaluation shows sequences.
        projection: width of the unit vectors that are contrasted.
        temperature: τ of both losses.
        momentum: share of itself that a key network keeps at every step.
        queue: K, keys of each form's queue.
        sequence_width, sequence_layers: of the sequence encoder, H and the layers of its stack.
        graph_channels, image_channels: of the first layers of the graph and the image encoder.
        official_stepping: the sequence encoder's second direction runs forward in time as well.
        virtual_batch: batch statistics of the graph encoder are those of this many clips; 0: of all. Official weights
            were trained on four devices with 16 clips each.
        enqueued_share: of a batch's keys that enter the queue: a quarter where the first of four devices alone keeps
            its own.
    """

    stream: str = "joint"
    forms: tuple[str, ...] = ("sequence", "graph")
    views: ContrastOptions = field(default_factory=ContrastOptions)
    projection: int = 128
    temperature: float = 0.07
    momentum: float = 0.999
    queue: int = 16384
    sequence_width: int = 1024
    sequence_layers: int = 3
    graph_channels: int = 64
    image_channels: int = 64
    official_stepping: bool = False
    virtual_batch: int = 0
    enqueued_share: float = 1.0

    def __post_init__(self) -> None:
        """Encoders are made by the forms' names before the method sees them."""
        forms = self.forms
        if not 1 <= len(forms) <= 2 or len(set(forms)) != len(forms) or not set(forms) <= set(FORMS):
            raise ValueError(f"forms: expected one or two of {', '.join(FORMS)}, found {', '.join(forms) or 'none'}")

    def official(self) -> "ISCOptions":
        """These options with every deviation of the official code from the paper."""
        return replace(self, official_stepping=True, virtual_batch=16, enqueued_share=0.25)

    def plain_view(self, lengths: Tensor) -> ViewPlan:
        """The middle of the sequence, resized."""
        return central_crops(lengths, self.views)


class FormNetwork(nn.Module):
    """An encoder and its projection; state_dict keys below `fc.` are those of the official code.

    Args:
        encoder: clips (N, C, T, V, M) -> (N, F), with an attribute `feature_dim`.
        projection: width of its unit vectors.
        virtual_batch: clips that are encoded together while training; 0: all.
    """

    def __init__(self, encoder: nn.Module, projection: int, virtual_batch: int = 0):
        super().__init__()
        features: Any = encoder.feature_dim
        self.encoder = encoder
        self.fc = projection_head(features, features, projection)
        self.virtual_batch = virtual_batch

    def forward(self, clips: Tensor) -> Tensor:
        """clips (N, C, T, V, M) -> (N, D) of length 1.

        Raises:
            ValueError: a virtual batch cannot be divided among the processes.
        """
        parts, batch = (clips,), current_batch()
        if self.training and self.virtual_batch:
            own = self.virtual_batch if batch is None else batch.divided("virtual_batch", self.virtual_batch)
            parts = clips.split(own)
        return unit(self.fc(torch.cat([self.encoder(part) for part in parts])))


class ISC(ContrastMethod):
    """The method.

    Args:
        encoders: of the forms.
        skeleton: joints.
        options: see `ISCOptions`.
    """

    def __init__(self, encoders: tuple[nn.Module, ...], skeleton: Skeleton, options: ISCOptions = ISCOptions()):
        super().__init__()
        check_contrast(options.temperature, options.momentum, options.views, skeleton)
        _check_forms(options, len(encoders))
        self.skeleton = skeleton
        self.options = options
        self.queries = nn.ModuleDict()
        self.queues = nn.ModuleDict()
        for number, (form, encoder) in enumerate(zip(options.forms, encoders, strict=True)):
            virtual_batch = options.virtual_batch if form == "graph" else 0
            self.queries[form] = FormNetwork(encoder, options.projection, virtual_batch)
            self.queues[form] = MemoryQueue(options.queue, options.projection, seed=number)
        self.keys = key_network(self.queries)

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """The query encoder of the first form."""
        found: Any = self.queries[self.options.forms[0]]
        return found.encoder

    def losses(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """The losses of two views (N, C, T, V, M); moves the key networks before, writes the queues after."""
        queries = {form: network(first) for form, network in self.queries.items()}
        with torch.no_grad():
            momentum_update(self.keys, self.queries, self.options.momentum)
            keys = {form: network(second) for form, network in self.keys.items()}
        parts = {}
        queue: Any
        for form, other in zip(self.options.forms, reversed(self.options.forms), strict=True):
            queue = self.queues[other]
            parts[form] = skelkern.info_nce(queries[form], keys[other], queue.queue, self.options.temperature)
        for form, found in keys.items():
            queue = self.queues[form]
            queue.enqueue(found, self.options.enqueued_share)
        return total(parts)


def _check_forms(options: ISCOptions, encoders: int) -> None:
    if encoders != len(options.forms):
        raise ValueError(f"encoders: expected one for each form ({', '.join(options.forms)}), found {encoders}")
    if not 0 < options.enqueued_share <= 1:
        raise ValueError(f"enqueued_share: expected more than 0 and at most 1, found {options.enqueued_share}")

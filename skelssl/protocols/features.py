"""Features of a whole data set, computed once per encoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skelkern.processes import sum_over
from skelssl import skeletons
from skelssl.data.loading import sequences_for_one_pass
from skelssl.data.store import Store
from skelssl.engine.recipe import Recipe
from skelssl.views.augment import sample_views

BATCH = 256
_shared: ContextVar[bool] = ContextVar("shared", default=False)


def clip_batches(
    recipe: Recipe, store: Store, samples: np.ndarray, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Clips (B, C, T, V, M) of samples as evaluation shows them, in order, on a device."""
    skeleton, options = skeletons.get(store.header.skeleton), recipe.method_options
    sequences = sequences_for_one_pass(store, torch.device(device))
    for batch in sequences.batches(torch.from_numpy(samples).split(BATCH)):
        yield sample_views(batch, [options.plain_view(batch.lengths)], options.stream, skeleton)[0]


@contextmanager
def shared_encoding() -> Iterator[None]:
    """Within it, all processes of torch.distributed call `encode` alike; each encodes a share, all get all features."""
    token = _shared.set(True)
    try:
        yield
    finally:
        _shared.reset(token)


@torch.no_grad()
def encode(encoder: nn.Module, recipe: Recipe, store: Store, samples: np.ndarray) -> Tensor:
    """(S, F) features of samples, on the CPU, by the encoder in evaluation mode; its mode is put back.

    Within `shared_encoding` whole batches are the share of a process, so that features are bitwise those of one.
    """
    shared, own = _shared.get(), np.full(len(samples), True)
    if shared:
        own = np.arange(len(samples)) // BATCH % torch.distributed.get_world_size() == torch.distributed.get_rank()
    training = encoder.training
    encoder.eval()
    clips = clip_batches(recipe, store, samples[own], _device(encoder))
    features = [encoder(each).cpu() for each in clips]
    encoder.train(training)
    return _joined(encoder, features, own) if shared else torch.cat(features)


def _joined(encoder: nn.Module, features: list[Tensor], own: np.ndarray) -> Tensor:
    """The features of all processes, of whose samples `own` (S) are this one's: a sum of zeros and its features."""
    width: Any = encoder.feature_dim
    joined = torch.zeros(len(own), width)
    if features:
        joined[torch.from_numpy(own)] = torch.cat(features).float()
    return sum_over(joined.to(_device(encoder)), None).cpu()


@torch.no_grad()
def calibrate(encoder: nn.Module, recipe: Recipe, store: Store, samples: np.ndarray) -> None:
    """Sets batch-norm statistics to their means over one pass, without learning: an untrained encoder's fair start.

    Dropout stays off: the statistics are those of what the encoder computes in evaluation mode.
    """
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    encoder.eval()
    for norm in norms:
        norm.train()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    for clips in clip_batches(recipe, store, samples, _device(encoder)):
        encoder(clips)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.eval()


def feature_std(features: Tensor) -> float:
    """Spread of features (S, F) over the unit sphere: 1 where they lie evenly, 0 where all are equal.

    The standard deviation of the L2-normalised features times sqrt(F) (Chen and He, "Exploring simple Siamese
    representation learning", CVPR 2021, section 4.1).
    """
    directions = nn.functional.normalize(features.float(), dim=1)
    return (directions.std(dim=0, correction=0).mean() * features.shape[1] ** 0.5).item()


def _device(encoder: nn.Module) -> torch.device:
    return next(encoder.parameters()).device

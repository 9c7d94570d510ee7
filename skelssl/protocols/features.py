"""Features of a whole data set, computed once per encoder."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from skelssl import skeletons
from skelssl.data.store import Store
from skelssl.engine.recipe import Recipe
from skelssl.views.augment import SequenceBatch, plain_clips

BATCH = 256


def clip_batches(recipe: Recipe, store: Store, samples: np.ndarray) -> Iterator[Tensor]:
    """Clips (B, C, T, V, M) of samples as evaluation shows them, in order."""
    skeleton = skeletons.get(store.header.skeleton)
    frames, offsets = torch.from_numpy(store.frames), torch.from_numpy(store.offsets)
    for part in torch.from_numpy(samples).split(BATCH):
        batch = SequenceBatch(frames, offsets, part)
        yield plain_clips(batch, recipe.pstl.frames, recipe.pstl.stream, skeleton)


@torch.no_grad()
def encode(encoder: nn.Module, recipe: Recipe, store: Store, samples: np.ndarray) -> Tensor:
    """(S, F) features of samples by the encoder in evaluation mode."""
    encoder.eval()
    return torch.cat([encoder(clips) for clips in clip_batches(recipe, store, samples)])


@torch.no_grad()
def calibrate(encoder: nn.Module, recipe: Recipe, store: Store, samples: np.ndarray) -> None:
    """Sets batch-norm statistics to their means over one pass, without learning: an untrained encoder's fair start."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    encoder.train()
    for clips in clip_batches(recipe, store, samples):
        encoder(clips)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum

"""Whether pre-training learns anything: the spread and rank of features, and a nearest-neighbour probe.

All of it looks at samples of the training split alone.
"""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from skelssl.data.store import Store
from skelssl.data.subsets import class_balanced_split, class_balanced_subset
from skelssl.engine.recipe import Recipe
from skelssl.protocols.classify import nearest_neighbours
from skelssl.protocols.features import encode, feature_std

WATCHED = 64  # samples on whose features a collapse is looked for after every epoch
PROBED = 1280  # samples of the probe at most
HELD_OUT = 0.2  # share of them that is classified by the others
LOW_RANK, LOW_SPREAD = 2.0, 1e-4  # below either there is a warning


def effective_rank(features: Tensor) -> float:
    """Along how many directions features (S, F) vary: 1 on a line, at most min(S - 1, F); 0 where all are equal.

    The exponential of the entropy of the normalised singular values (Roy and Vetterli, "The effective rank", EUSIPCO
    2007) of the centred features.
    """
    values = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    total = values.sum()
    if not total > torch.finfo(features.dtype).eps * features.abs().sum():
        return 0.0
    share = values / total
    return torch.special.entr(share).sum().exp().item()


class Watch:
    """Looks at an encoder in training after every epoch.

    Args:
        recipe: what is trained.
        store: its data set.
    """

    def __init__(self, recipe: Recipe, store: Store):
        self.recipe, self.store, self.warned = recipe, store, False
        samples = store.select(recipe.training.split)
        self.samples = samples[np.linspace(0, len(samples) - 1, min(WATCHED, len(samples))).astype(np.int64)]
        self.gallery, self.held_out = probe_samples(samples, store.labels, recipe.training.seed)

    def epoch(self, encoder: nn.Module, epoch: int) -> dict[str, float]:
        """`feature_std` and `effective_rank` of some sequences; `knn_probe` when it is time and samples are held out.

        A collapse of the features warns, once.
        """
        training = self.recipe.training
        features = encode(encoder, self.recipe, self.store, self.samples)
        values = {"feature_std": feature_std(features), "effective_rank": effective_rank(features)}
        if values["effective_rank"] < LOW_RANK or values["feature_std"] < LOW_SPREAD:
            self._warn(epoch, values)
        done = epoch + 1
        due = training.probe_every and (done % training.probe_every == 0 or done == training.epochs)
        if due and len(self.held_out) > 0:
            values["knn_probe"] = self.probe(encoder)
        return values

    def probe(self, encoder: nn.Module) -> float:
        """Percent of held-out training samples whose nearest neighbour among the others is of their class."""
        known, unseen = (
            encode(encoder, self.recipe, self.store, part).float() for part in (self.gallery, self.held_out)
        )
        labels, truth = (torch.from_numpy(self.store.labels[part]) for part in (self.gallery, self.held_out))
        found = nearest_neighbours((known, labels), unseen, len(self.store.header.class_names), k=1)
        return 100 * (found == truth).double().mean().item()

    def _warn(self, epoch: int, values: dict[str, float]) -> None:
        if not self.warned:
            warnings.warn(
                f"the features are collapsing in epoch {epoch}: {len(self.samples)} sequences vary along "
                f"{values['effective_rank']:.2g} directions (effective_rank), feature_std {values['feature_std']:.2g}",
                stacklevel=3,
            )
        self.warned = True


def probe_samples(samples: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(gallery, held out) of training samples, both class-balanced, PROBED together at most."""
    share = min(1.0, PROBED / max(1, len(samples)))
    chosen = samples if share == 1 else class_balanced_subset(samples, labels, share, seed)
    known, held_out = class_balanced_split(labels[chosen], HELD_OUT, seed)
    return chosen[known], chosen[held_out]

"""Linear classification by several runs together, such as the streams of a method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from skelssl.data.store import Store
from skelssl.protocols.classify import linear, standardised
from skelssl.protocols.evaluate import EvaluationError, load_run, run_features


@dataclass(frozen=True)
class Fusion:
    """Top-1 accuracies in percent of the last epoch.

    Attributes:
        single: of every run's own classifier.
        score_sum: of the sum of their class probabilities.
        concatenated: of one classifier on all features side by side.
    """

    single: tuple[float, ...]
    score_sum: float
    concatenated: float


def fuse(runs: Sequence[Path], store: Store, train: str | None = None, test: str | None = None) -> Fusion:
    """Trains linear classifiers on the features of several runs and fuses them.

    Args:
        runs: folders of finished runs; the first one's recipe says how classifiers are trained.
        store: their data set.
        train: split that classifiers are trained on; by default that of the first run's pre-training.
        test: split to test on; by default the first recipe's.

    Raises:
        EvaluationError: no runs, one is not finished, or it is of another data set.
    """
    if not runs:
        raise EvaluationError("runs: expected at least one, found none")
    recipe = load_run(runs[0], store)
    splits = train or recipe.training.split, test or recipe.evaluation.test
    samples = tuple(store.select(split) for split in splits)
    labels, truth = (torch.from_numpy(store.labels[part]) for part in samples)
    by_run = [run_features(load_run(run, store), store, run, samples) for run in runs]
    together = tuple(torch.cat(parts, dim=1) for parts in zip(*by_run, strict=True))
    scores = []
    for features in (*by_run, together):
        known, unseen = standardised(features) if recipe.evaluation.standardise else features
        parts = (known, labels), (unseen, truth)
        classes, seed = len(store.header.class_names), recipe.training.seed
        scores.append(linear(*parts, classes, recipe.evaluation, seed).scores)
    *single, concatenated = (_accuracy(each, truth) for each in scores)
    return Fusion(tuple(single), _accuracy(torch.stack(scores[:-1]).sum(dim=0), truth), concatenated)


def _accuracy(scores: Tensor, truth: Tensor) -> float:
    return 100 * (scores.argmax(dim=1) == truth).double().mean().item()

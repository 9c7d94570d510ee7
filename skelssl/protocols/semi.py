"""Few labels: class-balanced subsets of the training samples, for a linear classifier and for the whole network."""

from collections.abc import Sequence

import numpy as np

from skelssl.data.subsets import class_balanced_subset
from skelssl.protocols.classify import Part, linear_together
from skelssl.protocols.context import ENCODERS, Context
from skelssl.protocols.finetune import finetuned
from skelssl.protocols.results import Result


def run(context: Context) -> list[Result]:
    """Linear classification of frozen features with every fraction of labels; mean and deviation over subsets."""
    rows = []
    for fraction in context.recipe.evaluation.fractions:
        correct = _frozen(context, labelled_subsets(context, fraction))
        rows += context.results("semi", correct, setting="frozen, labelled %", level=100 * fraction, epochs="last")
    return rows


def run_finetuned(context: Context) -> list[Result]:
    """The whole network trained on every fraction of labels; untrained: from fresh weights."""
    rows = []
    for fraction in context.recipe.evaluation.fractions:
        chosen = labelled_subsets(context, fraction)
        correct = {
            name: np.stack([finetuned(context, name, samples, seed) for seed, samples in enumerate(chosen)])
            for name in ENCODERS
        }
        setting = "fine-tuned, labelled %"
        rows += context.results("semi-finetune", correct, setting=setting, level=100 * fraction, epochs="last")
    return rows


def labelled_subsets(context: Context, fraction: float) -> list[np.ndarray]:
    """Samples of the training split whose labels are used, one subset for each seed."""
    samples, labels = context.samples[0], context.store.labels
    return [class_balanced_subset(samples, labels, fraction, seed) for seed in range(context.recipe.evaluation.subsets)]


def _frozen(context: Context, chosen: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """(encoders · subsets, S) which test samples are classified correctly; all classifiers learn together."""
    rows = [np.flatnonzero(np.isin(context.samples[0], samples)) for samples in chosen]
    trains: list[Part] = []
    tests: list[Part] = []
    for name in ENCODERS:
        for parts in context.features[name]:
            known, unseen = context.scaled(*parts)  # by all training samples: that takes no labels
            trains += [(known[row], context.labels[0][row]) for row in rows]
            tests += [(unseen, context.labels[1])] * len(rows)
    seeds = [seed for _ in range(len(trains) // len(rows)) for seed in range(len(rows))]
    found = linear_together(trains, tests, context.classes, context.recipe.evaluation, seeds)
    correct = np.stack([(each.last == context.labels[1]).numpy() for each in found]).astype(np.float64)
    split = len(context.features[ENCODERS[0]]) * len(rows)
    return dict(zip(ENCODERS, (correct[:split], correct[split:]), strict=True))

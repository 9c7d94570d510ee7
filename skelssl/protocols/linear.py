"""Linear classification of frozen features: by the paper's optimizer, and exactly."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelssl.engine.checkpoint import replace_file
from skelssl.protocols.classify import among_first, standardised
from skelssl.protocols.context import ENCODERS, Context
from skelssl.protocols.exact import ExactClassifier, Samples, choose_penalty, solve, stratified_folds
from skelssl.protocols.results import Result

TOP = 5
CLASSES, CONFUSION = "classes.csv", "confusion.csv"


def run(context: Context) -> list[Result]:
    """Last epoch, which is the headline, the epoch that did best on the test samples, and top-5 of the last."""
    truth = context.labels[1]
    last, best, top = (
        {name: _stacked([correct(each) for each in context.classifiers[name]]) for name in ENCODERS}
        for correct in (
            lambda found: found.last == truth,
            lambda found: found.best == truth,
            lambda found: among_first(found.scores, truth, TOP),
        )
    )
    for name in ENCODERS:
        context.predictions[f"{name} linear 0 last"] = last[name].mean(axis=0)
        context.predictions[f"{name} linear 0 best"] = best[name].mean(axis=0)
    context.predictions["trained linear scores"] = context.classifiers["trained"][0].scores.numpy()
    context.predictions["labels"] = truth.numpy()
    rows = context.results("linear", last, epochs="last")
    if context.classes > TOP:
        rows += context.results("linear", top, epochs="last", metric=f"top-{TOP}")
    return rows + context.results("linear", best, epochs="best")


def run_exact(context: Context) -> list[Result]:
    """L2-regularised logistic regression at its optimum, its penalty chosen within the training samples."""
    correct, penalties = {}, {}
    for name in ENCODERS:
        found = [_exact(context, known, unseen) for known, unseen in context.features[name]]
        correct[name] = _stacked([scores.argmax(dim=1) == context.labels[1] for _, scores in found])
        penalties[name] = ", ".join(sorted({f"{classifier.penalty:g}" for classifier, _ in found}))
        context.predictions[f"{name} linear-exact 0"] = correct[name].mean(axis=0)
    note = f"penalty {penalties['trained']}; untrained {penalties['untrained']}"
    return context.results("linear-exact", correct, note=note)


def _exact(context: Context, known: Tensor, unseen: Tensor) -> tuple[ExactClassifier, Tensor]:
    """A classifier of features and its (S, classes) probabilities of the test samples."""
    labels, options = context.labels[0], context.recipe.evaluation
    penalty = choose_penalty((known, labels), context.classes, options.exact_penalties, _folds(context))
    scaled = standardised((known, unseen))
    classifier = solve(Samples(scaled[0], labels, context.classes), penalty)
    return classifier, classifier.scores(scaled[1])


def _folds(context: Context) -> list[tuple[Tensor, Tensor]]:
    """(training, validation) rows of the training samples: the recipe's validation splits where they lie within."""
    known, folds = context.samples[0], []
    own = [pair for pair in context.recipe.evaluation.validation if set(pair) <= set(context.store.splits)]
    for pair in own:
        rows = [np.flatnonzero(np.isin(known, context.store.select(split))) for split in pair]
        if all(len(each) for each in rows):
            folds.append((torch.from_numpy(rows[0]), torch.from_numpy(rows[1])))
    return folds or list(stratified_folds(context.labels[0], context.recipe.training.seed))


def _stacked(rows: list[Tensor]) -> np.ndarray:
    return torch.stack(rows).numpy().astype(np.float64)


def write_classes(folder: Path, context: Context) -> None:
    """Writes classes.csv, linear accuracy by class, and confusion.csv, counts of predictions by true class."""
    truth, names = context.predictions["labels"], context.store.header.class_names
    predicted = context.predictions["trained linear scores"].argmax(axis=1)
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    accuracies = [context.predictions[f"{name} linear 0 last"] for name in ENCODERS]
    lines: list[list[object]] = [["class", "test_samples", *ENCODERS]]
    for label, name in enumerate(names):
        own = truth == label
        values = [f"{100 * each[own].mean():.2f}" if own.any() else "" for each in accuracies]
        lines.append([name, int(own.sum()), *values])
    _write_csv(folder / CLASSES, lines)
    _write_csv(
        folder / CONFUSION, [["true class", *names], *([name, *row] for name, row in zip(names, counts, strict=True))]
    )


def _write_csv(path: Path, lines: list[list[object]]) -> None:
    def write(partial: Path) -> None:
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows(lines)

    replace_file(path, write)

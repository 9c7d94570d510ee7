"""Linear classification by several runs together, such as the streams of a method."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelssl.data.store import Store
from skelssl.engine.recipe import with_evaluation
from skelssl.protocols.classify import linear_together
from skelssl.protocols.context import ENCODERS, Context, EvaluationError, load_run, open_context, stream_name
from skelssl.protocols.results import Result, write_results

SCORES, FEATURES = "fusion of scores", "fusion of features"


def fuse(
    runs: Sequence[Path],
    store: Store,
    train: str | None = None,
    test: str | None = None,
    *,
    weights: Sequence[float] | None = None,
    out: Path | None = None,
    flags: Sequence[str] = (),
) -> list[Result]:
    """Every subset of several runs: the weighted sum of their class probabilities, and one classifier on all features.

    Classifiers are linear, after their last epoch. A subset of one run is that run alone.

    Args:
        runs: folders of finished runs; the first one's recipe says how classifiers are trained.
        store: their data set.
        train: split that classifiers are trained on; by default that of the first run's pre-training.
        test: split to test on; by default the first recipe's.
        weights: of the runs' probabilities; by default equal.
        out: folder for results.json, if wanted.
        flags: that change the recipes' options of evaluation, such as `--evaluation.initialisations=1`.

    Raises:
        EvaluationError: no runs, one is not finished or of another data set, or the weights do not fit them.
    """
    if not runs:
        raise EvaluationError("runs: expected at least one, found none")
    weights = [1.0] * len(runs) if weights is None else list(weights)
    if len(weights) != len(runs) or min(weights) < 0 or not any(weights):
        raise EvaluationError(f"weights: expected {len(runs)}, none below 0 and not all 0, found {weights}")
    recipes = [with_evaluation(load_run(run, store), flags) for run in runs]
    first = open_context(runs[0], store, train, test, recipes[0])
    others = zip(runs[1:], recipes[1:], strict=True)
    contexts = [first, *(open_context(run, store, first.train, first.test, recipe) for run, recipe in others)]
    names = _names(contexts)
    results = []
    for chosen in _subsets(len(runs)):
        setting = " + ".join(names[place] for place in chosen)
        fields = {"setting": setting, "epochs": "last"}
        if len(chosen) > 1:
            given = ":".join(f"{weights[place]:g}" for place in chosen)
            results += first.results(SCORES, _by_scores(contexts, weights, chosen), **fields, note=f"weights {given}")
        results += first.results(FEATURES if len(chosen) > 1 else "linear", _by_features(contexts, chosen), **fields)
    if out is not None:
        write_results(out, results)
    return results


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    """Every run alone, then every pair, and so on up to all."""
    for size in range(1, count + 1):
        yield from itertools.combinations(range(count), size)


def _names(contexts: Sequence[Context]) -> list[str]:
    """Of the runs' streams; their folders' where two have the same."""
    streams = [stream_name(context.recipe) for context in contexts]
    counts = Counter(streams)
    return [
        stream if counts[stream] == 1 else f"{stream} ({context.run.name})"
        for stream, context in zip(streams, contexts, strict=True)
    ]


def _by_scores(contexts: Sequence[Context], weights: Sequence[float], chosen: Sequence[int]) -> dict[str, np.ndarray]:
    """(encoders, S) whether the weighted sum of probabilities is right."""
    correct = {}
    for name in ENCODERS:
        together = zip(
            *([found.scores for found in contexts[place].classifiers[name]] for place in chosen), strict=True
        )
        sums = [sum(weights[place] * each for place, each in zip(chosen, scores, strict=True)) for scores in together]
        correct[name] = _correct(sums, contexts[0])
    return correct


def _by_features(contexts: Sequence[Context], chosen: Sequence[int]) -> dict[str, np.ndarray]:
    """(encoders, S) whether a classifier on the features of all is right."""
    first = contexts[0]
    if len(chosen) == 1:
        own = contexts[chosen[0]].classifiers
        return {name: _correct([found.scores for found in own[name]], first) for name in ENCODERS}
    counts = [len(first.features[name]) for name in ENCODERS]
    together = []
    for name in ENCODERS:
        for pairs in zip(*(contexts[place].features[name] for place in chosen), strict=True):
            together.append(first.scaled(*(torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))))
    trains, tests = ([(parts[place], first.labels[place]) for parts in together] for place in (0, 1))
    seeds = [first.recipe.training.seed] * len(together)
    found = linear_together(trains, tests, first.classes, first.recipe.evaluation, seeds)
    scores = [each.scores for each in found]
    return {
        name: _correct(part, first)
        for name, part in zip(ENCODERS, (scores[: counts[0]], scores[counts[0] :]), strict=True)
    }


def _correct(scores: Sequence[Tensor | int], context: Context) -> np.ndarray:
    truth = context.labels[1]
    return torch.stack([torch.as_tensor(each).argmax(dim=1) == truth for each in scores]).numpy().astype(np.float64)

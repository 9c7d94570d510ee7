"""Linear and nearest-neighbour classification of frozen features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skelkern import cosine_topk
from skelssl.engine.recipe import EvaluationOptions
from skelssl.engine.schedule import learning_rate, make_optimizer
from skelssl.views.draws import Draws

Part = tuple[Tensor, Tensor]  # features (S, F) and labels (S)
RANKED_TOGETHER = 4_000_000  # similarities that are sorted at once
STACKED_TOGETHER = 64_000_000  # test features that layers are tried on at once


@dataclass(frozen=True)
class LinearResult:
    """Predictions (S) of the last epoch, which is the headline, and of the epoch that did best on the test samples.

    Attributes:
        scores: (S, classes) probabilities after the last epoch.
        weight, bias: (F, classes) and (classes) after the last epoch.
    """

    last: Tensor
    best: Tensor
    best_epoch: int
    scores: Tensor
    weight: Tensor
    bias: Tensor


def linear(train: Part, test: Part, classes: int, options: EvaluationOptions, seed: int) -> LinearResult:
    """One linear layer on frozen features, see `linear_together`."""
    return linear_together([train], [test], classes, options, [seed])[0]


def linear_together(
    trains: Sequence[Part], tests: Sequence[Part], classes: int, options: EvaluationOptions, seeds: Sequence[int]
) -> list[LinearResult]:
    """Linear layers, each on features of its own, that take their steps together: one product for all of them.

    What a layer learns does not depend on the others. By default as in PSTL: Adam without decay, cosine schedule,
    Xavier-normal start.

    Args:
        trains: of every layer, equally many samples of equally many features.
        tests: of every layer, equally many as well.
        classes: number of labels.
        options: of the linear classifier.
        seeds: of every layer's initialisation and order.
    """
    found: list[LinearResult] = []
    group = max(1, STACKED_TOGETHER // max(1, tests[0][0].numel()))
    for first in range(0, len(seeds), group):
        chosen = slice(first, first + group)
        found += _learn(trains[chosen], tests[chosen], classes, options, seeds[chosen])
    return found


def _learn(
    trains: Sequence[Part], tests: Sequence[Part], classes: int, options: EvaluationOptions, seeds: Sequence[int]
) -> list[LinearResult]:
    """As `linear_together`, for as many layers as memory holds."""
    solver, samples = options.linear, len(trains[0][0])
    weight, bias = _initial(trains[0][0].shape[1], classes, options, seeds)
    optimizer = make_optimizer(solver, [weight, bias])
    unseen, truth = (torch.stack(parts) for parts in zip(*tests, strict=True))
    best = torch.empty_like(truth)
    best_epoch, most = [0] * len(seeds), torch.full((len(seeds),), -1)
    logits = torch.empty(0)
    for epoch in range(solver.epochs):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(solver, epoch)
        orders = [Draws(seed, epoch).permutation("linear", "order", samples) for seed in seeds]
        for rows in zip(*(order.split(solver.batch_size) for order in orders), strict=True):
            known = torch.stack([features[row] for (features, _), row in zip(trains, rows, strict=True)])
            labels = torch.stack([label[row] for (_, label), row in zip(trains, rows, strict=True)])
            weight.grad, bias.grad = _gradients(known, labels, weight.detach(), bias.detach())
            optimizer.step()
        logits = torch.baddbmm(bias.detach(), unseen, weight.detach())
        correct = (logits.argmax(dim=2) == truth).sum(dim=1)
        for layer in (correct > most).nonzero()[:, 0].tolist():
            best[layer], best_epoch[layer], most[layer] = logits[layer].argmax(dim=1), epoch, correct[layer]
    weights, biases = weight.detach(), bias.detach()[:, 0]
    return [
        LinearResult(
            each.argmax(dim=1), best[layer], best_epoch[layer], each.softmax(dim=1), weights[layer], biases[layer]
        )
        for layer, each in enumerate(logits)
    ]


def _initial(
    features: int, classes: int, options: EvaluationOptions, seeds: Sequence[int]
) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (E, F, classes) and biases (E, 1, classes) of layers."""
    weights = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            weight = nn.Linear(features, classes).weight
            if options.linear_initialisation == "xavier":
                nn.init.xavier_normal_(weight)
            else:
                nn.init.normal_(weight, std=0.01)
            weights.append(weight.detach().t())
    return nn.Parameter(torch.stack(weights).contiguous()), nn.Parameter(torch.zeros(len(seeds), 1, classes))


def _gradients(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Of the mean cross-entropy of each layer: features (E, B, F), labels (E, B)."""
    slope = torch.baddbmm(bias, features, weight).softmax(dim=2)
    slope.scatter_add_(2, labels[:, :, None], slope.new_full((), -1.0).expand(*labels.shape, 1))
    slope /= labels.shape[1]
    return features.transpose(1, 2) @ slope, slope.sum(dim=1, keepdim=True)


def standardised(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Features (S, F) of several parts, scaled to mean 0 and deviation 1 of the first, the training part."""
    mean, deviation = features[0].mean(dim=0), features[0].std(dim=0)
    return tuple((part - mean) / (deviation + 1e-6) for part in features)


def nearest_neighbours(train: Part, queries: Tensor, classes: int, k: int) -> Tensor:
    """Predictions (S) by the k training features of largest cosine similarity.

    Exact. Of equally similar features the first counts, a zero vector has similarity 0 to everything; of classes with
    equally many votes the more similar one is predicted.

    Args:
        train: features (S, F) and labels (S).
        queries: features to classify.
        classes: number of them.
        k: neighbours that vote.

    Raises:
        ValueError: k is not in 1 to the number of training features.
    """
    return neighbour_votes(train, queries, classes, [k])[k]


def neighbour_votes(train: Part, queries: Tensor, classes: int, ks: Sequence[int]) -> dict[int, Tensor]:
    """As `nearest_neighbours` for several values of k, found by one search: predictions (S) by k."""
    features, labels = train
    for k in ks:
        if not 1 <= k <= len(features):
            raise ValueError(f"k: expected 1 to {len(features)}, the number of training features, found {k}")
    similarity, index = cosine_topk(queries, features, max(ks))
    # a vote counts 1 and its similarity far less, so that the number of votes decides before it
    weights, voted = 1 + 1e-3 * similarity, labels[index]
    empty = torch.zeros(len(queries), classes)
    return {k: empty.scatter_add(1, voted[:, :k], weights[:, :k]).argmax(dim=1) for k in ks}


def average_precision(train: Part, queries: Part) -> Tensor:
    """(S) average precision of each query's ranking of all training features by cosine similarity.

    The mean, over the training features of the query's class, of the share of that class among those ranked no lower.
    Of equally similar features the first ranks first. A query whose class has no training features has 0.

    Args:
        train, queries: features (S, F) and labels (S).
    """
    features, labels = nn.functional.normalize(train[0], dim=1), train[1]
    places = torch.arange(1, len(features) + 1, dtype=torch.float64)
    found = []
    rows = max(1, RANKED_TOGETHER // max(1, len(features)))
    for part, truth in zip(queries[0].split(rows), queries[1].split(rows), strict=True):
        similarity = nn.functional.normalize(part, dim=1) @ features.t()
        order = similarity.argsort(dim=1, descending=True, stable=True)
        relevant = labels[order] == truth[:, None]
        precision = relevant.cumsum(dim=1) / places
        found.append((precision * relevant).sum(dim=1) / relevant.sum(dim=1).clamp(min=1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)


def among_first(scores: Tensor, truth: Tensor, count: int) -> Tensor:
    """(S) whether the true class is among the `count` of highest score (S, classes)."""
    return (scores.topk(min(count, scores.shape[1]), dim=1).indices == truth[:, None]).any(dim=1)

"""Linear and nearest-neighbour classification of frozen features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skelkern import cosine_topk
from skelssl.engine.recipe import EvaluationOptions
from skelssl.views.draws import Draws


@dataclass(frozen=True)
class LinearResult:
    """Predictions (S) of the last epoch, which is the headline, and of the epoch that did best on the test samples.

    Attributes:
        scores: (S, classes) probabilities after the last epoch.
    """

    last: Tensor
    best: Tensor
    best_epoch: int
    scores: Tensor


def linear(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, options: EvaluationOptions, seed: int
) -> LinearResult:
    """One linear layer on frozen features (PSTL: Adam without decay, cosine schedule, Xavier-normal start).

    Args:
        train, test: features (S, F) and labels (S).
        classes: number of them.
        options: epochs, rate and batch size.
        seed: of initialisation and order.
    """
    (features, labels), (unseen, truth) = train, test
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(features.shape[1], classes)
        nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(layer.parameters(), lr=options.linear_learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.linear_epochs)
    best, best_epoch, most = torch.empty(0), 0, -1
    predictions = logits = torch.empty(0)
    for epoch in range(options.linear_epochs):
        order = Draws(seed, epoch).permutation("linear", "order", len(features))
        for batch in order.split(options.linear_batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(layer(features[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            logits = layer(unseen)
        predictions = logits.argmax(dim=1)
        correct = int((predictions == truth).sum())
        if correct > most:
            best, best_epoch, most = predictions, epoch, correct
    return LinearResult(predictions, best, best_epoch, logits.softmax(dim=1))


def standardised(features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Features (S, F) of several parts, scaled to mean 0 and deviation 1 of the first, the training part."""
    mean, deviation = features[0].mean(dim=0), features[0].std(dim=0)
    return tuple((part - mean) / (deviation + 1e-6) for part in features)


def nearest_neighbours(train: tuple[Tensor, Tensor], queries: Tensor, classes: int, k: int) -> Tensor:
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
    features, labels = train
    if not 1 <= k <= len(features):
        raise ValueError(f"k: expected 1 to {len(features)}, the number of training features, found {k}")
    similarity, index = cosine_topk(queries, features, k)
    # a vote counts 1 and its similarity far less, so that the number of votes decides before it
    votes = torch.zeros(len(queries), classes).scatter_add_(1, labels[index], 1 + 1e-3 * similarity)
    return votes.argmax(dim=1)

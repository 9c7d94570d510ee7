"""The best linear classifier there is: L2-regularised multinomial logistic regression, solved to its optimum.

It has no learning rate, schedule or seed; the one choice, its penalty, is made by cross-validation within the training
samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skelssl.protocols.classify import Part, standardised
from skelssl.views.draws import Draws

TOLERANCE = 1e-6  # largest entry of the gradient at the optimum
ITERATIONS, ROUNDS = 3000, 3
FOLDS = 3


class ConvergenceError(RuntimeError):
    """The solver has not come to the optimum."""


@dataclass(frozen=True)
class ExactClassifier:
    """Weights of standardised features.

    Attributes:
        weight: (F, classes) float64.
        bias: (classes) float64.
        penalty: of the squared weights.
        gradient: its largest entry where the solver stopped.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    gradient: float

    def scores(self, features: Tensor) -> Tensor:
        """(S, classes) probabilities of standardised features (S, F)."""
        return (features.double() @ self.weight + self.bias).softmax(dim=1)


def solve(train: Part, classes: int, penalty: float, start: ExactClassifier | None = None) -> ExactClassifier:
    """Minimises mean cross-entropy + penalty / 2 · ‖weight‖² by L-BFGS in float64; biases are not penalised.

    Args:
        train: standardised features (S, F) and labels (S).
        classes: number of labels.
        penalty: above 0, so that there is one optimum.
        start: a solution of these samples for another penalty, to begin at.

    Raises:
        ConvergenceError: the gradient is still above TOLERANCE after ROUNDS times ITERATIONS steps.
    """
    features, labels = train[0].double(), train[1]
    basis = None
    if features.shape[1] > len(features):
        # the optimum is a combination of the samples: within their span nothing is lost
        basis = torch.linalg.qr(features.t()).Q
        features = features @ basis
    inner = torch.zeros(features.shape[1] + 1, classes, dtype=torch.float64)
    if start is not None:
        inner[:-1] = start.weight if basis is None else basis.t() @ start.weight
        inner[-1] = start.bias
    solution, gradient = _minimise(inner, features, labels, penalty)
    if not gradient <= TOLERANCE:
        raise ConvergenceError(f"penalty {penalty:g}: expected a gradient of at most {TOLERANCE}, found {gradient:.2g}")
    weight = solution[:-1] if basis is None else basis @ solution[:-1]
    return ExactClassifier(weight, solution[-1], penalty, gradient)


def _minimise(start: Tensor, features: Tensor, labels: Tensor, penalty: float) -> tuple[Tensor, float]:
    """(F + 1, classes) of the optimum, the last row its biases, and the largest entry of its gradient."""
    both = start.clone().requires_grad_()
    samples = torch.arange(len(labels))

    def closure() -> Tensor:
        inner = both.detach()
        logs = torch.addmm(inner[-1], features, inner[:-1]).log_softmax(dim=1)
        loss = -logs[samples, labels].mean() + penalty / 2 * inner[:-1].square().sum()
        slope = logs.exp_()
        slope[samples, labels] -= 1
        slope /= len(labels)
        both.grad = torch.cat((features.t() @ slope + penalty * inner[:-1], slope.sum(dim=0, keepdim=True)))
        return loss

    gradient = torch.inf
    for _ in range(ROUNDS):  # where a line search fails for rounding, a fresh start goes on
        optimizer = torch.optim.LBFGS(
            [both],
            max_iter=ITERATIONS,
            max_eval=2 * ITERATIONS,
            history_size=20,
            tolerance_grad=TOLERANCE / 2,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
        optimizer.step(closure)
        closure()
        assert both.grad is not None
        gradient = both.grad.abs().max().item()
        if gradient <= TOLERANCE:
            break
    return both.detach(), gradient


def choose_penalty(
    train: Part, classes: int, penalties: Sequence[float], folds: Sequence[tuple[Tensor, Tensor]]
) -> float:
    """The penalty of the best mean accuracy over folds; of equally good ones the largest.

    Args:
        train: features (S, F), which are standardised by each fold's training part, and labels (S).
        classes: number of labels.
        penalties: to choose from.
        folds: (training, validation) rows of the features.
    """
    descending = sorted(penalties, reverse=True)
    if len(descending) == 1:
        return descending[0]
    accuracy = np.zeros(len(descending))
    for known, held in folds:
        first, second = standardised((train[0][known], train[0][held]))
        found = None
        for place, penalty in enumerate(descending):
            found = solve((first, train[1][known]), classes, penalty, found)
            correct = found.scores(second).argmax(dim=1) == train[1][held]
            accuracy[place] += correct.double().mean().item()
    return descending[int(accuracy.argmax())]


def stratified_folds(labels: Tensor, seed: int, folds: int = FOLDS) -> Iterator[tuple[Tensor, Tensor]]:
    """(training, validation) rows, every class spread evenly over the validation parts."""
    order = Draws(seed, 0).permutation("exact", "folds", len(labels))
    by_class = order[labels[order].argsort(stable=True)]
    place = torch.empty_like(by_class)
    place[by_class] = torch.arange(len(labels)) % folds
    for fold in range(folds):
        yield (place != fold).nonzero()[:, 0], (place == fold).nonzero()[:, 0]

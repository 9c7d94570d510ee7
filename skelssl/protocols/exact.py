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
STEPS, MOST_CONJUGATE = 100, 500
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


class Samples:
    """Labelled samples along the principal axes of their features, which lets every step of `solve` be short.

    Args:
        features: standardised (S, F).
        labels: (S).
        classes: number of labels.

    Raises:
        ValueError: a feature is not finite.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int):
        if not features.isfinite().all():
            raise ValueError("features: expected finite numbers, found others")
        wide, self.labels, self.classes = features.double(), labels, classes
        # the optimum is a combination of the samples: within their span nothing is lost
        span = torch.linalg.qr(wide.t()).Q if wide.shape[1] > len(wide) else None
        inner = wide if span is None else wide @ span
        axes = torch.linalg.eigh(inner.t() @ inner).eigenvectors
        self.basis = axes if span is None else span @ axes  # (F, R), orthonormal
        self.features = inner @ axes  # (S, R)
        self.rows = torch.arange(len(labels))

    def loss(self, solution: Tensor, penalty: float) -> tuple[float, Tensor]:
        """What is minimised, at (R + 1, classes), the last row biases; and logarithms of probabilities (S, classes)."""
        logs = self._scores(solution).log_softmax(dim=1)
        squares = solution[:-1].square().sum()
        return (penalty / 2 * squares - logs[self.rows, self.labels].mean()).item(), logs

    def gradient(self, solution: Tensor, logs: Tensor, penalty: float) -> Tensor:
        """Of the loss, (R + 1, classes)."""
        slope = logs.exp()
        slope[self.rows, self.labels] -= 1
        return self._back(slope, solution, penalty)

    def curvature(self, direction: Tensor, shares: Tensor, penalty: float) -> Tensor:
        """The Hessian of the loss times a direction (R + 1, classes), where probabilities are `shares`."""
        change = self._scores(direction)
        return self._back(shares * (change - (shares * change).sum(dim=1, keepdim=True)), direction, penalty)

    def diagonal(self, shares: Tensor, penalty: float) -> Tensor:
        """That of the Hessian, above 0."""
        weights = shares * (1 - shares) / len(self.rows)
        of_biases = weights.sum(dim=0, keepdim=True) + torch.finfo(torch.float64).eps
        return torch.cat((self.features.square().t() @ weights + penalty, of_biases))

    def _scores(self, solution: Tensor) -> Tensor:
        return torch.addmm(solution[-1], self.features, solution[:-1])

    def _back(self, slope: Tensor, solution: Tensor, penalty: float) -> Tensor:
        slope = slope / len(self.rows)
        weights = torch.addmm(solution[:-1], self.features.t(), slope, beta=penalty)
        return torch.cat((weights, slope.sum(dim=0, keepdim=True)))


def solve(samples: Samples, penalty: float, start: ExactClassifier | None = None) -> ExactClassifier:
    """Minimises mean cross-entropy + penalty / 2 · ‖weight‖² in float64; biases are not penalised.

    By Newton's method, its directions by conjugate gradients (truncated Newton, Nocedal and Wright, "Numerical
    optimization", 2006, section 7.1; for this loss Lin, Weng and Keerthi, JMLR 2008).

    Args:
        samples: of training.
        penalty: above 0, so that there is one optimum.
        start: a solution of these samples for another penalty, to begin at.

    Raises:
        ConvergenceError: the gradient is still above TOLERANCE after STEPS steps.
    """
    solution = torch.zeros(samples.features.shape[1] + 1, samples.classes, dtype=torch.float64)
    if start is not None:
        solution[:-1], solution[-1] = samples.basis.t() @ start.weight, start.bias
    loss, logs = samples.loss(solution, penalty)
    for _ in range(STEPS):
        gradient = samples.gradient(solution, logs, penalty)
        largest = max((samples.basis @ gradient[:-1]).abs().max().item(), gradient[-1].abs().max().item())
        if largest <= TOLERANCE:
            return ExactClassifier(samples.basis @ solution[:-1], solution[-1], penalty, largest)
        direction = _newton_direction(samples, gradient, logs.exp(), penalty)
        solution, loss, logs = _descend(samples, solution, loss, direction, gradient, penalty)
    raise ConvergenceError(f"penalty {penalty:g}: expected a gradient of at most {TOLERANCE}, found {largest:.2g}")


def _newton_direction(samples: Samples, gradient: Tensor, shares: Tensor, penalty: float) -> Tensor:
    """Conjugate gradients, scaled by the Hessian's diagonal, until a tenth of the gradient is left."""
    scale, enough = samples.diagonal(shares, penalty), 0.1 * gradient.norm()
    direction, rest = torch.zeros_like(gradient), -gradient
    scaled = rest / scale
    conjugate, weight = scaled, (rest * scaled).sum()
    for _ in range(MOST_CONJUGATE):
        bent = samples.curvature(conjugate, shares, penalty)
        step = weight / (conjugate * bent).sum()
        direction, rest = direction + step * conjugate, rest - step * bent
        if rest.norm() <= enough:
            break
        scaled = rest / scale
        before, weight = weight, (rest * scaled).sum()
        conjugate = scaled + weight / before * conjugate
    return direction


def _descend(
    samples: Samples, solution: Tensor, loss: float, direction: Tensor, gradient: Tensor, penalty: float
) -> tuple[Tensor, float, Tensor]:
    """The solution a step further, with its loss and logarithms: half as far, until the loss falls as it should."""
    slope = (gradient * direction).sum().item()
    rounding = 8 * torch.finfo(torch.float64).eps * abs(loss)
    step = 1.0
    while True:
        further = solution + step * direction
        found, logs = samples.loss(further, penalty)
        if found <= loss + 1e-4 * step * slope + rounding:
            return further, found, logs
        step /= 2


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
        samples, found = Samples(first, train[1][known], classes), None
        for place, penalty in enumerate(descending):
            found = solve(samples, penalty, found)
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

"""Features in the plane: principal components and t-SNE."""

import torch
from torch import Tensor

EXAGGERATION, EXAGGERATED = 12.0, 250  # factor on the similarities, and for how many steps
INPUT_COMPONENTS = 50
SEARCH_STEPS = 50
SMALLEST = 1e-12


def principal_components(features: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Features along the directions in which they vary most.

    Args:
        features: (S, F).
        count: of directions; those that features do not have are 0.

    Returns:
        (S, count) in float64, each direction with the sign that makes its largest weight positive, and (count) the
        shares of the variance along each.

    Raises:
        ValueError: features are no matrix with rows, or are not finite.
    """
    if features.ndim != 2 or not features.numel():
        raise ValueError(f"features: expected (S, F) of at least one sample, found {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise ValueError("features: expected finite numbers, found NaN or infinity")
    centred = features.double() - features.double().mean(dim=0)
    left, sizes, right = torch.linalg.svd(centred, full_matrices=False)
    signs = right.gather(1, right.abs().argmax(dim=1, keepdim=True))[:, 0].sign()
    found = min(count, len(sizes))
    places, shares = centred.new_zeros(len(centred), count), centred.new_zeros(count)
    places[:, :found] = (left * (sizes * signs))[:, :found]
    shares[:found] = sizes[:found].square() / sizes.square().sum().clamp(min=torch.finfo(torch.float64).tiny)
    return places, shares


def tsne(features: Tensor, perplexity: float = 30.0, steps: int = 750) -> Tensor:
    """t-distributed stochastic neighbour embedding into the plane, exact and without random numbers.

    Source: van der Maaten and Hinton, "Visualizing data using t-SNE", JMLR 2008, algorithm 1. It starts from the
    principal components; similarities are exaggerated for the first steps. Memory and a step take S² numbers.

    Args:
        features: (S, F) of at least 4 samples, reduced to INPUT_COMPONENTS principal components first.
        perplexity: effective number of neighbours, at most a third of the others.
        steps: of gradient descent.

    Returns:
        (S, 2), centred.

    Raises:
        ValueError: too few samples, or features are not finite.
    """
    if features.ndim != 2 or len(features) < 4:
        raise ValueError(f"features: expected (S, F) of at least 4 samples, found {tuple(features.shape)}")
    reduced, _ = principal_components(features, min(INPUT_COMPONENTS, features.shape[1]))
    similarities = joint_similarities(reduced, min(perplexity, (len(features) - 1) / 3)).float()
    start, _ = principal_components(reduced)
    places = (1e-4 * start / start[:, 0].std().clamp(min=SMALLEST)).float()
    rate = max(len(features) / EXAGGERATION / 4, 50.0)
    change, gains = torch.zeros_like(places), torch.ones_like(places)
    descent = _Descent(EXAGGERATION * similarities)
    for step in range(steps):
        if step == EXAGGERATED:
            descent = _Descent(similarities)
        slope = descent.gradient(places)
        turned = (slope * change) > 0  # the last change went uphill
        gains = torch.where(turned, 0.8 * gains, gains + 0.2).clamp(min=0.01)
        change = (0.5 if step < EXAGGERATED else 0.8) * change - rate * gains * slope
        places = places + change
        places = places - places.mean(dim=0)
    return places


def joint_similarities(points: Tensor, perplexity: float) -> Tensor:
    """(S, S) symmetric, summing to 1: normal densities around each point whose entropy is log(perplexity)."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    distances = distances / distances.mean().clamp(min=SMALLEST)
    distances.fill_diagonal_(torch.inf)
    distances = distances - distances.min(dim=1, keepdim=True).values  # the nearest has weight 1: nothing underflows
    wanted = torch.tensor(perplexity, dtype=points.dtype).log()
    low, high = points.new_full((len(points), 1), -40.0), points.new_full((len(points), 1), 40.0)
    for _ in range(SEARCH_STEPS):  # the logarithm of the precision
        middle = (low + high) / 2
        broad = _entropy(_conditional(distances, middle)) > wanted
        low, high = torch.where(broad, middle, low), torch.where(broad, high, middle)
    conditional = _conditional(distances, (low + high) / 2)
    return ((conditional + conditional.t()) / (2 * len(points))).clamp(min=SMALLEST).fill_diagonal_(0)


def _conditional(distances: Tensor, precision: Tensor) -> Tensor:
    """(S, S) similarities of each row's point to the others; rows sum to 1."""
    weights = (-distances * precision.exp()).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def _entropy(rows: Tensor) -> Tensor:
    return -torch.special.xlogy(rows, rows).sum(dim=1, keepdim=True)


class _Descent:
    """Gradients for fixed similarities (S, S), whose two arrays of that size are used again in every step."""

    def __init__(self, similarities: Tensor):
        self.similarities = similarities
        self.kernel, self.forces = torch.empty_like(similarities), torch.empty_like(similarities)

    def gradient(self, places: Tensor) -> Tensor:
        """Of the Kullback-Leibler divergence, by the places (S, 2)."""
        square, ones = places.square().sum(dim=1, keepdim=True), torch.ones(len(places), 1)
        # one product gives 1 + squared distance
        torch.mm(
            torch.cat((-2 * places, square + 1, ones), 1), torch.cat((places, ones, square), 1).t(), out=self.kernel
        )
        kernel = self.kernel.clamp_(min=1).reciprocal_().fill_diagonal_(0)
        torch.add(self.similarities, kernel, alpha=-1 / float(kernel.sum()), out=self.forces).mul_(kernel)
        pulls = self.forces @ torch.cat((places, ones), 1)
        return 4 * (pulls[:, 2:] * places - pulls[:, :2])

"""Cross-correlation loss, forward and backward, against PSTL's formulation and a Gram form in plain PyTorch."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

WEIGHT = 2e-4


def official(z1: Tensor, z2: Tensor) -> Tensor:
    """Two batch normalisations without affine part, the D x D matrix, its diagonal and the rest."""
    normalised = [torch.nn.functional.batch_norm(z, None, None, training=True) for z in (z1, z2)]
    correlation = normalised[0].T @ normalised[1] / z1.shape[0]
    on_diagonal = (torch.diagonal(correlation) - 1).pow(2).sum()
    size = correlation.shape[0]
    rest = correlation.flatten()[:-1].view(size - 1, size + 1)[:, 1:].flatten()
    return on_diagonal + WEIGHT * rest.pow(2).sum()


def gram(z1: Tensor, z2: Tensor) -> Tensor:
    """The sum of squares of the matrix from the two N x N products."""
    (n, _), normalised = z1.shape, [torch.nn.functional.batch_norm(z, None, None, training=True) for z in (z1, z2)]
    diagonal = (normalised[0] * normalised[1]).sum(0) / n
    squares = ((normalised[0] @ normalised[0].T) * (normalised[1] @ normalised[1].T)).sum() / n**2
    return (1 - diagonal).pow(2).sum() + WEIGHT * (squares - diagonal.pow(2).sum())


def ours(z1: Tensor, z2: Tensor) -> Tensor:
    return skelkern.cross_correlation_loss(z1, z2, WEIGHT)


def case(n: int, d: int, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, Tensor]:
        z1 = torch.randn(n, d)
        return z1.requires_grad_(), (z1.detach() + torch.randn(n, d)).requires_grad_()

    # two symmetric products of which half is needed, two gradients; inputs are read twice, gradients written
    flops = 2 * n * n * d + 4 * n * n * d if n < d else 6 * n * d * d
    functions = {"official": official, "plain Gram form": gram, OURS: ours}
    return Case(f"{n} x {d}", functions, inputs, flops, 6 * 4 * n * d, ("official", "plain Gram form"), sizes)


CASES = [
    case(16, 96, "smoke"),
    case(64, 2048),
    case(128, 1024),
    case(128, 6144),
    case(512, 2048),
    case(512, 256, "full"),
    case(128, 6144, "gpu"),
    case(1024, 6144, "gpu"),
]


def test_cross_correlation(compare, case):
    compare(case)

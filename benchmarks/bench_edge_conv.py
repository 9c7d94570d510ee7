"""DGCNN's edge convolution in training, forward and backward, neighbours given."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

K = 20


def official(x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """get_graph_feature, 1 x 1 convolution, batch normalisation, LeakyReLU, max; DGCNN holds points as (B, C, N)."""
    (b, n, c), k = x.shape, neighbors.shape[2]
    index = (neighbors + torch.arange(b).view(-1, 1, 1) * n).view(-1)
    columns = x.transpose(2, 1).contiguous()
    others = columns.transpose(2, 1).contiguous().view(b * n, -1)[index].view(b, n, k, c)
    own = x.view(b, n, 1, c).repeat(1, 1, k, 1)
    edges = torch.cat((others - own, own), dim=3).permute(0, 3, 1, 2).contiguous()
    mapped = torch.nn.functional.conv2d(edges, weight[:, :, None, None])
    normalised = torch.nn.functional.batch_norm(mapped, None, None, gamma, beta, training=True)
    return torch.nn.functional.leaky_relu(normalised, 0.2).max(dim=-1)[0].transpose(1, 2)


def points_first(x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Products of points instead of edges; edges are still built."""
    (b, n, c), c_out = x.shape, weight.shape[0]
    others = x @ weight[:, :c].T
    own = x @ (weight[:, c:] - weight[:, :c]).T
    index = (neighbors + torch.arange(b).view(-1, 1, 1) * n).view(-1)
    edges = others.view(b * n, -1)[index].view(b, n, -1, c_out) + own[:, :, None]
    variance, mean = torch.var_mean(edges, dim=(0, 1, 2), correction=0)
    normalised = (edges - mean) * ((variance + 1e-5).rsqrt() * gamma) + beta
    return torch.nn.functional.leaky_relu(normalised, 0.2).max(dim=2)[0]


def ours(x: Tensor, neighbors: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return skelkern.edge_conv(x, neighbors, weight, gamma, beta)


def of_few_bits(*shape: int, steps: int) -> Tensor:
    """Normal values in whole steps: products and their sums are exact, so that every peer finds the same maxima."""
    return (torch.randn(shape) * steps).round().clamp(-4 * steps, 4 * steps) / steps


def case(b: int, n: int, c: int, c_out: int, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, ...]:
        x, weight = of_few_bits(b, n, c, steps=32), of_few_bits(c_out, 2 * c, steps=8)
        gamma, beta = torch.randn(c_out), torch.randn(c_out)
        neighbors = skelkern.knn(x, min(K, n))
        return x.requires_grad_(), neighbors, *(value.requires_grad_() for value in (weight, gamma, beta))

    # two products of points forward, four backward; x and y and their gradients move once
    flops, moved = 12 * b * n * c * c_out, 4 * b * n * (3 * c + 3 * c_out) + 8 * b * n * K
    functions = {"official": official, "plain, points first": points_first, OURS: ours}
    return Case(
        f"{c} to {c_out}, {b} x {n}", functions, inputs, flops, moved, ("official", "plain, points first"), sizes
    )


CASES = [
    case(2, 50, 3, 16, sizes="smoke"),
    case(16, 1000, 3, 64),
    case(16, 1000, 64, 64),
    case(16, 1000, 64, 128, sizes="full"),
    case(16, 1000, 128, 256, sizes="full"),
    case(24, 2000, 64, 64, sizes="gpu"),
]


def test_edge_conv(compare, case):
    compare(case)

"""Graph convolution, forward and backward with the gradient of the whole adjacency, against ST-GCN's formulation."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

SUBSETS, FRAMES, JOINTS = 3, 50, 25
# Parents of the 25 joints of Kinect v2, the root (spine at the shoulders) its own
PARENTS = (1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11)


def skeleton() -> Tensor:
    """Self, centripetal and centrifugal neighbours of the NTU skeleton, columns normalised: 73 of 1,875 non-zero."""
    adjacency = torch.zeros(SUBSETS, JOINTS, JOINTS)
    adjacency[0].fill_diagonal_(1)
    for joint, parent in enumerate(PARENTS):
        if parent != joint:
            adjacency[1, joint, parent] = adjacency[2, parent, joint] = 1
    return adjacency / adjacency.sum((0, 1))


def official(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor) -> Tensor:
    """A 1 x 1 convolution to all subsets, then the product with the adjacency."""
    transformed = torch.nn.functional.conv2d(x, weight, bias).unflatten(1, (SUBSETS, -1))
    neighbours = "kvw" if adjacency.dim() == 3 else "nkvw"
    return torch.einsum(f"nkctv,{neighbours}->nctw", transformed, adjacency).contiguous()


def aggregate_first(x: Tensor, weight: Tensor, bias: Tensor, adjacency: Tensor) -> Tensor:
    """Neighbours summed before the channels grow."""
    batch = adjacency.dim() == 4
    by_subset = weight.flatten(1).unflatten(0, (SUBSETS, -1)).transpose(0, 1).flatten(1)
    gathered = torch.einsum(f"nctv,{'nkvw' if batch else 'kvw'}->nkctw", x, adjacency).flatten(1, 2)
    of_bias = torch.einsum("kc,...kvw->...cw", bias.unflatten(0, (SUBSETS, -1)), adjacency)
    y = torch.nn.functional.conv2d(gathered, by_subset[..., None, None])
    return y + (of_bias[:, :, None] if batch else of_bias[None, :, None])


def case(c: int, c_out: int, kind: str = "", n: int = 64, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, ...]:
        dense = torch.randn(*((n,) if kind == "per-sample" else ()), SUBSETS, JOINTS, JOINTS) / JOINTS
        adjacency = dense if kind else skeleton()
        rows = SUBSETS * c_out
        tensors = (torch.randn(n, c, FRAMES, JOINTS), torch.randn(rows, c, 1, 1), torch.randn(rows), adjacency)
        return tuple(tensor.requires_grad_() for tensor in tensors)

    positions = n * FRAMES * JOINTS
    # one product forward and one backward where a subset reaches a joint (69 of 75 pairs), one for all pairs; one
    # multiplication per entry of the adjacency for its gradient; x is read twice, y's gradient once, y and x's written
    reached = 1 if kind else 69 / 75
    products = 2 * SUBSETS * c * c_out * positions * (1 + 2 * reached)
    flops = products + 2 * SUBSETS * c * positions * JOINTS
    moved = 4 * positions * (3 * c + 2 * c_out)
    functions = {"official": official, "plain, aggregate first": aggregate_first, OURS: skelkern.graph_conv}
    compiled = ("official", "plain, aggregate first")
    name = f"{c} to {c_out}" + (f", {kind} adjacency" if kind else "")
    return Case(name, functions, inputs, flops, moved, compiled, sizes)


CASES = [
    case(3, 8, n=2, sizes="smoke"),
    case(8, 8, "per-sample", n=2, sizes="smoke"),
    case(3, 64),
    case(16, 16),
    case(32, 32),
    case(64, 64),
    case(64, 64, "dense"),
    case(64, 64, "per-sample"),
    case(128, 128),
    case(256, 256),
    case(16, 16, n=256, sizes="gpu"),
    case(64, 64, n=256, sizes="gpu"),
    case(256, 256, n=64, sizes="gpu"),
    case(64, 64, "per-sample", n=64, sizes="gpu"),
]


def test_graph_conv(compare, case):
    compare(case)

"""Blocks of ST-GCN in training, forward and backward with all parameters' gradients, against the composed block."""

import copy

import torch
from bench_graph_conv import SUBSETS, skeleton
from race import OURS, Case, clear_of_gates
from torch import Tensor, nn

from skelkern.nn import STGCNBlock

FRAMES, JOINTS = 50, 25


class Composed(nn.Module):
    """The block as ST-GCN and the methods built on it write it."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.gcn = nn.ModuleDict({"conv": nn.Conv2d(channels, SUBSETS * channels, 1)})
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, (9, 1), padding=(4, 0)),
            nn.BatchNorm2d(channels),
            nn.Dropout(dropout, inplace=True),
        )

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return torch.relu_(self.tcn(self.aggregate(x, adjacency)) + x)

    def aggregate(self, x: Tensor, adjacency: Tensor) -> Tensor:
        transformed = self.gcn["conv"](x).unflatten(1, (SUBSETS, -1))
        return torch.einsum("nkctv,kvw->nctw", transformed, adjacency).contiguous()

    def before_relus(self, x: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
        normalised = self.tcn[0](self.aggregate(x, adjacency))
        return normalised, self.tcn[2:](torch.relu(normalised)) + x


def case(channels: int, n: int, dropout: float = 0.0, sizes: str = "standard") -> Case:
    blocks = {"official": Composed(channels, dropout), OURS: STGCNBlock(channels, channels, SUBSETS, dropout=dropout)}
    blocks[OURS].load_state_dict(blocks["official"].state_dict())

    def run(block: nn.Module, x: Tensor, adjacency: Tensor, *parameters: Tensor) -> Tensor:
        """The parameters are arguments, so that their gradients belong to the race."""
        named = dict(zip(dict(block.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(block, named, (x, adjacency))

    exact = copy.deepcopy(blocks["official"]).double()

    def draw() -> tuple[Tensor, ...]:
        x = torch.randn(n, channels, FRAMES, JOINTS, requires_grad=True)
        # a bias before a normalisation has no gradient but rounding errors, in which nobody agrees
        parameters = (
            parameter.detach().clone().requires_grad_(name != "tcn.2.bias")
            for name, parameter in blocks[OURS].named_parameters()
        )
        return x, skeleton().requires_grad_(), *parameters

    def inputs() -> tuple[Tensor, ...]:
        """Sizes of gradients, which are all that is compared under dropout, hold whatever side a gate takes."""
        return (
            draw() if dropout > 0 else clear_of_gates(draw, lambda x, adjacency, *_: exact.before_relus(x, adjacency))
        )

    elements = n * channels * FRAMES * JOINTS
    flops = 3 * 2 * elements * channels * (9 + SUBSETS)
    functions = {name: lambda *tensors, block=block: run(block, *tensors) for name, block in blocks.items()}
    # x, both convolutions' results and y are written once and read at least twice, their gradients likewise
    name = f"{channels} channels, {n} clips, dropout {dropout}"
    return Case(name, functions, inputs, flops, 4 * 24 * elements, ("official",), sizes, dropout > 0)


CASES = [
    case(8, 2, sizes="smoke"),
    case(16, 64),
    case(16, 256, 0.5),
    case(32, 256, 0.5, sizes="full"),
    case(64, 256, 0.5, sizes="full"),
    case(16, 256, 0.5, sizes="gpu"),
    case(64, 256, 0.5, sizes="gpu"),
]


def test_stgcn_block(compare, case):
    compare(case)

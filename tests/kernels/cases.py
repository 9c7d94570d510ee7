"""One small case of every op for the checks that all ops share (`test_every_op.py`)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import skelkern
from skelkern import gpu


@dataclass(frozen=True)
class OpCase:
    """`make_inputs(seed)` gives keyword arguments of `function`, tensors in float32.

    `where_faster`: "auto" takes the kernel only where it has been measured to be faster than torch.
    """

    function: Callable[..., Any]
    make_inputs: Callable[[int], dict[str, Any]]
    differentiable: tuple[str, ...] = ()
    where_faster: bool = False

    def __str__(self) -> str:
        return self.function.__name__


def cross_correlation_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    z1 = torch.randn(19, 300, generator=generator)
    return {"z1": z1, "z2": z1 + torch.randn(19, 300, generator=generator), "off_diagonal_weight": 2e-3}


def skeleton_adjacency(joints: int, generator: torch.Generator, *batch: int) -> torch.Tensor:
    """Three subsets of a random tree (self, parents, children) with random weights."""
    edges = torch.zeros(3, joints, joints)
    edges[0].fill_diagonal_(1)
    for joint in range(1, joints):
        parent = int(torch.randint(joint, (), generator=generator))
        edges[1, joint, parent] = edges[2, parent, joint] = 1
    return edges * torch.rand(*batch, 3, joints, joints, generator=generator)


def graph_conv_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(*((2, 7, 2, 25) if gpu.INTERPRETED else (5, 7, 11, 25)), generator=generator),
        "weight": torch.randn(3 * 18, 7, generator=generator),
        "bias": torch.randn(3 * 18, generator=generator),
        "adjacency": skeleton_adjacency(25, generator),
    }


def gru_inputs(seed: int, gates: int = 3, states: tuple[str, ...] = ("h0",)) -> dict[str, Any]:
    """One bidirectional layer of 21 hidden units on sequences of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows = 21 * gates
    shapes = {"x": (35, 6, 10), **dict.fromkeys(states, (2, 35, 21))}
    for i in (1, 2):
        shapes |= {f"input_weight{i}": (rows, 10), f"recurrent_weight{i}": (rows, 21)}
        shapes |= {f"input_bias{i}": (rows,), f"recurrent_bias{i}": (rows,)}
    inputs = {name: torch.randn(*shape, generator=generator) / 3 for name, shape in shapes.items()}
    return {**inputs, "lengths": torch.randint(1, 7, (35,), generator=generator)}


def lstm_inputs(seed: int) -> dict[str, Any]:
    return gru_inputs(seed, 4, ("h0", "c0"))


def gru(x: torch.Tensor, h0: torch.Tensor, lengths: torch.Tensor, impl: str = "auto", **weights: torch.Tensor) -> Any:
    """`skelkern.gru` with its weights by name."""
    options: dict[str, Any] = {"lengths": lengths, "bidirectional": True, "batch_first": True, "impl": impl}
    return skelkern.gru(x, h0, list(weights.values()), **options)


def lstm(
    x: torch.Tensor,
    h0: torch.Tensor,
    c0: torch.Tensor,
    lengths: torch.Tensor,
    impl: str = "auto",
    **weights: torch.Tensor,
) -> Any:
    """`skelkern.lstm` with its weights by name."""
    options: dict[str, Any] = {"lengths": lengths, "bidirectional": True, "batch_first": True, "impl": impl}
    y, (h, c) = skelkern.lstm(x, (h0, c0), list(weights.values()), **options)
    return y, h, c


def sample_clips_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "frames": torch.randn(40, 2, 25, 3, generator=generator),
        "offsets": torch.tensor([0, 17, 18, 40]),
        "index": torch.tensor([2, 0, 1, 2]),
        "times": 25 * torch.rand(4, 70, generator=generator) - 1,
        "linear": torch.randn(4, 3, 3, generator=generator),
        "linear_joints": torch.rand(4, 25, generator=generator) < 0.5,
        "translation": torch.randn(4, 3, generator=generator),
        "joint_order": torch.randint(25, (4, 25), generator=generator),
        "joint_keep": torch.rand(4, 25, generator=generator) < 0.8,
    }


def block_tail_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": 1 + torch.randn(5, 7, 11, 25, generator=generator),
        "running_mean": torch.zeros(7),
        "running_var": torch.ones(7),
        "weight": 1 + torch.rand(7, generator=generator),
        "bias": torch.randn(7, generator=generator),
        "residual": torch.randn(5, 7, 11, 25, generator=generator),
        "training": True,
        "dropout": 0.3,
        "seed": torch.tensor(2**40 + seed),
    }


def info_nce_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"query": (21, 37), "positives": (21, 3, 37), "queue": (700, 37)}
    inputs = {name: torch.randn(*shape, generator=generator) / 6 for name, shape in shapes.items()}
    return {**inputs, "reduction": "none"}


def edge_conv_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randint(-20, 20, (3, 29, 6), generator=generator) / 16,
        "neighbors": torch.randint(29, (3, 29, 5), generator=generator),
        "weight": torch.randint(-8, 8, (37, 12), generator=generator) / 8,
        "gamma": torch.randn(37, generator=generator),
        "beta": torch.randn(37, generator=generator),
        "mask": torch.rand(3, 29, generator=generator) < 0.8,
    }


def cosine_topk_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    queries, database = (torch.randn(count, 19, generator=generator) for count in (50, 300))
    return {"queries": queries, "database": database, "k": 7}


def chamfer_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(3, 61, 6, generator=generator),
        "y": torch.randn(3, 50, 6, generator=generator),
        "x_mask": torch.rand(3, 61, generator=generator) < 0.8,
        "y_mask": torch.rand(3, 50, generator=generator) < 0.8,
        "weights": torch.rand(6, generator=generator),
        "squared": False,
        "reduction": "none",
    }


def farthest_points_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(-50, 50, (3, 61, 3), generator=generator).float()
    return {"points": points, "m": 30, "mask": torch.rand(3, 61, generator=generator) < 0.8, "start": 5}


def knn_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(-5, 5, (2, 70, 10), generator=generator).float()
    return {"points": points, "k": 9, "mask": torch.rand(2, 70, generator=generator) < 0.8}


def linear_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (3, 11, 19), "weight": (53, 19), "bias": (53,)}
    inputs = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return {**inputs, "activation": "relu"}


def temporal_conv_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (3, 7, 23, 5), "weight": (19, 7, 9, 1), "bias": (19,)}
    inputs = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return {**inputs, "stride": 2, "padding": 4}


def unified_downsampling_inputs(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"x": (3, 23, 19), "weight": (19, 1, 5), "bias": (19,), "gamma": (19,), "beta": (19,)}
    inputs = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return {**inputs, "padding": 2}


GRU_WEIGHTS = tuple(
    f"{name}{i}" for i in (1, 2) for name in ("input_weight", "recurrent_weight", "input_bias", "recurrent_bias")
)

CASES = [
    OpCase(skelkern.block_tail, block_tail_inputs, ("x", "weight", "bias", "residual")),
    OpCase(skelkern.chamfer_distance, chamfer_inputs, ("x", "y")),
    OpCase(skelkern.cosine_topk, cosine_topk_inputs),
    OpCase(skelkern.cross_correlation_loss, cross_correlation_inputs, ("z1", "z2")),
    OpCase(skelkern.edge_conv, edge_conv_inputs, ("x", "weight", "gamma", "beta")),
    OpCase(skelkern.farthest_point_sample, farthest_points_inputs),
    OpCase(skelkern.graph_conv, graph_conv_inputs, ("x", "weight", "bias", "adjacency")),
    OpCase(gru, gru_inputs, ("x", "h0", *GRU_WEIGHTS), where_faster=True),
    OpCase(skelkern.info_nce, info_nce_inputs, ("query", "positives")),
    OpCase(skelkern.knn, knn_inputs),
    OpCase(skelkern.linear, linear_inputs, ("x", "weight", "bias"), where_faster=True),
    OpCase(lstm, lstm_inputs, ("x", "h0", "c0", *GRU_WEIGHTS), where_faster=True),
    OpCase(skelkern.sample_clips, sample_clips_inputs),
    OpCase(skelkern.temporal_conv, temporal_conv_inputs, ("x", "weight", "bias"), where_faster=True),
    OpCase(skelkern.unified_downsampling, unified_downsampling_inputs, ("x", "weight", "bias", "gamma", "beta")),
]

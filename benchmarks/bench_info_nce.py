"""InfoNCE with a queue, forward and backward, against the official formulation of MoCo and HiCo."""

import torch
from race import OURS, Case
from torch import Tensor

import skelkern

TEMPERATURE = 0.07


def official(query: Tensor, positives: Tensor, queue: Tensor, columns: Tensor) -> Tensor:
    """All similarities in one array, the queue cloned so that it may change; several positives as HiCo has them."""
    own = torch.einsum("nc,npc->np", query, positives)
    logits = torch.cat([own, torch.einsum("nc,ck->nk", query, columns.clone().detach())], dim=1) / TEMPERATURE
    if own.shape[1] == 1:
        return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    return -logits.softmax(dim=1)[:, : own.shape[1]].sum(dim=1).log().mean()


def log_sum_exp(query: Tensor, positives: Tensor, queue: Tensor, columns: Tensor) -> Tensor:
    """One product, no clone, no concatenation."""
    own = (query[:, None] * positives).sum(dim=2).div(TEMPERATURE).logsumexp(dim=1)
    others = (query / TEMPERATURE @ columns).logsumexp(dim=1)
    return (torch.logaddexp(own, others) - own).mean()


def ours(query: Tensor, positives: Tensor, queue: Tensor, columns: Tensor) -> Tensor:
    return skelkern.info_nce(query, positives, queue, TEMPERATURE)


def case(n: int, d: int, k: int, p: int = 1, sizes: str = "standard") -> Case:
    def inputs() -> tuple[Tensor, ...]:
        normalised = (torch.nn.functional.normalize(torch.randn(*shape, d), dim=-1) for shape in ((n,), (n, p), (k,)))
        query, positives, queue = normalised
        return query.requires_grad_(), positives, queue, queue.T.contiguous()

    # similarities and the gradient of the query; the queue is read once
    flops, moved = 4 * n * d * (k + p), 4 * d * (k + 2 * n + n * p)
    functions = {"official": official, "plain log-sum-exp": log_sum_exp, OURS: ours}
    name = f"{n} x {d}, queue {k}, {p} positive{'s' if p > 1 else ''}"
    return Case(name, functions, inputs, flops, moved, ("official", "plain log-sum-exp"), sizes)


CASES = [
    case(8, 32, 600, sizes="smoke"),
    case(64, 128, 2048, p=4),
    case(128, 128, 16384),
    case(128, 128, 16384, p=4),
    case(128, 512, 65536, sizes="full"),
    case(64, 3072, 2048, sizes="full"),
    case(128, 128, 32768, sizes="gpu"),
    case(64, 128, 65536, sizes="gpu"),
    case(1024, 128, 65536, sizes="gpu"),
]


def test_info_nce(compare, case):
    compare(case)

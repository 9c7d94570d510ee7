"""Textbook InfoNCE: any dtype, any device, differentiable any number of times."""

import torch
from torch import Tensor


def info_nce(query: Tensor, positives: Tensor, queue: Tensor, temperature: float, multi_positive: str) -> Tensor:
    """Loss of every query (N); see `skelkern.info_nce`. positives are (N, P, D)."""
    of_positives = torch.einsum("nd,npd->np", query, positives) / temperature
    of_queue = query @ queue.detach().clone().T / temperature
    everything = torch.cat([of_positives, of_queue], dim=1).logsumexp(dim=1)
    if multi_positive == "mean_log":
        return everything - of_positives.mean(dim=1)
    return everything - of_positives.logsumexp(dim=1)

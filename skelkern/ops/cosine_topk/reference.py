"""Textbook cosine retrieval: any dtype, any device."""

import torch
from torch import Tensor


def cosine_topk(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `skelkern.cosine_topk`."""
    similarities = _unit(queries) @ _unit(database).T
    ranked = torch.where(similarities.isnan(), -torch.inf, similarities)
    index = ranked.argsort(dim=1, descending=True, stable=True)[:, :k]
    return similarities.gather(1, index), index


def _unit(vectors: Tensor) -> Tensor:
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(lengths == 0, 0, vectors / lengths)

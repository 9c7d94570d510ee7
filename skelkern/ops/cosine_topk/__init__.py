"""Exact retrieval by cosine similarity without the array of all similarities."""

from typing import Any

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_count, check_same, check_shape, check_tensor
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.gpu import interpreter_is_slow, triton_kernel_why_not
from skelkern.numpy_interop import accepts_numpy
from skelkern.ops.cosine_topk import reference
from skelkern.registration import address, float32, register


@accepts_numpy
def cosine_topk(queries: Tensor, database: Tensor, k: int, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """The k rows of a database that are most similar to each query, most similar first.

    Vectors need not be normalised. Ties go to the lower index; a zero vector has similarity 0 to everything; a
    similarity of NaN ranks last. Without gradients. NumPy arrays are taken and then returned, neither copied.

    Args:
        queries: (Q, D).
        database: (N, D).
        k: 1 ≤ k ≤ N.
        impl: "auto", "reference", "cpu" or "triton"; see `skelkern.explain`.

    Returns:
        Similarities (Q, k) in float32 (float64 for float64 inputs) and row numbers (Q, k) in int64.

    Raises:
        TypeError: an argument is no floating-point tensor, the dtypes differ or k is no whole number.
        ValueError: shapes or devices do not fit, or k is not in [1, N].
    """
    sizes: dict[str, int] = {}
    for name, tensor, pattern in (("queries", queries, "Q D"), ("database", database, "N D")):
        check_tensor(name, tensor)
        check_shape(name, tensor, pattern, sizes)
    for what in ("dtype", "device"):
        check_same(what, "queries", queries, database=database)
    check_count("k", k, 1, sizes["N"])
    run = COSINE_TOPK.choose(impl, queries, database)
    with torch.no_grad():
        return run(queries, database, k)


def _reference(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(queries.dtype, torch.float32)
    return reference.cosine_topk(queries.to(wide), database.to(wide), k)


def _triton(*arguments: Any) -> tuple[Tensor, Tensor]:
    from skelkern.ops.cosine_topk import triton

    return triton.cosine_topk_triton(*arguments)


def _run(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    similarities, index = fake(queries, database, k)
    asked, rows = float32(queries), float32(database)
    sizes = (*queries.shape[:1], *database.shape, k)
    threads = torch.get_num_threads()
    _cpu.cosine_topk(address(asked), address(rows), sizes, threads, address(similarities), address(index))
    return similarities, index


def fake(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    count = queries.shape[0]
    return queries.new_empty(count, k, dtype=torch.float32), queries.new_empty(count, k, dtype=torch.int64)


cosine_topk_cpu = register(
    "cosine_topk_cpu(Tensor queries, Tensor database, int k) -> (Tensor, Tensor)", device="CPU", run=_run, fake=fake
)

COSINE_TOPK = register_op(
    "cosine_topk",
    Implementation("triton", _triton, triton_kernel_why_not, interpreter_is_slow),
    Implementation("cpu", cosine_topk_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)

"""Calls that together launch every Triton kernel in every form that the library ships, on tensors without memory.

A case is (op, what it is, the call). Sizes are the field's, and what the tables of configurations tell apart.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

META = torch.device("meta")
Case = tuple[str, str, Callable[[], object]]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def info_nce_cases() -> Iterator[Case]:
    from skelkern.ops.info_nce import triton as op

    def run(d: int, dtype: torch.dtype, p: int, mean_log: bool, gradient: bool, columns: bool = False) -> object:
        queue = tensor(d, 65536, dtype=dtype).T if columns else tensor(65536, d, dtype=dtype)
        query, positives = tensor(512, d, dtype=dtype), tensor(512, p, d, dtype=dtype)
        return op._run(query, positives, queue, 0.07, mean_log, gradient)

    for dtype in DTYPES:
        for d in (64, 128, 256):
            yield "info_nce", f"{short(dtype)} D={d}", lambda d=d, dtype=dtype: run(d, dtype, 1, False, True)
    for dtype in (torch.float32, torch.float16):
        yield "info_nce", f"{short(dtype)} D=128 loss alone", lambda dtype=dtype: run(128, dtype, 1, False, False)
        yield (
            "info_nce",
            f"{short(dtype)} D=128 queue (D, K)",
            lambda dtype=dtype: run(128, dtype, 1, False, True, True),
        )
    yield "info_nce", "float32 D=100 mean_log", lambda: run(100, torch.float32, 4, True, True)
    yield "info_nce", "float32 D=3072", lambda: run(3072, torch.float32, 2, False, True)


def cross_correlation_cases() -> Iterator[Case]:
    from skelkern.ops.cross_correlation import triton as op

    def run(n: int, d: int, dtype: torch.dtype) -> object:
        z1, z2 = tensor(n, d, dtype=dtype), tensor(n, d, dtype=dtype)
        loss, statistics, products = op._run_forward(z1, z2, 2e-3, 1e-5)
        return op._run_backward(loss, z1, z2, statistics, products, 2e-3, [True, True])

    for dtype in DTYPES:
        for n, d in ((128, 6144), (1024, 512)):
            yield "cross_correlation", f"{short(dtype)} {n} x {d}", lambda n=n, d=d, dtype=dtype: run(n, d, dtype)
    yield "cross_correlation", "float32 33 x 97", lambda: run(33, 97, torch.float32)


def cosine_topk_cases() -> Iterator[Case]:
    from skelkern.ops.cosine_topk import triton as op

    def run(d: int, k: int, dtype: torch.dtype = torch.float32) -> object:
        return op._run(tensor(512, d, dtype=dtype), tensor(16384, d, dtype=dtype), k)

    for k in (1, 5, 20, 100, 200):
        yield "cosine_topk", f"k={k}", lambda k=k: run(2048, k)
    for dtype in DTYPES[1:]:
        yield "cosine_topk", short(dtype), lambda dtype=dtype: run(256, 20, dtype)


def block_tail_cases() -> Iterator[Case]:
    from skelkern.ops.block_tail import triton as op

    def run(dtype: torch.dtype, *shape: int, last: bool = False, drop: bool = True, training: bool = True) -> object:
        channels = shape[1]
        x, residual = (tensor(*shape, dtype=dtype) for _ in range(2))
        if last:
            x, residual = (value.to(memory_format=torch.channels_last) for value in (x, residual))
        weight, bias = tensor(channels), tensor(channels)
        known = (None, None) if training else (tensor(channels), tensor(channels))
        seed, dropout = (tensor(dtype=torch.int64), 0.3) if drop else (None, 0.0)
        affine = (weight, bias) if training else (None, None)
        y, mean, _, inverse_std = op._run_forward(
            x, *known, *affine, residual if training else None, seed, dropout, 1e-5, training, training
        )
        wanted = [True, training, training, training]
        kept = (y if training else None, mean, inverse_std, affine[0])
        return op._run_backward(y, x, *kept, seed, dropout, training, training, wanted)

    for dtype in DTYPES:
        yield "block_tail", f"{short(dtype)} channels last", lambda dtype=dtype: run(dtype, 256, 64, 50, 25, last=True)
    for dtype in DTYPES[:2]:
        yield "block_tail", f"{short(dtype)} L=1250", lambda dtype=dtype: run(dtype, 256, 64, 50, 25)
    yield "block_tail", "float32 L=1600", lambda: run(torch.float32, 256, 64, 64, 25)
    yield "block_tail", "float32 C=3 channels last", lambda: run(torch.float32, 256, 3, 50, 25, last=True)
    yield (
        "block_tail",
        "float32 channels last no dropout",
        lambda: run(torch.float32, 256, 256, 13, 25, last=True, drop=False),
    )
    yield "block_tail", "float16 L=1600 no dropout", lambda: run(torch.float16, 256, 64, 64, 25, drop=False)
    yield "block_tail", "float32 L=1", lambda: run(torch.float32, 512, 128)
    yield "block_tail", "float32 one channel", lambda: run(torch.float32, 1, 1, 1)
    yield (
        "block_tail",
        "float32 normalisation alone",
        lambda: run(torch.float32, 256, 64, 64, 25, drop=False, training=False),
    )


def graph_conv_cases() -> Iterator[Case]:
    from skelkern.ops.graph_conv import triton as op

    def run(
        c: int,
        c_out: int,
        dtype: torch.dtype,
        per_sample: bool = False,
        k: int = 3,
        n: int = 256,
        t: int = 64,
        v: int = 25,
    ) -> object:
        x = tensor(n, c, t, v, dtype=dtype).to(memory_format=torch.channels_last)
        adjacency = tensor(*((n,) if per_sample else ()), k, v, v, dtype=dtype)
        weight, bias = tensor(k * c_out, c, dtype=dtype), tensor(k * c_out, dtype=dtype)
        y = op._run_forward(x, weight, bias, adjacency)
        return op._run_backward(y, x, weight, bias, adjacency, [True] * 4)

    for dtype in DTYPES[:2]:
        for c, c_out in ((3, 64), (16, 16), (64, 64), (128, 128), (256, 256)):
            yield "graph_conv", f"{short(dtype)} {c} to {c_out}", lambda c=c, o=c_out, d=dtype: run(c, o, d)
        yield "graph_conv", f"{short(dtype)} per sample", lambda d=dtype: run(64, 64, d, True)
    yield "graph_conv", "bfloat16 64 to 64", lambda: run(64, 64, torch.bfloat16)
    yield "graph_conv", "float32 17 to 53, 133 joints", lambda: run(17, 53, torch.float32, k=1, v=133)
    yield "graph_conv", "float32 all sizes 1", lambda: run(1, 1, torch.float32, True, k=1, n=1, t=1, v=1)


CASES = (block_tail_cases, info_nce_cases, cross_correlation_cases, cosine_topk_cases, graph_conv_cases)

"""Cosine retrieval in Triton: unit vectors, torch's product with a part of the database, a selection of whole numbers.

A similarity and its row become one 64-bit key that orders as the result does: the similarity's bits, made monotonous,
NaN below all, then lower rows before higher ones. Keys are distinct: any exact selection gives the same result.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from skelkern import gpu
from skelkern.ops.cosine_topk import fake
from skelkern.registration import register
from skelkern.triton_support import DEVICE, launch, power_of_two_from, scale_into_half

PRODUCT = 1 << 26  # similarities that exist at once, at most
BLOCK = 64 if gpu.INTERPRETED else 1024  # similarities of which a program keeps the best
MOST_KEPT = 4 if gpu.INTERPRETED else 128  # of a block; more than that are selected from all keys
NORMALISE_ROWS = 4


@triton.jit
def _unit_kernel(
    vectors,  # (n, d), strided
    units,  # (n, d) float32 result: vectors of length 1, or 0
    n,
    d,
    row_stride,
    feature_stride,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    largest = tl.zeros([ROWS], tl.float32)
    for first in range(0, d, BLOCK_D):
        value = _block(vectors, rows, first, n, d, row_stride, feature_stride, BLOCK_D)
        largest = tl.maximum(largest, tl.max(tl.abs(value), axis=1))
    # squares of very short and very long vectors are out of range: lengths of scaled ones
    scale = scale_into_half(largest)[:, None]
    square = tl.zeros([ROWS], tl.float32)
    for first in range(0, d, BLOCK_D):
        value = _block(vectors, rows, first, n, d, row_stride, feature_stride, BLOCK_D) * scale
        square += tl.sum(value * value, axis=1)
    inverse = tl.where(square == 0, 0.0, tl.rsqrt(tl.where(square == 0, 1.0, square)))[:, None]
    for first in range(0, d, BLOCK_D):
        features = first + tl.arange(0, BLOCK_D)
        value = _block(vectors, rows, first, n, d, row_stride, feature_stride, BLOCK_D) * scale * inverse
        tl.store(units + rows[:, None] * d + features[None, :], value, (rows < n)[:, None] & (features < d)[None, :])


@triton.jit
def _block(vectors, rows, first, n, d, row_stride, feature_stride, BLOCK_D: tl.constexpr):
    """float32 features from `first` on of some rows of vectors (n, d); 0 where there are none."""
    features = first + tl.arange(0, BLOCK_D)
    places = rows[:, None] * row_stride + features.to(tl.int64)[None, :] * feature_stride
    mask = (rows < n)[:, None] & (features < d)[None, :]
    return tl.load(vectors + places, mask, other=0.0).to(tl.float32)


@triton.jit
def _key_kernel(
    similarities,  # (q, n) float32
    keys,  # (q, blocks, KEPT) int64 result, best first; (q, n) where KEPT is BLOCK
    n,
    first_row,  # of the database, the similarities' column 0
    kept_row,  # length of a row of keys
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    query, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = block * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(similarities + query * n + columns, columns < n, other=0.0)
    bits = (value + 0.0).to(tl.int32, bitcast=True)  # -0 + 0 is 0
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    ordered = tl.where(value == value, ordered, -0x7FFFFFFF)
    key = (ordered << 32) + (0xFFFFFFFF - (columns + first_row).to(tl.int64))
    key = tl.where(columns < n, key, -0x7FFFFFFFFFFFFFFF)
    if KEPT < BLOCK:
        places = block * KEPT + tl.arange(0, KEPT)
        tl.store(keys + query * kept_row + places, tl.topk(key, KEPT))
    else:
        tl.store(keys + query * kept_row + columns, key, columns < n)


@triton.jit
def _unpack_kernel(
    keys,  # (count) int64
    similarities,  # (count) float32 result
    rows,  # (count) int64 result
    count,
    BLOCK: tl.constexpr,
):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + places, places < count, other=0)
    ordered = (key >> 32).to(tl.int32)
    bits = tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered)
    value = tl.where(ordered == -0x7FFFFFFF, float("nan"), bits.to(tl.float32, bitcast=True))
    tl.store(similarities + places, value, places < count)
    tl.store(rows + places, 0xFFFFFFFF - (key & 0xFFFFFFFF), places < count)


def _units(vectors: Tensor) -> Tensor:
    n, d = vectors.shape
    units = vectors.new_empty((n, d), dtype=torch.float32)
    sizes = {"ROWS": NORMALISE_ROWS, "BLOCK_D": min(1024, power_of_two_from(d))}
    grid = (triton.cdiv(n, NORMALISE_ROWS),)
    launch(_unit_kernel, grid, vectors, units, n, d, *vectors.stride(), **sizes, device=vectors.device, warps=4)
    return units


def _best_keys(similarities: Tensor, first_row: int, k: int) -> Tensor:
    """The keys of the min(k, n) best of each row of similarities (Q, n), best first, and perhaps more of them."""
    count, n = similarities.shape
    blocks, kept = triton.cdiv(n, BLOCK), power_of_two_from(k, 2)
    if kept > MOST_KEPT:
        kept, width = BLOCK, n
    else:
        width = blocks * kept
    keys = similarities.new_empty((count, width), dtype=torch.int64)
    arguments = (similarities, keys, n, first_row, width)
    launch(_key_kernel, (count, blocks), *arguments, KEPT=kept, BLOCK=BLOCK, device=keys.device, warps=4)
    return keys.topk(min(k, width), dim=1).values


def _run(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    similarities, rows = fake(queries, database, k)
    count, n = queries.shape[0], database.shape[0]
    if count == 0:
        return similarities, rows
    asked = _units(queries)
    best: list[Tensor] = []
    part = max(1024, PRODUCT // count)
    with torch.autocast(queries.device.type, enabled=False):
        for first in range(0, n, part):
            product = asked @ _units(database[first : first + part]).T
            keys = torch.cat([*best, _best_keys(product, first, k)], dim=1)
            best = [keys.topk(min(k, keys.shape[1]), dim=1).values if best else keys]
    grid, results = (triton.cdiv(count * k, BLOCK),), (similarities, rows)
    launch(_unpack_kernel, grid, best[0], *results, count * k, BLOCK=BLOCK, device=queries.device, warps=4)
    return similarities, rows


cosine_topk_triton = register(
    "cosine_topk_triton(Tensor queries, Tensor database, int k) -> (Tensor, Tensor)", device=DEVICE, run=_run, fake=fake
)

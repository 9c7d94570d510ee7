"""InfoNCE in Triton: one pass over the queue yields the loss and the gradient of the queries.

Programs of the first kernel take a block of queries and a part of the queue each; the second combines the parts of a
query in order and adds its positives. Scores are kept in units of log 2.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from skelkern import gpu
from skelkern.ops import info_nce as op
from skelkern.registration import register_with_gradient
from skelkern.triton_support import (
    DEVICE,
    Configuration,
    dot,
    dot_of_halves,
    halves,
    hopper,
    inverse_of_power,
    launch,
    log1p,
    power_of_two_from,
    scale_into_half,
)

# (float32, D padded) -> rows of queries, keys of the queue; for compute capability 8 and from 9 on
CONFIGURATIONS = {
    (True, 64): (Configuration(32, 32, 4, 2), Configuration(32, 32, 4, 2)),
    (True, 128): (Configuration(32, 32, 4, 2), Configuration(32, 32, 4, 2)),
    (True, 256): (Configuration(16, 32, 4, 2), Configuration(16, 32, 4, 2)),
    (False, 64): (Configuration(64, 64, 4, 3), Configuration(64, 64, 4, 3)),
    (False, 128): (Configuration(64, 64, 4, 2), Configuration(64, 64, 4, 3)),
    (False, 256): (Configuration(32, 32, 4, 2), Configuration(64, 64, 8, 2)),
}
WIDEST = 256  # features that a program keeps of its queries; beyond, parts of the queue are multiplied by torch
WIDE_PART = 8192  # keys in such a part
PROGRAMS = 3  # on each multiprocessor
SMALL_PARTIALS = 1 << 22  # bytes of partial results that never matter


@triton.jit
def _queue_kernel(
    query,  # (n, d)
    queue,  # (k, d), strided
    largest,  # (splits, n) float32 result: the largest score of the split
    total,  # (splits, n) float32 result: sum of 2^(score - largest)
    weighted,  # (splits, n, d) float32 result: sum of 2^(score - largest) times the key; not written without GRADIENT
    n,
    d,
    k,
    key_stride,
    feature_stride,
    tiles_of_split,
    to_score,  # log2(e) / temperature
    GRADIENT: tl.constexpr,
    SPLIT: tl.constexpr,  # whether operands are float32, in two halves
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    split = tl.program_id(1)
    rows, features = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    inside = (rows < n)[:, None] & (features < d)[None, :]
    places = rows.to(tl.int64)[:, None] * d + features[None, :]
    own = tl.load(query + places, mask=inside, other=0.0)
    row_scale = tl.full([BLOCK_N], 1.0, tl.float32)
    if SPLIT:
        row_scale = scale_into_half(tl.max(tl.abs(own), axis=1))
        own_high, own_low = halves(own * row_scale[:, None])
    peak = tl.full([BLOCK_N], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_N], tl.float32)
    result = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    # one power of two for all keys so far: what `result` has been multiplied with
    scale = tl.full([], 1.0, tl.float32)
    seen = tl.full([], 0.0, tl.float32)
    first = split * tiles_of_split
    rows_of_tile = tl.arange(0, BLOCK_K)
    inside_tile = rows_of_tile[:, None] * key_stride + features[None, :] * feature_stride
    tile_start = queue + first.to(tl.int64) * BLOCK_K * key_stride
    for tile in range(first, tl.minimum(first + tiles_of_split, tl.cdiv(k, BLOCK_K))):
        keys = tile * BLOCK_K + rows_of_tile
        block = tl.load(tile_start + inside_tile, mask=(keys < k)[:, None] & (features < d)[None, :], other=0.0)
        tile_start += BLOCK_K * key_stride
        zeros = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        rescale = 1.0
        if SPLIT:
            seen = tl.maximum(seen, tl.max(tl.abs(block)))
            new_scale = scale_into_half(seen)
            rescale = new_scale * inverse_of_power(scale)
            scale = new_scale
            high, low = halves(block * scale)
            product = dot_of_halves(own_high, own_low, tl.trans(high), tl.trans(low), zeros)
        else:
            product = dot(own, tl.trans(block), zeros)
        score = product * (inverse_of_power(row_scale) * inverse_of_power(scale) * to_score)[:, None]
        score = tl.where((keys < k)[None, :], score, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(score, axis=1))
        safe = tl.where(new_peak == float("-inf"), 0.0, new_peak)
        faded = tl.exp2(peak - safe)
        share = tl.exp2(score - safe[:, None])
        weight = weight * faded + tl.sum(share, axis=1)
        peak = new_peak
        if GRADIENT:
            result = result * (faded * rescale)[:, None]
            if SPLIT:
                share_high, share_low = halves(share * 8192.0)
                result = dot_of_halves(share_high, share_low, high, low, result)
            else:
                result = dot(share.to(block.dtype), block, result)
    mine = split.to(tl.int64) * n + rows
    tl.store(largest + mine, peak, mask=rows < n)
    tl.store(total + mine, weight, mask=rows < n)
    if GRADIENT:
        if SPLIT:
            result = result * (inverse_of_power(scale) / 8192.0)
        tl.store(weighted + mine[:, None] * d + features[None, :], result, mask=inside)


@triton.jit
def _combine_kernel(
    query,  # (n, d)
    positives,  # (n, p, d)
    largest,  # (splits, n) float32, of _queue_kernel
    total,  # (splits, n) float32
    weighted,  # (splits, n, d) float32; not read without GRADIENT
    loss,  # (n) float32 result
    weights,  # (n, p) float32 result
    gradient,  # (n, d) float32 result; not written without GRADIENT
    n,
    d,
    p,
    splits,
    to_score,  # log2(e) / temperature
    inverse_temperature,
    MEAN_LOG: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    features = tl.arange(0, BLOCK_D)
    inside = features < d
    own = tl.load(query + row * d + features, mask=inside, other=0.0).to(tl.float32)
    # the positives: largest score, sum relative to it, sum of scores
    peak = tl.full([], float("-inf"), tl.float32)
    positive = tl.full([], 0.0, tl.float32)
    scores = tl.full([], 0.0, tl.float32)
    for i in range(p):
        key = tl.load(positives + (row * p + i) * d + features, mask=inside, other=0.0).to(tl.float32)
        score = tl.sum(own * key) * to_score
        higher = tl.maximum(peak, score)
        positive = positive * tl.exp2(peak - higher) + tl.exp2(score - higher)
        peak = higher
        scores += score
    # the queue, its splits in order
    queue_peak = tl.full([], float("-inf"), tl.float32)
    mine = row
    for _ in range(splits):
        queue_peak = tl.maximum(queue_peak, tl.load(largest + mine))
        mine += n
    safe = tl.where(queue_peak == float("-inf"), 0.0, queue_peak)
    negative = tl.full([], 0.0, tl.float32)
    result = tl.zeros([BLOCK_D], tl.float32)
    mine = row
    for _ in range(splits):
        faded = tl.exp2(tl.load(largest + mine) - safe)
        negative += tl.load(total + mine) * faded
        if GRADIENT:
            result += tl.load(weighted + mine * d + features, mask=inside, other=0.0) * faded
        mine += n
    # negatives over positives and its inverse: the one that is at most 1 keeps the digits of a small loss
    apart = queue_peak - peak
    ratio = negative / positive * tl.exp2(apart)
    turned = ratio > 1
    divisor = tl.where(turned, negative, 1.0)
    inverse = positive / divisor * tl.exp2(tl.where(turned, -apart, 0.0))
    of_queue = tl.where(turned, 1 / (1 + inverse), ratio / (1 + ratio))
    of_positives = tl.where(turned, inverse / (1 + inverse), 1 / (1 + ratio))
    LOG_2: tl.constexpr = 0.6931471805599453
    value = tl.where(turned, LOG_2 * apart + tl.log(divisor / positive) + log1p(inverse), log1p(ratio))
    if MEAN_LOG:
        value += LOG_2 * (peak - scores / p) + tl.log(positive)
    tl.store(loss + row, value)
    result *= of_queue / tl.where(negative == 0, 1.0, negative) * inverse_temperature
    for i in range(p):
        key = tl.load(positives + (row * p + i) * d + features, mask=inside, other=0.0).to(tl.float32)
        of_key = tl.exp2(tl.sum(own * key) * to_score - peak) / positive
        if MEAN_LOG:
            of_key = (of_key * of_positives - 1.0 / p) * inverse_temperature
        else:
            of_key = -of_key * of_queue * inverse_temperature
        tl.store(weights + row * p + i, of_key)
        result += of_key * key
    if GRADIENT:
        tl.store(gradient + row * d + features, result, mask=inside)


Partials = tuple[Tensor, Tensor, Tensor]  # largest score and sum (splits, n), weighted sum of keys (splits, n, d)


def _over_queue(query: Tensor, queue: Tensor, to_score: float, wants_gradient: bool) -> Partials:
    """The queue's part, by _queue_kernel."""
    (n, d), k, device = query.shape, queue.shape[0], query.device
    is_float32, padded = query.dtype == torch.float32, power_of_two_from(d)
    configuration = CONFIGURATIONS[is_float32, max(64, padded)][hopper(device)]
    if (max(64, padded) * sum(queue.stride())) >= 2**31:  # places in a tile are 32-bit numbers
        queue = queue.contiguous()
    row_blocks, tiles = triton.cdiv(n, configuration.rows), triton.cdiv(k, configuration.columns)
    partials = 4 * n * (d + 2 if wants_gradient else 2)
    allowed = max(queue.numel() * queue.element_size() // 4, SMALL_PARTIALS)
    splits = min(tiles, triton.cdiv(PROGRAMS * gpu.multiprocessors(device), row_blocks), max(1, allowed // partials))
    of_split = triton.cdiv(tiles, max(splits, 1))
    splits = triton.cdiv(tiles, max(of_split, 1))
    largest, total = query.new_empty((2, splits, n), dtype=torch.float32)
    weighted = query.new_empty((splits, n, d) if wants_gradient else (0,), dtype=torch.float32)
    launch(
        _queue_kernel,
        (row_blocks, splits),
        *(query, queue, largest, total, weighted, n, d, k, *queue.stride(), of_split, to_score),
        GRADIENT=wants_gradient,
        SPLIT=is_float32,
        BLOCK_N=configuration.rows,
        BLOCK_K=configuration.columns,
        BLOCK_D=padded,
        device=device,
        warps=configuration.warps if d % 16 == 0 else 8,  # narrow loads want more registers than 4 warps have
        stages=configuration.stages,
    )
    return largest, total, weighted


def _over_wide_queue(query: Tensor, queue: Tensor, to_score: float, wants_gradient: bool) -> Partials:
    """The queue's part for vectors of more than WIDEST features: torch multiplies, one part of the queue at a time."""
    (n, d), parts = query.shape, queue.split(WIDE_PART)
    largest, total = query.new_empty((2, len(parts), n), dtype=torch.float32)
    weighted = query.new_empty((len(parts), n, d) if wants_gradient else (0,), dtype=torch.float32)
    own = query.float() * to_score
    with torch.autocast(query.device.type, enabled=False):
        for i, part in enumerate(parts):
            keys = part.float()
            scores = own @ keys.T
            torch.amax(scores, dim=1, out=largest[i])
            shares = scores.sub_(largest[i][:, None]).exp2_()
            torch.sum(shares, dim=1, out=total[i])
            if wants_gradient:
                torch.mm(shares, keys, out=weighted[i])
    return largest, total, weighted


def _run(
    query: Tensor, positives: Tensor, queue: Tensor, temperature: float, mean_log: bool, query_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    (n, d), p = query.shape, positives.shape[1]
    loss, weights = query.new_empty(n, dtype=torch.float32), query.new_empty((n, p), dtype=torch.float32)
    gradient = query.new_empty((n, d) if query_gradient else (0, 0), dtype=torch.float32)
    if n == 0:
        return loss, gradient, weights
    own, others, to_score = query.contiguous(), positives.contiguous(), 1 / (math.log(2) * temperature)
    over_queue = _over_queue if d <= WIDEST else _over_wide_queue
    partials = over_queue(own, queue, to_score, query_gradient)
    padded = power_of_two_from(d)
    launch(
        _combine_kernel,
        (n,),
        *(own, others, *partials, loss, weights, gradient, n, d, p, partials[0].shape[0], to_score, 1 / temperature),
        MEAN_LOG=mean_log and p > 1,
        GRADIENT=query_gradient,
        BLOCK_D=padded,
        device=query.device,
        warps=1 if padded <= 256 else 4 if padded <= 2048 else 8,
    )
    return loss, gradient, weights


def loss(query: Tensor, positives: Tensor, queue: Tensor, temperature: float, multi_positive: str) -> Tensor:
    """Loss of every query (N); see `skelkern.info_nce`."""
    return op.kernel_loss(info_nce_triton, query, positives, queue, temperature, multi_positive)


info_nce_triton = register_with_gradient(
    "info_nce_triton",
    (op.SCHEMA, op.BACKWARD_SCHEMA),
    device=DEVICE,
    run=_run,
    fake=op.fake,
    save=op.save,
    run_backward=op.run_backward,
    fake_backward=op.fake_backward,
    formula=op.gradient_formula,
)

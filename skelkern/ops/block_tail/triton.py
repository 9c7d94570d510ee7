"""The tail of a convolution block in Triton, for x with its positions or its channels last in memory.

A program takes tiles (channels, items, 16); an item is a Philox block of draws, 64 positions of one sample. The four
words that one counter yields belong to positions 16 apart, so that a tile is read four times, 16 positions further each
time. Draws are numbered by sample, channel and position, whatever the order in memory.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from skelkern.ops import block_tail as op
from skelkern.ops.block_tail.layout import Splits, empty_as, laid_out, layout_of, split
from skelkern.registration import register_with_gradient
from skelkern.triton_support import DEVICE, launch, power_of_two_from

MERGED = 2048  # partial results that a program merges, at least those of one channel


@triton.jit
def _tile(channel, item, items, channels, length, LAST: tl.constexpr):
    """A tile of channels (CHANNELS, 1, 1) and items (1, ITEMS, 1): places of the first words' elements, which channels
    and items there are, the elements' positions, and the counters of their draws."""
    sixteen = tl.arange(0, 16)[None, None, :]
    blocks = tl.cdiv(length, 64)
    sample = item // blocks
    block = item - sample * blocks
    position = block * 64 + sixteen
    row = sample.to(tl.int64) * channels + channel
    sample_start = sample.to(tl.int64) * length
    places = (sample_start + position) * channels + channel if LAST else row * length + position
    return places, (channel < channels) & (item < items), position, (row * blocks + block) * 16 + sixteen


@triton.jit
def _word(places, inside, position, channels, length, word: tl.constexpr, LAST: tl.constexpr):
    """Places of a tile's elements of the counters' words 0, 1, 2 or 3, and which of them there are."""
    step = 16 * word * channels if LAST else 16 * word
    return places + step, inside & (position + 16 * word < length)


@triton.jit
def _draws(seed, counter):
    """Four 32-bit words for each counter."""
    low = counter.to(tl.uint32)
    return tl.philox(tl.load(seed), low, (counter >> 32).to(tl.uint32), low * 0, low * 0)


@triton.jit
def _program(items, channels, CHANNELS: tl.constexpr, ITEMS: tl.constexpr):
    """Channels (CHANNELS, 1, 1) and items (1, ITEMS, 1) of the program's tile; neighbours in memory are neighbours."""
    groups = tl.cdiv(channels, CHANNELS)
    program = tl.program_id(0)
    channel = program % groups * CHANNELS + tl.arange(0, CHANNELS)[:, None, None]
    return channel, program // groups * ITEMS + tl.arange(0, ITEMS)[None, :, None]


@triton.jit
def _split(items, items_of_split, channels, CHANNELS: tl.constexpr):
    """Number of the program's part of its channels' items, its first item, the last one's successor, its channels."""
    groups = tl.cdiv(channels, CHANNELS)
    split = tl.program_id(0) // groups
    last = tl.minimum(items, (split + 1) * items_of_split)
    return split, split * items_of_split, last, tl.program_id(0) % groups * CHANNELS + tl.arange(0, CHANNELS)


@triton.jit
def _store_parts(results, first, second, split, channel, channels):
    """Two numbers of each channel's part into an array (splits, 2, c)."""
    results += 2 * split * channels
    tl.store(results + channel, first, channel < channels)
    tl.store(results + channels + channel, second, channel < channels)


@triton.jit
def _of_tile(values):
    """Sums over a tile's items and positions: (CHANNELS)."""
    return tl.sum(tl.sum(values, axis=2), axis=1)


@triton.jit
def _of_channel(values, channel, channels, default):
    """A parameter (C) for some channels, in float32; `default` where it is None."""
    if values is None:
        result = tl.full(channel.shape, default, tl.float32)
    else:
        result = tl.load(values + channel, channel < channels, other=0.0).to(tl.float32)
    return result


@triton.jit
def _elements(items, length):
    """How many positions the first `items` items have."""
    blocks = tl.cdiv(length, 64)
    samples = tl.cast(items, tl.int32) // blocks
    return tl.cast(samples, tl.int64) * length + (items - samples * blocks) * 64


@triton.jit
def _inverse(count):
    """1 / count in double precision, to 13 digits: the division would be a call that needs a stack."""
    guess = (1 / count.to(tl.float32)).to(tl.float64)
    return guess * (2 - guess * count.to(tl.float64))


@triton.jit
def _moments_kernel(
    x,  # (n, c, length), or (n, length, c) in memory with LAST
    moments,  # (splits, 2, c) float32 result: mean, and sum of squared distances from it, of parts of a channel
    items,
    items_of_split,
    channels,
    units,  # of ALIGNED positions in a row
    ALIGNED: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    length = units * ALIGNED
    split, first, last, own = _split(items, items_of_split, channels, CHANNELS)
    channel, item = own[:, None, None], first + tl.arange(0, ITEMS)[None, :, None]
    # distances from the mean of a first few lose no digits to a large mean
    start, few, offset, _ = _tile(channel, item, last, channels, length, LAST)
    few = few & (offset < length)
    pivot = _of_tile(tl.load(x + start, few, other=0.0).to(tl.float32))
    pivot /= tl.maximum(_of_tile(few.to(tl.float32)), 1.0)
    off, squares = tl.zeros([CHANNELS, ITEMS, 16], tl.float32), tl.zeros([CHANNELS, ITEMS, 16], tl.float32)
    for _ in range(first, last, ITEMS):
        places, inside, position, _ = _tile(channel, item, last, channels, length, LAST)
        for word in tl.static_range(4):
            at, here = _word(places, inside, position, channels, length, word, LAST)
            distance = tl.load(x + at, here, other=0.0).to(tl.float32) - pivot[:, None, None]
            distance = tl.where(here, distance, 0.0)
            off += distance
            squares += distance * distance
        item += ITEMS
    count = (_elements(last, length) - _elements(first, length)).to(tl.float32)
    away = _of_tile(off)
    _store_parts(moments, pivot + away / count, _of_tile(squares) - away * away / count, split, own, channels)


@triton.jit
def _statistics_kernel(
    moments,  # (splits, 2, c) float32, of _moments_kernel; None where mean and variance are known
    known_mean,  # (c) or None
    known_variance,  # (c) or None
    mean,  # (c) float32 result
    variance,  # (c) float32 result
    inverse_std,  # (c) float32 result
    eps,
    items,
    items_of_split,
    channels,
    length,
    SPLITS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    if moments is None:
        own_mean = tl.load(known_mean + channel, channel < channels, other=0.0).to(tl.float32)
        own_variance = tl.load(known_variance + channel, channel < channels, other=1.0).to(tl.float32)
    else:
        part = tl.arange(0, SPLITS)
        places, inside = _parts(channel, items, items_of_split, channels, SPLITS)
        end = tl.minimum(items, (part + 1) * items_of_split)
        count = _elements(end, length) - _elements(tl.minimum(items, part * items_of_split), length)
        count = count.to(tl.float64)[:, None]
        share = _inverse(_elements(items, length))
        part_mean = tl.load(moments + places, inside, other=0.0).to(tl.float64)
        own_mean = tl.sum(part_mean * count, axis=0) * share
        away = part_mean - own_mean[None, :]
        squares = tl.load(moments + channels + places, inside, other=0.0)
        squares = tl.where(inside, squares.to(tl.float64) + away * away * count, 0.0)
        own_mean, own_variance = own_mean.to(tl.float32), (tl.sum(squares, axis=0) * share).to(tl.float32)
    tl.store(mean + channel, own_mean, channel < channels)
    tl.store(variance + channel, own_variance, channel < channels)
    tl.store(inverse_std + channel, tl.rsqrt(own_variance + eps), channel < channels)


@triton.jit
def _parts(channel, items, items_of_split, channels, SPLITS: tl.constexpr):
    """Places of the first numbers of channels' parts in an array (splits, 2, c), and which there are."""
    part = tl.arange(0, SPLITS)[:, None]
    inside = (part < tl.cdiv(items, items_of_split)) & (channel < channels)[None, :]
    return 2 * part * channels + channel[None, :], inside


@triton.jit
def _forward_kernel(
    x,  # (n, c, length), or (n, length, c) in memory with LAST
    mean,  # (c) float32
    inverse_std,  # (c) float32
    weight,  # (c) or None
    bias,  # (c) or None
    residual,  # as x, or None
    seed,  # () int64, or None without dropout
    y,  # as x, result
    items,
    channels,
    units,  # of ALIGNED positions in a row
    threshold,  # least word that keeps an element, minus 2^31
    factor,  # of what is kept
    RELU: tl.constexpr,
    ALIGNED: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    length = units * ALIGNED
    channel, item = _program(items, channels, CHANNELS, ITEMS)
    places, inside, position, counter = _tile(channel, item, items, channels, length, LAST)
    centre = _of_channel(mean, channel, channels, 0.0)
    scale = _of_channel(inverse_std, channel, channels, 0.0) * _of_channel(weight, channel, channels, 1.0)
    shift = _of_channel(bias, channel, channels, 0.0)
    if seed is not None:
        words = _draws(seed, counter)
    for word in tl.static_range(4):
        at, here = _word(places, inside, position, channels, length, word, LAST)
        value = (tl.load(x + at, here, other=0.0).to(tl.float32) - centre) * scale + shift
        if seed is not None:
            value = _drop(value, words[word], threshold, factor)
        if residual is not None:
            value += tl.load(residual + at, here, other=0.0).to(tl.float32)
        if RELU:
            value = tl.where(value < 0, 0.0, value)
        tl.store(y + at, value.to(y.dtype.element_ty), here)


@triton.jit
def _drop(value, word, threshold, factor):
    """Dropout by a word for each value."""
    kept = (word ^ 0x80000000).to(tl.int32, bitcast=True) >= threshold
    return tl.where(kept, value * factor, 0.0)


@triton.jit
def _behind_relu(y_gradient, y, at, here):
    """Some elements of the gradient behind the ReLU, where there was one, from the gradient of y."""
    value = tl.load(y_gradient + at, here, other=0.0).to(tl.float32)
    if y is not None:
        value = tl.where(tl.load(y + at, here, other=0.0).to(tl.float32) <= 0, 0.0, value)
    return value


@triton.jit
def _sums_kernel(
    x,  # (n, c, length), or (n, length, c) in memory with LAST
    y,  # as x; None without ReLU
    y_gradient,  # as x
    mean,  # (c) float32
    seed,  # () int64, or None without dropout
    sums,  # (splits, 2, c) float32 result: gradient behind dropout, alone and times x - mean, of parts of a channel
    items,
    items_of_split,
    channels,
    units,  # of ALIGNED positions in a row
    threshold,  # least word that keeps an element, minus 2^31
    factor,  # of what is kept
    ALIGNED: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    length = units * ALIGNED
    split, first, last, own = _split(items, items_of_split, channels, CHANNELS)
    channel, item = own[:, None, None], first + tl.arange(0, ITEMS)[None, :, None]
    centre = _of_channel(mean, channel, channels, 0.0)
    plain, times_x = tl.zeros([CHANNELS, ITEMS, 16], tl.float32), tl.zeros([CHANNELS, ITEMS, 16], tl.float32)
    for _ in range(first, last, ITEMS):
        places, inside, position, counter = _tile(channel, item, last, channels, length, LAST)
        if seed is not None:
            words = _draws(seed, counter)
        for word in tl.static_range(4):
            at, here = _word(places, inside, position, channels, length, word, LAST)
            value = _behind_relu(y_gradient, y, at, here)
            if seed is not None:
                value = _drop(value, words[word], threshold, factor)
            plain += value
            distance = tl.load(x + at, here, other=0.0).to(tl.float32) - centre
            times_x += tl.where(here, value * distance, 0.0)
        item += ITEMS
    _store_parts(sums, _of_tile(plain), _of_tile(times_x), split, own, channels)


@triton.jit
def _affine_kernel(
    sums,  # (splits, 2, c) float32, of _sums_kernel
    inverse_std,  # (c) float32
    weight_gradient,  # (c) result, or None
    bias_gradient,  # (c) result, or None
    shares,  # (2, c) float32 result: what the gradient of x loses to its mean, and to its variance per distance from it
    items,
    items_of_split,
    channels,
    length,
    SPLITS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    places, inside = _parts(channel, items, items_of_split, channels, SPLITS)
    plain = tl.sum(tl.load(sums + places, inside, other=0.0).to(tl.float64), axis=0)
    times_x = tl.sum(tl.load(sums + channels + places, inside, other=0.0).to(tl.float64), axis=0)
    scale = tl.load(inverse_std + channel, channel < channels, other=0.0).to(tl.float64)
    if bias_gradient is not None:
        value = plain.to(tl.float32)
        tl.store(bias_gradient + channel, value.to(bias_gradient.dtype.element_ty), channel < channels)
    if weight_gradient is not None:
        value = (times_x * scale).to(tl.float32)
        tl.store(weight_gradient + channel, value.to(weight_gradient.dtype.element_ty), channel < channels)
    share = _inverse(_elements(items, length))
    tl.store(shares + channel, (plain * share).to(tl.float32), channel < channels)
    tl.store(shares + channels + channel, (times_x * scale * scale * share).to(tl.float32), channel < channels)


@triton.jit
def _backward_kernel(
    x,  # (n, c, length), or (n, length, c) in memory with LAST; not read without shares
    y,  # as x; None without ReLU
    y_gradient,  # as x
    mean,  # (c) float32
    inverse_std,  # (c) float32
    weight,  # (c) or None
    seed,  # () int64, or None without dropout
    shares,  # (2, c) float32, of _affine_kernel; None where the statistics are constants
    x_gradient,  # as x, result, or None
    residual_gradient,  # as x, result, or None
    items,
    channels,
    units,  # of ALIGNED positions in a row
    threshold,  # least word that keeps an element, minus 2^31
    factor,  # of what is kept
    ALIGNED: tl.constexpr,
    LAST: tl.constexpr,
    CHANNELS: tl.constexpr,
    ITEMS: tl.constexpr,
):
    length = units * ALIGNED
    channel, item = _program(items, channels, CHANNELS, ITEMS)
    places, inside, position, counter = _tile(channel, item, items, channels, length, LAST)
    scale = _of_channel(inverse_std, channel, channels, 0.0) * _of_channel(weight, channel, channels, 1.0)
    if shares is not None:
        centre = _of_channel(mean, channel, channels, 0.0)
        mean_share = _of_channel(shares, channel, channels, 0.0)
        slope = _of_channel(shares + channels, channel, channels, 0.0)
    if x_gradient is not None and seed is not None:
        words = _draws(seed, counter)
    for word in tl.static_range(4):
        at, here = _word(places, inside, position, channels, length, word, LAST)
        value = _behind_relu(y_gradient, y, at, here)
        if residual_gradient is not None:
            tl.store(residual_gradient + at, value.to(residual_gradient.dtype.element_ty), here)
        if x_gradient is not None:
            if seed is not None:
                value = _drop(value, words[word], threshold, factor)
            if shares is not None:
                distance = tl.load(x + at, here, other=0.0).to(tl.float32) - centre
                value -= mean_share + slope * distance
            tl.store(x_gradient + at, (value * scale).to(x_gradient.dtype.element_ty), here)


def _merge(kernel: Any, splits: Splits, *arguments: Any, device: torch.device) -> None:
    """Starts a kernel that merges the parts of all channels."""
    layout, parts = splits.layout, power_of_two_from(splits.count)
    channels = MERGED // parts
    sizes = (layout.items, splits.items, layout.channels, layout.length)
    grid = (triton.cdiv(layout.channels, channels),)
    launch(kernel, grid, *arguments, *sizes, SPLITS=parts, CHANNELS=channels, device=device, warps=8)


def _dropout(share: float) -> tuple[int, float]:
    """The kernels' threshold and factor."""
    return int(share * 2**32) - 2**31, 1 / (1 - share)


def _statistics(x: Tensor, mean: Tensor | None, variance: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and inverse standard deviation of the channels: the given ones, or those of x."""
    results = tuple(x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(3))
    splits, moments = split(layout_of(x, draws=False), x.device), None
    if mean is None or variance is None:
        moments = x.new_empty((splits.count, 2, x.shape[1]), dtype=torch.float32)
        sizes, options = splits.sizes(), splits.layout.options()
        launch(_moments_kernel, splits.grid(), x, moments, *sizes, **options, device=x.device)
    _merge(_statistics_kernel, splits, moments, mean, variance, *results, eps, device=x.device)
    of_mean, of_variance, inverse_std = results
    return of_mean, of_variance, inverse_std


def _run_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *of_channel, residual, seed, dropout, eps, relu, _ = rest
    data, added = laid_out(x, x), None if residual is None else laid_out(residual, x)
    mean, variance, weight, bias = (None if value is None else value.contiguous() for value in of_channel)
    mean, variance, inverse_std = _statistics(data, mean, variance, eps)
    y, layout = empty_as(x, x.dtype), layout_of(x, seed is not None)
    tensors = (data, mean, inverse_std, weight, bias, added, seed, y)
    arguments, options = (*tensors, *layout.sizes(), *_dropout(dropout)), layout.options()
    launch(_forward_kernel, layout.grid(), *arguments, RELU=relu, **options, device=x.device)
    return y, mean, variance, inverse_std


def _fake_forward(x: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mean, variance, inverse_std = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(3))
    return empty_as(x, x.dtype), mean, variance, inverse_std


def _run_backward(
    y_gradient: Tensor, x: Tensor | None, y: Tensor | None, mean: Tensor, inverse_std: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, seed, dropout, _, through_statistics, wanted = rest
    results = _fake_backward(y_gradient, x, y, mean, inverse_std, weight, wanted)
    of_x, of_weight, of_bias, of_residual = (
        result if each else None for result, each in zip(results, wanted, strict=True)
    )
    like = _first(y, x, y_gradient)
    x, y, incoming = (None if tensor is None else laid_out(tensor, like) for tensor in (x, y, y_gradient))
    layout, device, shares = layout_of(like, seed is not None), like.device, None
    options, of_dropout = {**layout.options(), "device": device}, _dropout(dropout)
    if wanted[1] or wanted[2] or (through_statistics and wanted[0]):
        splits = split(layout, device)
        sums = like.new_empty((splits.count, 2, layout.channels), dtype=torch.float32)
        shares = like.new_empty((2, layout.channels), dtype=torch.float32)
        arguments = (x, y, incoming, mean, seed, sums, *splits.sizes(), *of_dropout)
        launch(_sums_kernel, splits.grid(), *arguments, **options)
        _merge(_affine_kernel, splits, sums, inverse_std, of_weight, of_bias, shares, device=device)
    if wanted[0] or wanted[3]:
        weight = None if weight is None else weight.contiguous()
        tensors = (x, y, incoming, mean, inverse_std, weight, seed, shares if through_statistics else None)
        numbers = (*layout.sizes(), *of_dropout)
        launch(_backward_kernel, layout.grid(), *tensors, of_x, of_residual, *numbers, **options)
    return results


def _first(*tensors: Tensor | None) -> Tensor:
    """The first that is one."""
    return next(tensor for tensor in tensors if tensor is not None)


def _fake_backward(
    y_gradient: Tensor, x: Tensor | None, y: Tensor | None, mean: Tensor, inverse_std: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, wanted, like = rest[0], rest[-1], _first(y, x, y_gradient)
    dtypes = op.gradient_dtypes(y_gradient, weight)
    of_x, of_residual = (empty_as(like, dtypes[i]) if wanted[i] else like.new_empty(0, dtype=dtypes[i]) for i in (0, 3))
    of_weight, of_bias = (like.new_empty(like.shape[1] if wanted[i] else 0, dtype=dtypes[i]) for i in (1, 2))
    return of_x, of_weight, of_bias, of_residual


def tail(*arguments: Any) -> op.Tail:
    """See `skelkern.block_tail`."""
    y, mean, variance, _ = block_tail_triton(*arguments)
    return y, mean, variance


block_tail_triton = register_with_gradient(
    "block_tail_triton",
    (op.SCHEMA, op.BACKWARD_SCHEMA),
    device=DEVICE,
    run=_run_forward,
    fake=_fake_forward,
    save=op.save,
    run_backward=_run_backward,
    fake_backward=_fake_backward,
    formula=op.gradient_formula,
)

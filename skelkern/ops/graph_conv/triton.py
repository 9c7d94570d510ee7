"""The graph convolution in Triton, on channels-last memory: rows of channels, one for each (sample, frame, joint).

A first kernel lists the non-zero entries of the adjacency on the device, by target joint, and by source joint where
gradients are wanted. With z_k[r] = sum_v A_k[v, w] x[v] over the list of a row r's joint w

    y = sum_k z_k W_k^T,    dW_k = z_k^T dy,    dA_k[v, w] = sum over frames of <x[v], (W_k^T dy)[w]>,

and dx is the forward kernel on dy, with the lists by source and the weights transposed. z is never stored: a row's
neighbours are rows of the same frame, which are in cache. Sums over rows are split among programs and added in order.
"""

import triton
import triton.language as tl
from torch import Tensor, channels_last, float32, int32

from skelkern import gpu
from skelkern.ops import graph_conv as op
from skelkern.registration import register_with_gradient
from skelkern.triton_support import (
    DEVICE,
    dot,
    dot_of_halves,
    halves,
    inverse_of_power,
    launch,
    power_of_two_from,
    scale_into_half,
)

LIST_BLOCK = 32  # joints by joints that a program of _lists_kernel looks at
PROGRAMS = 3  # on each multiprocessor, where sums are split
ROWS = 64  # of a program
MOST_OUT = 64  # output channels of a program
MOST_IN = 32  # input channels of a tile
MOST_JOINTS = 32  # of a tile of the adjacency's gradient


@triton.jit
def _lists_kernel(
    adjacency,  # (k, v, v) or (n, k, v, v), strided
    sources,  # (sides, n or 1, k, v, v) int32 result: the i-th joint in the list of joint w at [i, w]
    values,  # the same in float32: its entry
    counts,  # (sides, n or 1, k, v) int32 result: lengths of the lists
    sums,  # (sides, n or 1, k, v) float32 result: sums of the entries
    v,
    k,
    sample_stride,
    subset_stride,
    row_stride,
    column_stride,
    BLOCK: tl.constexpr,
):
    sample, subset = tl.program_id(0) // k, tl.program_id(0) % k
    targets = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    turned = tl.program_id(2) * (column_stride - row_stride)  # the second side lists the transposed matrix
    down, across = row_stride + turned, column_stride - turned
    matrix = adjacency + sample.to(tl.int64) * sample_stride + subset.to(tl.int64) * subset_stride
    lists = (tl.program_id(2).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * v
    count = tl.zeros([BLOCK], tl.int32)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, v, BLOCK):
        joints = first + tl.arange(0, BLOCK)
        places = joints.to(tl.int64)[:, None] * down + targets.to(tl.int64)[None, :] * across
        inside = (joints < v)[:, None] & (targets < v)[None, :]
        entries = tl.load(matrix + places, inside, other=0.0).to(tl.float32)
        there = (entries != 0).to(tl.int32)
        slots = (lists + count[None, :] + tl.cumsum(there, axis=0) - there) * v + targets[None, :]
        tl.store(sources + slots, joints[:, None] + tl.zeros_like(there), there != 0)
        tl.store(values + slots, entries, there != 0)
        count += tl.sum(there, axis=0)
        total += tl.sum(entries, axis=0)
    tl.store(counts + lists + targets, count, targets < v)
    tl.store(sums + lists + targets, total, targets < v)


@triton.jit
def _rows(first, rows, t, v, PER_SAMPLE: tl.constexpr, BLOCK: tl.constexpr):
    """BLOCK rows from `first` (int64) on: their joints, the first rows of their frames, their samples where adjacencies
    are per sample, and which of them there are."""
    frame = first // v
    inner = (first - frame * v).to(tl.int32) + tl.arange(0, BLOCK)
    later = inner // v
    samples = tl.zeros([BLOCK], tl.int64)
    if PER_SAMPLE:
        samples += frame // t + ((frame % t).to(tl.int32) + later) // t
    return inner % v, (frame + later) * v, samples, first + tl.arange(0, BLOCK) < rows


@triton.jit
def _gather(x, sources, values, slots, count, longest, frame_rows, channels, v, c):
    """z (rows, channels) in float32: the rows of x (rows, c) in each row's list, times their entries. `slots` (int64)
    are where the lists begin."""
    z = tl.zeros([slots.shape[0], channels.shape[0]], tl.float32)
    for i in range(0, longest):
        listed = i < count
        source = tl.load(sources + slots, listed, other=0)
        value = tl.load(values + slots, listed, other=0.0)
        places = (frame_rows + source)[:, None] * c + channels[None, :]
        z += value[:, None] * tl.load(x + places, listed[:, None] & (channels < c)[None, :], other=0.0).to(tl.float32)
        slots += v
    return z


@triton.jit
def _multiply(a, b, acc, TYPE: tl.constexpr):
    """acc + a b, of operands rounded to TYPE or, in float32, with the error of float32."""
    if tl.float32 == TYPE:
        of_row, of_column = scale_into_half(tl.max(tl.abs(a), axis=1)), scale_into_half(tl.max(tl.abs(b), axis=0))
        a_high, a_low = halves(a * of_row[:, None])
        b_high, b_low = halves(b * of_column[None, :])
        product = dot_of_halves(a_high, a_low, b_high, b_low, tl.zeros_like(acc))
        return acc + product * (inverse_of_power(of_row)[:, None] * inverse_of_power(of_column)[None, :])
    return dot(a.to(TYPE), b.to(TYPE), acc)


@triton.jit
def _convolve_kernel(
    x,  # (rows, c_in)
    weight,  # (k, c_out, c_in), strided
    bias,  # (k, c_out); not read without BIAS
    sources,  # (n or 1, k, v, v) int32, of _lists_kernel
    values,  # the same in float32
    counts,  # (n or 1, k, v) int32
    sums,  # the same in float32
    y,  # (rows, c_out) result
    rows,
    t,
    v,
    k,
    c_in,
    c_out,
    subset_stride,
    out_stride,
    in_stride,
    BIAS: tl.constexpr,
    PER_SAMPLE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    out_blocks = tl.cdiv(c_out, BLOCK_O)
    first = (tl.program_id(0) // out_blocks).to(tl.int64) * BLOCK_R
    outs = (tl.program_id(0) % out_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
    joints, frame_rows, samples, inside = _rows(first, rows, t, v, PER_SAMPLE, BLOCK_R)
    acc = tl.zeros([BLOCK_R, BLOCK_O], tl.float32)
    lists = samples * k
    of_subset = weight
    for subset in range(k):
        count = tl.load(counts + lists * v + joints, inside, other=0)
        longest = tl.max(count, axis=0)
        if BIAS:
            total = tl.load(sums + lists * v + joints, inside, other=0.0)
            shift = tl.load(bias + subset * c_out + outs, outs < c_out, other=0.0).to(tl.float32)
            acc += total[:, None] * shift[None, :]
        for first_in in range(0, c_in, BLOCK_I):
            ins = first_in + tl.arange(0, BLOCK_I)
            places = ins.to(tl.int64)[:, None] * in_stride + outs.to(tl.int64)[None, :] * out_stride
            w = tl.load(of_subset + places, (ins < c_in)[:, None] & (outs < c_out)[None, :], other=0.0)
            z = _gather(x, sources, values, lists * v * v + joints, count, longest, frame_rows, ins, v, c_in)
            acc = _multiply(z, w, acc, x.dtype.element_ty)
        lists += 1
        of_subset += subset_stride
    places = (first + tl.arange(0, BLOCK_R))[:, None] * c_out + outs[None, :]
    tl.store(y + places, acc.to(y.dtype.element_ty), inside[:, None] & (outs < c_out)[None, :])


@triton.jit
def _weight_gradient_kernel(
    x,  # (rows, c)
    dy,  # (rows, c_out)
    sources,  # (n or 1, k, v, v) int32, of _lists_kernel
    values,  # the same in float32
    counts,  # (n or 1, k, v) int32
    sums,  # the same in float32
    weight_gradient,  # (splits, k, c_out, c) float32 result
    bias_gradient,  # (splits, k, c_out) float32 result
    rows,
    t,
    v,
    k,
    c,
    c_out,
    tiles_of_split,
    PER_SAMPLE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    in_blocks, out_blocks = tl.cdiv(c, BLOCK_I), tl.cdiv(c_out, BLOCK_O)
    block, subset = tl.program_id(0) % in_blocks, tl.program_id(0) // (in_blocks * out_blocks)
    ins = block * BLOCK_I + tl.arange(0, BLOCK_I)
    outs = (tl.program_id(0) // in_blocks % out_blocks) * BLOCK_O + tl.arange(0, BLOCK_O)
    acc = tl.zeros([BLOCK_O, BLOCK_I], tl.float32)
    of_bias = tl.zeros([BLOCK_O], tl.float32)
    first_tile = tl.program_id(1) * tiles_of_split
    first = first_tile.to(tl.int64) * BLOCK_R
    for _ in range(first_tile, tl.minimum(first_tile + tiles_of_split, tl.cdiv(rows, BLOCK_R))):
        joints, frame_rows, samples, inside = _rows(first, rows, t, v, PER_SAMPLE, BLOCK_R)
        lists = samples * k + subset
        count = tl.load(counts + lists * v + joints, inside, other=0)
        places = (first + tl.arange(0, BLOCK_R))[:, None] * c_out + outs[None, :]
        g = tl.load(dy + places, inside[:, None] & (outs < c_out)[None, :], other=0.0)
        if block == 0:
            total = tl.load(sums + lists * v + joints, inside, other=0.0)
            of_bias += tl.sum(g.to(tl.float32) * total[:, None], axis=0)
        slots = lists * v * v + joints
        z = _gather(x, sources, values, slots, count, tl.max(count, axis=0), frame_rows, ins, v, c)
        acc = _multiply(tl.trans(g), z, acc, x.dtype.element_ty)
        first += BLOCK_R
    rows_of_weight = (tl.program_id(1).to(tl.int64) * k + subset) * c_out + outs
    places = rows_of_weight[:, None] * c + ins[None, :]
    tl.store(weight_gradient + places, acc, (outs < c_out)[:, None] & (ins < c)[None, :])
    if block == 0:
        tl.store(bias_gradient + rows_of_weight, of_bias, outs < c_out)


@triton.jit
def _adjacency_gradient_kernel(
    x,  # (batches, frames, v, c)
    weight,  # (k, c_out, c)
    bias,  # (k, c_out); not read without BIAS
    dy,  # (batches, frames, v, c_out)
    gradient,  # (splits, batches, k, v, v) float32 result
    frames,
    v,
    k,
    c,
    c_out,
    batches,
    frames_of_split,
    BIAS: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    blocks = tl.cdiv(v, BLOCK_V)
    subset = tl.program_id(0) % k
    from_joints = (tl.program_id(0) // k % blocks) * BLOCK_V + tl.arange(0, BLOCK_V)
    to_joints = (tl.program_id(0) // (k * blocks) % blocks) * BLOCK_V + tl.arange(0, BLOCK_V)
    part = tl.program_id(0) // (k * blocks * blocks)
    split, batch = (part // batches).to(tl.int64), (part % batches).to(tl.int64)
    of_subset = subset.to(tl.int64) * c_out
    acc = tl.zeros([BLOCK_V, BLOCK_V], tl.float32)
    of_bias = tl.zeros([BLOCK_V], tl.float32)
    begin = split * frames_of_split
    row = (batch * frames + begin) * v
    for _ in range(begin, tl.minimum(begin + frames_of_split, frames)):
        for first_in in range(0, c, BLOCK_I):
            ins = first_in + tl.arange(0, BLOCK_I)
            back = tl.zeros([BLOCK_V, BLOCK_I], tl.float32)  # W_k^T dy of the frame
            for first_out in range(0, c_out, BLOCK_O):
                outs = first_out + tl.arange(0, BLOCK_O)
                places = (row + to_joints)[:, None] * c_out + outs[None, :]
                g = tl.load(dy + places, (to_joints < v)[:, None] & (outs < c_out)[None, :], other=0.0)
                places = (of_subset + outs)[:, None] * c + ins[None, :]
                w = tl.load(weight + places, (outs < c_out)[:, None] & (ins < c)[None, :], other=0.0)
                back = _multiply(g, w, back, x.dtype.element_ty)
                if BIAS:
                    first_block = (outs < c_out) & (first_in == 0)
                    shift = tl.load(bias + of_subset + outs, first_block, other=0.0).to(tl.float32)
                    of_bias += tl.sum(g.to(tl.float32) * shift[None, :], axis=1)
            places = (row + from_joints)[:, None] * c + ins[None, :]
            own = tl.load(x + places, (from_joints < v)[:, None] & (ins < c)[None, :], other=0.0)
            acc = _multiply(own, tl.trans(back), acc, x.dtype.element_ty)
        row += v
    acc += of_bias[None, :]
    places = ((part.to(tl.int64) * k + subset) * v + from_joints)[:, None] * v + to_joints[None, :]
    tl.store(gradient + places, acc, (from_joints < v)[:, None] & (to_joints < v)[None, :])


Lists = tuple[Tensor, Tensor, Tensor, Tensor]  # sources, values, counts, sums: see _lists_kernel


def _lists(adjacency: Tensor, sides: int) -> Lists:
    """Non-zero entries by target and, with two sides, by source."""
    v, k, batches = adjacency.shape[-1], adjacency.shape[-3], adjacency.shape[:-3].numel()
    dense, joints = (sides, batches, k, v, v), (sides, batches, k, v)
    sources, counts = (adjacency.new_empty(shape, dtype=int32) for shape in (dense, joints))
    values, sums = (adjacency.new_empty(shape, dtype=float32) for shape in (dense, joints))
    sample_stride = adjacency.stride(0) if adjacency.dim() == 4 else 0
    launch(
        _lists_kernel,
        (batches * k, triton.cdiv(v, LIST_BLOCK), sides),
        *(adjacency, sources, values, counts, sums, v, k, sample_stride, *adjacency.stride()[-3:]),
        BLOCK=LIST_BLOCK,
        device=adjacency.device,
        warps=4,
    )
    return sources, values, counts, sums


def _of_side(lists: Lists, side: int) -> Lists:
    sources, values, counts, sums = lists
    return sources[side], values[side], counts[side], sums[side]


def _as_rows(x: Tensor) -> Tensor:
    """x (N, C, T, V) as (N, T, V, C) with contiguous channels; no copy of channels-last memory."""
    return x.contiguous(memory_format=channels_last).permute(0, 2, 3, 1)


def _as_given(rows: Tensor, x: Tensor) -> Tensor:
    """`rows` (N, T, V, C) as (N, C, T, V) in the memory format of x."""
    result = rows.permute(0, 3, 1, 2)
    given = x.is_contiguous(memory_format=channels_last) and not x.is_contiguous()
    return result if given else result.contiguous()


def _blocks(x: Tensor, c_in: int, c_out: int) -> dict[str, int]:
    """Channels of a program's tiles, and its warps."""
    wide = x.dtype == float32
    aligned = c_in % 16 == 0 and c_out % 16 == 0  # otherwise loads are narrow, and want more registers
    block_o = min(MOST_OUT if aligned or not wide else MOST_OUT // 2, power_of_two_from(c_out))
    block_i = min(MOST_IN, power_of_two_from(c_in))
    warps = 4 if block_i == 16 or (not wide and (aligned or block_o == 16)) else 8
    if not wide and max(block_o, block_i) == 16:
        block_i, warps = MOST_IN, 2  # with smaller tiles registers go to the stack
    return {"BLOCK_O": block_o, "BLOCK_I": block_i, "warps": warps}


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, lists: Lists, per_sample: bool, strides: tuple[int, ...]
) -> Tensor:
    """The sum over subsets, of x's rows (N, T, V, C); `strides` are weight's by subset, output and input."""
    (n, t, v, c_in), k = x.shape, lists[0].shape[1]
    c_out = weight.numel() // (k * c_in)
    y, rows, blocks = x.new_empty(n, t, v, c_out), n * t * v, _blocks(x, c_in, c_out)
    launch(
        _convolve_kernel,
        (triton.cdiv(rows, ROWS) * triton.cdiv(c_out, blocks["BLOCK_O"]),),
        *(x, weight, bias, *lists, y, rows, t, v, k, c_in, c_out, *strides),
        BIAS=bias is not None,
        PER_SAMPLE=per_sample,
        BLOCK_R=ROWS,
        **blocks,
        device=x.device,
    )
    return y


def _splits(programs: int, units: int, x: Tensor) -> tuple[int, int]:
    """Into how many parts `units` of work are divided for each of `programs`, and how many units a part has."""
    splits = min(units, max(1, PROGRAMS * gpu.multiprocessors(x.device) // max(1, programs)))
    of_split = triton.cdiv(units, max(splits, 1))
    return triton.cdiv(units, max(of_split, 1)), of_split


def _weight_gradients(x: Tensor, dy: Tensor, lists: Lists, per_sample: bool) -> tuple[Tensor, Tensor]:
    """Gradients of the weight (K, C', C) and of the bias (K, C') in float32, for rows x and dy."""
    (n, t, v, c), k, c_out = x.shape, lists[0].shape[1], dy.shape[-1]
    rows, blocks = n * t * v, _blocks(x, c, c_out)
    programs = k * triton.cdiv(c, blocks["BLOCK_I"]) * triton.cdiv(c_out, blocks["BLOCK_O"])
    splits, of_split = _splits(programs, triton.cdiv(rows, ROWS), x)
    weight_gradient = x.new_empty((splits, k, c_out, c), dtype=float32)
    bias_gradient = x.new_empty((splits, k, c_out), dtype=float32)
    launch(
        _weight_gradient_kernel,
        (programs, splits),
        *(x, dy, *lists, weight_gradient, bias_gradient, rows, t, v, k, c, c_out, of_split),
        PER_SAMPLE=per_sample,
        BLOCK_R=ROWS,
        **blocks,
        device=x.device,
    )
    return weight_gradient.sum(0), bias_gradient.sum(0)


def _adjacency_gradient(x: Tensor, weight: Tensor, bias: Tensor | None, dy: Tensor, k: int, per_sample: bool) -> Tensor:
    """Gradient (N or 1, K, V, V) of the adjacency in float32, for rows x and dy."""
    (n, t, v, c), c_out = x.shape, dy.shape[-1]
    batches, frames = (n, t) if per_sample else (1, n * t)
    block_v, blocks = min(MOST_JOINTS, power_of_two_from(v)), _blocks(x, c, c_out)
    if x.dtype == float32 or c > MOST_IN:
        blocks["BLOCK_O"] = min(blocks["BLOCK_O"], MOST_OUT // 2)
    if x.dtype != float32 and c > MOST_IN:
        blocks["BLOCK_I"] = 2 * MOST_IN
    programs = batches * k * triton.cdiv(v, block_v) ** 2
    splits, of_split = _splits(programs, frames, x)
    gradient = x.new_empty((splits, batches, k, v, v), dtype=float32)
    launch(
        _adjacency_gradient_kernel,
        (programs * splits,),
        *(x, weight, bias, dy, gradient, frames, v, k, c, c_out, batches, of_split),
        BIAS=bias is not None,
        BLOCK_V=block_v,
        **blocks,
        device=x.device,
    )
    return gradient.sum(0)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    n, _, t, v = x.shape
    return _as_given(x.new_empty(n, t, v, weight.shape[0] // adjacency.shape[-3]), x)


def _run_forward(x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor) -> Tensor:
    k, c = adjacency.shape[-3], x.shape[1]
    lists, rows = _lists(adjacency, sides=1), weight.shape[0] // k
    own = (weight.contiguous(), None if bias is None else bias.contiguous())
    sums = _convolve(_as_rows(x), *own, _of_side(lists, 0), adjacency.dim() == 4, (rows * c, c, 1))
    return _as_given(sums, x)


def _fake_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, wanted: list[bool]
) -> tuple[Tensor, ...]:
    n, c, t, v = x.shape
    x_gradient = _as_given(x.new_empty(n, t, v, c), x) if wanted[0] else x.new_empty(0)
    shapes = (weight.shape, weight.shape[:1], adjacency.shape)
    others = [x.new_empty(shape if each else (0,)) for shape, each in zip(shapes, wanted[1:], strict=True)]
    return x_gradient, *others


def _run_backward(
    y_gradient: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, adjacency: Tensor, wanted: list[bool]
) -> tuple[Tensor, ...]:
    per_sample, k = adjacency.dim() == 4, adjacency.shape[-3]
    c, c_out = x.shape[1], weight.shape[0] // k
    x_rows, dy, weight = _as_rows(x), _as_rows(y_gradient), weight.contiguous()
    gradients = [x.new_empty(0)] * 4
    if any(wanted[:3]):
        lists = _lists(adjacency, sides=2)
    if wanted[0]:
        sums = _convolve(dy, weight, None, _of_side(lists, 1), per_sample, (c_out * c, 1, c))
        gradients[0] = _as_given(sums, x)
    if wanted[1] or wanted[2]:
        of_weight, of_bias = _weight_gradients(x_rows, dy, _of_side(lists, 0), per_sample)
        if wanted[1]:
            gradients[1] = of_weight.reshape(weight.shape).to(x.dtype)
        if wanted[2]:
            gradients[2] = of_bias.flatten().to(x.dtype)
    if wanted[3]:
        shift = None if bias is None else bias.contiguous()
        of_adjacency = _adjacency_gradient(x_rows, weight, shift, dy, k, per_sample)
        gradients[3] = of_adjacency.reshape(adjacency.shape).to(x.dtype)
    return tuple(gradients)


graph_conv_triton = register_with_gradient(
    "graph_conv_triton",
    (op.SCHEMA, op.BACKWARD_SCHEMA),
    device=DEVICE,
    run=_run_forward,
    fake=_fake_forward,
    save=op.save,
    run_backward=_run_backward,
    fake_backward=_fake_backward,
    formula=op.gradient_formula,
)

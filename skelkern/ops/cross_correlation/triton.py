"""The cross-correlation loss in Triton: everything around the matrix products, which are torch's.

Products are of standardised embeddings in float32: two N x N ones where N < D, the D x D one otherwise. A program holds
a few features of all samples, so that statistics need no second launch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from skelkern.ops import cross_correlation as op
from skelkern.registration import register_with_gradient
from skelkern.triton_support import DEVICE, Configuration, launch, power_of_two_from

FEATURES, NARROW_FEATURES = 32, 16  # of a program; the latter where there are few
WIDE = 2048  # features that are many
MOST_ROWS = 64
SUM = Configuration(rows=1, columns=4096, warps=8)  # numbers that a program of _sum_kernel adds up


@triton.jit
def _standardise_kernel(
    z1,  # (n, d)
    z2,  # (n, d)
    statistics,  # (5, d) float32: means, inverse standard deviations, diagonal of C; read with GIVEN, otherwise results
    standard,  # (2, n, d) float32 result
    n,
    d,
    eps,
    GIVEN: tl.constexpr,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
):
    features = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    inside = features < d
    mean1 = tl.zeros([FEATURES], tl.float32)
    mean2 = tl.zeros([FEATURES], tl.float32)
    if GIVEN:
        mean1, mean2 = tl.load(statistics + features, inside), tl.load(statistics + d + features, inside)
        inverse1 = tl.load(statistics + 2 * d + features, inside)
        inverse2 = tl.load(statistics + 3 * d + features, inside)
    else:
        for first in range(0, n, ROWS):
            places, mask = _places(first, features, n, d, ROWS)
            mean1 += tl.sum(tl.load(z1 + places, mask, other=0.0).to(tl.float32), axis=0) / n
            mean2 += tl.sum(tl.load(z2 + places, mask, other=0.0).to(tl.float32), axis=0) / n
        off1, square1 = _deviations(z1, mean1, features, n, d, ROWS)
        off2, square2 = _deviations(z2, mean2, features, n, d, ROWS)
        mean1, mean2 = mean1 + off1, mean2 + off2  # what rounding took from the means
        inverse1, inverse2 = tl.rsqrt(square1 - off1 * off1 + eps), tl.rsqrt(square2 - off2 * off2 + eps)
    diagonal = tl.zeros([FEATURES], tl.float32)
    for first in range(0, n, ROWS):
        places, mask = _places(first, features, n, d, ROWS)
        own1 = (tl.load(z1 + places, mask, other=0.0).to(tl.float32) - mean1) * inverse1
        own2 = (tl.load(z2 + places, mask, other=0.0).to(tl.float32) - mean2) * inverse2
        tl.store(standard + places, own1, mask)
        tl.store(standard + places + n.to(tl.int64) * d, own2, mask)
        diagonal += tl.sum(tl.where(mask, own1 * own2, 0.0), axis=0) / n
    if not GIVEN:
        tl.store(statistics + features, mean1, inside)
        tl.store(statistics + d + features, mean2, inside)
        tl.store(statistics + 2 * d + features, inverse1, inside)
        tl.store(statistics + 3 * d + features, inverse2, inside)
        tl.store(statistics + 4 * d + features, diagonal, inside)


@triton.jit
def _places(first, features, n, d, ROWS: tl.constexpr):
    """Places of ROWS samples from `first` on in an (n, d) array, and which of them there are."""
    rows = first + tl.arange(0, ROWS)
    return rows.to(tl.int64)[:, None] * d + features[None, :], (rows < n)[:, None] & (features < d)[None, :]


@triton.jit
def _deviations(z, mean, features, n, d, ROWS: tl.constexpr):
    """Mean and mean square of z - mean for some features of z (n, d)."""
    off, square = tl.zeros_like(mean), tl.zeros_like(mean)
    for first in range(0, n, ROWS):
        places, mask = _places(first, features, n, d, ROWS)
        away = tl.where(mask, tl.load(z + places, mask, other=0.0).to(tl.float32) - mean, 0.0)
        off += tl.sum(away, axis=0) / n
        square += tl.sum(away * away, axis=0) / n
    return off, square


@triton.jit
def _sum_kernel(
    a,  # (count) float32
    b,  # (count) float32
    sums,  # (programs) float32 result: inner products of blocks of a and b
    count,
    period,  # of the diagonal's places, d + 1
    WITHOUT_DIAGONAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    products = tl.load(a + places, places < count, other=0.0) * tl.load(b + places, places < count, other=0.0)
    if WITHOUT_DIAGONAL:
        products = tl.where(places % period == 0, 0.0, products)
    tl.store(sums + tl.program_id(0), tl.sum(products))


@triton.jit
def _loss_kernel(
    sums,  # (blocks) float32, of _sum_kernel
    diagonal,  # (d) float32, of C
    loss,  # () float32 result
    blocks,
    d,
    n,
    off_diagonal_weight,
    WITH_DIAGONAL: tl.constexpr,  # whether the sums have the squares of the diagonal in them
    BLOCK: tl.constexpr,
):
    lanes = tl.arange(0, BLOCK)
    off_diagonal = tl.zeros([BLOCK], tl.float64)
    for first in range(0, blocks, BLOCK):
        off_diagonal += tl.load(sums + first + lanes, first + lanes < blocks, other=0.0).to(tl.float64)
    total = tl.sum(off_diagonal) / n / n
    on_diagonal = tl.zeros([BLOCK], tl.float64)
    squares = tl.zeros([BLOCK], tl.float64)
    for first in range(0, d, BLOCK):
        value = tl.load(diagonal + first + lanes, first + lanes < d, other=1.0).to(tl.float64)
        on_diagonal += (1 - value) * (1 - value)
        squares += tl.where(first + lanes < d, value * value, 0.0)
    if WITH_DIAGONAL:
        total -= tl.sum(squares)
    tl.store(loss, (tl.sum(on_diagonal) + off_diagonal_weight * total).to(tl.float32))


@triton.jit
def _gradient_kernel(
    own,  # (n, d) float32: standardised embeddings
    other,  # (n, d) float32: those of the other view
    product,  # (n, d) float32: the gradient of n^2 |C|^2 / 2 by `own`
    inverse,  # (d) float32: inverse standard deviations
    diagonal,  # (d) float32: of C
    loss_gradient,  # () float32
    gradient,  # (n, d) result
    n,
    d,
    off_diagonal_weight,
    ROWS: tl.constexpr,
    FEATURES: tl.constexpr,
):
    features = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    inside = features < d
    factor = 2 * tl.load(loss_gradient) / n
    on = tl.load(diagonal + features, inside, other=0.0)
    of_other = factor * (on - 1 - off_diagonal_weight * on)
    of_product = factor * off_diagonal_weight / n
    mean = tl.zeros([FEATURES], tl.float32)
    along = tl.zeros([FEATURES], tl.float32)
    for first in range(0, n, ROWS):
        places, mask = _places(first, features, n, d, ROWS)
        value = of_product * tl.load(product + places, mask, other=0.0)
        value += of_other * tl.load(other + places, mask, other=0.0)
        mean += tl.sum(value, axis=0) / n
        along += tl.sum(value * tl.load(own + places, mask, other=0.0), axis=0) / n
    scale = tl.load(inverse + features, inside)
    for first in range(0, n, ROWS):
        places, mask = _places(first, features, n, d, ROWS)
        value = of_product * tl.load(product + places, mask, other=0.0)
        value += of_other * tl.load(other + places, mask, other=0.0)
        value = (value - mean - along * tl.load(own + places, mask, other=0.0)) * scale
        tl.store(gradient + places, value.to(gradient.dtype.element_ty), mask)


def _tiles(n: int, d: int) -> tuple[tuple[int], dict[str, int]]:
    """Grid and block sizes of the kernels whose programs hold a few features."""
    features = FEATURES if d >= WIDE else NARROW_FEATURES
    return (triton.cdiv(d, features),), {"FEATURES": features, "ROWS": min(MOST_ROWS, power_of_two_from(n))}


def _standardise(z1: Tensor, z2: Tensor, statistics: Tensor, eps: float, given: bool) -> Tensor:
    """Both standardised (2, N, D); `statistics` are given or computed."""
    n, d = z1.shape
    standard = z1.new_empty((2, n, d), dtype=torch.float32)
    grid, tiles = _tiles(n, d)
    arguments = (z1.contiguous(), z2.contiguous(), statistics, standard, n, d, eps)
    launch(_standardise_kernel, grid, *arguments, GIVEN=given, **tiles, device=z1.device, warps=4)
    return standard


def _run_forward(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    loss, statistics, products = op.fake_forward(z1, z2, off_diagonal_weight, eps)
    (n, d), device = z1.shape, z1.device
    if d == 0:
        return loss.zero_(), statistics, products
    standard = _standardise(z1, z2, statistics, eps, given=False)
    gram = n < d
    with torch.autocast(device.type, enabled=False):
        if gram:
            torch.bmm(standard, standard.mT, out=products)
        else:
            torch.mm(standard[0].T, standard[1], out=products[0])
    count = products[0].numel()
    blocks = triton.cdiv(count, SUM.columns)
    sums = z1.new_empty(blocks, dtype=torch.float32)
    factors, options = (products[0], products[-1]), {"WITHOUT_DIAGONAL": not gram, "BLOCK": SUM.columns}
    launch(_sum_kernel, (blocks,), *factors, sums, count, d + 1, **options, device=device, warps=SUM.warps)
    sizes, options = (blocks, d, n), {"WITH_DIAGONAL": gram, "BLOCK": 1024}
    launch(
        _loss_kernel, (1,), sums, statistics[4], loss, *sizes, off_diagonal_weight, **options, device=device, warps=8
    )
    return loss, statistics, products


def _run_backward(
    loss_gradient: Tensor,
    z1: Tensor,
    z2: Tensor,
    statistics: Tensor,
    products: Tensor,
    off_diagonal_weight: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor]:
    gradients = op.fake_backward(loss_gradient, z1, z2, wanted)
    n, d = z1.shape
    if d == 0:
        return gradients
    standard = _standardise(z1, z2, statistics, 0.0, given=True)
    grid, tiles = _tiles(n, d)
    for view, (gradient, each) in enumerate(zip(gradients, wanted, strict=True)):
        if not each:
            continue
        own, other = standard[view], standard[1 - view]
        with torch.autocast(z1.device.type, enabled=False):
            correlation = products[0].T if view == 0 else products[0]
            product = products[1 - view] @ own if n < d else other @ correlation
        arguments = (own, other, product, statistics[2 + view], statistics[4], loss_gradient, gradient, n, d)
        launch(_gradient_kernel, grid, *arguments, off_diagonal_weight, **tiles, device=z1.device, warps=4)
    return gradients


def loss(z1: Tensor, z2: Tensor, off_diagonal_weight: float, eps: float) -> Tensor:
    """See `skelkern.cross_correlation_loss`."""
    return cross_correlation_triton(z1, z2, off_diagonal_weight, eps)[0]


cross_correlation_triton = register_with_gradient(
    "cross_correlation_triton",
    (op.SCHEMA, op.BACKWARD_SCHEMA),
    device=DEVICE,
    run=_run_forward,
    fake=op.fake_forward,
    save=op.save,
    run_backward=_run_backward,
    fake_backward=op.fake_backward,
    formula=op.gradient_formula,
)

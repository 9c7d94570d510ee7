"""Farthest point sampling of masked clouds."""

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_clouds, check_count
from skelkern.cuda_kernels import clouds_why_not
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.numpy_interop import accepts_numpy
from skelkern.ops.farthest_points import reference
from skelkern.ops.farthest_points.cuda import farthest_points_cuda
from skelkern.ops.farthest_points.problem import empty_picks, farthest_points_problem
from skelkern.registration import address, register


@accepts_numpy
def farthest_point_sample(
    points: Tensor, m: int, mask: Tensor | None = None, start: int = 0, *, impl: str = "auto"
) -> Tensor:
    """Indices of m points of each cloud, each the farthest from those before it.

    Ties go to the lower index; a NaN distance ranks as infinite. Without gradients. NumPy arrays are taken and then
    returned, neither copied.

    Source: Eldar et al., IEEE TIP 1997; Qi et al., "PointNet++", NIPS 2017, section 3.2.

    Args:
        points: (B, N, D).
        m: number of points to pick, 1 ≤ m ≤ N.
        mask: (B, N) bool, points that may be picked; default all.
        start: index of the first pick; where it is outside the mask, the next one inside, around the end.
        impl: "auto", "reference", "cpu" or "cuda"; see `skelkern.explain`.

    Returns:
        (B, m) int64. With fewer than m points in the mask the first pick repeats; start where there are none.

    Raises:
        TypeError: points are no floating-point tensor, mask is not bool, m or start no whole number.
        ValueError: shapes or devices do not fit, m is not in [1, N] or start not in [0, N).
    """
    count = check_clouds(points, mask)
    check_count("m", m, 1, count)
    check_count("start", start, 0, count - 1)
    run = FARTHEST_POINTS.choose(impl, points, mask)
    with torch.no_grad():
        return run(points, m, mask, start)


def _reference(points: Tensor, m: int, mask: Tensor | None, start: int) -> Tensor:
    wide = points.to(torch.promote_types(points.dtype, torch.float32))
    return reference.farthest_point_sample(wide, m, mask, start)


def _run(points: Tensor, m: int, mask: Tensor | None, start: int) -> Tensor:
    source, valid, sizes = farthest_points_problem(points, m, mask)
    picks = empty_picks(points, m, mask, start)
    _cpu.farthest_points(address(source), address(valid), sizes, start, torch.get_num_threads(), address(picks))
    return picks


farthest_points_cpu = register(
    "farthest_points_cpu(Tensor points, int m, Tensor? mask, int start) -> Tensor",
    device="CPU",
    run=_run,
    fake=empty_picks,
)

FARTHEST_POINTS = register_op(
    "farthest_point_sample",
    Implementation("cuda", farthest_points_cuda, clouds_why_not),
    Implementation("cpu", farthest_points_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)

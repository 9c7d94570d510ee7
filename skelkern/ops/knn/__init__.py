"""Nearest neighbours within each cloud of a batch, without the array of all distances."""

import torch
from torch import Tensor

from skelkern import _cpu
from skelkern.checks import check_clouds, check_count
from skelkern.cuda_kernels import clouds_why_not
from skelkern.dispatch import Implementation, cpu_kernel_why_not, register_op, runs_anything
from skelkern.numpy_interop import accepts_numpy
from skelkern.ops.knn import reference
from skelkern.ops.knn.cuda import knn_cuda
from skelkern.ops.knn.problem import empty_neighbors, knn_problem
from skelkern.registration import address, register


@accepts_numpy
def knn(points: Tensor, k: int, mask: Tensor | None = None, *, impl: str = "auto") -> Tensor:
    """Indices of the k nearest points of every point, nearest first.

    Ties go to the lower index, so that a point is its own first neighbour unless points of lower index coincide with
    it. A NaN distance ranks as infinite. Squared distances are sums of squared differences for D ≤ 8; beyond, they are
    expanded on clouds moved to their centres, so that points nearly as far as the k-th may change places with it by
    rounding. Without gradients. NumPy arrays are taken and then returned, neither copied.

    Source: the graph of DGCNN, Wang et al., ACM TOG 2019, section 3.1.

    Args:
        points: (B, N, D).
        k: number of neighbours, 1 ≤ k ≤ N.
        mask: (B, N) bool, False for points that are nobody's neighbour; default all True.
        impl: "auto", "reference", "cpu" or "cuda"; see `skelkern.explain`.

    Returns:
        (B, N, k) int64. With fewer than k points in the mask the last neighbour is repeated; rows of points outside it
        hold their own index.

    Raises:
        TypeError: points are no floating-point tensor, mask is not bool or k no whole number.
        ValueError: shapes or devices do not fit, or k is not in [1, N].
    """
    count = check_clouds(points, mask)
    check_count("k", k, 1, count)
    run = KNN.choose(impl, points, mask)
    with torch.no_grad():
        return run(points, k, mask)


def _reference(points: Tensor, k: int, mask: Tensor | None) -> Tensor:
    return reference.knn(points.to(torch.promote_types(points.dtype, torch.float32)), k, mask)


def _run(points: Tensor, k: int, mask: Tensor | None) -> Tensor:
    source, valid, sizes = knn_problem(points, k, mask)
    neighbors = empty_neighbors(points, k, mask)
    _cpu.knn(address(source), address(valid), sizes, torch.get_num_threads(), address(neighbors))
    return neighbors


knn_cpu = register(
    "knn_cpu(Tensor points, int k, Tensor? mask) -> Tensor", device="CPU", run=_run, fake=empty_neighbors
)

KNN = register_op(
    "knn",
    Implementation("cuda", knn_cuda, clouds_why_not),
    Implementation("cpu", knn_cpu, cpu_kernel_why_not),
    Implementation("reference", _reference, runs_anything),
)

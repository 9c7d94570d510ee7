"""Farthest point sampling by the CUDA kernel (`csrc/farthest_points/farthest_points.cu`)."""

from torch import Tensor

from skelkern.cuda_kernels import cuda_module, queue, workspace
from skelkern.ops.farthest_points.problem import empty_picks, farthest_points_problem
from skelkern.registration import address, register


def _run(points: Tensor, m: int, mask: Tensor | None, start: int) -> Tensor:
    source, valid, sizes = farthest_points_problem(points, m, mask)
    picks = empty_picks(points, m, mask, start)
    memory = workspace(points, cuda_module().farthest_points_workspace(sizes))
    cuda_module().farthest_points(
        address(source), address(valid), sizes, start, queue(points), address(memory), address(picks)
    )
    return picks


farthest_points_cuda = register(
    "farthest_points_cuda(Tensor points, int m, Tensor? mask, int start) -> Tensor",
    device="CUDA",
    run=_run,
    fake=empty_picks,
)

"""Nearest neighbours by the CUDA kernel (`csrc/knn/knn.cu`)."""

from torch import Tensor

from skelkern.cuda_kernels import cuda_module, queue, workspace
from skelkern.ops.knn.problem import empty_neighbors, knn_problem
from skelkern.registration import address, register


def _run(points: Tensor, k: int, mask: Tensor | None) -> Tensor:
    source, valid, sizes = knn_problem(points, k, mask)
    neighbors = empty_neighbors(points, k, mask)
    memory = workspace(points, cuda_module().knn_workspace(sizes))
    cuda_module().knn(address(source), address(valid), sizes, queue(points), address(memory), address(neighbors))
    return neighbors


knn_cuda = register(
    "knn_cuda(Tensor points, int k, Tensor? mask) -> Tensor", device="CUDA", run=_run, fake=empty_neighbors
)

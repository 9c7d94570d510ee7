"""Chamfer distance by the CUDA kernels (`csrc/chamfer/chamfer.cu`)."""

from skelkern.cuda_kernels import cuda_module, queue
from skelkern.ops.chamfer.kernels import register_kernels

cuda_distances = register_kernels("cuda", cuda_module, queue)

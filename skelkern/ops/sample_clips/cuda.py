"""Clip sampling by the CUDA kernel (`csrc/sample_clips/sample_clips.cu`)."""

from torch import Tensor

from skelkern.checks import checks_values
from skelkern.cuda_kernels import cuda_module, queue
from skelkern.ops.sample_clips.problem import SIGNATURE, check_values, empty_clips, sample_clips_problem
from skelkern.registration import address, addresses, register


def _run(frames: Tensor, offsets: Tensor, index: Tensor, times: Tensor, *options: Tensor | None) -> Tensor:
    if checks_values(frames):
        check_values(frames, offsets, index, options[3])
    arrays, half, sizes = sample_clips_problem(frames, offsets, index, times, *options)
    clips = empty_clips(frames, offsets, index, times)
    cuda_module().sample_clips(addresses(*arrays), half, sizes, queue(frames), address(clips))
    return clips


sample_clips_cuda = register(f"sample_clips_cuda{SIGNATURE}", device="CUDA", run=_run, fake=empty_clips)

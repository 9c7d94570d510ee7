// `SampleClips` on a GPU; the problem's number of threads is of the CPU.
#pragma once

#include "common/cuda_status.h"
#include "sample_clips/sample_clips.h"

namespace skelkern {

// clips as of SampleClips::run, but that nothing is refused: a view whose index or offsets are out of range is 0, and
// so is a joint whose place in joint_order is. All arrays are the device's.
CudaStatus sample_clips_cuda(const SampleClipsProblem& problem, float* clips, const CudaQueue& queue);

}  // namespace skelkern

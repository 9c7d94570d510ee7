// `Chamfer` on a GPU; the problem's number of threads is of the CPU.
#pragma once

#include "chamfer/chamfer.h"
#include "common/cuda_status.h"

namespace skelkern {

// As Chamfer::forward and ::backward; n below 2^31. All arrays are the device's.
CudaStatus chamfer_cuda_forward(const ChamferProblem& problem, const ChamferNearest& nearest, const CudaQueue& queue);
CudaStatus chamfer_cuda_backward(const ChamferProblem& problem, const ChamferNearest& nearest,
                                 const float* const distance_gradients[2], float* const gradients[2],
                                 const CudaQueue& queue);

}  // namespace skelkern

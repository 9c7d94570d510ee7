// `FarthestPoints` on a GPU; the problem's number of threads is of the CPU.
#pragma once

#include "common/cuda_status.h"
#include "farthest_points/farthest_points.h"

namespace skelkern {

// Floats of workspace that `farthest_points_cuda` needs.
std::int64_t farthest_points_cuda_workspace(const FarthestPointsProblem& problem);

// picks (b, m) as of FarthestPoints::run; n below 2^31. All arrays are the device's.
CudaStatus farthest_points_cuda(const FarthestPointsProblem& problem, float* workspace, std::int64_t* picks,
                                const CudaQueue& queue);

}  // namespace skelkern

// `Knn` on a GPU; the problem's number of threads is of the CPU.
#pragma once

#include "common/cuda_status.h"
#include "knn/knn.h"

namespace skelkern {

// Floats of workspace that `knn_cuda` needs.
std::int64_t knn_cuda_workspace(const KnnProblem& problem);

// neighbors (b, n, k) as of Knn::run; n below 2^31. All arrays are the device's.
CudaStatus knn_cuda(const KnnProblem& problem, float* workspace, std::int64_t* neighbors, const CudaQueue& queue);

}  // namespace skelkern

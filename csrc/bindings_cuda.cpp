// Python bindings of the GPU's kernels: addresses of the device's arrays, sizes and a queue in; nothing checked here
// (skelkern/ops checks). Kernels are launched, never waited for.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "bindings.h"
#include "chamfer/chamfer_cuda.h"
#include "farthest_points/farthest_points_cuda.h"
#include "knn/knn_cuda.h"
#include "sample_clips/sample_clips_cuda.h"

namespace {

using skelkern::CudaStatus;

void require(const CudaStatus& status) {
  if (status.failed()) throw std::runtime_error(std::string("CUDA kernel ") + status.kernel + ": " + status.error);
}

// A device's number and the address of one of its streams.
using Queue = std::array<std::uintptr_t, 2>;

skelkern::CudaQueue cuda_queue(const Queue& queue) {
  return {static_cast<int>(queue[0]), reinterpret_cast<void*>(queue[1])};
}

// sizes: (b, n, d, k)
skelkern::KnnProblem knn_problem(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes) {
  const auto [b, n, d, k] = sizes;
  return {pointer<const float>(points), pointer<const bool>(mask), b, n, d, k, 1};
}

void knn(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes, const Queue& queue,
         std::uintptr_t workspace, std::uintptr_t neighbors) {
  require(skelkern::knn_cuda(knn_problem(points, mask, sizes), pointer<float>(workspace),
                             pointer<std::int64_t>(neighbors), cuda_queue(queue)));
}

std::int64_t knn_workspace(const std::array<std::int64_t, 4>& sizes) {
  return skelkern::knn_cuda_workspace(knn_problem(0, 0, sizes));
}

// sizes: (b, n, d, m)
skelkern::FarthestPointsProblem farthest_points_problem(std::uintptr_t points, std::uintptr_t mask,
                                                        const std::array<std::int64_t, 4>& sizes, std::int64_t start) {
  const auto [b, n, d, m] = sizes;
  return {pointer<const float>(points), pointer<const bool>(mask), b, n, d, m, start, 1};
}

void farthest_points(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes,
                     std::int64_t start, const Queue& queue, std::uintptr_t workspace, std::uintptr_t picks) {
  require(skelkern::farthest_points_cuda(farthest_points_problem(points, mask, sizes, start), pointer<float>(workspace),
                                         pointer<std::int64_t>(picks), cuda_queue(queue)));
}

std::int64_t farthest_points_workspace(const std::array<std::int64_t, 4>& sizes) {
  return skelkern::farthest_points_cuda_workspace(farthest_points_problem(0, 0, sizes, 0));
}

void chamfer_forward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                     bool squared, const Queue& queue, const std::array<std::uintptr_t, 4>& nearest) {
  require(skelkern::chamfer_cuda_forward(chamfer_problem(arrays, sizes, squared, 1), chamfer_nearest(nearest),
                                         cuda_queue(queue)));
}

void chamfer_backward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                      bool squared, const Queue& queue, const std::array<std::uintptr_t, 4>& nearest,
                      const std::array<std::uintptr_t, 2>& distance_gradients,
                      const std::array<std::uintptr_t, 2>& gradients) {
  const float* const incoming[2] = {pointer<const float>(distance_gradients[0]),
                                    pointer<const float>(distance_gradients[1])};
  float* const outgoing[2] = {pointer<float>(gradients[0]), pointer<float>(gradients[1])};
  require(skelkern::chamfer_cuda_backward(chamfer_problem(arrays, sizes, squared, 1), chamfer_nearest(nearest),
                                          incoming, outgoing, cuda_queue(queue)));
}

void sample_clips(const std::array<std::uintptr_t, 9>& arrays, bool frames_are_bfloat16,
                  const std::array<std::int64_t, 7>& sizes, const Queue& queue, std::uintptr_t clips) {
  require(skelkern::sample_clips_cuda(sample_clips_problem(arrays, frames_are_bfloat16, sizes, 1),
                                      pointer<float>(clips), cuda_queue(queue)));
}

}  // namespace

PYBIND11_MODULE(_cuda, module) {
  module.def("built_for", [] { return SKELKERN_CUDA_BUILD; });
  module.def("knn", knn);
  module.def("knn_workspace", knn_workspace);
  module.def("farthest_points", farthest_points);
  module.def("farthest_points_workspace", farthest_points_workspace);
  module.def("chamfer_forward", chamfer_forward);
  module.def("chamfer_backward", chamfer_backward);
  module.def("sample_clips", sample_clips);
}

// Python bindings of the GPU's kernels: addresses of the device's arrays, sizes and a queue in; nothing checked here
// (skelkern/ops checks). Kernels are launched, never waited for.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "bindings.h"
#include "chamfer/chamfer_cuda.h"
#include "edge_conv/edge_conv_cuda.h"
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

// Of an edge convolution: (x, neighbors, weight, gamma, mask), of which x and weight are not looked at.
using EdgeConvArrays = std::array<std::uintptr_t, 5>;
using EdgeConvSizes = std::array<std::int64_t, 5>;

std::int64_t edge_conv_partials(const EdgeConvSizes& sizes) {
  return skelkern::edge_conv_cuda_partials(edge_conv_problem({}, sizes, 1));
}

std::int64_t edge_conv_reverse(const EdgeConvSizes& sizes) {
  return skelkern::edge_conv_cuda_reverse(edge_conv_problem({}, sizes, 1));
}

// statistics: (workspace, moments, mean, variance)
void edge_conv_gather(const EdgeConvArrays& arrays, const EdgeConvSizes& sizes, const Queue& queue,
                      std::uintptr_t points, const std::array<std::uintptr_t, 3>& edges, std::uintptr_t counts,
                      const std::array<std::uintptr_t, 4>& statistics) {
  require(skelkern::edge_conv_cuda_gather(edge_conv_problem(arrays, sizes, 1), pointer<const float>(points),
                                          edge_conv_edges(edges), pointer<std::int32_t>(counts),
                                          {pointer<double>(statistics[0]), pointer<double>(statistics[1]),
                                           pointer<float>(statistics[2]), pointer<float>(statistics[3])},
                                          cuda_queue(queue)));
}

void edge_conv_finish(const EdgeConvArrays& arrays, const EdgeConvSizes& sizes, const Queue& queue,
                      const std::array<std::uintptr_t, 3>& tail, float negative_slope, std::uintptr_t counts,
                      std::uintptr_t extremes, std::uintptr_t y) {
  require(skelkern::edge_conv_cuda_finish(edge_conv_problem(arrays, sizes, 1), edge_conv_tail(tail, negative_slope),
                                          pointer<const std::int32_t>(counts), pointer<const float>(extremes),
                                          pointer<float>(y), cuda_queue(queue)));
}

void edge_conv_reduce(const EdgeConvArrays& arrays, const EdgeConvSizes& sizes, const Queue& queue,
                      const std::array<std::uintptr_t, 3>& tail, float negative_slope, std::uintptr_t counts,
                      std::uintptr_t extremes, std::uintptr_t y_gradient, std::uintptr_t hits, std::uintptr_t workspace,
                      std::uintptr_t sums) {
  require(skelkern::edge_conv_cuda_reduce(edge_conv_problem(arrays, sizes, 1), edge_conv_tail(tail, negative_slope),
                                          pointer<const std::int32_t>(counts), pointer<const float>(extremes),
                                          pointer<const float>(y_gradient), pointer<float>(hits),
                                          pointer<double>(workspace), pointer<double>(sums), cuda_queue(queue)));
}

// passed: (counts, hits, means, points)
void edge_conv_backward(const EdgeConvArrays& arrays, const EdgeConvSizes& sizes, const Queue& queue,
                        const std::array<std::uintptr_t, 3>& tail, float negative_slope,
                        const std::array<std::uintptr_t, 3>& edges, const std::array<std::uintptr_t, 4>& passed,
                        std::uintptr_t workspace, std::uintptr_t gradients) {
  require(skelkern::edge_conv_cuda_backward(
      edge_conv_problem(arrays, sizes, 1), edge_conv_tail(tail, negative_slope),
      {edge_conv_edges(edges), pointer<const std::int32_t>(passed[0]), pointer<const float>(passed[1]),
       pointer<const float>(passed[2]), pointer<const float>(passed[3])},
      pointer<std::int32_t>(workspace), pointer<float>(gradients), cuda_queue(queue)));
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
  module.def("edge_conv_partials", edge_conv_partials);
  module.def("edge_conv_reverse", edge_conv_reverse);
  module.def("edge_conv_gather", edge_conv_gather);
  module.def("edge_conv_finish", edge_conv_finish);
  module.def("edge_conv_reduce", edge_conv_reduce);
  module.def("edge_conv_backward", edge_conv_backward);
  module.def("sample_clips", sample_clips);
}

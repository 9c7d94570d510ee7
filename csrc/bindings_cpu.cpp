// Python bindings: addresses and sizes in, nothing checked here (skelkern/ops checks), the GIL released while running.
#include "bindings_cpu.h"

#include <pybind11/numpy.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "chamfer/chamfer.h"
#include "common/c_library.h"
#include "common/kept_memory.h"
#include "common/parallel.h"
#include "cosine_topk/cosine_topk.h"
#include "cross_correlation/cross_correlation.h"
#include "farthest_points/farthest_points.h"
#include "info_nce/info_nce.h"
#include "knn/knn.h"
#include "ntu_skeleton/ntu_skeleton.h"
#include "peak/peak.h"
#include "sample_clips/sample_clips.h"

namespace {

double cross_correlation_forward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                 float off_diagonal_weight, float eps, std::uintptr_t statistics,
                                 std::uintptr_t products, int threads) {
  double loss = 0.0;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cross_correlation)
              .forward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, eps, threads},
                       {pointer<float>(statistics), pointer<float>(products)}, &loss));
  return loss;
}

void cross_correlation_backward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                float off_diagonal_weight, std::uintptr_t statistics, std::uintptr_t products,
                                float loss_gradient, std::uintptr_t gradient1, std::uintptr_t gradient2, int threads) {
  float* const gradients[2] = {pointer<float>(gradient1), pointer<float>(gradient2)};
  pybind11::gil_scoped_release release;
  require(
      SKELKERN_PICK(cross_correlation)
          .backward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, 0.0f, threads},
                    {pointer<float>(statistics), pointer<float>(products)}, loss_gradient, gradients));
}

// sizes: (b, n, d, m)
void farthest_points(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes,
                     std::int64_t start, int threads, std::uintptr_t picks) {
  const auto [b, n, d, m] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(farthest_points)
              .run({pointer<const float>(points), pointer<const bool>(mask), b, n, d, m, start, threads},
                   pointer<std::int64_t>(picks)));
}

void chamfer_forward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                     bool squared, int threads, const std::array<std::uintptr_t, 4>& nearest) {
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(chamfer).forward(chamfer_problem(arrays, sizes, squared, threads), chamfer_nearest(nearest)));
}

void chamfer_backward(const std::array<std::uintptr_t, 5>& arrays, const std::array<std::int64_t, 4>& sizes,
                      bool squared, int threads, const std::array<std::uintptr_t, 4>& nearest,
                      const std::array<std::uintptr_t, 2>& distance_gradients,
                      const std::array<std::uintptr_t, 2>& gradients) {
  const float* const incoming[2] = {pointer<const float>(distance_gradients[0]),
                                    pointer<const float>(distance_gradients[1])};
  float* const outgoing[2] = {pointer<float>(gradients[0]), pointer<float>(gradients[1])};
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(chamfer).backward(chamfer_problem(arrays, sizes, squared, threads), chamfer_nearest(nearest),
                                          incoming, outgoing));
}

// sizes: (q, n, d, k)
void cosine_topk(std::uintptr_t queries, std::uintptr_t database, const std::array<std::int64_t, 4>& sizes, int threads,
                 std::uintptr_t similarities, std::uintptr_t indices) {
  const auto [q, n, d, k] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cosine_topk)
              .run({pointer<const float>(queries), pointer<const float>(database), q, n, d, k, threads},
                   pointer<float>(similarities), pointer<std::int64_t>(indices)));
}

// sizes: (n, d, p, k)
void info_nce(std::uintptr_t query, std::uintptr_t positives, std::uintptr_t queue,
              const std::array<std::int64_t, 4>& sizes, float temperature, bool mean_log, int threads,
              std::uintptr_t loss, std::uintptr_t query_gradient, std::uintptr_t positive_weights) {
  const auto [n, d, p, k] = sizes;
  const skelkern::InfoNceInputs inputs{pointer<const float>(query),
                                       pointer<const float>(positives),
                                       pointer<const float>(queue),
                                       n,
                                       d,
                                       p,
                                       k,
                                       temperature,
                                       mean_log,
                                       threads};
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(info_nce).run(
      inputs, {pointer<float>(loss), pointer<float>(query_gradient), pointer<float>(positive_weights)}));
}

// sizes: (b, n, d, k)
void knn(std::uintptr_t points, std::uintptr_t mask, const std::array<std::int64_t, 4>& sizes, int threads,
         std::uintptr_t neighbors) {
  const auto [b, n, d, k] = sizes;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(knn).run({pointer<const float>(points), pointer<const bool>(mask), b, n, d, k, threads},
                                 pointer<std::int64_t>(neighbors)));
}

// Returns whether all values were in range.
bool sample_clips(const std::array<std::uintptr_t, 9>& arrays, bool frames_are_bfloat16,
                  const std::array<std::int64_t, 7>& sizes, int threads, std::uintptr_t clips) {
  const auto problem = sample_clips_problem(arrays, frames_are_bfloat16, sizes, threads);
  pybind11::gil_scoped_release release;
  const auto result = SKELKERN_PICK(sample_clips).run(problem, pointer<float>(clips));
  require(result != skelkern::SampleClipsResult::out_of_memory);
  return result == skelkern::SampleClipsResult::done;
}

// An array of memory from malloc, which it frees when it dies.
template <class T>
pybind11::array_t<T> owning_array(T* data, const std::vector<std::int64_t>& shape) {
  return data == nullptr ? pybind11::array_t<T>(shape)
                         : pybind11::array_t<T>(shape, data, pybind11::capsule(data, [](void* p) { std::free(p); }));
}

// Results whose arrays are freed unless they have been handed over.
struct NtuResults : std::vector<skelkern::NtuResult> {
  using std::vector<skelkern::NtuResult>::vector;
  ~NtuResults() {
    for (skelkern::NtuResult& result : *this) skelkern::release(&result.recording);
  }
};

// ((frame_offsets, body_ids, body_info, joints) or None, line, expected, found, errno)
pybind11::tuple ntu_result(skelkern::NtuResult& result, bool coordinates_only) {
  require(result.status != skelkern::NtuStatus::out_of_memory);
  if (result.status != skelkern::NtuStatus::done)
    return pybind11::make_tuple(pybind11::none(), result.line, result.expected, pybind11::bytes(result.found),
                                result.error_number);
  skelkern::NtuRecording& own = result.recording;
  const std::int64_t values = coordinates_only ? 3 : skelkern::kNtuJointValues;
  auto offsets =
      own.frames == 0 ? pybind11::array_t<std::int64_t>(1) : owning_array(own.frame_offsets, {own.frames + 1});
  if (own.frames == 0) offsets.mutable_at(0) = 0;
  const auto arrays = pybind11::make_tuple(offsets, owning_array(own.body_ids, {own.bodies}),
                                           owning_array(own.body_info, {own.bodies, skelkern::kNtuBodyValues}),
                                           owning_array(own.joints, {own.bodies, skelkern::kNtuJoints, values}));
  own = {};
  return pybind11::make_tuple(arrays, 0, "", pybind11::bytes(""), 0);
}

pybind11::tuple parse_ntu_text(const pybind11::bytes& text, bool coordinates_only) {
  const std::string_view view = text;
  skelkern::NtuResult result{};
  {
    pybind11::gil_scoped_release release;
    SKELKERN_PICK(ntu_skeleton).parse(view.data(), static_cast<std::int64_t>(view.size()), coordinates_only, &result);
  }
  return ntu_result(result, coordinates_only);
}

pybind11::list parse_ntu_files(const std::vector<std::string>& paths, bool coordinates_only, int threads) {
  NtuResults results(paths.size());
  std::vector<const char*> names;
  for (const std::string& path : paths) names.push_back(path.c_str());
  {
    pybind11::gil_scoped_release release;
    SKELKERN_PICK(ntu_skeleton)
        .parse_files(names.data(), static_cast<std::int64_t>(names.size()), coordinates_only, threads, results.data());
  }
  pybind11::list list;
  for (skelkern::NtuResult& result : results) list.append(ntu_result(result, coordinates_only));
  return list;
}

// A float32 array of any content, whose memory is kept for later ones when it dies.
pybind11::array_t<float> kept_array(const std::vector<std::int64_t>& shape) {
  std::size_t bytes = sizeof(float);
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  void* const data = skelkern::take_memory(bytes);
  require(data != nullptr);
  const pybind11::capsule owner(data, skelkern::give_back_memory);
  return pybind11::array_t<float>(shape, static_cast<const float*>(data), owner);
}

double multiply_add(std::int64_t iterations, int threads) {
  pybind11::gil_scoped_release release;
  return SKELKERN_PICK(peak).multiply_add(iterations, threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.def("level", [] { return skelkern::level_name(skelkern::cpu_level()); });
  module.def("compiler", [] { return __VERSION__; });
  module.def("vendor", skelkern::cpu_vendor);
  module.def("chamfer_forward", chamfer_forward);
  module.def("chamfer_backward", chamfer_backward);
  module.def("cosine_topk", cosine_topk);
  module.def("cross_correlation_forward", cross_correlation_forward);
  module.def("cross_correlation_backward", cross_correlation_backward);
  module.def("farthest_points", farthest_points);
  module.def("info_nce", info_nce);
  module.def("knn", knn);
  module.def("parse_ntu_text", parse_ntu_text);
  module.def("parse_ntu_files", parse_ntu_files);
  module.def("sample_clips", sample_clips);
  module.def("kept_array", kept_array);
  module.def("free_kept_memory", skelkern::free_kept_memory);
  module.def("reuse_memory", skelkern::reuse_memory);
  module.def("result_bytes", skelkern::result_bytes);
  module.def("scratch_bytes", skelkern::scratch_bytes);
  module.def("multiply_add", multiply_add);
  bind_layers(module);
}

#include "emulated.h"

#include "chamfer/chamfer_cuda.h"
#include "common/cuda_emulation.h"
#include "farthest_points/farthest_points_cuda.h"
#include "knn/knn_cuda.h"
#include "native.h"
#include "sample_clips/sample_clips_cuda.h"

namespace {

const skelkern::CudaQueue kQueue{0, nullptr};

template <class T>
void require_same(Array<T>& first, Array<T>& second) {
  const auto bytes = static_cast<std::size_t>(first.size()) * sizeof(T);
  require(std::memcmp(first.get(), second.get(), bytes) == 0, "emulation: results depend on the order of threads");
}

// Runs with blocks and threads in either order.
void in_both_orders(const std::function<skelkern::CudaStatus(bool)>& run) {
  for (const bool reversed : {false, true}) {
    skelkern::emulation::reversed = reversed;
    require(!run(reversed).failed(), "emulation: a launch failed");
  }
}

// A result of each order of threads; what both agree in goes to `target`.
template <class T>
class Twice {
 public:
  explicit Twice(std::int64_t size) : results_{Array<T>(size), Array<T>(size)} {}
  T* operator[](bool reversed) { return results_[reversed].get(); }

  void copy_to(T* target) {
    require_same(results_[0], results_[1]);
    std::copy_n(results_[0].get(), results_[0].size(), target);
  }

 private:
  Array<T> results_[2];
};

bool run_knn(const skelkern::KnnProblem& problem, std::int64_t* neighbors) {
  Twice<std::int64_t> found(problem.b * problem.n * problem.k);
  in_both_orders([&](bool reversed) {
    Array<float> workspace(skelkern::knn_cuda_workspace(problem));
    return skelkern::knn_cuda(problem, workspace.get(), found[reversed], kQueue);
  });
  found.copy_to(neighbors);
  return true;
}

bool run_farthest_points(const skelkern::FarthestPointsProblem& problem, std::int64_t* picks) {
  Twice<std::int64_t> found(problem.b * problem.m);
  in_both_orders([&](bool reversed) {
    Array<float> workspace(skelkern::farthest_points_cuda_workspace(problem));
    return skelkern::farthest_points_cuda(problem, workspace.get(), found[reversed], kQueue);
  });
  found.copy_to(picks);
  return true;
}

bool run_chamfer(const skelkern::ChamferProblem& problem, const skelkern::ChamferNearest& nearest) {
  const std::int64_t sizes[2] = {problem.b * problem.n[0], problem.b * problem.n[1]};
  Twice<float> distances[2] = {Twice<float>(sizes[0]), Twice<float>(sizes[1])};
  Twice<std::int32_t> indices[2] = {Twice<std::int32_t>(sizes[0]), Twice<std::int32_t>(sizes[1])};
  in_both_orders([&](bool reversed) {
    const skelkern::ChamferNearest found{{distances[0][reversed], distances[1][reversed]},
                                         {indices[0][reversed], indices[1][reversed]}};
    return skelkern::chamfer_cuda_forward(problem, found, kQueue);
  });
  for (int side = 0; side < 2; ++side) {
    distances[side].copy_to(nearest.distances[side]);
    indices[side].copy_to(nearest.indices[side]);
  }
  return true;
}

bool run_chamfer_backward(const skelkern::ChamferProblem& problem, const skelkern::ChamferNearest& nearest,
                          const float* const distance_gradients[2], float* const gradients[2]) {
  Twice<float> found[2] = {Twice<float>(problem.b * problem.n[0] * problem.d),
                           Twice<float>(problem.b * problem.n[1] * problem.d)};
  in_both_orders([&](bool reversed) {
    float* const results[2] = {found[0][reversed], found[1][reversed]};
    return skelkern::chamfer_cuda_backward(problem, nearest, distance_gradients, results, kQueue);
  });
  for (int side = 0; side < 2; ++side) found[side].copy_to(gradients[side]);
  return true;
}

skelkern::SampleClipsResult run_sample_clips(const skelkern::SampleClipsProblem& problem, float* clips) {
  Twice<float> found(problem.views * problem.channels * problem.length * problem.joints * problem.persons);
  in_both_orders([&](bool reversed) { return skelkern::sample_clips_cuda(problem, found[reversed], kQueue); });
  found.copy_to(clips);
  return skelkern::SampleClipsResult::done;
}

}  // namespace

const skelkern::Chamfer emulated_chamfer{run_chamfer, run_chamfer_backward};
const skelkern::FarthestPoints emulated_farthest_points{run_farthest_points};
const skelkern::Knn emulated_knn{run_knn};
const skelkern::SampleClips emulated_sample_clips{run_sample_clips};

#include "emulated.h"

#include <algorithm>

#include "chamfer/chamfer_cuda.h"
#include "common/cuda_emulation.h"
#include "edge_conv/edge_conv_cuda.h"
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
  std::int64_t size() const { return results_[0].size(); }
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

// What the caller of an edge convolution's kernels brings: W1 and W2 - W1 below each other (2 c_out, c), the products u
// and v of all points (b, n, 2 c_out), and each point's number of edges, those to indices out of range left out.
struct EdgeConvInputs {
  Array<float> weight, points;
  Array<std::int32_t> counts;

  explicit EdgeConvInputs(const skelkern::EdgeConvProblem& problem)
      : weight(2 * problem.c_out * problem.c),
        points(problem.b * problem.n * 2 * problem.c_out),
        counts(problem.b * problem.n) {
    for (std::int64_t i = 0; i < problem.c_out * problem.c; ++i) {
      const float* const row = problem.weight + i / problem.c * 2 * problem.c + i % problem.c;
      weight[i] = row[0];
      weight[problem.c_out * problem.c + i] = row[problem.c] - row[0];
    }
    for (std::int64_t i = 0; i < points.size(); ++i)
      for (std::int64_t d = 0; d < problem.c; ++d)
        points[i] +=
            problem.x[i / (2 * problem.c_out) * problem.c + d] * weight[i % (2 * problem.c_out) * problem.c + d];
    for (std::int64_t edge = 0; edge < problem.b * problem.n * problem.k; ++edge)
      counts[edge / problem.k] += has_point(problem, edge / problem.k, edge / problem.k % problem.n) &&
                                  has_point(problem, edge / problem.k, problem.neighbors[edge]);
  }

  // Whether the point j of the cloud that `point` is in exists.
  static bool has_point(const skelkern::EdgeConvProblem& problem, std::int64_t point, std::int64_t j) {
    if (j < 0 || j >= problem.n) return false;
    return problem.mask == nullptr || problem.mask[point / problem.n * problem.n + j];
  }
};

skelkern::EdgeConvResult run_edge_conv_gather(const skelkern::EdgeConvProblem& problem,
                                              const skelkern::EdgeConvEdges& edges, double* moments,
                                              std::int64_t* count) {
  EdgeConvInputs inputs(problem);
  const std::int64_t size = problem.b * problem.n * problem.c_out, c_out = problem.c_out;
  Twice<float> extremes(size), sums(size), mean(c_out), variance(c_out);
  Twice<std::uint8_t> slots(size);
  Twice<std::int32_t> counts(problem.b * problem.n);
  Twice<double> found(1 + 2 * c_out);
  in_both_orders([&](bool reversed) {
    Array<double> workspace(skelkern::edge_conv_cuda_partials(problem));
    return skelkern::edge_conv_cuda_gather(
        problem, inputs.points.get(), {extremes[reversed], slots[reversed], sums[reversed]}, counts[reversed],
        {workspace.get(), found[reversed], mean[reversed], variance[reversed]}, kQueue);
  });
  extremes.copy_to(edges.extremes);
  sums.copy_to(edges.sums);
  slots.copy_to(edges.slots);
  Array<std::int32_t> numbers(counts.size());
  counts.copy_to(numbers.get());
  require_same(numbers, inputs.counts);
  Array<double> all(1 + 2 * c_out);
  found.copy_to(all.get());
  *count = static_cast<std::int64_t>(all[0]);
  std::copy_n(all.get() + 1, 2 * c_out, moments);
  Array<float> statistics(2 * c_out);
  mean.copy_to(statistics.get());
  variance.copy_to(statistics.get() + c_out);
  for (std::int64_t i = 0; i < 2 * c_out; ++i)
    require(statistics[i] == static_cast<float>(i < c_out ? moments[i] : moments[i] / all[0]),
            "edge_conv: what normalises is not what was found");
  return skelkern::EdgeConvResult::done;
}

bool run_edge_conv_finish(const skelkern::EdgeConvProblem& problem, const skelkern::EdgeConvTail& tail,
                          const float* extremes, float* y) {
  EdgeConvInputs inputs(problem);
  Twice<float> found(problem.b * problem.n * problem.c_out);
  in_both_orders([&](bool reversed) {
    return skelkern::edge_conv_cuda_finish(problem, tail, inputs.counts.get(), extremes, found[reversed], kQueue);
  });
  found.copy_to(y);
  return true;
}

// hits (b, n, c_out), sums (2, c_out)
void reduce_edge_conv(const skelkern::EdgeConvProblem& problem, const skelkern::EdgeConvTail& tail,
                      const float* extremes, const float* y_gradient, float* hits, double* sums) {
  EdgeConvInputs inputs(problem);
  Twice<float> passed(problem.b * problem.n * problem.c_out);
  Twice<double> found(2 * problem.c_out);
  in_both_orders([&](bool reversed) {
    Array<double> workspace(skelkern::edge_conv_cuda_partials(problem));
    return skelkern::edge_conv_cuda_reduce(problem, tail, inputs.counts.get(), extremes, y_gradient, passed[reversed],
                                           workspace.get(), found[reversed], kQueue);
  });
  passed.copy_to(hits);
  found.copy_to(sums);
}

bool run_edge_conv_reduce(const skelkern::EdgeConvProblem& problem, const skelkern::EdgeConvTail& tail,
                          const float* extremes, const float* y_gradient, double* sums) {
  Array<float> hits(problem.b * problem.n * problem.c_out);
  reduce_edge_conv(problem, tail, extremes, y_gradient, hits.get(), sums);
  return true;
}

// The gradients of x and weight from those of u and v (b, n, 2 c_out).
void multiply_back(const skelkern::EdgeConvProblem& problem, EdgeConvInputs& inputs, Array<float>& gradients,
                   float* x_gradient, float* weight_gradient) {
  const std::int64_t c = problem.c, c_out = problem.c_out, rows = problem.b * problem.n;
  for (std::int64_t i = 0; x_gradient != nullptr && i < rows * c; ++i) {
    x_gradient[i] = 0.0f;
    for (std::int64_t channel = 0; channel < 2 * c_out; ++channel)
      x_gradient[i] += gradients[i / c * 2 * c_out + channel] * inputs.weight[channel * c + i % c];
  }
  for (std::int64_t i = 0; i < c_out * c; ++i) {
    float of_u = 0.0f, of_v = 0.0f;
    for (std::int64_t row = 0; row < rows; ++row) {
      const float x = EdgeConvInputs::has_point(problem, row, row % problem.n) ? problem.x[row * c + i % c] : 0.0f;
      of_u += gradients[row * 2 * c_out + i / c] * x;
      of_v += gradients[row * 2 * c_out + c_out + i / c] * x;
    }
    weight_gradient[i / c * 2 * c + i % c] = of_u - of_v;
    weight_gradient[i / c * 2 * c + c + i % c] = of_v;
  }
}

bool run_edge_conv_backward(const skelkern::EdgeConvProblem& problem, const skelkern::EdgeConvTail& tail,
                            const skelkern::EdgeConvEdges& edges, const float* y_gradient, const float* means,
                            float* x_gradient, float* weight_gradient) {
  EdgeConvInputs inputs(problem);
  Array<float> hits(problem.b * problem.n * problem.c_out), gradients(inputs.points.size());
  Array<double> sums(2 * problem.c_out);
  reduce_edge_conv(problem, tail, edges.extremes, y_gradient, hits.get(), sums.get());
  const bool from_edges = std::any_of(means, means + 2 * problem.c_out, [](float mean) { return mean != 0.0f; });
  Twice<float> found(gradients.size());
  in_both_orders([&](bool reversed) {
    Array<std::int32_t> workspace(skelkern::edge_conv_cuda_reverse(problem));
    return skelkern::edge_conv_cuda_backward(problem, tail,
                                             {edges, inputs.counts.get(), hits.get(), from_edges ? means : nullptr,
                                              from_edges ? inputs.points.get() : nullptr},
                                             workspace.get(), found[reversed], kQueue);
  });
  found.copy_to(gradients.get());
  multiply_back(problem, inputs, gradients, x_gradient, weight_gradient);
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
const skelkern::EdgeConv emulated_edge_conv{run_edge_conv_gather, run_edge_conv_finish, run_edge_conv_reduce,
                                            run_edge_conv_backward};
const skelkern::FarthestPoints emulated_farthest_points{run_farthest_points};
const skelkern::Knn emulated_knn{run_knn};
const skelkern::SampleClips emulated_sample_clips{run_sample_clips};

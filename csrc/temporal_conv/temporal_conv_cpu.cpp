// A frame of all joints is v floats, so that in a row of frames a tap reads the same values as its neighbour, v floats
// further on: every tap of every channel is a row of the right operand of one product, none of which is copied. Frames
// that a stride skips are set apart first (`phases`). The gradient by x is such a convolution of y's gradient, the one
// by the weights a product with the frames as depth.
#include "common/dense.h"
#include "common/moments.h"
#include "temporal_conv/frames.h"
#include "temporal_conv/minimal_gradient.h"
#include "temporal_conv/temporal_conv.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

constexpr std::int64_t kBlockFloats = 144 * 1024;         // frames of one block stay in L2, beside some weights
constexpr std::int64_t kPartialFloats = 4 * 1024 * 1024;  // of all partial sums of the weights' gradient together
constexpr std::int64_t kMostTasks = 16;

// Frames of one phase that a block of `length` results needs: tap i reads frame + dilation * i / stride.
std::int64_t frames_of_phase(const TemporalConvProblem& p, std::int64_t length) {
  return length + p.dilation * (p.kernel - 1) / p.stride;
}

// Results of a block, so that its frames fit into kBlockFloats.
std::int64_t results_of_block(const TemporalConvProblem& p) {
  const std::int64_t frames = kBlockFloats / (p.c * p.v);
  return frames / p.stride - p.dilation * (p.kernel - 1) / p.stride;
}

// The frames that `length` results from `first` on are made of: (stride, c, frames_of_phase, v), rows `ld` apart.
void gather_phases(const TemporalConvProblem& p, std::int64_t sample, std::int64_t first, std::int64_t length,
                   std::int64_t ld, float* rows) {
  const ChannelMap map{p.mean, p.scale, p.shift};
  const float* clip = p.x + sample * p.c * p.t * p.v;
  for (std::int64_t phase = 0; phase < p.stride; ++phase)
    for (std::int64_t c = 0; c < p.c; ++c, rows += ld) {
      const FrameRange range{p.stride * first + phase - p.padding, p.stride, frames_of_phase(p, length)};
      copy_frames(clip + c * p.t * p.v, c, p.t, p.v, range, map, rows);
    }
}

// A range of taps.
struct Taps {
  std::int64_t first, end;
};

// A convolution as a product: rows are channels of the result, the depth is (taps, channels) of what is convolved.
struct GatheredProduct {
  const float* packed;          // (depth) by `pack_rows`
  const std::int32_t* offsets;  // (depth): where the rows of b begin
  std::int64_t rows, channels, depth;
  const float* bias;  // optional (rows)
};

// target (rows, frames * v; ld) = the product with b, of which only the taps `taps_of(first, last frame)` are not 0 for
// those frames of the result. edge: (kLanes, kPanel) of any content.
template <class TapsOf>
void multiply_gathered(const GatheredProduct& g, const float* b, std::int64_t frames, std::int64_t v,
                       const TapsOf& taps_of, float* target, std::int64_t ld, float* edge) {
  for (std::int64_t column = 0; column < frames * v; column += kPanel) {
    const std::int64_t width = std::min(kPanel, frames * v - column);
    const Taps taps = taps_of(column / v, (column + width - 1) / v);
    const std::int64_t skipped = taps.first * g.channels,
                       depth = std::max<std::int64_t>(0, taps.end - taps.first) * g.channels;
    for (std::int64_t row = 0; row < g.rows; row += kLanes) {
      const std::int64_t height = lanes_left(g.rows, row);
      const bool whole = width % kLanes == 0;
      float* const c = whole ? target + row * ld + column : edge;
      const std::int64_t c_row = whole ? ld : kPanel;
      for (std::int64_t i = 0; g.bias != nullptr && i < height; ++i)
        std::fill_n(c + i * c_row, round_up(width, kLanes), g.bias[row + i]);
      gathered_product({g.packed + row * g.depth + skipped * kLanes, 1, kLanes, b + column, 0, c, c_row, depth,
                        g.bias != nullptr, g.offsets + skipped},
                       height, round_up(width, kLanes));
      for (std::int64_t i = 0; !whole && i < height; ++i)
        std::copy_n(edge + i * kPanel, width, target + (row + i) * ld + column);
    }
  }
}

// Statistics of y, taken block by block while it is in cache.
struct BlockStatistics {
  const TemporalConvProblem& p;
  double* partials;  // (n * blocks, c_out, 2), or nullptr where none are wanted
  std::int64_t count;

  static std::int64_t floats(const TemporalConvProblem& p, std::int64_t blocks, bool wanted) {
    return wanted ? 4 * p.n * blocks * p.c_out : 0;
  }
  // Of `frames` frames of a sample, of which `y` is the first.
  void take(std::int64_t block, const float* y, std::int64_t frames) const {
    for (std::int64_t c = 0; partials != nullptr && c < p.c_out; ++c) {
      Moments moments;
      moments.add_row(y + c * p.t_out() * p.v, frames * p.v);
      partials[2 * (block * p.c_out + c)] = moments.mean;
      partials[2 * (block * p.c_out + c) + 1] = moments.squares;
    }
  }
  // Merged in order; frames_of(block): frames that a block had.
  template <class FramesOf>
  void merge(const FramesOf& frames_of, const TemporalConvStatistics& statistics) const {
    for (std::int64_t c = 0; partials != nullptr && c < p.c_out; ++c) {
      Moments moments;
      for (std::int64_t block = 0; block < count; ++block) {
        const double* sums = partials + 2 * (block * p.c_out + c);
        moments.add(static_cast<double>(frames_of(block) * p.v), sums[0], sums[1]);
      }
      statistics.mean[c] = static_cast<float>(moments.mean);
      statistics.variance[c] = static_cast<float>(moments.squares / moments.count);
    }
  }
};

// The taps of the forward product that read any frame of x for the results `first` to `last`.
Taps taps_of_results(const TemporalConvProblem& p, std::int64_t first, std::int64_t last) {
  const std::int64_t begin = ceil_div(std::max<std::int64_t>(0, p.padding - p.stride * last), p.dilation);
  const std::int64_t beyond = p.t - 1 + p.padding - p.stride * first;
  return {begin, beyond < 0 ? 0 : std::min(p.kernel, beyond / p.dilation + 1)};
}

// The forward product; memory: (round_up(c_out, kLanes) + c_out + 1) * depth floats, whole vectors each.
GatheredProduct pack_forward(const TemporalConvProblem& p, std::int64_t ld, float* memory) {
  const std::int64_t depth = p.kernel * p.c;
  auto* const offsets = reinterpret_cast<std::int32_t*>(memory);
  float* const plain = memory + round_up(depth, 16);  // (c_out, kernel, c)
  float* const packed = plain + round_up(p.c_out * depth, 16);
  for (std::int64_t k = 0; k < depth; ++k) {
    const std::int64_t tap = k / p.c, c = k % p.c, frame = tap * p.dilation;
    offsets[k] = static_cast<std::int32_t>((frame % p.stride * p.c + c) * ld + frame / p.stride * p.v);
    for (std::int64_t row = 0; row < p.c_out; ++row)
      plain[row * depth + k] = p.weight[(row * p.c + c) * p.kernel + tap];
  }
  pack_rows(plain, depth, 1, depth, p.c_out, packed);
  return {packed, offsets, p.c_out, p.c, depth, p.bias};
}

bool convolve_directly(const TemporalConvProblem& p, float* y, const TemporalConvStatistics& statistics) {
  const std::int64_t depth = p.c * p.kernel, plane = p.t_out() * p.v;
  const Blocks time(p.t_out(), results_of_block(p));
  const std::int64_t ld = row_floats(frames_of_phase(p, time.size), p.v);
  const std::int64_t packed_floats = (round_up(p.c_out, kLanes) + p.c_out + 1) * depth + 64;
  const std::int64_t partial_floats = BlockStatistics::floats(p, time.count, statistics.mean != nullptr);
  float* const workspace =
      thread_scratch(Slot::workspace, static_cast<std::size_t>(partial_floats + 16 + packed_floats));
  if (workspace == nullptr) return false;
  auto* const partials = statistics.mean == nullptr ? nullptr : reinterpret_cast<double*>(workspace);
  const BlockStatistics taken{p, partials, p.n * time.count};
  const GatheredProduct product = pack_forward(p, ld, workspace + round_up(partial_floats, 16));
  const auto scratch = static_cast<std::size_t>(p.stride * p.c * ld + kLanes * kPanel);
  const bool done = parallel_chunks(taken.count, p.threads, scratch, [&](std::int64_t block, float* memory) {
    const std::int64_t sample = block / time.count, part = block % time.count;
    const std::int64_t first = time.first(part), length = time.length(part);
    gather_phases(p, sample, first, length, ld, memory);
    float* const target = y + sample * p.c_out * plane + first * p.v;
    const auto taps_of = [&](std::int64_t from, std::int64_t to) {
      return taps_of_results(p, first + from, first + to);
    };
    multiply_gathered(product, memory, length, p.v, taps_of, target, plane, memory + p.stride * p.c * ld);
    taken.take(block, target, length);
  });
  if (done) taken.merge([&](std::int64_t block) { return time.length(block % time.count); }, statistics);
  return done;
}

// Forward as a correlation, for `minimal_conv.h`.
Correlation correlation_of(const TemporalConvProblem& p) {
  return {p.x,       {p.mean, p.scale, p.shift},
          p.n,       p.c,
          p.t,       p.v,
          p.weight,  p.c * p.kernel,
          p.kernel,  1,
          p.bias,    p.c_out,
          p.t_out(), p.kernel,
          p.padding, p.threads};
}

// The gradient by x as a correlation.
Correlation correlation_of_gradient(const TemporalConvProblem& p, const float* y_gradient) {
  return {y_gradient,     {}, p.n,     p.c_out, p.t_out(), p.v,      p.weight + p.kernel - 1,  p.kernel,
          p.c * p.kernel, -1, nullptr, p.c,     p.t,       p.kernel, p.kernel - 1 - p.padding, p.threads};
}

// Whether minimal filtering saves more multiplications than its additions cost.
bool filters_minimally(const TemporalConvProblem& p) {
  constexpr std::int64_t kFewestChannels = 16;
  if (p.stride != 1 || p.dilation != 1 || std::min(p.c, p.c_out) < kFewestChannels) return false;
  const Correlation own = correlation_of(p);
  std::int64_t minimal = 0, direct = 0;
  for (std::int64_t group = 0; group < own.groups(); ++group) {
    std::int64_t begin = 0, end = own.tiles();
    own.tiles_of_group(group, begin, end);
    minimal += kPoints * std::max<std::int64_t>(0, end - begin);
  }
  for (std::int64_t tap = 0; tap < p.kernel; ++tap)
    direct += std::max<std::int64_t>(
        0, std::min(p.t_out(), p.t + p.padding - tap) - std::max<std::int64_t>(0, p.padding - tap));
  return 5 * direct >= 6 * minimal;
}

bool convolve_minimally(const TemporalConvProblem& p, float* y, const TemporalConvStatistics& statistics) {
  const Correlation own = correlation_of(p);
  const MinimalPlan plan(own);
  const std::int64_t partial_floats = BlockStatistics::floats(p, plan.tiles.count, statistics.mean != nullptr);
  float* const workspace =
      thread_scratch(Slot::workspace, static_cast<std::size_t>(partial_floats + 16 + plan.packed_floats(own)));
  if (workspace == nullptr) return false;
  auto* const partials = statistics.mean == nullptr ? nullptr : reinterpret_cast<double*>(workspace);
  const BlockStatistics taken{p, partials, p.n * plan.tiles.count};
  const auto take = [&](std::int64_t block, const float* first, std::int64_t frames) {
    taken.take(block, first, frames);
  };
  if (!correlate_minimally(own, plan, workspace + round_up(partial_floats, 16), y, take)) return false;
  const auto frames_of = [&](std::int64_t block) {
    const std::int64_t part = block % plan.tiles.count;
    std::int64_t begin, end;
    own.results_of(plan.tiles.first(part), plan.tiles.length(part), begin, end);
    return end - begin;
  };
  taken.merge(frames_of, statistics);
  return true;
}

bool forward(const TemporalConvProblem& p, float* y, const TemporalConvStatistics& statistics) {
  return filters_minimally(p) ? convolve_minimally(p, y, statistics) : convolve_directly(p, y, statistics);
}

// The taps that reach frames phase, phase + stride, ... of the padded clip, and which of them lie in the clip.
struct Phase {
  std::int64_t first, end;  // frame stride * m + phase of the padded clip is one of the clip for m in [first, end)
  std::int64_t taps;
  const std::int32_t* delays;  // (taps), ascending: the result m - delay reads frame m of the phase
  GatheredProduct product;     // depth (taps, c_out), rows c

  // The taps by which any result in [0, results) reads a frame from m = `from` to `to`.
  Taps taps_of(std::int64_t from, std::int64_t to, std::int64_t results) const {
    Taps found{0, taps};
    while (found.first < taps && delays[found.first] < from - results + 1) ++found.first;
    while (found.end > found.first && delays[found.end - 1] > to) --found.end;
    return found;
  }
};

// How the gradient by x is computed: as a convolution of y's gradient, for each phase by its own taps.
struct InputPlan {
  std::int64_t reach;  // frames of y's gradient before the first one of a block that its taps read
  Blocks time;         // of the frames m of every phase
  std::int64_t ld;     // of rows of y's gradient

  explicit InputPlan(const TemporalConvProblem& p)
      : reach(p.dilation * (p.kernel - 1) / p.stride),
        time((p.t + p.padding - 1) / p.stride + 1, kBlockFloats / (p.c_out * p.v) - reach),
        ld(row_floats(time.size + reach, p.v)) {}

  static std::int64_t packed_floats(const TemporalConvProblem& p, std::int64_t taps) {
    const std::int64_t depth = p.c_out * taps;
    return round_up(p.c, kLanes) * depth + round_up(depth, 16) + round_up(taps, 16);
  }
  // scratch: rows of y's gradient, the result of a phase, an edge
  std::int64_t scratch_floats(const TemporalConvProblem& p) const {
    return p.c_out * ld + (p.stride > 1 ? p.c * ld : 0) + kLanes * kPanel;
  }

  // Packs the weights of a phase into memory, which is moved on; plain: (c_out * kernel, c) of any content.
  Phase pack(const TemporalConvProblem& p, std::int64_t phase, float* plain, float*& memory) const {
    const std::int64_t first = std::max<std::int64_t>(0, ceil_div(p.padding - phase, p.stride));
    const std::int64_t end = std::max(first, ceil_div(p.t + p.padding - phase, p.stride));
    std::int64_t taps = 0;
    for (std::int64_t i = 0; i < p.kernel; ++i) taps += i * p.dilation % p.stride == phase;
    const std::int64_t depth = p.c_out * taps;
    auto* const delays = reinterpret_cast<std::int32_t*>(memory);
    auto* const offsets = delays + round_up(taps, 16);
    float* const packed = memory + round_up(taps, 16) + round_up(depth, 16);
    memory += packed_floats(p, taps);
    std::int64_t number = 0;
    for (std::int64_t i = 0; i < p.kernel; ++i) {
      if (i * p.dilation % p.stride != phase) continue;
      delays[number] = static_cast<std::int32_t>(i * p.dilation / p.stride);
      for (std::int64_t c_out = 0; c_out < p.c_out; ++c_out) {
        const std::int64_t k = number * p.c_out + c_out;
        offsets[k] = static_cast<std::int32_t>(c_out * ld + (reach - delays[number]) * p.v);
        for (std::int64_t c = 0; c < p.c; ++c) plain[k * p.c + c] = p.weight[(c_out * p.c + c) * p.kernel + i];
      }
      ++number;
    }
    pack_rows(plain, 1, p.c, depth, p.c, packed);
    return {first, end, taps, delays, {packed, offsets, p.c, p.c_out, depth, nullptr}};
  }
};

// The gradient by the frames of one phase in a block; dy: gathered rows of y's gradient.
void differentiate_phase(const TemporalConvProblem& p, const InputPlan& plan, std::int64_t sample, std::int64_t block,
                         std::int64_t phase_number, const Phase& phase, const float* dy, float* memory,
                         float* gradient) {
  const std::int64_t begin = std::max(phase.first, plan.time.first(block));
  const std::int64_t count = std::min(phase.end, plan.time.first(block) + plan.time.length(block)) - begin;
  if (count <= 0) return;
  float* const clip = gradient + sample * p.c * p.t * p.v;
  const std::int64_t frame = p.stride * begin + phase_number - p.padding;
  float* const target = p.stride == 1 ? clip + frame * p.v : memory;
  const std::int64_t ld = p.stride == 1 ? p.t * p.v : plan.ld;
  float* const edge = p.stride == 1 ? memory : memory + p.c * plan.ld;
  const auto taps_of = [&](std::int64_t from, std::int64_t to) {
    return phase.taps_of(begin + from, begin + to, p.t_out());
  };
  multiply_gathered(phase.product, dy + (begin - plan.time.first(block)) * p.v, count, p.v, taps_of, target, ld, edge);
  for (std::int64_t c = 0; p.stride > 1 && c < p.c; ++c)
    for (std::int64_t i = 0; i < count; ++i)
      std::copy_n(target + c * ld + i * p.v, p.v, clip + (c * p.t + frame + i * p.stride) * p.v);
}

bool differentiate_input_directly(const TemporalConvProblem& p, const float* y_gradient, float* gradient) {
  const InputPlan plan(p);
  const std::int64_t plain_floats = p.c_out * p.kernel * p.c, list_floats = p.stride * (sizeof(Phase) / 4);
  float* memory =
      thread_scratch(Slot::workspace, static_cast<std::size_t>(plain_floats + round_up(list_floats, 16) +
                                                               InputPlan::packed_floats(p, p.kernel) + 48 * p.stride));
  if (memory == nullptr) return false;
  auto* const phases = reinterpret_cast<Phase*>(memory);  // (stride)
  float* const plain = memory + round_up(list_floats, 16);
  memory = plain + plain_floats;
  for (std::int64_t phase = 0; phase < p.stride; ++phase) phases[phase] = plan.pack(p, phase, plain, memory);
  const auto scratch_floats = static_cast<std::size_t>(plan.scratch_floats(p));
  return parallel_chunks(p.n * plan.time.count, p.threads, scratch_floats, [&](std::int64_t chunk, float* scratch) {
    const std::int64_t sample = chunk / plan.time.count, block = chunk % plan.time.count;
    const FrameRange range{plan.time.first(block) - plan.reach, 1, plan.time.length(block) + plan.reach};
    const float* const clip = y_gradient + sample * p.c_out * p.t_out() * p.v;
    for (std::int64_t c = 0; c < p.c_out; ++c)
      copy_frames(clip + c * p.t_out() * p.v, c, p.t_out(), p.v, range, {}, scratch + c * plan.ld);
    for (std::int64_t phase = 0; phase < p.stride; ++phase)
      differentiate_phase(p, plan, sample, block, phase, phases[phase], scratch, scratch + p.c_out * plan.ld, gradient);
  });
}

// How the gradient by weight and bias is computed: tasks of several blocks each have their own sums.
struct WeightPlan {
  Blocks time;
  std::int64_t ld_rows, ld_frames;  // of frames by channel, and of channels by frame
  std::int64_t partial_floats;      // (kernel, c_out, ld_frames) and (c_out)
  std::int64_t blocks, blocks_per_task, tasks;

  explicit WeightPlan(const TemporalConvProblem& p)
      : time(p.t_out(), results_of_block(p)),
        ld_rows(row_floats(frames_of_phase(p, time.size), p.v)),
        ld_frames(padded(p.c)),
        partial_floats(p.kernel * p.c_out * ld_frames + round_up(p.c_out, 16)),
        blocks(p.n * time.count) {
    const std::int64_t most = std::clamp<std::int64_t>(kPartialFloats / partial_floats, 2, kMostTasks);
    blocks_per_task = ceil_div(blocks, most);
    tasks = ceil_div(blocks, blocks_per_task);
  }
  std::int64_t scratch_floats(const TemporalConvProblem& p) const {
    return p.stride * (p.c * ld_rows + round_up(frames_of_phase(p, time.size) * p.v, 16) * ld_frames);
  }
};

// Adds one block to a task's sums.
void add_weight_gradient(const TemporalConvProblem& p, const WeightPlan& plan, std::int64_t block,
                         const float* y_gradient, float* sums, float* scratch) {
  const std::int64_t sample = block / plan.time.count, part = block % plan.time.count;
  const std::int64_t length = plan.time.length(part), plane = p.t_out() * p.v;
  const std::int64_t frames = frames_of_phase(p, length) * p.v;
  const float* const dy = y_gradient + sample * p.c_out * plane + plan.time.first(part) * p.v;
  float* const columns = scratch + p.stride * p.c * plan.ld_rows;  // (stride, frames, ld_frames)
  gather_phases(p, sample, plan.time.first(part), length, plan.ld_rows, scratch);
  for (std::int64_t phase = 0; phase < p.stride; ++phase)
    transpose(scratch + phase * p.c * plan.ld_rows, plan.ld_rows, p.c, frames,
              columns + phase * frames * plan.ld_frames, plan.ld_frames);
  for (std::int64_t i = 0; i < p.kernel; ++i) {
    // results from `begin` on, `count` of them, read frames of the clip by this tap
    const std::int64_t shift = i * p.dilation - p.padding, results = plan.time.first(part);
    const std::int64_t begin =
        std::max<std::int64_t>(0, ceil_div(std::max<std::int64_t>(0, -shift), p.stride) - results);
    const std::int64_t end = std::min(length, ceil_div(p.t - shift, p.stride) - results), count = end - begin;
    if (count <= 0) continue;
    const std::int64_t frame = i * p.dilation;
    const std::int64_t row = frame % p.stride * frames + (frame / p.stride + begin) * p.v;
    product({dy + begin * p.v, plane, 1, columns + row * plan.ld_frames, plan.ld_frames,
             sums + i * p.c_out * plan.ld_frames, plan.ld_frames, count * p.v, true},
            p.c_out, round_up(p.c, kLanes));
  }
  float* const of_bias = sums + p.kernel * p.c_out * plan.ld_frames;
  for (std::int64_t c = 0; c < p.c_out; ++c) of_bias[c] += row_sum(dy + c * plane, length * p.v);
}

bool differentiate_weight_directly(const TemporalConvProblem& p, const float* y_gradient, float* weight, float* bias) {
  const WeightPlan plan(p);
  float* const partials = thread_scratch(Slot::workspace, static_cast<std::size_t>(plan.tasks * plan.partial_floats));
  if (partials == nullptr) return false;
  const auto scratch_floats = static_cast<std::size_t>(plan.scratch_floats(p));
  const bool done = parallel_chunks(plan.tasks, p.threads, scratch_floats, [&](std::int64_t task, float* scratch) {
    float* const sums = partials + task * plan.partial_floats;
    std::fill_n(sums, plan.partial_floats, 0.0f);
    const std::int64_t end = std::min(plan.blocks, (task + 1) * plan.blocks_per_task);
    for (std::int64_t block = task * plan.blocks_per_task; block < end; ++block)
      add_weight_gradient(p, plan, block, y_gradient, sums, scratch);
  });
  if (!done) return false;
  return parallel_chunks(p.c_out, p.threads, 0, [&](std::int64_t c_out, float*) {
    for (std::int64_t task = 0; task < plan.tasks; ++task) {
      const float* const sums = partials + task * plan.partial_floats;
      const float of_bias = sums[p.kernel * p.c_out * plan.ld_frames + c_out];
      if (bias != nullptr) bias[c_out] = task == 0 ? of_bias : bias[c_out] + of_bias;
      for (std::int64_t i = 0; weight != nullptr && i < p.kernel; ++i)
        for (std::int64_t c = 0; c < p.c; ++c) {
          float& target = weight[(c_out * p.c + c) * p.kernel + i];
          const float value = sums[(i * p.c_out + c_out) * plan.ld_frames + c];
          target = task == 0 ? value : target + value;
        }
    }
  });
}

bool differentiate_input_minimally(const TemporalConvProblem& p, const float* y_gradient, float* gradient) {
  const Correlation own = correlation_of_gradient(p, y_gradient);
  const MinimalPlan plan(own);
  float* const workspace = thread_scratch(Slot::workspace, static_cast<std::size_t>(plan.packed_floats(own)));
  return workspace != nullptr &&
         correlate_minimally(own, plan, workspace, gradient, [](std::int64_t, const float*, std::int64_t) {});
}

bool backward(const TemporalConvProblem& p, const float* y_gradient, const TemporalConvGradients& gradients) {
  const bool minimally = filters_minimally(p);
  if (gradients.x != nullptr && !(minimally ? differentiate_input_minimally(p, y_gradient, gradients.x)
                                            : differentiate_input_directly(p, y_gradient, gradients.x)))
    return false;
  if (gradients.weight == nullptr && gradients.bias == nullptr) return true;
  return minimally ? differentiate_weight_minimally(correlation_of(p), y_gradient, gradients.weight, gradients.bias)
                   : differentiate_weight_directly(p, y_gradient, gradients.weight, gradients.bias);
}

}  // namespace

extern const TemporalConv temporal_conv;
const TemporalConv temporal_conv{forward, backward};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern

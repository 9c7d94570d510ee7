// The non-zero entries of an adjacency (k, v, v), listed by target joint and by source joint, and an order of the
// joints in which those reached by the same subsets are neighbours: their products share one depth.
#pragma once

#include <algorithm>
#include <cstdint>

namespace {

// A[subset][source][target] != 0.
struct Edge {
  std::int32_t subset, source, target;
  float value;
};

// Joints of consecutive rows that are reached by the same subsets; bit k of `subsets` stands for subset k.
struct JointGroup {
  std::int32_t first, count;
  std::uint32_t subsets;
};

constexpr std::int64_t kMostSubsets = 32;  // with more, all joints form one group and no product is left out

class Support {
 public:
  // Bytes of memory that a Support lives in, as floats.
  static std::int64_t floats(std::int64_t k, std::int64_t v) {
    const std::int64_t edges = 2 * k * v * v * sizeof(Edge), starts = ((k + 1) * v + 2) * sizeof(std::int32_t);
    const std::int64_t joints = v * (sizeof(std::int32_t) + sizeof(JointGroup) + sizeof(std::uint32_t));
    return (edges + starts + joints) / 4 + 16;
  }

  Support(const float* adjacency, std::int64_t k, std::int64_t v, float* memory) : k_(k), v_(v) {
    by_target_ = reinterpret_cast<Edge*>(memory);
    by_source_ = by_target_ + k * v * v;
    target_start_ = reinterpret_cast<std::int32_t*>(by_source_ + k * v * v);
    source_start_ = target_start_ + k * v + 1;
    row_ = source_start_ + v + 1;
    subsets_ = reinterpret_cast<std::uint32_t*>(row_ + v);
    groups_ = reinterpret_cast<JointGroup*>(subsets_ + v);
    list_by_target(adjacency);
    list_by_source(adjacency);
    order_joints();
  }

  // Edges of one subset into `target`, in ascending order of their source.
  const Edge* targets_begin(std::int64_t subset, std::int64_t target) const {
    return by_target_ + target_start_[subset * v_ + target];
  }
  const Edge* targets_end(std::int64_t subset, std::int64_t target) const {
    return by_target_ + target_start_[subset * v_ + target + 1];
  }

  // Edges of all subsets out of `source`.
  const Edge* sources_begin(std::int64_t source) const { return by_source_ + source_start_[source]; }
  const Edge* sources_end(std::int64_t source) const { return by_source_ + source_start_[source + 1]; }

  float column_sum(std::int64_t subset, std::int64_t target) const {
    float sum = 0.0f;
    for (const Edge* edge = targets_begin(subset, target); edge != targets_end(subset, target); ++edge)
      sum += edge->value;
    return sum;
  }

  const std::int32_t* row() const { return row_; }  // (v): place of a joint in the order of groups
  const JointGroup* groups_begin() const { return groups_; }
  const JointGroup* groups_end() const { return groups_ + group_count_; }
  bool reaches(std::int64_t subset, std::int64_t target) const { return reaches(subsets_[target], subset); }
  bool reaches(std::uint32_t subsets, std::int64_t subset) const { return k_ > kMostSubsets || subsets >> subset & 1; }

  // The first run [first, last) of consecutive subsets in `subsets` from `first` on; false when there is none.
  bool next_run(std::uint32_t subsets, std::int64_t& first, std::int64_t& last) const {
    while (first < k_ && !reaches(subsets, first)) ++first;
    for (last = first; last < k_ && reaches(subsets, last);) ++last;
    return first < last;
  }

 private:
  void list_by_target(const float* adjacency) {
    std::int32_t count = 0;
    for (std::int64_t subset = 0; subset < k_; ++subset)
      for (std::int64_t target = 0; target < v_; ++target) {
        target_start_[subset * v_ + target] = count;
        for (std::int64_t source = 0; source < v_; ++source)
          add_edge(adjacency, subset, source, target, by_target_, count);
      }
    target_start_[k_ * v_] = count;
  }

  void list_by_source(const float* adjacency) {
    std::int32_t count = 0;
    for (std::int64_t source = 0; source < v_; ++source) {
      source_start_[source] = count;
      for (std::int64_t subset = 0; subset < k_; ++subset)
        for (std::int64_t target = 0; target < v_; ++target)
          add_edge(adjacency, subset, source, target, by_source_, count);
    }
    source_start_[v_] = count;
  }

  void add_edge(const float* adjacency, std::int64_t subset, std::int64_t source, std::int64_t target, Edge* edges,
                std::int32_t& count) const {
    const float value = adjacency[(subset * v_ + source) * v_ + target];
    if (value != 0.0f)
      edges[count++] = {static_cast<std::int32_t>(subset), static_cast<std::int32_t>(source),
                        static_cast<std::int32_t>(target), value};
  }

  void order_joints() {
    for (std::int64_t joint = 0; joint < v_; ++joint) {
      subsets_[joint] = 0;
      for (std::int64_t subset = 0; k_ <= kMostSubsets && subset < k_; ++subset)
        if (targets_begin(subset, joint) != targets_end(subset, joint)) subsets_[joint] |= 1u << subset;
    }
    std::fill(row_, row_ + v_, -1);
    std::int32_t next = 0;
    for (std::int64_t joint = 0; joint < v_; ++joint) {
      if (row_[joint] >= 0) continue;
      JointGroup& group = groups_[group_count_++];
      group = {next, 0, subsets_[joint]};
      for (std::int64_t other = joint; other < v_; ++other)
        if (subsets_[other] == group.subsets) row_[other] = next++;
      group.count = next - group.first;
    }
  }

  std::int64_t k_, v_;
  Edge *by_target_, *by_source_;
  std::int32_t *target_start_, *source_start_, *row_;
  std::uint32_t* subsets_;
  JointGroup* groups_;
  std::int64_t group_count_ = 0;
};

}  // namespace

// CUDA's language on the CPU, so that kernels run where there is no GPU, under sanitizers.
//
// Blocks run one after the other, a block's threads as fibres that switch at barriers and warp operations only. What
// stops the program, naming kernel, block, thread and line:
//   - two threads' accesses to an element of shared memory, one of them a write, without a barrier between them,
//     in whatever order they ran;
//   - shared memory read before it was written, or outside its bounds;
//   - a barrier that not all threads reach, or reach at different lines; a warp operation that not all lanes reach.
// Global memory is the caller's: in arrays of exact size AddressSanitizer sees every overrun.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include "common/cuda_status.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SKELKERN_SHARED(Type, name, count) \
  static const char name##_place = 0;      \
  auto& name = skelkern::emulation::shared<Type>(&name##_place, count, #name)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct alignas(16) int4 {
  int x, y, z, w;
};
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace skelkern {
namespace emulation {

constexpr int kLanesOfWarp = 32;
constexpr std::size_t kStackBytes = 256 * 1024;

enum class State { ready, at_barrier, at_warp, done };

struct Thread {
  int number;
  dim3 index;
  State state = State::ready;
  int line = 0;                              // of the barrier or warp operation at which it waits
  unsigned mask = 0;                         // lanes of that operation
  std::uint64_t given = 0;                   // this lane's operand
  std::uint64_t received[kLanesOfWarp];      // all lanes' operands
  unsigned barriers = 0, warp_barriers = 0;  // passed
  ucontext_t context;
  char* stack = nullptr;
  void* sanitizer_stack = nullptr;
};

class SharedArray {
 public:
  virtual ~SharedArray() = default;
};

struct Block {
  const char* kernel;
  std::function<void()> body;
  std::vector<Thread> threads;
  std::map<const void*, std::unique_ptr<SharedArray>> arrays;
  ucontext_t scheduler;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_bytes = 0;
};

inline thread_local Block* block = nullptr;
inline thread_local Thread* thread = nullptr;
inline thread_local bool reversed = false;                        // blocks and threads run in falling order
inline thread_local std::vector<std::unique_ptr<char[]>> stacks;  // by thread number, kept for later launches

[[noreturn]] inline void fail(const char* format, ...) {
  std::fprintf(stderr, "kernel %s, block (%u, %u, %u), thread %d: ", block->kernel, blockIdx.x, blockIdx.y, blockIdx.z,
               thread->number);
  std::va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::_Exit(1);
}

// An access, to be ordered against a later one by the running thread.
struct Access {
  int thread;
  unsigned barriers, warp_barriers;

  static Access now() { return {thread_number(), emulation::thread->barriers, emulation::thread->warp_barriers}; }
  bool before_now() const {
    if (thread == thread_number() || barriers < emulation::thread->barriers) return true;
    return thread / kLanesOfWarp == thread_number() / kLanesOfWarp && warp_barriers < emulation::thread->warp_barriers;
  }

 private:
  static int thread_number() { return emulation::thread->number; }
};

template <class T>
class Shared : public SharedArray {
 public:
  Shared(std::size_t count, const char* name) : name_(name), values_(count), history_(count) {}

  class Element {
   public:
    Element(Shared* array, std::size_t i) : array_(array), i_(i) {}
    operator T() const { return array_->read(i_); }
    const Element& operator=(const T& value) const {
      array_->write(i_, value);
      return *this;
    }
    const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }

   private:
    Shared* array_;
    std::size_t i_;
  };

  Element operator[](std::int64_t i) {
    if (i < 0 || i >= static_cast<std::int64_t>(values_.size()))
      fail("shared memory %s[%lld], which has %zu elements", name_, static_cast<long long>(i), values_.size());
    return {this, static_cast<std::size_t>(i)};
  }

 private:
  struct History {
    std::vector<Access> write;  // the last, if any
    std::vector<Access> reads;  // since then, of threads that have passed as many barriers as the latest reader
  };

  T read(std::size_t i) {
    History& history = history_[i];
    if (history.write.empty()) fail("shared memory %s[%zu] is read before it was written", name_, i);
    require_ordered(history.write, i, "is read", "wrote");
    if (!history.reads.empty() && history.reads.back().barriers < thread->barriers) history.reads.clear();
    if (history.reads.empty() || history.reads.back().thread != thread->number) history.reads.push_back(Access::now());
    history.reads.back() = Access::now();
    return values_[i];
  }

  void write(std::size_t i, const T& value) {
    History& history = history_[i];
    require_ordered(history.write, i, "is written", "wrote");
    require_ordered(history.reads, i, "is written", "read");
    history.write.assign(1, Access::now());
    history.reads.clear();
    values_[i] = value;
  }

  void require_ordered(const std::vector<Access>& earlier, std::size_t i, const char* now, const char* then) const {
    for (const Access& access : earlier)
      if (!access.before_now())
        fail("shared memory %s[%zu] %s, but thread %d %s it without a barrier between them", name_, i, now,
             access.thread, then);
  }

  const char* name_;
  std::vector<T> values_;
  std::vector<History> history_;
};

// The block's array that is declared at `place`.
template <class T>
Shared<T>& shared(const void* place, std::size_t count, const char* name) {
  std::unique_ptr<SharedArray>& array = block->arrays[place];
  if (array == nullptr) array = std::make_unique<Shared<T>>(count, name);
  return static_cast<Shared<T>&>(*array);
}

inline void leave_scheduler([[maybe_unused]] void** saved) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(saved, thread->stack, kStackBytes);
#endif
}

inline void arrive_in_fibre([[maybe_unused]] void* saved) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(saved, &block->scheduler_stack, &block->scheduler_stack_bytes);
#endif
}

inline void leave_fibre([[maybe_unused]] void** saved) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(saved, block->scheduler_stack, block->scheduler_stack_bytes);
#endif
}

inline void arrive_in_scheduler([[maybe_unused]] void* saved) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(saved, nullptr, nullptr);
#endif
}

inline void resume(Thread* next) {
  thread = next;
  threadIdx = next->index;
  void* saved = nullptr;
  leave_scheduler(&saved);
  swapcontext(&block->scheduler, &next->context);
  arrive_in_scheduler(saved);
}

inline void wait(State state, unsigned mask, int line) {
  thread->state = state;
  thread->mask = mask;
  thread->line = line;
  leave_fibre(&thread->sanitizer_stack);
  swapcontext(&thread->context, &block->scheduler);
  arrive_in_fibre(thread->sanitizer_stack);
}

inline void run_fibre() {
  arrive_in_fibre(nullptr);
  block->body();
  thread->state = State::done;
  leave_fibre(nullptr);
  swapcontext(&thread->context, &block->scheduler);
}

inline void start(Thread* fibre) {
  const auto number = static_cast<std::size_t>(fibre->number);
  if (stacks.size() <= number) stacks.resize(number + 1);
  if (stacks[number] == nullptr) stacks[number].reset(new char[kStackBytes]);
  fibre->stack = stacks[number].get();
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(fibre->stack, kStackBytes);
#endif
  fibre->state = State::ready;
  fibre->barriers = fibre->warp_barriers = 0;
  getcontext(&fibre->context);
  fibre->context.uc_stack.ss_sp = fibre->stack;
  fibre->context.uc_stack.ss_size = kStackBytes;
  fibre->context.uc_link = nullptr;
  makecontext(&fibre->context, run_fibre, 0);
}

// Lets the threads at the block's barrier go on where all have reached it.
inline bool release_barrier() {
  for (Thread& one : block->threads)
    if (one.state != State::at_barrier) return false;
  for (Thread& one : block->threads) {
    thread = &one;
    if (one.line != block->threads[0].line)
      fail("waits at the barrier of line %d, thread 0 at that of line %d", one.line, block->threads[0].line);
    one.state = State::ready;
    ++one.barriers;
    ++one.warp_barriers;
  }
  return true;
}

// Lets the lanes of one warp operation go on where all of its mask have reached it.
inline bool release_lanes(Thread* warp, std::size_t lanes, const Thread& first) {
  std::uint64_t operands[kLanesOfWarp] = {};
  for (std::size_t lane = 0; lane < kLanesOfWarp; ++lane) {
    if ((first.mask >> lane & 1) == 0) continue;
    if (lane >= lanes || warp[lane].state != State::at_warp) return false;
    if (warp[lane].mask != first.mask || warp[lane].line != first.line) return false;
    operands[lane] = warp[lane].given;
  }
  const unsigned mask = first.mask;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    std::memcpy(warp[lane].received, operands, sizeof operands);
    warp[lane].state = State::ready;
  }
  return true;
}

inline bool release_warps() {
  bool released = false;
  for (std::size_t i = 0; i < block->threads.size(); ++i) {
    const std::size_t base = i / kLanesOfWarp * kLanesOfWarp, left = block->threads.size() - base;
    if (block->threads[i].state == State::at_warp)
      released |= release_lanes(&block->threads[base], left < kLanesOfWarp ? left : kLanesOfWarp, block->threads[i]);
  }
  return released;
}

// Reports a thread that waits for others in vain.
[[noreturn]] inline void fail_deadlocked() {
  for (Thread& one : block->threads) {
    thread = &one;
    if (one.state == State::at_warp)
      fail("waits at the warp operation of line %d, which not all lanes of mask %#x reach", one.line, one.mask);
  }
  for (const Thread& waiting : block->threads)
    if (waiting.state == State::at_barrier)
      for (Thread& other : block->threads)
        if (other.state == State::done) {
          thread = &other;
          fail("has returned, but thread %d waits at the barrier of line %d", waiting.number, waiting.line);
        }
  fail("waits for nothing known");
}

inline void run_block() {
  block->arrays.clear();
  for (Thread& one : block->threads) start(&one);
  for (bool running = true; running;) {
    running = false;
    const std::size_t count = block->threads.size();
    for (std::size_t i = 0; i < count; ++i) {
      Thread& next = block->threads[reversed ? count - 1 - i : i];
      if (next.state == State::ready) resume(&next), running = true;
    }
    running = release_warps() || running;
    running = release_barrier() || running;
    bool done = true;
    for (const Thread& one : block->threads) done &= one.state == State::done;
    if (done) return;
    if (!running) fail_deadlocked();
  }
}

// All lanes' operands of a warp operation.
template <class T>
const std::uint64_t* exchange(unsigned mask, T value, int line) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t), "registers are shuffled");
  thread->given = 0;
  std::memcpy(&thread->given, &value, sizeof value);
  if ((mask >> (thread->number % kLanesOfWarp) & 1) == 0) fail("is not in the mask %#x of line %d", mask, line);
  wait(State::at_warp, mask, line);
  return thread->received;
}

template <class T>
T operand(const std::uint64_t* operands, int lane) {
  T value;
  std::memcpy(&value, operands + lane, sizeof value);
  return value;
}

// The operands of the lanes in the mask, combined in the order of lanes.
template <class T, class Combine>
T reduce(unsigned mask, T value, int line, Combine combine) {
  const std::uint64_t* const operands = exchange(mask, value, line);
  int lane = __builtin_ctz(mask);
  T result = operand<T>(operands, lane);
  while (++lane < kLanesOfWarp)
    if ((mask >> lane & 1) != 0) result = combine(result, operand<T>(operands, lane));
  return result;
}

inline int lane_number() { return thread->number % kLanesOfWarp; }

}  // namespace emulation

template <class... Parameters, class... Arguments>
CudaStatus launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 size, const CudaQueue&,
                  Arguments... arguments) {
  emulation::Block block;
  block.kernel = name;
  block.body = [=] { kernel(arguments...); };
  block.threads.resize(std::size_t{size.x} * size.y * size.z);
  for (std::size_t i = 0; i < block.threads.size(); ++i) {
    const auto number = static_cast<unsigned>(i);
    block.threads[i].number = static_cast<int>(i);
    block.threads[i].index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
  }
  emulation::block = &block;
  gridDim = grid, blockDim = size;
  const unsigned blocks = grid.x * grid.y * grid.z;
  for (unsigned i = 0; i < blocks; ++i) {
    const unsigned number = emulation::reversed ? blocks - 1 - i : i;
    blockIdx = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    emulation::run_block();
  }
  emulation::block = nullptr;
  return {};
}

}  // namespace skelkern

inline void __syncthreads(int line = __builtin_LINE()) {
  skelkern::emulation::wait(skelkern::emulation::State::at_barrier, 0, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  skelkern::emulation::exchange(mask, 0, line);
  if (mask == 0xffffffffu) ++skelkern::emulation::thread->warp_barriers;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int line = __builtin_LINE()) {
  return skelkern::emulation::operand<T>(skelkern::emulation::exchange(mask, value, line), lane % 32);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int line = __builtin_LINE()) {
  const int lane = skelkern::emulation::lane_number() ^ lanes;
  return skelkern::emulation::operand<T>(skelkern::emulation::exchange(mask, value, line), lane);
}

inline unsigned __ballot_sync(unsigned mask, int holds, int line = __builtin_LINE()) {
  const std::uint64_t* const operands = skelkern::emulation::exchange(mask, holds, line);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0 && operands[lane] != 0) bits |= 1u << lane;
  return bits;
}

inline int __any_sync(unsigned mask, int holds, int line = __builtin_LINE()) {
  return __ballot_sync(mask, holds, line) != 0;
}

// The lanes of the mask that have this lane's value.
template <class T>
unsigned __match_any_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  const std::uint64_t* const operands = skelkern::emulation::exchange(mask, value, line);
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0 && skelkern::emulation::operand<T>(operands, lane) == value) bits |= 1u << lane;
  return bits;
}

template <class T>
T __reduce_max_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return skelkern::emulation::reduce(mask, value, line, [](T a, T b) { return a > b ? a : b; });
}

template <class T>
T __reduce_min_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return skelkern::emulation::reduce(mask, value, line, [](T a, T b) { return a < b ? a : b; });
}

template <class T>
T __reduce_add_sync(unsigned mask, T value, int line = __builtin_LINE()) {
  return skelkern::emulation::reduce(mask, value, line, [](T a, T b) { return a + b; });
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline int __float_as_int(float value) { return static_cast<int>(__float_as_uint(value)); }

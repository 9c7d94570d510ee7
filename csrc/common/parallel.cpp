#include "common/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "common/pages.h"

namespace skelkern {
namespace {

std::atomic<std::size_t> bytes_in_use{0};

struct Buffer {
  float* data = nullptr;
  std::size_t floats = 0;

  ~Buffer() { release(); }

  void release() noexcept {
    std::free(data);
    bytes_in_use -= floats * sizeof(float);
    data = nullptr;
    floats = 0;
  }

  float* reserve(std::size_t wanted) noexcept {
    if (wanted <= floats && data != nullptr) return data;
    release();
    std::size_t bytes = std::max<std::size_t>(wanted * sizeof(float), 64);
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    data = static_cast<float*>(std::aligned_alloc(alignment, bytes));
    if (data == nullptr) return nullptr;
    advise_huge_pages(data, bytes);
    floats = bytes / sizeof(float);
    bytes_in_use += bytes;
    return data;
  }
};

thread_local Buffer buffers[2];

// OpenMP's worker threads do not survive fork(); a child that waited for them would hang.
std::atomic<bool> forked{false};
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

float* thread_scratch(Slot slot, std::size_t floats) noexcept {
  float* const memory = buffers[static_cast<int>(slot)].reserve(floats);
#ifdef __SANITIZE_ADDRESS__
  if (memory != nullptr) std::fill_n(memory, floats, __builtin_nanf(""));  // shows who reads what he has not written
#endif
  return memory;
}

std::size_t scratch_bytes() noexcept { return bytes_in_use; }

bool run_chunks(std::int64_t chunks, int threads, std::size_t scratch_floats, void (*body)(void*, std::int64_t, float*),
                void* context) noexcept {
  if (chunks <= 0) return true;
  if (forked) threads = 1;
  threads = static_cast<int>(std::min<std::int64_t>(std::max(threads, 1), chunks));
  if (threads == 1) {
    float* scratch = thread_scratch(Slot::chunk_scratch, scratch_floats);
    if (scratch == nullptr) return false;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk, scratch);
    return true;
  }
  std::atomic<bool> failed{false};
#pragma omp parallel num_threads(threads)
  {
    float* scratch = thread_scratch(Slot::chunk_scratch, scratch_floats);
    if (scratch == nullptr) failed = true;
#pragma omp barrier
    if (!failed) {
#pragma omp for schedule(dynamic, 1)
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk, scratch);
    }
  }
  return !failed;
}

}  // namespace skelkern

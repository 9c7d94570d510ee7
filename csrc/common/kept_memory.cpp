#include "common/kept_memory.h"

#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#include "common/pages.h"

namespace skelkern {
namespace {

struct Block {
  void* data;
  std::size_t bytes;
};

struct Memory {
  std::mutex mutex;
  std::vector<Block> used, kept;  // kept: the longest kept first
  std::size_t total = 0;
};

// Never destroyed: results may die after static objects.
Memory& memory() {
  static Memory& only = *[] {
    auto* made = new Memory;
    pthread_atfork([] { memory().mutex.lock(); }, [] { memory().mutex.unlock(); }, [] { memory().mutex.unlock(); });
    return made;
  }();
  return only;
}

std::size_t whole_pages(std::size_t bytes) {
  return std::max<std::size_t>(1, (bytes + kHugePage - 1) / kHugePage) * kHugePage;
}

void free_longest_kept(Memory& m, std::size_t bytes) {
  std::size_t freed = 0, count = 0;
  for (; count < m.kept.size() && freed < bytes; ++count) {
    std::free(m.kept[count].data);
    freed += m.kept[count].bytes;
  }
  m.kept.erase(m.kept.begin(), m.kept.begin() + static_cast<std::ptrdiff_t>(count));
  m.total -= freed;
}

// The smallest kept block that fits and is not much too large.
std::vector<Block>::iterator fitting(Memory& m, std::size_t bytes) {
  auto best = m.kept.end();
  for (auto block = m.kept.begin(); block != m.kept.end(); ++block)
    if (block->bytes >= bytes && block->bytes <= bytes + bytes / 4 &&
        (best == m.kept.end() || block->bytes < best->bytes))
      best = block;
  return best;
}

}  // namespace

void* take_memory(std::size_t bytes) noexcept {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  try {
    m.used.reserve(m.used.size() + 1);
    m.kept.reserve(m.used.size() + m.kept.size() + 1);  // giving back must not fail
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  bytes = whole_pages(bytes);
  const auto found = fitting(m, bytes);
  if (found != m.kept.end()) {
    m.used.push_back(*found);
    m.kept.erase(found);
    return m.used.back().data;
  }
  free_longest_kept(m, bytes);
  void* const data = std::aligned_alloc(kHugePage, bytes);
  if (data == nullptr) return nullptr;
  advise_huge_pages(data, bytes);
  m.used.push_back({data, bytes});
  m.total += bytes;
  return data;
}

void give_back_memory(void* data) noexcept {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto found = std::find_if(m.used.begin(), m.used.end(), [&](const Block& block) { return block.data == data; });
  if (found == m.used.end()) return;
  m.kept.push_back(*found);
  m.used.erase(found);
}

void free_kept_memory() noexcept {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  free_longest_kept(m, m.total);
}

std::size_t result_bytes() noexcept {
  Memory& m = memory();
  const std::lock_guard<std::mutex> lock(m.mutex);
  return m.total;
}

}  // namespace skelkern

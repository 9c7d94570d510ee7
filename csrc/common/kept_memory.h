// Memory of results that is kept, when a result dies, for later ones: a training step asks for the same sizes again and
// again, and fresh memory is faulted in page by page.
#pragma once

#include <cstddef>

namespace skelkern {

// At least `bytes` of any content, aligned to huge pages; nullptr when it cannot be had. Safe from any thread.
//
// Before fresh memory is taken, kept memory of no use for this size is freed, the longest kept first, up to the same
// amount: all together never exceeds what results have occupied at once, but for rounding.
void* take_memory(std::size_t bytes) noexcept;

// Gives memory of `take_memory` back, to be kept.
void give_back_memory(void* data) noexcept;

// Frees all that is kept; memory in use stays.
void free_kept_memory() noexcept;

// Bytes in use and kept.
std::size_t result_bytes() noexcept;

}  // namespace skelkern

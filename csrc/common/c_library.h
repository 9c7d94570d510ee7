// Settings of the C library's allocator, by which torch allocates.
#pragma once

namespace skelkern {

// On: freed memory is kept for later allocations, however large, instead of being unmapped. Off: the C library's
// defaults, and what is kept is given back. Returns false where the C library has no such setting.
bool reuse_memory(bool on) noexcept;

}  // namespace skelkern

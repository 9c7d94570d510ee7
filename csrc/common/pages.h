// Huge pages: a fault for every 4 KiB of fresh memory can cost more than the kernel that fills it.
#pragma once

#include <cstddef>

namespace skelkern {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Asks for huge pages where whole ones fit into [data, data + bytes); a hint that changes no content and may be
// ignored.
void advise_huge_pages(void* data, std::size_t bytes) noexcept;

}  // namespace skelkern

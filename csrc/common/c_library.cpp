#include "common/c_library.h"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace skelkern {

bool reuse_memory([[maybe_unused]] bool on) noexcept {
#if defined(__GLIBC__)
  constexpr int kDefaultMaps = 65536, kDefaultTrim = 128 * 1024, kDefaultPad = 0;
  const bool done = mallopt(M_MMAP_MAX, on ? 0 : kDefaultMaps) == 1 &&
                    mallopt(M_TRIM_THRESHOLD, on ? -1 : kDefaultTrim) == 1 &&
                    mallopt(M_TOP_PAD, on ? 64 * 1024 * 1024 : kDefaultPad) == 1;
  if (!on) malloc_trim(0);
  return done;
#else
  return false;
#endif
}

}  // namespace skelkern

// SIMD levels: every kernel file is compiled once per level, in that level's namespace.
//
// An op's header declares a table of function pointers, say `struct CrossCorrelation`, and
// SKELKERN_EVERY_LEVEL(CrossCorrelation, cross_correlation); each level file defines its
// `cross_correlation`; SKELKERN_PICK(cross_correlation) is the one for this processor.
#pragma once

namespace skelkern {

enum class Level { baseline = 0, avx2 = 1, avx512 = 2 };

// The highest level of this processor, or the lower one that SKELKERN_CPU_LEVEL names.
// Throws std::invalid_argument when the variable names none, or one above the processor's.
Level cpu_level();
const char* level_name(Level level);
// "AMD", "Intel" or "other".
const char* cpu_vendor();

}  // namespace skelkern

#if defined(__x86_64__)
#define SKELKERN_EVERY_LEVEL(Table, name) \
  namespace baseline {                    \
  extern const Table name;                \
  }                                       \
  namespace avx2 {                        \
  extern const Table name;                \
  }                                       \
  namespace avx512 {                      \
  extern const Table name;                \
  }
#define SKELKERN_PICK(name)                                                        \
  (::skelkern::cpu_level() == ::skelkern::Level::avx512 ? ::skelkern::avx512::name \
   : ::skelkern::cpu_level() == ::skelkern::Level::avx2 ? ::skelkern::avx2::name   \
                                                        : ::skelkern::baseline::name)
#else
#define SKELKERN_EVERY_LEVEL(Table, name) \
  namespace baseline {                    \
  extern const Table name;                \
  }
#define SKELKERN_PICK(name) (::skelkern::baseline::name)
#endif

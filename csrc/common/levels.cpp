#include "common/levels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace skelkern {
namespace {

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    return Level::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    return Level::avx2;
#endif
  return Level::baseline;
}

Level requested(Level highest) {
  const char* value = std::getenv("SKELKERN_CPU_LEVEL");
  if (value == nullptr || *value == '\0') return highest;
  for (Level level : {Level::baseline, Level::avx2, Level::avx512}) {
    if (std::string(value) != level_name(level)) continue;
    if (level <= highest) return level;
    throw std::invalid_argument(std::string("SKELKERN_CPU_LEVEL=") + value + ": this processor's highest level is " +
                                level_name(highest));
  }
  throw std::invalid_argument(std::string("SKELKERN_CPU_LEVEL: expected baseline, avx2 or avx512, found ") + value);
}

}  // namespace

Level cpu_level() {
  static const Level level = requested(detect());
  return level;
}

const char* level_name(Level level) {
  static const char* const names[] = {"baseline", "avx2", "avx512"};
  return names[static_cast<int>(level)];
}

const char* cpu_vendor() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_is("amd")) return "AMD";
  if (__builtin_cpu_is("intel")) return "Intel";
#endif
  return "other";
}

}  // namespace skelkern

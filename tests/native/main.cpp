// Every kernel at small, odd sizes, then the fuzzed parser: meant to be built with sanitizers.
#include <cstring>

#include "native.h"

int main(int count, char** arguments) {
  const int caught = check_planted_faults();
  double seconds = 1.0;
  std::uint64_t seed = 1;
  for (int i = 1; i + 1 < count; i += 2) {
    if (std::strcmp(arguments[i], "--fuzz-seconds") == 0) seconds = std::atof(arguments[i + 1]);
    if (std::strcmp(arguments[i], "--seed") == 0) seed = std::strtoull(arguments[i + 1], nullptr, 10);
  }
  check_losses();
  check_convolutions();
  check_sequences();
  check_clouds();
  check_clips();
  check_retrieval();
  std::printf("kernels: levels up to %s and the emulated GPU agree, no error found\n",
              skelkern::level_name(skelkern::cpu_level()));
  std::printf("emulation: %d planted faults caught\n", caught);
  std::printf("parser: %lld inputs of seed %llu in %.0f s, no error found\n",
              static_cast<long long>(fuzz_ntu_skeleton(seconds, seed)), static_cast<unsigned long long>(seed), seconds);
  return 0;
}

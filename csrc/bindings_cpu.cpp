// Python bindings: addresses and sizes in, nothing checked here (skelkern/ops checks), the GIL released while running.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>

#include "common/levels.h"
#include "cross_correlation/cross_correlation.h"

namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void require(bool had_memory) {
  if (!had_memory) throw std::bad_alloc();
}

double cross_correlation(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d, float off_diagonal_weight,
                         float eps, std::uintptr_t gradient1, std::uintptr_t gradient2, int threads) {
  double loss = 0.0;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cross_correlation)
              .run({pointer<const float>(z1), pointer<const float>(z2), n, d, off_diagonal_weight, eps, &loss,
                    pointer<float>(gradient1), pointer<float>(gradient2), threads}));
  return loss;
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.def("level", [] { return skelkern::level_name(skelkern::cpu_level()); });
  module.def("compiler", [] { return __VERSION__; });
  module.def("cross_correlation", cross_correlation);
}

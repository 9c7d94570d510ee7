// Python bindings: addresses and sizes in, nothing checked here (skelkern/ops checks), the GIL released while running.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>

#include "common/levels.h"
#include "common/pages.h"
#include "cross_correlation/cross_correlation.h"
#include "peak/peak.h"

namespace {

template <class T>
T* pointer(std::uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void require(bool had_memory) {
  if (!had_memory) throw std::bad_alloc();
}

double cross_correlation_forward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                 float off_diagonal_weight, float eps, std::uintptr_t statistics,
                                 std::uintptr_t products, int threads) {
  double loss = 0.0;
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cross_correlation)
              .forward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, eps, threads},
                       {pointer<float>(statistics), pointer<float>(products)}, &loss));
  return loss;
}

void cross_correlation_backward(std::uintptr_t z1, std::uintptr_t z2, std::int64_t n, std::int64_t d,
                                float off_diagonal_weight, std::uintptr_t statistics, std::uintptr_t products,
                                float loss_gradient, std::uintptr_t gradient1, std::uintptr_t gradient2, int threads) {
  float* const gradients[2] = {pointer<float>(gradient1), pointer<float>(gradient2)};
  pybind11::gil_scoped_release release;
  require(SKELKERN_PICK(cross_correlation)
              .backward({{pointer<const float>(z1), pointer<const float>(z2)}, n, d, off_diagonal_weight, 0.0f, threads},
                        {pointer<float>(statistics), pointer<float>(products)}, loss_gradient, gradients));
}

void advise_huge_pages(std::uintptr_t data, std::size_t bytes) {
  skelkern::advise_huge_pages(pointer<void>(data), bytes);
}

double multiply_add(std::int64_t iterations, int threads) {
  pybind11::gil_scoped_release release;
  return SKELKERN_PICK(peak).multiply_add(iterations, threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, module) {
  module.def("level", [] { return skelkern::level_name(skelkern::cpu_level()); });
  module.def("compiler", [] { return __VERSION__; });
  module.def("cross_correlation_forward", cross_correlation_forward);
  module.def("cross_correlation_backward", cross_correlation_backward);
  module.def("advise_huge_pages", advise_huge_pages);
  module.def("multiply_add", multiply_add);
}

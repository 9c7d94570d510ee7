// What every .cu file includes: CUDA itself or, with SKELKERN_EMULATED, its emulation on the CPU.
//
// SKELKERN_SHARED(float, tile, 128) declares shared memory, an array to both; elements are read and written whole.
// `launch` starts a kernel in both and names it where that fails.
#pragma once

#include <cstdint>

#include "common/cuda_status.h"

#ifdef SKELKERN_EMULATED
#include "common/cuda_emulation.h"
#else
#include <cuda_runtime.h>

#define SKELKERN_SHARED(Type, name, count) __shared__ Type name[count]

namespace skelkern {

// Makes a device current for as long as it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : error_(cudaGetDevice(&before_)) {
    if (error_ == cudaSuccess && before_ != device) {
      error_ = cudaSetDevice(device);
      changed_ = error_ == cudaSuccess;
    }
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

  cudaError_t error() const { return error_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_;
};

template <class... Parameters, class... Arguments>
CudaStatus launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, const CudaQueue& queue,
                  Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  const DeviceGuard guard(queue.device);
  cudaLaunchConfig_t config{};
  config.gridDim = grid, config.blockDim = block, config.stream = static_cast<cudaStream_t>(queue.stream);
  const cudaError_t error =
      guard.error() != cudaSuccess ? guard.error() : cudaLaunchKernelEx(&config, kernel, arguments...);
  if (error == cudaSuccess) return {};
  return {name, cudaGetErrorString(error)};
}

}  // namespace skelkern
#endif

namespace skelkern {

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarp = 32;

template <class T>
__host__ __device__ constexpr T ceil_div(T count, T size) {
  return (count + size - 1) / size;
}

}  // namespace skelkern

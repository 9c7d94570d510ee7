// What CUDA kernels' plain functions take and return, without any CUDA header.
#pragma once

namespace skelkern {

// Where to launch: a device's number and a stream of it (cudaStream_t).
struct CudaQueue {
  int device;
  void* stream;
};

// Whether all kernels were launched; if not, the one that was not and why.
struct CudaStatus {
  const char* kernel = nullptr;
  const char* error = nullptr;

  bool failed() const { return error != nullptr; }
};

}  // namespace skelkern

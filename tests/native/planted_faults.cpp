// Kernels with one fault each, which the emulation must name.
#include <sys/wait.h>
#include <unistd.h>

#include "common/cuda_kernel.h"
#include "native.h"

namespace {

constexpr int kThreadsOfBlock = 64;

// Every thread writes its element and reads its neighbour's.
template <bool barrier>
__global__ void shift(float* values) {
  SKELKERN_SHARED(float, tile, kThreadsOfBlock);
  const unsigned i = threadIdx.x;
  tile[i] = values[i];
  if (barrier) __syncthreads();
  values[i] = tile[(i + 1) % kThreadsOfBlock];
}

// A tile that is filled again while others may still read it.
__global__ void refill(float* values) {
  SKELKERN_SHARED(float, tile, kThreadsOfBlock);
  const unsigned i = threadIdx.x;
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    tile[i] = values[i];
    __syncthreads();
    sum += tile[kThreadsOfBlock - 1 - i];
  }
  values[i] = sum;
}

__global__ void overrun_shared(float* values) {
  SKELKERN_SHARED(float, tile, kThreadsOfBlock);
  tile[threadIdx.x + 1] = values[threadIdx.x];
}

[[maybe_unused]] __global__ void overrun_global(float* values) { values[threadIdx.x + 1] = 0.0f; }

__global__ void read_unwritten(float* values) {
  SKELKERN_SHARED(float, tile, 2 * kThreadsOfBlock);
  tile[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  values[threadIdx.x] = tile[threadIdx.x + 1];
}

__global__ void leave_early(float* values) {
  if (threadIdx.x == 3) return;
  __syncthreads();
  values[threadIdx.x] = 0.0f;
}

__global__ void meet_at_two_barriers(float* values) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  values[threadIdx.x] = 0.0f;
}

__global__ void shuffle_without_a_lane(float* values) {
  if (threadIdx.x != 5) values[threadIdx.x] = __shfl_xor_sync(skelkern::kFullWarp, values[threadIdx.x], 1);
}

struct Fault {
  const char* name;
  void (*kernel)(float*);
  const char* message;
};

const Fault kFaults[] = {
    {"missing_barrier", shift<false>, "is read before it was written"},
    {"missing_second_barrier", refill, "without a barrier between them"},
    {"overrun_shared", overrun_shared, "shared memory tile[64], which has 64 elements"},
#ifdef __SANITIZE_ADDRESS__
    {"overrun_global", overrun_global, "heap-buffer-overflow"},
#endif
    {"read_unwritten", read_unwritten, "is read before it was written"},
    {"leave_early", leave_early, "thread 3: has returned, but thread 0 waits at the barrier"},
    {"meet_at_two_barriers", meet_at_two_barriers, "thread 0 at that of line"},
    {"shuffle_without_a_lane", shuffle_without_a_lane, "which not all lanes of mask 0xffffffff reach"},
};

void run(const char* name, void (*kernel)(float*)) {
  Array<float> values(kThreadsOfBlock);
  skelkern::launch(name, kernel, 1, kThreadsOfBlock, {0, nullptr}, values.get());
}

// What a process that runs the kernel writes to stderr; exits with 0 where nothing stopped it.
std::string messages_of(const Fault& fault, int* status) {
  int ends[2];
  require(pipe(ends) == 0, "pipe");
  std::fflush(nullptr);
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    run(fault.name, fault.kernel);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[4096];
  for (ssize_t count; (count = read(ends[0], part, sizeof part)) > 0;)
    text.append(part, static_cast<std::size_t>(count));
  close(ends[0]);
  waitpid(child, status, 0);
  return text;
}

}  // namespace

int check_planted_faults() {
  run("shift", shift<true>);
  int caught = 0;
  for (const Fault& fault : kFaults) {
    int status = 0;
    const std::string found = messages_of(fault, &status);
    const bool named = status != 0 && found.find(fault.message) != std::string::npos;
    require(named, std::string("emulation: planted fault ") + fault.name + " was not caught: " + found);
    ++caught;
  }
  return caught;
}

// Deterministic parallel loops and reusable scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace skelkern {

// Calls body(context, chunk, scratch) once for every chunk in [0, chunks), on at most `threads`
// threads; scratch is 64-byte aligned, private to the call and holds scratch_floats floats of any
// content. The caller cuts its work into chunks by the problem's shape alone and merges their results
// in chunk order, so that the number of threads never shows in a result. Serial in a forked child,
// whose parent's threads are gone. Returns false, having run nothing, when scratch cannot be had.
bool run_chunks(std::int64_t chunks, int threads, std::size_t scratch_floats,
                void (*body)(void* context, std::int64_t chunk, float* scratch), void* context) noexcept;

// Memory of the calling thread that lives until the next call with the same slot, kept between calls
// so that it is not faulted in again. Returns nullptr when it cannot be had.
enum class Slot { workspace = 0, chunk_scratch = 1 };
float* thread_scratch(Slot slot, std::size_t floats) noexcept;

// Bytes of all threads' scratch memory.
std::size_t scratch_bytes() noexcept;

}  // namespace skelkern

// Lambdas instead of (function, context). In an unnamed namespace: level files define no weak symbols.
namespace {

template <class Body>
inline bool parallel_chunks(std::int64_t chunks, int threads, std::size_t scratch_floats, const Body& body) {
  auto call = [](void* context, std::int64_t chunk, float* scratch) {
    (*static_cast<const Body*>(context))(chunk, scratch);
  };
  return skelkern::run_chunks(chunks, threads, scratch_floats, call, const_cast<Body*>(&body));
}

}  // namespace

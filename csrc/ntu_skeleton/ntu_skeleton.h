// Text of one recording of NTU RGB+D (`.skeleton`): a line with the number of frames; for each frame a line with the
// number of bodies; for each body a line with its id and 9 values, a line with the number of joints, which is 25, and a
// line of 12 values for each joint. Lines end with LF or CRLF.
#pragma once

#include <cstdint>

#include "common/levels.h"

namespace skelkern {

constexpr std::int64_t kNtuJoints = 25;
constexpr std::int64_t kNtuBodyValues = 9;
constexpr std::int64_t kNtuJointValues = 12;

// Arrays from malloc, owned by whoever holds the recording; nullptr where empty.
struct NtuRecording {
  std::int64_t frames, bodies;  // bodies of all frames
  std::int64_t* frame_offsets;  // (frames + 1), bodies [frame_offsets[f], frame_offsets[f + 1]) are of frame f
  std::int64_t* body_ids;       // (bodies)
  float* body_info;             // (bodies, kNtuBodyValues)
  float* joints;                // (bodies, kNtuJoints, kNtuJointValues), or 3 values with coordinates_only
};

enum class NtuStatus { done, wrong_format, cannot_read, out_of_memory };

struct NtuResult {
  NtuStatus status;
  NtuRecording recording;  // without arrays unless done
  std::int64_t line;       // of wrong_format, from 1
  char expected[64];       // of wrong_format
  char found[32];          // the beginning of what was there instead
  int error_number;        // errno of cannot_read
};

struct NtuSkeleton {
  // Values are those of a correctly rounded double, rounded to float. coordinates_only: of each joint only the first
  // three values are read, and the rest of its line is not looked at.
  void (*parse)(const char* text, std::int64_t size, bool coordinates_only, NtuResult* result);
  // `count` files, in parallel.
  void (*parse_files)(const char* const* paths, std::int64_t count, bool coordinates_only, int threads,
                      NtuResult* results);
};

// Frees a recording's arrays.
void release(NtuRecording* recording) noexcept;

SKELKERN_EVERY_LEVEL(NtuSkeleton, ntu_skeleton)

}  // namespace skelkern

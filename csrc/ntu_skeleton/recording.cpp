#include <cstdlib>

#include "ntu_skeleton/ntu_skeleton.h"

namespace skelkern {

void release(NtuRecording* recording) noexcept {
  std::free(recording->frame_offsets);
  std::free(recording->body_ids);
  std::free(recording->body_info);
  std::free(recording->joints);
  *recording = NtuRecording{};
}

}  // namespace skelkern

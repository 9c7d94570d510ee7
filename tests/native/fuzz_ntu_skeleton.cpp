// Mutated recordings through the parser: nothing may be read or written out of place, nothing may leak, and what is
// accepted must be consistent. Alone with -DSKELKERN_LIBFUZZER it is a target of libFuzzer.
#include <chrono>
#include <cstring>

#include "native.h"
#include "ntu_skeleton/ntu_skeleton.h"

namespace {

void parse(const char* text, std::size_t size, bool coordinates_only) {
  // a copy of exact size: reading one character too many is seen
  std::unique_ptr<char[]> copy(new char[size]);
  if (size > 0) std::memcpy(copy.get(), text, size);
  skelkern::NtuResult result{};
  skelkern::baseline::ntu_skeleton.parse(copy.get(), static_cast<std::int64_t>(size), coordinates_only, &result);
  const skelkern::NtuRecording& recording = result.recording;
  if (result.status == skelkern::NtuStatus::done) {
    for (std::int64_t frame = 0; frame < recording.frames; ++frame)
      require(recording.frame_offsets[frame] <= recording.frame_offsets[frame + 1], "offsets rise");
    require(recording.frames == 0 || recording.frame_offsets[recording.frames] == recording.bodies, "offsets end");
    const std::int64_t values = skelkern::kNtuJoints * (coordinates_only ? 3 : skelkern::kNtuJointValues);
    volatile float sum = 0;  // every value is there to be read
    for (std::int64_t i = 0; i < recording.bodies * values; ++i) sum = sum + recording.joints[i];
  } else {
    require(result.status != skelkern::NtuStatus::wrong_format || result.line >= 1, "errors have a line");
    require(recording.joints == nullptr && recording.frame_offsets == nullptr, "errors keep no arrays");
  }
  skelkern::release(&result.recording);
}

std::string well_formed(std::int64_t frames) {
  const char* const end = random_below(2) == 0 ? "\n" : "\r\n";
  std::string text = std::to_string(frames) + end;
  const auto number = [] { return std::to_string(static_cast<double>(random_below(2000000) - 1000000) / 7919.0); };
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    const std::int64_t bodies = random_below(3);
    text += std::to_string(bodies) + end;
    for (std::int64_t body = 0; body < bodies; ++body) {
      text += std::to_string(random_below(std::int64_t{1} << 57));
      for (int i = 0; i < 9; ++i) text += " " + number();
      text += std::string(end) + "25" + end;
      for (int joint = 0; joint < 25; ++joint) {
        for (int i = 0; i < 12; ++i) text += (i == 0 ? "" : " ") + number();
        text += end;
      }
    }
  }
  return text;
}

void mutate(std::string& text) {
  static const std::string pieces[] = {"\n",
                                       "\r",
                                       " ",
                                       "-",
                                       ".",
                                       "e",
                                       "E+",
                                       "nan",
                                       "inf",
                                       "0",
                                       "9999999999999999999999",
                                       "1e400",
                                       "1e-400",
                                       "25",
                                       std::string(1, '\0'),
                                       "\xff",
                                       "00000000",
                                       ".....",
                                       "\t"};
  const auto place = [&] { return static_cast<std::size_t>(random_below(static_cast<std::int64_t>(text.size()) + 1)); };
  const std::size_t at = place(), length = static_cast<std::size_t>(random_below(40));
  switch (random_below(6)) {
    case 0:
      text.erase(at, length);
      break;
    case 1:
      text.insert(at, pieces[random_below(std::size(pieces))]);
      break;
    case 2:
      text.insert(place(), text.substr(at, length));
      break;
    case 3:
      text.resize(at);
      break;
    case 4:
      if (at < text.size()) text[at] = static_cast<char>(random_below(256));
      break;
    default:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random_below(8)));
  }
}

}  // namespace

#if defined(SKELKERN_LIBFUZZER)
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const bool coordinates_only : {false, true}) parse(reinterpret_cast<const char*>(data), size, coordinates_only);
  return 0;
}
#endif

std::int64_t fuzz_ntu_skeleton(double seconds, std::uint64_t seed) {
  random_bits().seed(seed);
  const auto start = std::chrono::steady_clock::now();
  std::int64_t count = 0;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < seconds) {
    std::string text = well_formed(random_below(4));
    for (int round = 0; round < 20; ++round, ++count) {
      parse(text.data(), text.size(), random_below(2) == 0);
      mutate(text);
    }
  }
  return count;
}

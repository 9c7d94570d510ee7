#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "common/parallel.h"
#include "ntu_skeleton/ntu_skeleton.h"
#include "ntu_skeleton/number.h"

namespace skelkern {
namespace SKELKERN_LEVEL {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Reads text line by line; the first failure is kept, and everything after it fails too.
class Reader {
 public:
  Reader(const char* text, std::int64_t size, NtuResult* result) : at_(text), end_(text + size), result_(result) {}

  // A line with one whole number.
  bool count(const char* what, std::int64_t* value) { return whole(what, value) && end_line(what); }

  // A line with this number.
  bool number(const char* what, std::int64_t wanted) {
    skip_blanks();
    const char* const start = at_;
    std::int64_t value = 0;
    if (!whole(what, &value)) return false;
    if (value == wanted) return end_line(what);
    at_ = start;
    return fail(what);
  }

  bool whole(const char* what, std::int64_t* value) {
    skip_blanks();
    const char* const next = read_whole(at_, end_, value);
    return next != nullptr && is_boundary(next) ? advance(next) : fail(what);
  }

  bool values(const char* what, std::int64_t count, float* values) {
    for (std::int64_t i = 0; i < count; ++i) {
      skip_blanks();
      const char* const next = read_number(at_, end_, values + i);
      if (next == nullptr || !is_boundary(next)) return fail(what);
      at_ = next;
    }
    return true;
  }

  bool end_line(const char* what) {
    skip_blanks();
    if (at_ == end_) return true;
    if (*at_ != '\n') return fail(what);
    ++at_, ++line_;
    return true;
  }

  void skip_line() {
    const void* const newline = std::memchr(at_, '\n', static_cast<std::size_t>(end_ - at_));
    at_ = newline == nullptr ? end_ : static_cast<const char*>(newline) + 1;
    line_ += newline != nullptr;
  }

  bool end_of_text(const char* what) {
    while (at_ < end_ && (is_blank(*at_) || *at_ == '\n')) line_ += *at_++ == '\n';
    return at_ == end_ || fail(what);
  }

  // Notes what was expected here and what is there instead; always false.
  bool fail(const char* what) {
    result_->status = NtuStatus::wrong_format;
    result_->line = line_;
    std::snprintf(result_->expected, sizeof result_->expected, "%s", what);
    if (at_ == end_) {
      std::snprintf(result_->found, sizeof result_->found, "the end of the text");
      return false;
    }
    if (*at_ == '\n') {
      std::snprintf(result_->found, sizeof result_->found, "the end of the line");
      return false;
    }
    const char* stop = at_;
    while (stop < end_ && stop - at_ < 24 && *stop != '\n' && *stop != '\r') ++stop;
    std::snprintf(result_->found, sizeof result_->found, "'%.*s'", static_cast<int>(stop - at_), at_);
    return false;
  }

 private:
  bool advance(const char* next) {
    at_ = next;
    return true;
  }
  bool is_boundary(const char* p) const { return p == end_ || is_blank(*p) || *p == '\n'; }
  void skip_blanks() {
    while (at_ < end_ && is_blank(*at_)) ++at_;
  }

  const char* at_;
  const char* end_;
  NtuResult* result_;
  std::int64_t line_ = 1;
};

// Grows a recording's arrays by doubling.
class Builder {
 public:
  Builder(std::int64_t joint_values, NtuResult* result)
      : recording_(result->recording), result_(result), joint_floats_(kNtuJoints * joint_values) {}

  bool add_frame() {
    if (!reserve(recording_.frames + 2, &frame_room_,
                 [&](std::int64_t room) { return resize(&recording_.frame_offsets, room); }))
      return false;
    recording_.frame_offsets[0] = 0;
    recording_.frame_offsets[++recording_.frames] = recording_.bodies;
    return true;
  }

  bool add_body() {
    if (!reserve(recording_.bodies + 1, &body_room_, [&](std::int64_t room) {
          return resize(&recording_.body_ids, room) && resize(&recording_.body_info, room * kNtuBodyValues) &&
                 resize(&recording_.joints, room * joint_floats_);
        }))
      return false;
    recording_.frame_offsets[recording_.frames] = ++recording_.bodies;
    return true;
  }

  // Gives back the room that was not needed.
  void trim() {
    const auto shrink = [](auto** array, std::int64_t length) {
      if (length > 0) resize(array, length);
    };
    shrink(&recording_.frame_offsets, recording_.frames == 0 ? 0 : recording_.frames + 1);
    shrink(&recording_.body_ids, recording_.bodies);
    shrink(&recording_.body_info, recording_.bodies * kNtuBodyValues);
    shrink(&recording_.joints, recording_.bodies * joint_floats_);
  }

  std::int64_t* body_id() const { return recording_.body_ids + recording_.bodies - 1; }
  float* body_info() const { return recording_.body_info + (recording_.bodies - 1) * kNtuBodyValues; }
  float* joint(std::int64_t number) const {
    return recording_.joints + (recording_.bodies - 1) * joint_floats_ + number * (joint_floats_ / kNtuJoints);
  }

 private:
  template <class Grow>
  bool reserve(std::int64_t wanted, std::int64_t* room, const Grow& grow) {
    if (wanted <= *room) return true;
    *room = std::max<std::int64_t>(64, 2 * *room);
    if (grow(*room)) return true;
    result_->status = NtuStatus::out_of_memory;
    return false;
  }

  template <class T>
  static bool resize(T** array, std::int64_t length) {
    void* const grown = std::realloc(*array, static_cast<std::size_t>(length) * sizeof(T));
    if (grown == nullptr) return false;
    *array = static_cast<T*>(grown);
    return true;
  }

  NtuRecording& recording_;
  NtuResult* result_;
  std::int64_t joint_floats_, frame_room_ = 0, body_room_ = 0;
};

bool parse_body(Reader& reader, const Builder& builder, bool coordinates_only) {
  constexpr const char* kBody = "a body's id and 9 values";
  if (!reader.whole(kBody, builder.body_id()) || !reader.values(kBody, kNtuBodyValues, builder.body_info()) ||
      !reader.end_line(kBody) || !reader.number("25, the number of joints", kNtuJoints))
    return false;
  for (std::int64_t joint = 0; joint < kNtuJoints; ++joint) {
    if (coordinates_only) {
      if (!reader.values("a joint's 3 coordinates", 3, builder.joint(joint))) return false;
      reader.skip_line();
    } else if (!reader.values("a joint's 12 values", kNtuJointValues, builder.joint(joint)) ||
               !reader.end_line("the end of a joint's 12 values")) {
      return false;
    }
  }
  return true;
}

bool parse_frames(Reader& reader, Builder& builder, bool coordinates_only) {
  std::int64_t frames = 0;
  if (!reader.count("the number of frames", &frames)) return false;
  for (std::int64_t frame = 0; frame < frames; ++frame) {
    std::int64_t bodies = 0;
    if (!reader.count("the number of bodies", &bodies) || !builder.add_frame()) return false;
    for (std::int64_t body = 0; body < bodies; ++body)
      if (!builder.add_body() || !parse_body(reader, builder, coordinates_only)) return false;
  }
  return reader.end_of_text("the end of the text after the last frame");
}

void parse(const char* text, std::int64_t size, bool coordinates_only, NtuResult* result) {
  *result = NtuResult{};
  Reader reader(text, size, result);
  Builder builder(coordinates_only ? 3 : kNtuJointValues, result);
  if (parse_frames(reader, builder, coordinates_only))
    builder.trim();
  else
    release(&result->recording);
}

// Reads a whole file into scratch memory; nullptr after noting why not.
const char* read_file(const char* path, std::int64_t* size, NtuResult* result) {
  std::FILE* const file = std::fopen(path, "rb");
  const char* text = nullptr;
  errno = file == nullptr ? errno : 0;
  if (file != nullptr) std::fgetc(file);  // fails for a folder, which has an end far away
  if (file != nullptr && std::ferror(file) == 0 && std::fseek(file, 0, SEEK_END) == 0 &&
      (*size = std::ftell(file)) >= 0) {
    std::rewind(file);
    float* const memory = thread_scratch(Slot::workspace, static_cast<std::size_t>(*size) / sizeof(float) + 1);
    if (memory == nullptr) {
      result->status = NtuStatus::out_of_memory;
      std::fclose(file);
      return nullptr;
    }
    const std::size_t read = std::fread(memory, 1, static_cast<std::size_t>(*size), file);
    if (std::ferror(file) == 0) {
      *size = static_cast<std::int64_t>(read);
      text = reinterpret_cast<const char*>(memory);
    }
  }
  if (text == nullptr) {
    result->status = NtuStatus::cannot_read;
    result->error_number = errno == 0 ? EIO : errno;
  }
  if (file != nullptr) std::fclose(file);
  return text;
}

void parse_files(const char* const* paths, std::int64_t count, bool coordinates_only, int threads, NtuResult* results) {
  parallel_chunks(count, threads, 0, [&](std::int64_t index, float*) {
    std::int64_t size = 0;
    results[index] = NtuResult{};
    const char* const text = read_file(paths[index], &size, results + index);
    if (text != nullptr) parse(text, size, coordinates_only, results + index);
  });
}

}  // namespace

extern const NtuSkeleton ntu_skeleton;
const NtuSkeleton ntu_skeleton{parse, parse_files};

}  // namespace SKELKERN_LEVEL
}  // namespace skelkern

#include <algorithm>

#include "emulated.h"
#include "native.h"
#include "sample_clips/sample_clips.h"

void check_clips() {
  const std::int64_t total = 23, persons = 2, joints = 25, channels = 3, views = 5, length = 17;
  auto frames = random_floats(total * persons * joints * channels), times = random_floats(views * length);
  auto linear = random_floats(views * 9), translation = random_floats(views * 3);
  auto linear_joints = random_mask(views * joints), keep = random_mask(views * joints);
  auto order = random_indices(views * joints, joints), index = random_indices(views, 2);
  Array<std::int64_t> offsets(3);
  offsets[1] = 1, offsets[2] = total;
  const skelkern::SampleClipsProblem problem{frames.get(),
                                             false,
                                             offsets.get(),
                                             index.get(),
                                             times.get(),
                                             linear.get(),
                                             linear_joints.get(),
                                             translation.get(),
                                             order.get(),
                                             keep.get(),
                                             total,
                                             persons,
                                             joints,
                                             channels,
                                             2,
                                             views,
                                             length,
                                             kThreads};
  at_every_level<skelkern::SampleClips>("sample_clips", and_emulated(LEVELS_OF(sample_clips), emulated_sample_clips),
                                        [&](const auto& table, Results& results) {
                                          Array<float> clips(views * channels * length * joints * persons);
                                          require(table.run(problem, clips.get()) == skelkern::SampleClipsResult::done,
                                                  "memory");
                                          results.add(clips);
                                        });
  index[0] = 2, order[joints] = joints;  // on a GPU a view without a sample, and a joint that there is not, are 0
  Array<float> clips(views * channels * length * joints * persons);
  require(LEVELS_OF(sample_clips)[0]->run(problem, clips.get()) == skelkern::SampleClipsResult::bad_value, "bad value");
  emulated_sample_clips.run(problem, clips.get());
  const float* const first = clips.get();
  require(std::all_of(first, first + clips.size() / views, [](float value) { return value == 0; }),
          "view without sample");
  require(first[clips.size() / views] == 0, "joint out of range");
}

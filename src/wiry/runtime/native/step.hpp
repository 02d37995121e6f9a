// One operation of a program, ready to run on a worker's share.
#pragma once

#include <string>

#include "kernels/calls.hpp"
#include "layout.hpp"
#include "team.hpp"

namespace wiry {

// The buffers of one call, and which groups of images a step shall do.
struct Scene {
  const Arrangement* arrangement;
  float* const* buffers;
  int first_group = 0, num_groups = 1;
  float* scratch = nullptr;         // of the first worker, for all
  float* const* scratches = nullptr;  // of each worker

  const Layout& layout(int value) const { return arrangement->layouts[value]; }
  // Floats from a group of images to the next.
  size_t group_stride(int value) const {
    return arrangement->joint[arrangement->buffers[value]] ? layout(value).size : 0;
  }
  // Start of the buffer, frame included.
  float* start(int value, int group) const {
    return buffers[arrangement->buffers[value]] + group * group_stride(value);
  }
  // Place (0, 0) of channel 0.
  float* at(int value, int group) const { return start(value, group) + layout(value).origin; }
};

// What `describe` tells of a layer.
struct Description {
  std::string kernel;
  double microseconds = 0.0;
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(const Scene& scene, const Worker& worker) const = 0;
  virtual void set_values(const std::vector<float>&) {}
  virtual size_t scratch_size() const { return 0; }
  virtual Description describe() const { return {}; }
};

}  // namespace wiry

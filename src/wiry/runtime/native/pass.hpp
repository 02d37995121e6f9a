// A convolution as geometry and a list of weights: forward, or one part of an input gradient.
//
// Place (y, x) of the output gathers place (y * step + dy, x * step + dx) of the input for each entry.
// The gradient of a strided convolution is one pass for each remainder of the place by the stride.
#pragma once

#include <vector>

#include "graph.hpp"

namespace wiry {

struct Entry {
  uint32_t row;      // output channel
  uint32_t channel;  // input channel
  int32_t dy, dx;
  uint32_t weight;  // number of the weight among those of the pattern
};

struct Pass {
  int num_rows = 0, num_channels = 0;  // channels out and in
  int rows_per_group = 0;              // output channels that may stand in one block
  int in[2], out[2];                   // height and width
  int step[2] = {1, 1};
  int out_step[2] = {1, 1}, out_begin[2] = {0, 0};  // where the results go
  std::vector<Entry> entries;                       // that touch the image at all

  size_t places() const { return size_t(out[0]) * out[1]; }
  // The frame of zeros that the input needs.
  void frame(int (&needed)[2]) const;
};

// What the operation's `in` and `out` are; a linear layer is a convolution of one place.
Pass forward_pass(const Op& op, const Shape& in, const Shape& out);
std::vector<Pass> backward_passes(const Op& op, const Shape& in, const Shape& out);

}  // namespace wiry

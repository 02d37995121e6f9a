// Where a value's numbers lie in memory, in the two layouts, and which values share a buffer.
//
// Places: one image, channel after channel, each channel rounded up to whole lines.
// Lines: 16 images side by side, so that each place of each channel is one line, with a frame of zeros
// around each channel as wide as the widest padding of the layers that read the value.
#pragma once

#include <vector>

#include "graph.hpp"
#include "kernels/calls.hpp"

namespace wiry {

struct Layout {
  size_t place = 1;    // floats from a place to the next: 1 or LINE
  size_t row = 0;      // from a row to the next
  size_t channel = 0;  // from a channel to the next
  size_t origin = 0;   // of place (0, 0) of channel 0
  size_t size = 0;     // of the whole value (of 16 images for lines)
  int frame[2] = {0, 0};
};

Layout layout_of_places(const Shape& shape);
Layout layout_of_lines(const Shape& shape, const int (&frame)[2]);

// All values of a program: their layouts and their buffers.
struct Arrangement {
  std::vector<Layout> layouts;
  std::vector<int> buffers;          // of each value
  std::vector<size_t> buffer_sizes;  // in floats, for one group of 16 images
  std::vector<bool> joint;           // of each buffer: all groups at once, not one after the other
  int num_head_ops = 0;              // operations that run one group after the other
};

Arrangement arrange_places(const Graph& graph);
// `keep`: every value has a buffer of its own, with all groups, for a gradient later.
Arrangement arrange_lines(const Graph& graph, bool keep);

}  // namespace wiry

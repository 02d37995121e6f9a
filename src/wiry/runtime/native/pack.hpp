// Weights in the order in which a kernel reads them.
#pragma once

#include <functional>

#include "kernels/calls.hpp"
#include "pass.hpp"

namespace wiry {

constexpr uint32_t NO_WEIGHT = UINT32_MAX;

// The columns of blocks of R output channels, first by part (a range of input channels whose lines fit
// into the first cache together), then by block, then by offset.
struct Packing {
  int block = 1;  // R
  uint32_t num_blocks = 0;
  std::vector<size_t> bases;     // of each part, added to its offsets, in lines
  std::vector<uint32_t> starts;  // [parts][blocks * segments + 1]
  std::vector<float> values;     // [columns][R]
  std::vector<uint16_t> narrow;  // offsets from the part's base, in lines,
  std::vector<uint32_t> wide;    // in one of the two
  std::vector<uint32_t> origin;  // of each value: which weight, or NO_WEIGHT
  uint32_t segments = 1;         // of a block: 9 where columns are sorted by tap

  bool is_wide() const { return narrow.empty() && !wide.empty(); }
  const void* offsets() const {
    return is_wide() ? static_cast<const void*>(wide.data()) : narrow.data();
  }
  const uint32_t* part(size_t number) const {
    return starts.data() + number * (size_t(num_blocks) * segments + 1);
  }
  // First block of a worker's share, with about as many columns for each.
  uint32_t share(int thread, int num_threads) const;
  void set_values(const std::vector<float>& weights);
};

struct Packer {
  int block = 1;
  uint32_t num_segments = 1;
  uint32_t channels_per_part = UINT32_MAX;
  std::function<size_t(const Entry&)> offset;  // in lines
  std::function<uint32_t(const Entry&)> segment;  // null for one segment

  Packing pack(const Pass& pass, const std::vector<float>& weights) const;
};

}  // namespace wiry

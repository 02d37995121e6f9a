#include "pass.hpp"

#include <algorithm>

namespace wiry {
namespace {

struct Place {
  uint32_t row, channel;
  int tap[2];
};

// Where a weight stands, from its index into the dense weight.
class Finder {
 public:
  explicit Finder(const Op& op)
      : taps_(size_t(op.kernel[0]) * op.kernel[1]),
        width_(op.kernel[1]),
        channels_(size_t(op.weight_shape[1])),
        rows_(uint32_t(op.weight_shape[0] / op.groups)) {}

  Place operator()(uint32_t index) const {
    const size_t tap = index % taps_, rest = index / taps_;
    const uint32_t row = uint32_t(rest / channels_);
    const uint32_t channel = uint32_t(rest % channels_ + row / rows_ * channels_);
    return {row, channel, {int(tap / width_), int(tap % width_)}};
  }

 private:
  size_t taps_, width_, channels_;
  uint32_t rows_;
};

// Whether any place of the output reads a place inside the input along one axis.
bool reaches(const Pass& pass, int axis, int shift) {
  for (int i = 0; i < pass.out[axis]; ++i) {
    const int place = i * pass.step[axis] + shift;
    if (place >= 0 && place < pass.in[axis]) return true;
  }
  return false;
}

void add_entry(Pass& pass, const Entry& entry) {
  if (reaches(pass, 0, entry.dy) && reaches(pass, 1, entry.dx)) pass.entries.push_back(entry);
}

int modulo(int value, int by) { return (value % by + by) % by; }

// One remainder class of the places of the input: its gradient gathers from the output's gradient.
Pass remainder_pass(const Op& op, const Shape& in, const Shape& out, int top, int left) {
  Pass pass;
  pass.num_rows = in.channels, pass.num_channels = out.channels;
  pass.rows_per_group = in.channels / op.groups;
  pass.in[0] = out.height, pass.in[1] = out.width;
  pass.out[0] = (in.height - top + op.stride[0] - 1) / op.stride[0];
  pass.out[1] = (in.width - left + op.stride[1] - 1) / op.stride[1];
  pass.out_step[0] = op.stride[0], pass.out_step[1] = op.stride[1];
  pass.out_begin[0] = top, pass.out_begin[1] = left;
  const Finder find(op);
  for (size_t i = 0; i < op.weight.index.size(); ++i) {
    const Place place = find(op.weight.index[i]);
    const int shift[2] = {top + op.padding[0] - place.tap[0], left + op.padding[1] - place.tap[1]};
    if (modulo(shift[0], op.stride[0]) || modulo(shift[1], op.stride[1])) continue;
    add_entry(pass, {place.channel, place.row, shift[0] / op.stride[0], shift[1] / op.stride[1],
                     uint32_t(i)});
  }
  return pass;
}

}  // namespace

void Pass::frame(int (&needed)[2]) const {
  needed[0] = needed[1] = 0;
  for (const Entry& entry : entries)
    for (int axis : {0, 1}) {
      const int shift = axis ? entry.dx : entry.dy;
      const int last = (out[axis] - 1) * step[axis] + shift;
      needed[axis] = std::max({needed[axis], -shift, last - (in[axis] - 1)});
    }
}

Pass forward_pass(const Op& op, const Shape& in, const Shape& out) {
  Pass pass;
  pass.num_rows = out.channels, pass.num_channels = in.channels;
  pass.rows_per_group = out.channels / op.groups;
  pass.in[0] = in.height, pass.in[1] = in.width;
  pass.out[0] = out.height, pass.out[1] = out.width;
  pass.step[0] = op.stride[0], pass.step[1] = op.stride[1];
  const Finder find(op);
  for (size_t i = 0; i < op.weight.index.size(); ++i) {
    const Place place = find(op.weight.index[i]);
    add_entry(pass, {place.row, place.channel, place.tap[0] - op.padding[0],
                     place.tap[1] - op.padding[1], uint32_t(i)});
  }
  return pass;
}

std::vector<Pass> backward_passes(const Op& op, const Shape& in, const Shape& out) {
  std::vector<Pass> passes;
  for (int top = 0; top < std::min(op.stride[0], in.height); ++top)
    for (int left = 0; left < std::min(op.stride[1], in.width); ++left)
      passes.push_back(remainder_pass(op, in, out, top, left));
  return passes;
}

}  // namespace wiry

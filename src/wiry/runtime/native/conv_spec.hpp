// What a convolution step shall compute, whatever the layout.
#pragma once

#include <memory>

#include "options.hpp"
#include "pack.hpp"
#include "step.hpp"

namespace wiry {

struct ConvSpec {
  Pass pass;
  const Pattern* weight = nullptr;
  const float* bias = nullptr;  // null: none
  int source = 0, out = 1;      // values
  int residual = -1, mask = -1;
  bool relu = false;

  // What decides about speed: equal for layers that can share a finding.
  std::string signature(const Layout& source, const Layout& out) const;
};

// The kernel for a tile of at most height x width lines, and what it really has.
struct Tile {
  int y = 0, x = 0, height = 1, width = 1;
  ConvKernel kernel = nullptr;
};

int log2_of(int power);

// Covers height x width places (or lines) by tiles of the given size and, at the edges, smaller ones.
std::vector<Tile> cover(const Kernels& kernels, const Packing& packing, int step, int height, int width,
                        const int (&size)[2]);

// Runs the kernel on each part of the columns; `call.source` is where offset 0 of all parts lies.
void run_parts(const Packing& packing, size_t unit, ConvCall call, ConvKernel kernel);

// Channels of a part worth trying, where a channel's input for a tile takes this many floats: all, and
// as many as fill the first cache once and twice, if enough columns are left to pay for it.
std::vector<uint32_t> part_sizes(const Pass& pass, size_t floats_of_channel, const Options& options);

// Sizes of blocks of output channels that make sense for this pattern, best guess first.
std::vector<int> block_sizes(const Pass& pass, const Options& options);

std::unique_ptr<Step> make_lines_conv(ConvSpec spec, const Layout& source, const Layout& out,
                                      const Kernels& kernels, const Options& options);
std::unique_ptr<Step> make_places_conv(ConvSpec spec, const Layout& source, const Layout& out,
                                       const Kernels& kernels, const Options& options);
std::unique_ptr<Step> make_places_linear(ConvSpec spec, const Kernels& kernels,
                                         const Options& options);

}  // namespace wiry

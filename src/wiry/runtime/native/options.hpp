// What the user may force; -1, 0 or empty leaves the choice to measurement.
#pragma once

#include <string>

namespace wiry {

class Findings;

struct Options {
  std::string layout;        // "places" (one image) or "lines" (16 images)
  int block = 0;             // R: 1, 2, 4 or 8 output channels together
  int tile[2] = {0, 0};      // height and width: powers of two
  int channels_per_part = -1;  // 0: all
  int small = -1;            // 1: kernels for whole 2x2 and 4x4 images wherever they can be used
  std::string matrix;        // "rows" or "dense", for a linear layer on one image
  bool tune = true;          // measure; otherwise take the first candidate
  Findings* findings = nullptr;  // of the plan
};

}  // namespace wiry

// The network as it comes from Python, checked: nothing after this file meets a wrong shape or index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace wiry {

constexpr size_t MAX_ENTRIES = size_t(1) << 24;  // of one value of one image, and of one weight
constexpr int MAX_SIDE = 1 << 14;                // kernels, strides and pads

enum class Kind { conv2d, linear, affine, relu, add, max_pool2d, avg_pool2d, global_avg_pool, flatten };

struct Shape {
  int channels = 0, height = 1, width = 1;
  bool flat = false;  // [features] rather than [channels, height, width]
  size_t places() const { return size_t(height) * width; }
  size_t entries() const { return channels * places(); }
};

// The weights that are not zero, in the order of the dense weight.
struct Pattern {
  std::vector<uint32_t> index;
  std::vector<float> value;
};

struct Op {
  Kind kind;
  std::string kind_name, name, output_name;
  std::vector<std::string> input_names;
  std::vector<int> inputs;  // values; a convolution's second one is the residual
  int output = 0;
  std::vector<int64_t> weight_shape;
  Pattern weight;
  std::vector<float> bias;          // or an affine operation's shift
  std::vector<float> scale;         // of an affine operation
  int kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0};
  int groups = 1;
  bool relu = false;
  bool count_padding = true;

  bool has_weight() const { return kind == Kind::conv2d || kind == Kind::linear; }
  size_t dense_size() const;
  double density() const { return double(weight.index.size()) / double(dense_size()); }
};

struct Graph {
  std::vector<Op> ops;
  std::vector<Shape> values;  // 0 is the image; then each operation's output

  const Shape& input() const { return values.front(); }
  int num_classes() const { return values.back().channels; }
};

// Raises std::invalid_argument that names the operation and what is wrong with it.
Graph check_graph(std::vector<Op> ops, const std::vector<int64_t>& input_shape);

}  // namespace wiry

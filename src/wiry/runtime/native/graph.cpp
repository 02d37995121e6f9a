#include "graph.hpp"

#include <map>
#include <stdexcept>

namespace wiry {
namespace {

[[noreturn]] void refuse(const Op& op, const std::string& why) {
  throw std::invalid_argument("operation '" + op.name + "' (" + op.kind_name + "): " + why);
}

void require(bool good, const Op& op, const std::string& why) {
  if (!good) refuse(op, why);
}

Shape image_shape(const std::vector<int64_t>& shape) {
  if (shape.size() != 1 && shape.size() != 3)
    throw std::invalid_argument("input_shape is [features] or [channels, height, width]");
  size_t entries = 1;
  for (int64_t side : shape) {
    if (side < 1 || side > int64_t(MAX_ENTRIES) || (entries *= size_t(side)) > MAX_ENTRIES)
      throw std::invalid_argument("input_shape has a side below 1, or too many entries");
  }
  if (shape.size() == 1) return {int(shape[0]), 1, 1, true};
  return {int(shape[0]), int(shape[1]), int(shape[2]), false};
}

void check_pair(const Op& op, const int (&pair)[2], int least, const char* what) {
  for (int side : pair)
    require(side >= least && side <= MAX_SIDE, op, std::string(what) + " is out of range");
}

int windows(const Op& op, int size, int axis) {
  const int room = size + 2 * op.padding[axis] - op.kernel[axis];
  require(room >= 0, op, "its kernel is larger than the padded image");
  return room / op.stride[axis] + 1;
}

Shape windowed(const Op& op, const Shape& in, int channels) {
  check_pair(op, op.kernel, 1, "kernel");
  check_pair(op, op.stride, 1, "stride");
  check_pair(op, op.padding, 0, "padding");
  require(!in.flat, op, "it needs an image, not a list of features");
  return {channels, windows(op, in.height, 0), windows(op, in.width, 1), false};
}

void check_weight(const Op& op, int64_t out) {
  require(op.bias.size() == size_t(out), op, "bias has not one number for each output");
  require(out >= 1, op, "it has no outputs");
  require(op.weight.index.size() == op.weight.value.size(), op, "weight is malformed");
}

Shape conv_shape(Op& op, const Shape& in) {
  const auto& shape = op.weight_shape;
  require(shape.size() == 4, op, "weight is not [outputs, inputs of a group, height, width]");
  for (int64_t side : shape) require(side >= 1, op, "weight has an empty side");
  require(shape[2] <= MAX_SIDE && shape[3] <= MAX_SIDE, op, "kernel is out of range");
  op.kernel[0] = int(shape[2]), op.kernel[1] = int(shape[3]);
  require(op.groups >= 1 && in.channels % op.groups == 0 && shape[0] % op.groups == 0, op,
          "groups do not divide its channels");
  require(shape[1] == in.channels / op.groups, op, "weight does not fit the channels that come in");
  for (int axis : {0, 1})
    require(op.padding[axis] >= 0 && op.padding[axis] < op.kernel[axis], op,
            "padding is not between zero and the kernel");
  const size_t padded =
      size_t(in.height + 2 * op.padding[0]) * size_t(in.width + 2 * op.padding[1]);
  require(padded * in.channels <= MAX_ENTRIES, op, "its padded input has too many entries");
  check_weight(op, shape[0]);
  return windowed(op, in, int(shape[0]));
}

Shape linear_shape(const Op& op, const Shape& in) {
  const auto& shape = op.weight_shape;
  require(in.flat, op, "it needs a list of features, not an image");
  require(shape.size() == 2 && shape[0] >= 1 && shape[1] == in.channels, op,
          "weight does not fit the features that come in");
  check_weight(op, shape[0]);
  return {int(shape[0]), 1, 1, true};
}

Shape pool_shape(const Op& op, const Shape& in) {
  for (int axis : {0, 1})
    require(op.padding[axis] <= op.kernel[axis] / 2, op, "padding is above half the kernel");
  return windowed(op, in, in.channels);
}

Shape output_shape(Op& op, const Shape& in) {
  switch (op.kind) {
    case Kind::conv2d: return conv_shape(op, in);
    case Kind::linear: return linear_shape(op, in);
    case Kind::affine:
      require(op.scale.size() == size_t(in.channels) && op.bias.size() == op.scale.size(), op,
              "scale and shift have not one number for each channel");
      return in;
    case Kind::relu:
    case Kind::add: return in;
    case Kind::max_pool2d:
    case Kind::avg_pool2d: return pool_shape(op, in);
    case Kind::global_avg_pool:
      require(!in.flat, op, "it needs an image, not a list of features");
      return {in.channels, 1, 1, true};
    case Kind::flatten: return {int(in.entries()), 1, 1, true};
  }
  refuse(op, "unknown kind");
}

bool same(const Shape& a, const Shape& b) {
  return a.channels == b.channels && a.height == b.height && a.width == b.width && a.flat == b.flat;
}

void check_inputs(Op& op, const std::map<std::string, int>& known) {
  const size_t count = op.input_names.size();
  const size_t least = op.kind == Kind::add ? 2 : 1;
  const size_t most = op.has_weight() || op.kind == Kind::add ? 2 : 1;
  require(count >= least && count <= most, op, "it has the wrong number of inputs");
  for (const std::string& name : op.input_names) {
    const auto found = known.find(name);
    require(found != known.end(), op, "it reads '" + name + "', which nothing before it makes");
    op.inputs.push_back(found->second);
  }
  require(known.count(op.output_name) == 0, op, "its output is there already");
}

}  // namespace

size_t Op::dense_size() const {
  size_t size = 1;
  for (int64_t side : weight_shape) size *= size_t(side);
  return size;
}

Graph check_graph(std::vector<Op> ops, const std::vector<int64_t>& input_shape) {
  if (ops.empty()) throw std::invalid_argument("the network has no operations");
  Graph graph;
  graph.values.push_back(image_shape(input_shape));
  std::map<std::string, int> known = {{"x", 0}};
  for (Op& op : ops) {
    check_inputs(op, known);
    const Shape shape = output_shape(op, graph.values[op.inputs[0]]);
    require(shape.entries() <= MAX_ENTRIES, op, "it makes too many entries");
    if (op.inputs.size() == 2)
      require(same(graph.values[op.inputs[1]], shape), op, "what it adds has another shape");
    op.output = int(graph.values.size());
    known[op.output_name] = op.output;
    graph.values.push_back(shape);
  }
  graph.ops = std::move(ops);
  if (!graph.values.back().flat)
    throw std::invalid_argument("the last operation does not make one number for each class");
  return graph;
}

}  // namespace wiry

// The Python module: reads operations and arrays, checks that they are what they claim, hands them on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "kernels.hpp"
#include "plan.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace wiry {
namespace {

using Array = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using NumpyArray = nb::ndarray<nb::numpy, float>;

const std::pair<const char*, Kind> KINDS[] = {
    {"conv2d", Kind::conv2d},         {"linear", Kind::linear},
    {"affine", Kind::affine},         {"relu", Kind::relu},
    {"add", Kind::add},               {"max_pool2d", Kind::max_pool2d},
    {"avg_pool2d", Kind::avg_pool2d}, {"global_avg_pool", Kind::global_avg_pool},
    {"flatten", Kind::flatten},
};

template <class T>
T read(const nb::dict& from, const char* key, const std::string& where) {
  if (!from.contains(key)) throw std::invalid_argument(where + " has no entry '" + key + "'");
  T value;
  if (!nb::try_cast<T>(from[key], value))
    throw std::invalid_argument(where + ": '" + key + "' has the wrong type");
  return value;
}

template <class T>
T read_or(const nb::dict& from, const char* key, const std::string& where, T otherwise) {
  return from.contains(key) ? read<T>(from, key, where) : otherwise;
}

void read_pair(const nb::dict& from, const char* key, const std::string& where, int (&pair)[2]) {
  const auto values = read<std::vector<int>>(from, key, where);
  if (values.size() != 2) throw std::invalid_argument(where + ": '" + key + "' is not two numbers");
  pair[0] = values[0], pair[1] = values[1];
}

std::vector<float> read_floats(const nb::dict& from, const char* key, const std::string& where) {
  const Array array = read<Array>(from, key, where);
  if (array.ndim() != 1) throw std::invalid_argument(where + ": '" + key + "' is not a list of numbers");
  return {array.data(), array.data() + array.size()};
}

void read_weight(const nb::dict& from, const std::string& where, Op& op) {
  const Array array = read<Array>(from, "weight", where);
  if (array.size() > MAX_ENTRIES) throw std::invalid_argument(where + ": its weight is too large");
  for (size_t i = 0; i < array.ndim(); ++i) op.weight_shape.push_back(int64_t(array.shape(i)));
  const float* values = array.data();
  for (size_t i = 0; i < array.size(); ++i)
    if (values[i] != 0.0f) {
      op.weight.index.push_back(uint32_t(i));
      op.weight.value.push_back(values[i]);
    }
  op.bias = read_floats(from, "bias", where);
}

Op read_op(const nb::dict& from) {
  Op op;
  op.kind_name = read<std::string>(from, "kind", "an operation");
  op.name = read<std::string>(from, "name", "an operation");
  const std::string where = "operation '" + op.name + "' (" + op.kind_name + ")";
  const auto* found = std::find_if(std::begin(KINDS), std::end(KINDS),
                                   [&](const auto& kind) { return op.kind_name == kind.first; });
  if (found == std::end(KINDS)) throw std::invalid_argument(where + ": unknown kind");
  op.kind = found->second;
  op.input_names = read<std::vector<std::string>>(from, "inputs", where);
  op.output_name = read<std::string>(from, "output", where);
  op.relu = read_or<bool>(from, "relu", where, false);
  if (op.has_weight()) read_weight(from, where, op);
  if (op.kind == Kind::conv2d) op.groups = read<int>(from, "groups", where);
  const bool pools = op.kind == Kind::max_pool2d || op.kind == Kind::avg_pool2d;
  if (pools) read_pair(from, "kernel", where, op.kernel);
  if (pools || op.kind == Kind::conv2d) {
    read_pair(from, "stride", where, op.stride);
    read_pair(from, "padding", where, op.padding);
  }
  if (op.kind == Kind::avg_pool2d) op.count_padding = read<bool>(from, "count_include_pad", where);
  if (op.kind == Kind::affine) {
    op.scale = read_floats(from, "scale", where);
    op.bias = read_floats(from, "shift", where);
  }
  return op;
}

bool is_power_of_two(int value) { return value > 0 && (value & (value - 1)) == 0; }

Options read_options(const nb::dict& from) {
  const std::string where = "options";
  Options options;
  options.layout = read_or<std::string>(from, "layout", where, "");
  options.block = read_or<int>(from, "block", where, 0);
  options.channels_per_part = read_or<int>(from, "channels_per_part", where, -1);
  options.small = read_or<int>(from, "small", where, -1);
  options.matrix = read_or<std::string>(from, "matrix", where, "");
  options.tune = read_or<bool>(from, "tune", where, true);
  if (from.contains("tile")) read_pair(from, "tile", where, options.tile);
  const auto& tile = options.tile;
  const int block = options.block ? options.block : 1;
  const bool tiled = tile[0] || tile[1];
  if (!is_power_of_two(block) || block > 8)
    throw std::invalid_argument("options: block is 1, 2, 4 or 8");
  if (tiled && (!is_power_of_two(tile[0]) || !is_power_of_two(tile[1]) || tile[0] > 4 || tile[1] > 16 ||
                tile[0] * tile[1] * block > 16 || !options.block))
    throw std::invalid_argument(
        "options: tile is two powers of two, at most 4 and 16, 16 sums in all, with a given block");
  return options;
}

std::unique_ptr<Plan> make_plan(const std::vector<nb::dict>& ops, const std::vector<int64_t>& shape,
                                int num_threads, const std::string& instruction_set,
                                const nb::dict& options) {
  std::vector<Op> read;
  for (const nb::dict& op : ops) read.push_back(read_op(op));
  const Options chosen = read_options(options);
  nb::gil_scoped_release released;
  return std::make_unique<Plan>(check_graph(std::move(read), shape), num_threads, instruction_set,
                                chosen);
}

NumpyArray new_array(const std::vector<size_t>& shape) {
  size_t size = 1;
  for (size_t side : shape) size *= side;
  float* data = new float[size ? size : 1];
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  return NumpyArray(data, shape.size(), shape.data(), owner);
}

size_t count_images(const Plan& plan, const Array& images) {
  const Shape& shape = plan.graph().input();
  std::vector<size_t> wanted = {size_t(shape.channels)};
  if (!shape.flat) wanted.insert(wanted.end(), {size_t(shape.height), size_t(shape.width)});
  bool fits = images.ndim() == wanted.size() + 1;
  for (size_t i = 0; fits && i < wanted.size(); ++i) fits = images.shape(i + 1) == wanted[i];
  if (!fits) throw std::invalid_argument("images do not have the network's input shape");
  return images.shape(0);
}

NumpyArray run(Plan& plan, const Array& images) {
  const size_t num_images = count_images(plan, images);
  NumpyArray logits = new_array({num_images, size_t(plan.graph().num_classes())});
  nb::gil_scoped_release released;
  plan.run(images.data(), num_images, logits.data());
  return logits;
}

// A tape and the plan that it gives its buffers back to, which therefore has to live as long.
struct HeldTape {
  nb::object plan;
  std::unique_ptr<Plan::Tape> tape;
};

nb::tuple forward(const nb::object& self, const Array& images) {
  Plan& plan = nb::cast<Plan&>(self);
  const size_t num_images = count_images(plan, images);
  NumpyArray logits = new_array({num_images, size_t(plan.graph().num_classes())});
  std::unique_ptr<Plan::Tape> tape;
  {
    nb::gil_scoped_release released;
    tape = plan.forward(images.data(), num_images, logits.data());
  }
  return nb::make_tuple(logits, std::make_unique<HeldTape>(HeldTape{self, std::move(tape)}));
}

NumpyArray backward(Plan& plan, const HeldTape& held, const Array& gradient) {
  const Plan::Tape& tape = *held.tape;
  if (tape.plan != &plan) throw std::invalid_argument("this tape is of another plan");
  if (gradient.ndim() != 2 || gradient.shape(0) != tape.num_images ||
      gradient.shape(1) != size_t(plan.graph().num_classes()))
    throw std::invalid_argument("the gradient does not have the shape of the logits");
  const Shape& shape = plan.graph().input();
  std::vector<size_t> sides = {tape.num_images, size_t(shape.channels)};
  if (!shape.flat) sides.insert(sides.end(), {size_t(shape.height), size_t(shape.width)});
  NumpyArray images = new_array(sides);
  nb::gil_scoped_release released;
  plan.backward(tape, gradient.data(), images.data());
  return images;
}

void set_weights(Plan& plan, size_t index, const Array& weight, const Array& bias) {
  const auto& ops = plan.graph().ops;
  if (index >= ops.size() || !ops[index].has_weight())
    throw std::invalid_argument("operation " + std::to_string(index) + " has no weights");
  const Op& op = ops[index];
  bool fits = weight.ndim() == op.weight_shape.size() && bias.ndim() == 1 &&
              bias.size() == op.bias.size();
  for (size_t i = 0; fits && i < weight.ndim(); ++i)
    fits = int64_t(weight.shape(i)) == op.weight_shape[i];
  if (!fits) throw std::invalid_argument("weight or bias has another shape than before");
  nb::gil_scoped_release released;
  plan.set_weights(index, weight.data(), bias.data());
}

nb::list describe(const Plan& plan) {
  nb::list rows;
  for (size_t i = 0; i < plan.graph().ops.size(); ++i) {
    const Op& op = plan.graph().ops[i];
    nb::dict row;
    row["name"] = op.name;
    row["kind"] = op.kind_name;
    row["density"] = op.has_weight() ? nb::cast(op.density()) : nb::none();
    for (const Layouts layouts : {Layouts::places, Layouts::lines}) {
      const Description text = plan.describe(i, layouts);
      const std::string suffix = layouts == Layouts::places ? "_one" : "_sixteen";
      row[("kernel" + suffix).c_str()] = text.kernel;
      row[("microseconds" + suffix).c_str()] = text.microseconds;
    }
    nb::list gradients;
    for (const Description& text : plan.describe_gradient(i))
      gradients.append(nb::make_tuple(text.kernel, text.microseconds));
    row["gradient"] = gradients;
    rows.append(row);
  }
  return rows;
}

}  // namespace
}  // namespace wiry

NB_MODULE(_native, m) {
  using namespace wiry;
  m.doc() = "Compiled kernels of the sparse runtime; use wiry.Runtime.";
  m.def("instruction_sets", &instruction_sets, "Those this processor has, best first.");
  nb::class_<HeldTape>(m, "Tape", "What a backward pass needs of a forward pass.");
  nb::class_<Plan>(m, "Plan")
      .def(nb::new_(&make_plan), "ops"_a, "input_shape"_a, "num_threads"_a = 1,
           "instruction_set"_a = "", "options"_a = nb::dict())
      .def("run", &run, "images"_a, "Return the logits of images, (n, classes).")
      .def("forward", &forward, "images"_a, "Return logits and a tape for `backward`.")
      .def("backward", &backward, "tape"_a, "gradient"_a,
           "Return the gradient on the images, from that on the logits.")
      .def("set_weights", &set_weights, "op_index"_a, "weight"_a, "bias"_a,
           "Give new values to the weights that were not zero; the pattern stays.")
      .def("describe", &describe, "Return what was chosen for each operation, and its time.")
      .def_prop_ro("instruction_set", &Plan::instruction_set)
      .def_prop_ro("num_threads", &Plan::num_threads);
}

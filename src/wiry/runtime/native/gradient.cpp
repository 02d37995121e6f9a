#include "gradient.hpp"

#include <algorithm>

#include "conv_spec.hpp"
#include "gradient_steps.hpp"

namespace wiry {
namespace {

// The frames of zeros that the gradients need around them, for the convolutions that made the values.
std::vector<int> gradient_frames(const Graph& graph) {
  std::vector<int> frames(2 * graph.values.size(), 0);
  for (const Op& op : graph.ops) {
    if (op.kind != Kind::conv2d) continue;
    for (const Pass& pass :
         backward_passes(op, graph.values[op.inputs[0]], graph.values[op.output])) {
      int needed[2];
      pass.frame(needed);
      for (int axis : {0, 1})
        frames[2 * op.output + axis] = std::max(frames[2 * op.output + axis], needed[axis]);
    }
  }
  return frames;
}

bool is_rectified(const Op& op) { return op.kind == Kind::relu || op.relu; }

}  // namespace

Gradient::Gradient(const Graph& graph, const Arrangement& kept, const Kernels& kernels,
                   const Options& options)
    : graph_(&graph),
      kernels_(&kernels),
      options_(options),
      num_values_(int(graph.values.size())),
      num_head_ops_(kept.num_head_ops),
      rectified_(graph.values.size(), false),
      states_(graph.values.size()) {
  arrange(kept);
  for (const Op& op : graph.ops) {
    rectified_[op.output] = is_rectified(op);
    for (int input : op.inputs) ++states_[input].readers;
  }
  states_.back() = {-1, true, false, 0};
  for (int i = int(graph.ops.size()) - 1; i >= 0; --i) {
    const Op& op = graph.ops[i];
    const State& state = states_[op.output];
    if (!state.stored && state.same_as < 0) {  // nobody reads it
      for (int input : op.inputs) --states_[input].readers;
      continue;
    }
    complete(op.output, i);
    op.has_weight() ? add_conv(op, i) : add_plain(op, i);
  }
  complete(0, 0);
  std::vector<bool> joint(graph.values.size());
  const Arrangement plain = arrange_lines(graph, false);
  for (int v = 0; v < num_values_; ++v) joint[v] = plain.joint[plain.buffers[v]];
  share_buffers(joint);
}

void Gradient::arrange(const Arrangement& kept) {
  arrangement_ = kept;
  num_kept_ = kept.buffer_sizes.size();
  const std::vector<int> frames = gradient_frames(*graph_);
  for (int v = 0; v < num_values_; ++v) {
    const int frame[2] = {frames[2 * v], frames[2 * v + 1]};
    arrangement_.layouts.push_back(layout_of_lines(graph_->values[v], frame));
  }
}

void Gradient::add_step(std::unique_ptr<Step> step, int op, std::vector<int> reads, int writes) {
  steps_.push_back({std::move(step), op, std::move(reads), writes});
}

// All contributions are in: make the sum real, and zero where the ReLU that made the value was shut.
void Gradient::complete(int value, int op) {
  State& state = states_[value];
  const int mine = gradient_of(value);
  const int from = state.stored ? mine : state.same_as;
  const Shape& shape = graph_->values[value];
  const bool mask = rectified_[value] && !state.masked;
  Flow flow{from, mine, 0, value, false};
  if (from >= 0 && mask)
    add_step(make_mask_step(shape, flow, *kernels_), op, {from}, mine);
  else if (from >= 0 && from != mine)
    add_step(make_copy_step(shape, flow, *kernels_), op, {from}, mine);
  state = {-1, true, true, 0};
}

// The gradient `from` is also a contribution to that of `value`, as it is.
void Gradient::pass_on(int from, int value, int op) {
  State& state = states_[value];
  --state.readers;
  const int mine = gradient_of(value);
  if (!state.stored && state.same_as < 0) {
    state.same_as = from;
    return;
  }
  const int other = state.stored ? mine : state.same_as;
  add_step(make_sum_step(graph_->values[value], {from, mine, other, 0, false}, *kernels_), op,
           {from, other}, mine);
  state.stored = true;
}

void Gradient::add_conv(const Op& op, int number) {
  const int input = op.inputs[0], from = gradient_of(op.output), to = gradient_of(input);
  State& state = states_[input];
  const bool last = --state.readers == 0;
  const Shape &in = graph_->values[input], &out = graph_->values[op.output];
  for (Pass& pass : backward_passes(op, in, out)) {
    ConvSpec spec;
    spec.pass = std::move(pass);
    spec.weight = &op.weight;
    spec.source = from, spec.out = to;
    spec.residual = state.stored ? to : state.same_as;
    spec.mask = last && rectified_[input] ? input : -1;
    std::vector<int> reads = {from};
    if (spec.residual >= 0) reads.push_back(spec.residual);
    add_step(make_lines_conv(std::move(spec), arrangement_.layouts[from], arrangement_.layouts[to],
                             *kernels_, options_),
             number, std::move(reads), to);
  }
  state.stored = true;
  state.masked = last && rectified_[input];
  if (op.inputs.size() == 2) pass_on(from, op.inputs[1], number);
}

void Gradient::add_plain(const Op& op, int number) {
  const int from = gradient_of(op.output);
  if (op.kind == Kind::add || op.kind == Kind::relu) {
    for (int input : op.inputs) pass_on(from, input, number);
    return;
  }
  const int input = op.inputs[0], to = gradient_of(input);
  State& state = states_[input];
  --state.readers;
  const Shape& in = graph_->values[input];
  if (state.same_as >= 0 && !state.stored)
    add_step(make_copy_step(in, {state.same_as, to, 0, 0, false}, *kernels_), number,
             {state.same_as}, to);
  const bool add = state.stored || state.same_as >= 0;
  std::vector<int> reads = {from};
  if (add) reads.push_back(to);
  add_step(make_plain_gradient(op, in, graph_->values[op.output], {from, to, input, op.output, add},
                               *kernels_),
           number, std::move(reads), to);
  state.stored = true;
}

// Gradients of equal layout share a buffer once the one is no longer read; those of the logits and
// the images, which go out and in, have their own.
void Gradient::share_buffers(const std::vector<bool>& joint) {
  std::vector<size_t> last(2 * num_values_, 0);
  for (size_t i = 0; i < steps_.size(); ++i) {
    for (int read : steps_[i].reads) last[read] = i;
    last[steps_[i].writes] = i;
  }
  arrangement_.buffers.resize(2 * num_values_, -1);
  std::vector<int> free;  // values whose buffer is free
  const auto take = [&](int value) {
    const Layout& layout = arrangement_.layouts[value];
    for (size_t f = 0; f < free.size(); ++f) {
      const Layout& other = arrangement_.layouts[free[f]];
      if (other.size != layout.size || other.row != layout.row || other.channel != layout.channel ||
          other.origin != layout.origin ||
          joint[free[f] - num_values_] != joint[value - num_values_])
        continue;
      arrangement_.buffers[value] = arrangement_.buffers[free[f]];
      free.erase(free.begin() + f);
      return;
    }
    arrangement_.buffers[value] = int(arrangement_.buffer_sizes.size());
    arrangement_.buffer_sizes.push_back(layout.size);
    arrangement_.joint.push_back(joint[value - num_values_]);
  };
  const int logits = 2 * num_values_ - 1, images = num_values_;
  take(logits);
  take(images);
  for (size_t i = 0; i < steps_.size(); ++i) {
    if (arrangement_.buffers[steps_[i].writes] < 0) take(steps_[i].writes);
    std::vector<int> touched = steps_[i].reads;
    touched.push_back(steps_[i].writes);
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (int value : touched)
      if (value >= num_values_ && value != logits && value != images && last[value] == i)
        free.push_back(value);
  }
  for (int v = num_values_; v < 2 * num_values_; ++v)
    if (arrangement_.buffers[v] < 0) take(v);
}

void Gradient::prepare(Workspace& space, int num_groups) const {
  if (space.num_groups >= num_groups) return;
  space.floats.clear();
  space.buffers.clear();
  for (size_t i = num_kept_; i < arrangement_.buffer_sizes.size(); ++i) {
    const size_t copies = arrangement_.joint[i] ? size_t(num_groups) : 1;
    space.floats.push_back(make_floats(arrangement_.buffer_sizes[i] * copies));
    space.buffers.push_back(space.floats.back().get());
  }
  space.num_groups = num_groups;
}

void Gradient::run_steps(bool tail, Scene scene, const Worker& worker) const {
  for (const Planned& planned : steps_) {
    if ((planned.op >= num_head_ops_) != tail) continue;
    planned.step->run(scene, worker);
    worker.wait();
  }
}

void Gradient::run(const Workspace& kept, Workspace& space, const float* logits_gradient,
                   int num_images, float* images_gradient, const Worker& worker) const {
  std::vector<float*> buffers = kept.buffers;
  buffers.insert(buffers.end(), space.buffers.begin(), space.buffers.end());
  Scene scene{&arrangement_, buffers.data()};
  const int num_groups = (num_images + int(LINE) - 1) / int(LINE);
  const int logits = gradient_of(num_values_ - 1), images = gradient_of(0);
  const size_t classes = size_t(graph_->num_classes());
  const Shape& shape = graph_->input();
  const auto count = [&](int group) { return std::min(int(LINE), num_images - group * int(LINE)); };
  if (worker.thread == 0)
    for (int group = 0; group < num_groups; ++group)
      kernels_->interleave(logits_gradient + group * LINE * classes, classes, count(group),
                           scene.at(logits, group), classes);
  worker.wait();
  scene.num_groups = num_groups;
  run_steps(true, scene, worker);
  scene.num_groups = 1;
  for (int group = 0; group < num_groups; ++group) {
    scene.first_group = group;
    run_steps(false, scene, worker);
    for (size_t c = worker.begin(shape.channels); c < worker.end(shape.channels); ++c)
      for (int y = 0; y < shape.height; ++y)
        kernels_->separate(scene.at(images, group) + c * scene.layout(images).channel +
                               y * scene.layout(images).row,
                           size_t(shape.width),
                           images_gradient + group * LINE * shape.entries() + c * shape.places() +
                               size_t(y) * shape.width,
                           shape.entries(), count(group));
    worker.wait();
  }
}

void Gradient::set_values(int op, const std::vector<float>& weights) {
  for (Planned& planned : steps_)
    if (planned.op == op) planned.step->set_values(weights);
}

std::vector<Description> Gradient::describe(int op) const {
  std::vector<Description> rows;
  for (const Planned& planned : steps_)
    if (planned.op == op && graph_->ops[op].has_weight()) rows.push_back(planned.step->describe());
  return rows;
}

}  // namespace wiry

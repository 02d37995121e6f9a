#include "program.hpp"

#include <algorithm>

#include "conv_spec.hpp"
#include "plain_steps.hpp"

namespace wiry {
namespace {

std::unique_ptr<Step> make_step(const Graph& graph, const Op& op, Layouts layouts,
                                const Arrangement& arrangement, const Kernels& kernels,
                                const Options& options) {
  if (!op.has_weight()) return make_plain_step(graph, op, kernels);
  ConvSpec spec;
  spec.pass = forward_pass(op, graph.values[op.inputs[0]], graph.values[op.output]);
  spec.weight = &op.weight;
  spec.bias = op.bias.data();
  spec.source = op.inputs[0], spec.out = op.output;
  if (op.inputs.size() == 2) spec.residual = op.inputs[1];
  spec.relu = op.relu;
  const Layout &source = arrangement.layouts[spec.source], &out = arrangement.layouts[spec.out];
  if (layouts == Layouts::lines)
    return make_lines_conv(std::move(spec), source, out, kernels, options);
  if (op.kind == Kind::linear) return make_places_linear(std::move(spec), kernels, options);
  return make_places_conv(std::move(spec), source, out, kernels, options);
}

}  // namespace

Program::Program(const Graph& graph, Layouts layouts, const Kernels& kernels, const Options& options,
                 bool keep)
    : graph_(&graph), layouts_(layouts), kernels_(&kernels) {
  arrangement_ =
      layouts == Layouts::places ? arrange_places(graph) : arrange_lines(graph, keep);
  for (const Op& op : graph.ops) {
    steps_.push_back(make_step(graph, op, layouts, arrangement_, kernels, options));
    scratch_size_ = std::max(scratch_size_, steps_.back()->scratch_size());
    seconds_ += steps_.back()->describe().microseconds * 1e-6;
  }
}

void Program::prepare(Workspace& space, int num_groups) const {
  if (space.num_groups >= num_groups) return;
  space.floats.clear();
  space.buffers.clear();
  for (size_t i = 0; i < arrangement_.buffer_sizes.size(); ++i) {
    const size_t copies = arrangement_.joint[i] ? size_t(num_groups) : 1;
    space.floats.push_back(make_floats(arrangement_.buffer_sizes[i] * copies));
    space.buffers.push_back(space.floats.back().get());
  }
  space.num_groups = num_groups;
}

// Images are [images][channels][height][width].
void Program::load(const Workspace& space, const float* images, int num_images, int group,
                   const Worker& worker) const {
  const Shape& shape = graph_->input();
  const Layout& layout = arrangement_.layouts[0];
  float* start = space.buffers[0] + layout.origin + (arrangement_.joint[0] ? group * layout.size : 0);
  for (size_t c = worker.begin(shape.channels); c < worker.end(shape.channels); ++c)
    for (int y = 0; y < shape.height; ++y) {
      float* to = start + c * layout.channel + y * layout.row;
      const float* from = images + c * shape.places() + size_t(y) * shape.width;
      if (layouts_ == Layouts::places)
        std::copy(from, from + shape.width, to);
      else
        kernels_->interleave(from, shape.entries(), num_images, to, size_t(shape.width));
    }
}

void Program::save(const Workspace& space, int num_images, float* logits, const Worker& worker) const {
  const int last = int(graph_->values.size()) - 1, classes = graph_->num_classes();
  const float* from = space.buffers[arrangement_.buffers[last]];
  if (worker.thread != 0) return;
  if (layouts_ == Layouts::places) {
    std::copy(from, from + classes, logits);
    return;
  }
  from += arrangement_.layouts[last].origin;
  for (int first = 0; first < num_images; first += int(LINE)) {
    kernels_->separate(from, size_t(classes), logits + size_t(first) * classes, size_t(classes),
                       std::min(int(LINE), num_images - first));
    from += arrangement_.layouts[last].size;
  }
}

void Program::run_steps(const Scene& given, int num_groups, const Worker& worker) const {
  Scene scene = given;
  const int head = arrangement_.num_head_ops;
  for (int i = 0; i < head; ++i) {
    steps_[i]->run(scene, worker);
    worker.wait();
  }
  if (scene.first_group + 1 < num_groups) return;
  scene.first_group = 0, scene.num_groups = num_groups;
  for (size_t i = head; i < steps_.size(); ++i) {
    steps_[i]->run(scene, worker);
    worker.wait();
  }
}

void Program::run(Workspace& space, float* const* scratches, const float* images, int num_images,
                  float* logits, const Worker& worker) const {
  const int num_groups =
      layouts_ == Layouts::places ? 1 : (num_images + int(LINE) - 1) / int(LINE);
  Scene scene{&arrangement_, space.buffers.data()};
  scene.scratch = scratches[0];
  scene.scratches = scratches;
  for (int group = 0; group < num_groups; ++group) {
    scene.first_group = group;
    const int first = group * int(LINE);
    load(space, images + first * graph_->input().entries(),
         std::min(int(LINE), num_images - first), group, worker);
    worker.wait();
    run_steps(scene, num_groups, worker);
  }
  save(space, num_images, logits, worker);
  worker.wait();
}

}  // namespace wiry

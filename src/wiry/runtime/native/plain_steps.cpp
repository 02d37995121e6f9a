#include "plain_steps.hpp"

#include <algorithm>

namespace wiry {
namespace {

// Shared by all: the operation, the shape that it reads, and a loop over groups and my channels.
class PlainStep : public Step {
 public:
  PlainStep(const Graph& graph, const Op& op, const Kernels& kernels)
      : op_(&op), in_(graph.values[op.inputs[0]]), out_(graph.values[op.output]), kernels_(&kernels) {}
  Description describe() const override { return {"plain", 0.0}; }

 protected:
  template <class Work>
  void each_channel(const Scene& scene, const Worker& worker, int channels, const Work& work) const {
    for (int group = scene.first_group; group < scene.first_group + scene.num_groups; ++group)
      for (size_t c = worker.begin(channels); c < worker.end(channels); ++c) work(group, c);
  }

  // Every contiguous piece of equal places of the inputs and the output; flat values on one image
  // are one piece.
  template <class Work>
  void each_piece(const Scene& scene, const Worker& worker, bool by_channel, const Work& work) const {
    const Layout& out = scene.layout(op_->output);
    if (out.place == 1 && out_.flat && !by_channel) {
      if (worker.thread == 0) work(0, 0, 0, size_t(out_.channels));
      return;
    }
    each_channel(scene, worker, out_.channels, [&](int group, size_t c) {
      for (int y = 0; y < out_.height; ++y) work(group, c, y, out_.width * out.place);
    });
  }

  float* at(const Scene& scene, int value, int group, size_t channel, int y) const {
    const Layout& layout = scene.layout(value);
    return scene.at(value, group) + channel * layout.channel + y * layout.row;
  }

  const Op* op_;
  const Shape in_, out_;
  const Kernels* kernels_;
};

class Relu : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    each_piece(scene, worker, false, [&](int group, size_t c, int y, size_t count) {
      kernels_->relu(at(scene, op_->inputs[0], group, c, y), at(scene, op_->output, group, c, y), count);
    });
  }
};

class Add : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    each_piece(scene, worker, false, [&](int group, size_t c, int y, size_t count) {
      kernels_->add(at(scene, op_->inputs[0], group, c, y), at(scene, op_->inputs[1], group, c, y),
                    at(scene, op_->output, group, c, y), count, op_->relu);
    });
  }
};

class Affine : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    each_piece(scene, worker, true, [&](int group, size_t c, int y, size_t count) {
      kernels_->scale(at(scene, op_->inputs[0], group, c, y), at(scene, op_->output, group, c, y),
                      count, op_->scale[c], op_->bias[c]);
    });
  }
};

class Pool : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    const Layout &from = scene.layout(op_->inputs[0]), &to = scene.layout(op_->output);
    const bool maximum = op_->kind == Kind::max_pool2d, lines = from.place == LINE;
    const PoolKernel kernel = maximum ? kernels_->max_pool[lines] : kernels_->avg_pool[lines];
    PoolCall call = {};
    call.source_row = from.row, call.out_row = to.row;
    call.height = in_.height, call.width = in_.width;
    call.out_height = out_.height, call.out_width = out_.width;
    for (int axis : {0, 1}) {
      call.kernel[axis] = op_->kernel[axis];
      call.stride[axis] = op_->stride[axis];
      call.padding[axis] = op_->padding[axis];
    }
    call.count_padding = op_->count_padding;
    each_channel(scene, worker, out_.channels, [&](int group, size_t c) {
      PoolCall mine = call;
      mine.source = at(scene, op_->inputs[0], group, c, 0);
      mine.out = at(scene, op_->output, group, c, 0);
      kernel(mine);
    });
  }
};

class GlobalPool : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    const float share = 1.0f / float(in_.places());
    const bool lines = scene.layout(op_->output).place == LINE;
    each_channel(scene, worker, in_.channels, [&](int group, size_t c) {
      float* to = at(scene, op_->output, group, c, 0);
      if (!lines) {
        *to = kernels_->sum(at(scene, op_->inputs[0], group, c, 0), in_.places()) * share;
        return;
      }
      std::fill(to, to + LINE, 0.0f);
      for (int y = 0; y < in_.height; ++y)
        kernels_->sum_lines(at(scene, op_->inputs[0], group, c, y), in_.width, to);
      kernels_->scale(to, to, LINE, share, 0.0f);
    });
  }
};

class Flatten : public PlainStep {
 public:
  using PlainStep::PlainStep;
  void run(const Scene& scene, const Worker& worker) const override {
    const size_t place = scene.layout(op_->output).place;
    each_channel(scene, worker, in_.channels, [&](int group, size_t c) {
      float* to = scene.at(op_->output, group) + c * in_.places() * place;
      for (int y = 0; y < in_.height; ++y) {
        const float* from = at(scene, op_->inputs[0], group, c, y);
        to = std::copy(from, from + in_.width * place, to);
      }
    });
  }
};

}  // namespace

std::unique_ptr<Step> make_plain_step(const Graph& graph, const Op& op, const Kernels& kernels) {
  switch (op.kind) {
    case Kind::affine: return std::make_unique<Affine>(graph, op, kernels);
    case Kind::relu: return std::make_unique<Relu>(graph, op, kernels);
    case Kind::add: return std::make_unique<Add>(graph, op, kernels);
    case Kind::max_pool2d:
    case Kind::avg_pool2d: return std::make_unique<Pool>(graph, op, kernels);
    case Kind::global_avg_pool: return std::make_unique<GlobalPool>(graph, op, kernels);
    case Kind::flatten: return std::make_unique<Flatten>(graph, op, kernels);
    case Kind::conv2d:
    case Kind::linear: break;
  }
  return nullptr;
}

}  // namespace wiry

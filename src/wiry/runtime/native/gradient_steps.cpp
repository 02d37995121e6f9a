#include "gradient_steps.hpp"

#include <algorithm>
#include <functional>

namespace wiry {
namespace {

// A step that does its work for each channel of each group.
class EachChannel : public Step {
 public:
  using Work = std::function<void(const Scene&, int group, size_t channel)>;
  EachChannel(int channels, Work work) : channels_(channels), work_(std::move(work)) {}

  void run(const Scene& scene, const Worker& worker) const override {
    for (int group = scene.first_group; group < scene.first_group + scene.num_groups; ++group)
      for (size_t c = worker.begin(channels_); c < worker.end(channels_); ++c) work_(scene, group, c);
  }

 private:
  size_t channels_;
  Work work_;
};

float* row(const Scene& scene, int value, int group, size_t channel, int y) {
  const Layout& layout = scene.layout(value);
  return scene.at(value, group) + channel * layout.channel + y * layout.row;
}

template <class Work>
std::unique_ptr<Step> each_row(const Shape& shape, const Work& work) {
  const int height = shape.height;
  return std::make_unique<EachChannel>(
      shape.channels, [work, height](const Scene& scene, int group, size_t channel) {
        for (int y = 0; y < height; ++y) work(scene, group, channel, y);
      });
}

void clear_rows(const Scene& scene, const Shape& shape, int value, int group, size_t channel) {
  for (int y = 0; y < shape.height; ++y) {
    float* to = row(scene, value, group, channel, y);
    std::fill(to, to + shape.width * LINE, 0.0f);
  }
}

std::unique_ptr<Step> pool_gradient(const Op& op, const Shape& in, const Shape& out, const Flow& flow,
                                    const Kernels& kernels) {
  PoolGradientCall call = {};
  call.pool.height = in.height, call.pool.width = in.width;
  call.pool.out_height = out.height, call.pool.out_width = out.width;
  for (int axis : {0, 1}) {
    call.pool.kernel[axis] = op.kernel[axis];
    call.pool.stride[axis] = op.stride[axis];
    call.pool.padding[axis] = op.padding[axis];
  }
  call.pool.count_padding = op.count_padding;
  const auto kernel = op.kind == Kind::max_pool2d ? kernels.max_pool_gradient : kernels.avg_pool_gradient;
  return std::make_unique<EachChannel>(in.channels, [=](const Scene& scene, int group, size_t c) {
    if (!flow.add) clear_rows(scene, in, flow.to, group, c);
    PoolGradientCall mine = call;
    mine.pool.source = row(scene, flow.input, group, c, 0);
    mine.pool.source_row = scene.layout(flow.input).row;
    mine.pool.out = row(scene, flow.output, group, c, 0);
    mine.pool.out_row = scene.layout(flow.output).row;
    mine.from = row(scene, flow.from, group, c, 0);
    mine.from_row = scene.layout(flow.from).row;
    mine.to = row(scene, flow.to, group, c, 0);
    mine.to_row = scene.layout(flow.to).row;
    kernel(mine);
  });
}

std::unique_ptr<Step> mean_gradient(const Shape& in, const Flow& flow, const Kernels& kernels) {
  const float share = 1.0f / float(in.places());
  return each_row(in, [=, &kernels](const Scene& scene, int group, size_t c, int y) {
    const float* from = row(scene, flow.from, group, c, 0);
    float* to = row(scene, flow.to, group, c, y);
    alignas(64) float line[LINE];
    kernels.scale(from, line, LINE, share, 0.0f);
    for (int x = 0; x < in.width; ++x, to += LINE) {
      if (flow.add)
        kernels.add(to, line, to, LINE, false);
      else
        std::copy(line, line + LINE, to);
    }
  });
}

std::unique_ptr<Step> flatten_gradient(const Shape& in, const Flow& flow, const Kernels& kernels) {
  return each_row(in, [=, &kernels](const Scene& scene, int group, size_t c, int y) {
    const float* from = scene.at(flow.from, group) + (c * in.places() + size_t(y) * in.width) * LINE;
    float* to = row(scene, flow.to, group, c, y);
    if (flow.add)
      kernels.add(from, to, to, in.width * LINE, false);
    else
      std::copy(from, from + in.width * LINE, to);
  });
}

std::unique_ptr<Step> affine_gradient(const Op& op, const Shape& in, const Flow& flow,
                                      const Kernels& kernels) {
  return each_row(in, [=, &op, &kernels](const Scene& scene, int group, size_t c, int y) {
    const float* from = row(scene, flow.from, group, c, y);
    float* to = row(scene, flow.to, group, c, y);
    if (!flow.add) return kernels.scale(from, to, in.width * LINE, op.scale[c], 0.0f);
    alignas(64) float line[LINE];
    for (int x = 0; x < in.width; ++x) {
      kernels.scale(from + x * LINE, line, LINE, op.scale[c], 0.0f);
      kernels.add(to + x * LINE, line, to + x * LINE, LINE, false);
    }
  });
}

}  // namespace

std::unique_ptr<Step> make_copy_step(const Shape& shape, const Flow& flow, const Kernels&) {
  return each_row(shape, [=](const Scene& scene, int group, size_t c, int y) {
    const float* from = row(scene, flow.from, group, c, y);
    std::copy(from, from + shape.width * LINE, row(scene, flow.to, group, c, y));
  });
}

std::unique_ptr<Step> make_sum_step(const Shape& shape, const Flow& flow, const Kernels& kernels) {
  return each_row(shape, [=, &kernels](const Scene& scene, int group, size_t c, int y) {
    kernels.add(row(scene, flow.from, group, c, y), row(scene, flow.input, group, c, y),
                row(scene, flow.to, group, c, y), shape.width * LINE, false);
  });
}

std::unique_ptr<Step> make_mask_step(const Shape& shape, const Flow& flow, const Kernels& kernels) {
  return each_row(shape, [=, &kernels](const Scene& scene, int group, size_t c, int y) {
    kernels.mask(row(scene, flow.from, group, c, y), row(scene, flow.output, group, c, y),
                 row(scene, flow.to, group, c, y), shape.width * LINE);
  });
}

std::unique_ptr<Step> make_plain_gradient(const Op& op, const Shape& in, const Shape& out,
                                          const Flow& flow, const Kernels& kernels) {
  switch (op.kind) {
    case Kind::max_pool2d:
    case Kind::avg_pool2d: return pool_gradient(op, in, out, flow, kernels);
    case Kind::global_avg_pool: return mean_gradient(in, flow, kernels);
    case Kind::flatten: return flatten_gradient(in, flow, kernels);
    case Kind::affine: return affine_gradient(op, in, flow, kernels);
    default: return nullptr;
  }
}

}  // namespace wiry

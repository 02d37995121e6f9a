// Linear layers on one image: sparse rows, or dense rows 16 at a time, whichever is faster.
#include <algorithm>

#include "conv_spec.hpp"
#include "tune.hpp"

namespace wiry {
namespace {

constexpr double DENSE_FROM = 0.03;  // density below which dense rows are not even tried

class PlacesLinear : public Step {
 public:
  PlacesLinear(const ConvSpec& spec, bool dense, const Kernels& kernels);
  void run(const Scene& scene, const Worker& worker) const override;
  void set_values(const std::vector<float>& weights) override;
  Description describe() const override {
    return {dense_ ? "dense rows" : "sparse rows", seconds * 1e6};
  }

  ConvSpec spec;
  double seconds = 0.0;

 private:
  bool dense_;
  const Kernels* kernels_;
  Packing packing_;  // of sparse rows; of dense rows, only `origin` and `values` are used
  std::vector<uint32_t> places_;  // of each weight among the dense values
};

PlacesLinear::PlacesLinear(const ConvSpec& given, bool dense, const Kernels& kernels)
    : spec(given), dense_(dense), kernels_(&kernels) {
  Packer packer;
  packer.offset = [](const Entry& entry) { return size_t(entry.channel); };
  if (dense) {
    const size_t blocks = (size_t(spec.pass.num_rows) + LINE - 1) / LINE;
    packing_.num_blocks = uint32_t(blocks);
    packing_.values.assign(blocks * spec.pass.num_channels * LINE, 0.0f);
    places_.resize(spec.pass.entries.size());
    for (const Entry& entry : spec.pass.entries)
      places_[entry.weight] = uint32_t(
          (size_t(entry.row / LINE) * spec.pass.num_channels + entry.channel) * LINE + entry.row % LINE);
    set_values(spec.weight->value);
  } else {
    packing_ = packer.pack(spec.pass, spec.weight->value);
  }
  spec.pass.entries = {};
}

void PlacesLinear::set_values(const std::vector<float>& weights) {
  if (!dense_) return packing_.set_values(weights);
  for (size_t i = 0; i < places_.size(); ++i) packing_.values[places_[i]] = weights[i];
}

void PlacesLinear::run(const Scene& scene, const Worker& worker) const {
  MatrixCall call = {};
  call.values = packing_.values.data();
  call.num_in = uint32_t(spec.pass.num_channels);
  call.num_out = uint32_t(spec.pass.num_rows);
  call.input = scene.at(spec.source, 0);
  call.out = scene.at(spec.out, 0);
  if (spec.residual >= 0) call.residual = scene.at(spec.residual, 0);
  call.bias = spec.bias;
  call.relu = spec.relu;
  if (dense_) {
    call.first = uint32_t(worker.begin(packing_.num_blocks));
    call.last = uint32_t(worker.end(packing_.num_blocks));
    return kernels_->dense(call);
  }
  call.input += packing_.bases[0];
  call.columns = packing_.offsets();
  call.starts = packing_.part(0);
  call.first = packing_.share(worker.thread, worker.num_threads);
  call.last = packing_.share(worker.thread + 1, worker.num_threads);
  kernels_->rows[packing_.is_wide()](call);
}

}  // namespace

std::unique_ptr<Step> make_places_linear(ConvSpec spec, const Kernels& kernels,
                                         const Options& options) {
  const double density =
      double(spec.pass.entries.size()) / (double(spec.pass.num_rows) * spec.pass.num_channels);
  std::vector<bool> choices;
  if (options.matrix != "dense") choices.push_back(false);
  if (options.matrix == "dense" || (options.matrix.empty() && density > DENSE_FROM))
    choices.push_back(true);
  const Layout source = layout_of_places({spec.pass.num_channels, 1, 1, true});
  const Layout out = layout_of_places({spec.pass.num_rows, 1, 1, true});
  const Bench bench(source, out, 0);
  ConvSpec measured = spec;
  measured.source = 0, measured.out = 1, measured.residual = spec.residual >= 0 ? 2 : -1;
  std::unique_ptr<PlacesLinear> best;
  for (const bool dense : choices) {
    auto step = std::make_unique<PlacesLinear>(measured, dense, kernels);
    if (options.tune) step->seconds = bench.seconds(*step);
    if (!best || step->seconds < best->seconds) best = std::move(step);
    if (!options.tune) break;
  }
  best->spec.source = spec.source, best->spec.out = spec.out, best->spec.residual = spec.residual;
  return best;
}

}  // namespace wiry

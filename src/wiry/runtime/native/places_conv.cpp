// Convolutions on one image: a line is 16 neighbouring places of copies of the input (see copies.hpp).
//
// Images of at most four places have vectors of 4 floats. A 1x1 kernel of stride 1 needs no copies.
#include <algorithm>
#include <set>

#include "conv_spec.hpp"
#include "copies.hpp"
#include "tune.hpp"

namespace wiry {
namespace {

struct Choice {
  int block = 1;
  int width = 1;  // lines of a tile
  bool four = false;
  uint32_t channels_per_part = UINT32_MAX;
};

std::vector<int64_t> encode(const Choice& choice) {
  return {choice.block, choice.width, choice.four, choice.channels_per_part};
}

Choice decode(const std::vector<int64_t>& numbers) {
  return {int(numbers[0]), int(numbers[1]), numbers[2] != 0, uint32_t(numbers[3])};
}

class PlacesConv : public Step {
 public:
  PlacesConv(const ConvSpec& spec, const Choice& choice, const Layout& source, const Kernels& kernels);
  void run(const Scene& scene, const Worker& worker) const override;
  void set_values(const std::vector<float>& weights) override { packing_.set_values(weights); }
  size_t scratch_size() const override { return copies_.size(); }
  Description describe() const override;
  const Choice& choice() const { return choice_; }

  ConvSpec spec;
  double seconds = 0.0;

 private:
  size_t unit() const { return choice_.four ? 4 : LINE; }
  std::vector<Tile> tiles(int band) const;
  void compute(const Scene& scene, int band, const float* copies, const Worker& worker) const;

  Choice choice_;
  const Kernels* kernels_;
  Copies copies_;
  Packing packing_;
  std::vector<Tile> tiles_, last_tiles_;  // of a whole band, and of the last
};

PlacesConv::PlacesConv(const ConvSpec& given, const Choice& choice, const Layout& source,
                       const Kernels& kernels)
    : spec(given),
      choice_(choice),
      kernels_(&kernels),
      copies_(spec.pass, source, choice.four ? 4 : LINE, kernels) {
  Packer packer;
  packer.block = choice.block;
  packer.channels_per_part = choice.channels_per_part;
  packer.offset = [&](const Entry& entry) { return copies_.offset(entry); };
  packing_ = packer.pack(spec.pass, spec.weight->value);
  tiles_ = tiles(0);
  last_tiles_ = tiles(copies_.num_bands() - 1);
  spec.pass.entries = {};
}

std::vector<Tile> PlacesConv::tiles(int band) const {
  if (choice_.four) return {{0, 0, 1, 1, kernels_->four[packing_.is_wide()]}};
  const int size[2] = {1, choice_.width};
  const size_t places = size_t(copies_.band_rows(band)) * spec.pass.out[1];
  return cover(*kernels_, packing_, 1, 1, int((places + LINE - 1) / LINE), size);
}

Description PlacesConv::describe() const {
  if (choice_.four) return {"places by four", seconds * 1e6};
  std::string text = "places R" + std::to_string(choice_.block) + " 1x" + std::to_string(choice_.width);
  if (packing_.bases.size() > 1) text += " in " + std::to_string(packing_.bases.size()) + " parts";
  if (copies_.num_bands() > 1) text += " in " + std::to_string(copies_.num_bands()) + " bands";
  return {text, seconds * 1e6};
}

void PlacesConv::compute(const Scene& scene, int band, const float* copies, const Worker& worker) const {
  const size_t first_place = copies_.first_place(band);
  const std::vector<Tile>& tiles = band + 1 == copies_.num_bands() ? last_tiles_ : tiles_;
  ConvCall call = {};
  call.values = packing_.values.data();
  call.offsets = packing_.offsets();
  call.num_out = uint32_t(spec.pass.num_rows);
  call.out_channel = call.residual_channel = scene.layout(spec.out).channel;
  call.out_step = call.residual_step = LINE;
  call.bias = spec.bias;
  call.relu = spec.relu;
  const bool many = tiles.size() >= size_t(2 * worker.num_threads);
  call.first = many ? 0 : packing_.share(worker.thread, worker.num_threads);
  call.last = many ? packing_.num_blocks : packing_.share(worker.thread + 1, worker.num_threads);
  const size_t begin = many ? worker.begin(tiles.size()) : 0;
  const size_t end = many ? worker.end(tiles.size()) : tiles.size();
  for (size_t i = begin; i < end; ++i) {
    const size_t place = tiles[i].x * LINE;
    call.source = copies + place;
    call.out = scene.at(spec.out, 0) + first_place + place;
    if (spec.residual >= 0) call.residual = scene.at(spec.residual, 0) + first_place + place;
    run_parts(packing_, unit(), call, tiles[i].kernel);
  }
}

void PlacesConv::run(const Scene& scene, const Worker& worker) const {
  const float* image = scene.at(spec.source, 0);
  if (copies_.direct()) return compute(scene, 0, image, worker);
  const int bands = copies_.num_bands();
  if (worker.num_threads > 1 && bands < worker.num_threads) {
    for (int band = 0; band < bands; ++band) {
      if (band > 0) worker.wait();  // the copies of the band before are still in use
      copies_.make(image, band, scene.scratch, worker);
      worker.wait();
      compute(scene, band, scene.scratch, worker);
    }
    return;
  }
  float* scratch = scene.scratches[worker.thread];
  for (size_t band = worker.begin(bands); band < worker.end(bands); ++band) {
    copies_.make(image, int(band), scratch, Worker{});
    compute(scene, int(band), scratch, Worker{});
  }
}

std::vector<Choice> choices_for(const Pass& pass, const Kernels& kernels, const Options& options) {
  std::vector<Choice> choices;
  if (pass.places() <= 4 && options.small != 0 && options.block <= 1) {
    choices.push_back({1, 1, true, UINT32_MAX});
    if (options.small == 1) return choices;
  }
  const int lines = int((pass.places() + LINE - 1) / LINE);
  std::set<std::pair<int, int>> shifts;
  for (const Entry& entry : pass.entries) shifts.insert({entry.dy, entry.dx});
  const size_t taps = shifts.size();
  for (int block : block_sizes(pass, options)) {
    const int room = std::max(1, std::min(16, kernels.num_registers / 2) / block);
    int width = 1;
    while (width * 2 <= std::min(lines, room)) width *= 2;
    if (options.tile[1]) width = options.tile[1];
    for (int tried = width; tried >= 4 || tried == width; tried /= 2) {
      const size_t floats = size_t(tried) * LINE * taps;
      for (const uint32_t channels : part_sizes(pass, floats, options))
        choices.push_back({block, tried, false, channels});
      if (options.tile[1]) break;
    }
  }
  return choices;
}

}  // namespace

std::unique_ptr<Step> make_places_conv(ConvSpec spec, const Layout& source, const Layout& out,
                                       const Kernels& kernels, const Options& options) {
  const std::string layer = spec.signature(source, out);
  const Findings::Finding* known = options.findings ? options.findings->find(layer) : nullptr;
  std::unique_ptr<PlacesConv> best;
  if (known) {
    best = std::make_unique<PlacesConv>(spec, decode(known->choice), source, kernels);
    best->seconds = known->seconds;
    return best;
  }
  ConvSpec measured = spec;
  measured.source = 0, measured.out = 1, measured.residual = spec.residual >= 0 ? 2 : -1;
  for (const Choice& choice : choices_for(spec.pass, kernels, options)) {
    auto step = std::make_unique<PlacesConv>(measured, choice, source, kernels);
    if (options.tune) step->seconds = Bench(source, out, step->scratch_size()).seconds(*step);
    if (!best || step->seconds < best->seconds) best = std::move(step);
    if (!options.tune) break;
  }
  if (options.findings) options.findings->note(layer, {encode(best->choice()), best->seconds});
  best->spec.source = spec.source, best->spec.out = spec.out, best->spec.residual = spec.residual;
  return best;
}

}  // namespace wiry

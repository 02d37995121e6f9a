// Convolutions and linear layers on groups of 16 images: a line is one place of 16 images.
//
// Three ways: tiles of an image; whole 2x2 and 4x4 images with the columns sorted by tap; and, where
// the output is one place, the groups themselves as the tile's rows.
#include <algorithm>

#include "conv_spec.hpp"
#include "tune.hpp"

namespace wiry {
namespace {

struct Choice {
  int block = 1;
  int tile[2] = {1, 1};
  uint32_t channels_per_part = UINT32_MAX;
  bool small = false;
};

std::vector<int64_t> encode(const Choice& choice) {
  return {choice.block, choice.tile[0], choice.tile[1], choice.channels_per_part, choice.small};
}

Choice decode(const std::vector<int64_t>& numbers) {
  Choice choice;
  choice.block = int(numbers[0]);
  for (int axis : {0, 1}) choice.tile[axis] = int(numbers[1 + axis]);
  choice.channels_per_part = uint32_t(numbers[3]);
  choice.small = numbers[4] != 0;
  return choice;
}

class LinesConv : public Step {
 public:
  LinesConv(const ConvSpec& spec, const Choice& choice, const Layout& source, const Kernels& kernels);
  void run(const Scene& scene, const Worker& worker) const override;
  void set_values(const std::vector<float>& weights) override { packing_.set_values(weights); }
  Description describe() const override;
  const Choice& choice() const { return choice_; }

  ConvSpec spec;
  double seconds = 0.0;

 private:
  ConvCall begin_call(const Scene& scene, int group) const;
  void run_tiles(const Scene& scene, const Worker& worker, int group) const;
  int run_groups(const Scene& scene, const Worker& worker, int group) const;
  int run_small(const Scene& scene, const Worker& worker, int group) const;

  Choice choice_;
  const Kernels* kernels_;
  Packing packing_;
  std::vector<Tile> tiles_;
};

Packer packer_for(const Choice& choice, const Layout& source) {
  Packer packer;
  packer.block = choice.block;
  packer.channels_per_part = choice.channels_per_part;
  if (choice.small) {
    packer.num_segments = 9;
    packer.segment = [](const Entry& entry) { return uint32_t((entry.dy + 1) * 3 + entry.dx + 1); };
    packer.offset = [source](const Entry& entry) { return entry.channel * source.channel / LINE; };
  } else {
    packer.offset = [source](const Entry& entry) {
      return (entry.channel * source.channel + (entry.dy + source.frame[0]) * source.row) / LINE +
             entry.dx + source.frame[1];
    };
  }
  return packer;
}

LinesConv::LinesConv(const ConvSpec& given, const Choice& choice, const Layout& source,
                     const Kernels& kernels)
    : spec(given), choice_(choice), kernels_(&kernels) {
  packing_ = packer_for(choice, source).pack(spec.pass, spec.weight->value);
  tiles_ = cover(kernels, packing_, spec.pass.step[1], spec.pass.out[0], spec.pass.out[1], choice.tile);
  spec.pass.entries = {};
}

Description LinesConv::describe() const {
  std::string text = "lines R" + std::to_string(choice_.block);
  if (choice_.small)
    text += " by tap";
  else
    text += " " + std::to_string(choice_.tile[0]) + "x" + std::to_string(choice_.tile[1]);
  if (packing_.bases.size() > 1) text += " in " + std::to_string(packing_.bases.size()) + " parts";
  return {text, seconds * 1e6};
}

ConvCall LinesConv::begin_call(const Scene& scene, int group) const {
  const Layout& source = scene.layout(spec.source);
  ConvCall call = {};
  call.source = scene.start(spec.source, group);
  call.source_row = source.row * spec.pass.step[0];
  call.source_step = LINE * spec.pass.step[1];
  call.values = packing_.values.data();
  call.offsets = packing_.offsets();
  call.last = packing_.num_blocks;
  call.num_out = uint32_t(spec.pass.num_rows);
  const int* begin = spec.pass.out_begin;
  const auto place = [&](int value, size_t& channel, size_t& row, size_t& step) {
    const Layout& layout = scene.layout(value);
    channel = layout.channel, row = layout.row * spec.pass.out_step[0];
    step = LINE * spec.pass.out_step[1];
    return scene.at(value, group) + begin[0] * layout.row + begin[1] * LINE;
  };
  call.out = place(spec.out, call.out_channel, call.out_row, call.out_step);
  if (spec.residual >= 0)
    call.residual =
        place(spec.residual, call.residual_channel, call.residual_row, call.residual_step);
  if (spec.mask >= 0)
    call.mask = place(spec.mask, call.mask_channel, call.mask_row, call.mask_step);
  call.bias = spec.bias;
  call.relu = spec.relu;
  return call;
}

void LinesConv::run_tiles(const Scene& scene, const Worker& worker, int group) const {
  const ConvCall whole = begin_call(scene, group);
  const bool many = tiles_.size() >= size_t(2 * worker.num_threads);
  const size_t first = many ? worker.begin(tiles_.size()) : 0;
  const size_t last = many ? worker.end(tiles_.size()) : tiles_.size();
  for (size_t i = first; i < last; ++i) {
    const Tile& tile = tiles_[i];
    ConvCall call = whole;
    call.source += tile.y * call.source_row + tile.x * call.source_step;
    call.out += tile.y * call.out_row + tile.x * call.out_step;
    if (call.residual) call.residual += tile.y * call.residual_row + tile.x * call.residual_step;
    if (call.mask) call.mask += tile.y * call.mask_row + tile.x * call.mask_step;
    if (!many) {
      call.first = packing_.share(worker.thread, worker.num_threads);
      call.last = packing_.share(worker.thread + 1, worker.num_threads);
    }
    run_parts(packing_, LINE, call, tile.kernel);
  }
}

// The output is one place: the groups stand in a tile's rows. Returns how many were done.
int LinesConv::run_groups(const Scene& scene, const Worker& worker, int group) const {
  int height = std::min(4, 16 / packing_.block);
  while (height > scene.first_group + scene.num_groups - group) height /= 2;
  ConvCall call = begin_call(scene, group);
  call.source_row = scene.group_stride(spec.source);
  call.out_row = scene.group_stride(spec.out);
  if (call.residual) call.residual_row = scene.group_stride(spec.residual);
  if (call.mask) call.mask_row = scene.group_stride(spec.mask);
  call.first = packing_.share(worker.thread, worker.num_threads);
  call.last = packing_.share(worker.thread + 1, worker.num_threads);
  run_parts(packing_, LINE, call, kernels_->conv[packing_.is_wide()][log2_of(packing_.block)][log2_of(height)][0][1]);
  return height;
}

int LinesConv::run_small(const Scene& scene, const Worker& worker, int group) const {
  int count = spec.pass.out[0] == 2 ? 4 : 1;
  while (count > scene.first_group + scene.num_groups - group) count /= 2;
  ConvCall call = begin_call(scene, group);
  call.source = scene.at(spec.source, group);
  call.source_step = scene.group_stride(spec.source);
  call.out_step = scene.group_stride(spec.out);
  if (call.residual) call.residual_step = scene.group_stride(spec.residual);
  if (call.mask) call.mask_step = scene.group_stride(spec.mask);
  call.first = packing_.share(worker.thread, worker.num_threads);
  call.last = packing_.share(worker.thread + 1, worker.num_threads);
  const bool wide = packing_.is_wide();
  run_parts(packing_, LINE, call, spec.pass.out[0] == 2 ? kernels_->small2[wide][log2_of(count)]
                                        : kernels_->small4[wide]);
  return count;
}

void LinesConv::run(const Scene& scene, const Worker& worker) const {
  for (int group = scene.first_group; group < scene.first_group + scene.num_groups;) {
    if (choice_.small) {
      group += run_small(scene, worker, group);
    } else if (spec.pass.places() == 1) {
      group += run_groups(scene, worker, group);
    } else {
      run_tiles(scene, worker, group);
      ++group;
    }
  }
}

bool can_be_small(const Pass& pass) {
  const int side = pass.out[0];
  bool can = (side == 2 || side == 4) && pass.out[1] == side && pass.in[0] == side &&
             pass.in[1] == side;
  for (int axis : {0, 1}) can = can && pass.step[axis] == 1 && pass.out_step[axis] == 1;
  bool inside = true;  // a 1x1 kernel gains nothing
  for (const Entry& entry : pass.entries) {
    can = can && std::abs(entry.dy) <= 1 && std::abs(entry.dx) <= 1;
    inside = inside && entry.dy == 0 && entry.dx == 0;
  }
  return can && !inside;
}

int power_within(int most) {
  int power = 1;
  while (power * 2 <= most) power *= 2;
  return power;
}

// Tiles of at most `sums` sums, wide ones first.
std::vector<Choice> tile_choices(const Pass& pass, int block, int sums) {
  std::vector<Choice> choices;
  const int room = std::max(1, std::min(16, sums) / block);
  for (int height : {1, 2, 4}) {
    Choice choice;
    choice.block = block;
    choice.tile[0] = std::min(height, power_within(pass.out[0]));
    choice.tile[1] = std::min(power_within(pass.out[1]), std::max(1, room / choice.tile[0]));
    if (choice.tile[0] == height && height * choice.tile[1] <= room) choices.push_back(choice);
  }
  return choices;
}

// The choice with each number of parts that is worth trying.
void add_parts(Choice choice, const Pass& pass, const Options& options, std::vector<Choice>& choices) {
  int reach[2] = {0, 0};
  for (const Entry& entry : pass.entries) {
    reach[0] = std::max(reach[0], entry.dy - pass.entries[0].dy);
    reach[1] = std::max(reach[1], entry.dx - pass.entries[0].dx);
  }
  size_t floats = LINE;
  for (int axis : {0, 1}) floats *= size_t(choice.tile[axis]) * pass.step[axis] + 2 * (reach[axis] > 0);
  for (const uint32_t channels : part_sizes(pass, floats, options)) {
    choice.channels_per_part = channels;
    choices.push_back(choice);
  }
}

std::vector<Choice> choices_for(const ConvSpec& spec, const Kernels& kernels,
                                const Options& options) {
  std::vector<Choice> choices;
  if (options.small != 0 && options.block <= 1 && can_be_small(spec.pass)) {
    choices.emplace_back();
    choices.back().small = true;
    if (options.small == 1) return choices;
  }
  const int sums = kernels.num_registers / 2;
  for (int block : block_sizes(spec.pass, options)) {
    if (options.tile[0]) {
      Choice choice;
      choice.block = block;
      for (int axis : {0, 1}) choice.tile[axis] = options.tile[axis];
      add_parts(choice, spec.pass, options, choices);
      continue;
    }
    for (const Choice& choice : tile_choices(spec.pass, block, sums)) add_parts(choice, spec.pass, options, choices);
  }
  return choices;
}

}  // namespace

std::unique_ptr<Step> make_lines_conv(ConvSpec spec, const Layout& source, const Layout& out,
                                      const Kernels& kernels, const Options& options) {
  const std::string layer = spec.signature(source, out);
  const Findings::Finding* known = options.findings ? options.findings->find(layer) : nullptr;
  std::unique_ptr<LinesConv> best;
  if (known) {
    best = std::make_unique<LinesConv>(spec, decode(known->choice), source, kernels);
    best->seconds = known->seconds;
    return best;
  }
  ConvSpec measured = spec;
  measured.source = 0, measured.out = 1;
  measured.residual = spec.residual >= 0 ? 2 : -1, measured.mask = spec.mask >= 0 ? 2 : -1;
  const int num_groups = spec.pass.places() <= 4 ? 4 : 1;  // small ones run jointly
  const Bench bench(source, out, 0, options.tune ? num_groups : 0);
  for (const Choice& choice : choices_for(spec, kernels, options)) {
    auto step = std::make_unique<LinesConv>(measured, choice, source, kernels);
    if (options.tune) step->seconds = bench.seconds(*step) / num_groups;
    if (!best || step->seconds < best->seconds) best = std::move(step);
    if (!options.tune) break;
  }
  if (options.findings) options.findings->note(layer, {encode(best->choice()), best->seconds});
  best->spec.source = spec.source, best->spec.out = spec.out;
  best->spec.residual = spec.residual, best->spec.mask = spec.mask;
  return best;
}

}  // namespace wiry

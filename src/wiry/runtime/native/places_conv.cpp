// Convolutions on one image: a line is 16 neighbouring places.
//
// A band of output rows at a time, the input is copied so that the window of every tap is contiguous
// and aligned: one plane for each input channel and column of the kernel (rows of taps are then whole
// rows apart), or, where rows are no whole lines, one for each tap. Planes that no weight reads are
// left out. A 1x1 kernel of stride 1 needs no copy. Bands keep the copies within the second cache.
#include <algorithm>
#include <map>

#include "conv_spec.hpp"
#include "tune.hpp"

namespace wiry {
namespace {

constexpr size_t BAND_FLOATS = size_t(96) << 10;  // 384 KiB of copies
constexpr int NO_BLOCK_LIMIT = 16;

struct Plane {
  uint32_t channel;
  int dy, dx;  // of the plane's first place
};

struct Choice {
  int block = 1;
  int width = 1;  // lines of a tile
};

// How the input of a pass is copied.
struct Copies {
  bool direct = false;   // none
  bool by_row = false;   // a plane serves all rows of taps that are whole strides apart
  int extra_rows = 0;    // of a plane below the band
  int band = 1;          // output rows of a band
  size_t plane = 0;      // floats of a plane
  std::vector<Plane> planes;
};

using PlaneKey = std::pair<uint32_t, std::pair<int, int>>;

int floor_mod(int value, int by) { return (value % by + by) % by; }

// The row of a plane that a tap begins at, and the first row of the tap's plane.
int plane_dy(const Copies& copies, const Pass& pass, int least_dy, int dy) {
  return copies.by_row ? least_dy + floor_mod(dy - least_dy, pass.step[0]) : dy;
}

class PlacesConv : public Step {
 public:
  PlacesConv(const ConvSpec& spec, const Choice& choice, const Layout& source, const Kernels& kernels);
  void run(const Scene& scene, const Worker& worker) const override;
  void set_values(const std::vector<float>& weights) override { packing_.set_values(weights); }
  size_t scratch_size() const override { return copies_.plane * copies_.planes.size(); }
  Description describe() const override;

  ConvSpec spec;
  double seconds = 0.0;

 private:
  int num_bands() const { return (spec.pass.out[0] + copies_.band - 1) / copies_.band; }
  void plan_copies(const Layout& source);
  void copy_plane(const Scene& scene, const Plane& plane, int top, float* to) const;
  void compute(const Scene& scene, int band, const float* copies, const Worker& worker) const;

  Choice choice_;
  const Kernels* kernels_;
  Copies copies_;
  Packing packing_;
  std::vector<Tile> tiles_, last_tiles_;  // of a whole band, and of the last
  int least_dy_ = 0;
};

bool is_pointwise(const Pass& pass) {
  bool pointwise = pass.step[0] == 1 && pass.step[1] == 1;
  for (const Entry& entry : pass.entries) pointwise = pointwise && entry.dy == 0 && entry.dx == 0;
  return pointwise && pass.in[0] == pass.out[0] && pass.in[1] == pass.out[1];
}

void PlacesConv::plan_copies(const Layout& source) {
  const Pass& pass = spec.pass;
  copies_.direct = is_pointwise(pass);
  copies_.by_row = pass.out[1] % int(LINE) == 0;
  int most_dy = INT32_MIN;
  least_dy_ = INT32_MAX;
  for (const Entry& entry : pass.entries) {
    least_dy_ = std::min(least_dy_, entry.dy);
    most_dy = std::max(most_dy, entry.dy);
  }
  if (pass.entries.empty()) least_dy_ = most_dy = 0;
  std::map<PlaneKey, uint32_t> known;
  for (const Entry& entry : pass.entries)
    known.insert({{entry.channel, {plane_dy(copies_, pass, least_dy_, entry.dy), entry.dx}}, 0});
  for (auto& item : known) {
    item.second = uint32_t(copies_.planes.size());
    copies_.planes.push_back({item.first.first, item.first.second.first, item.first.second.second});
  }
  copies_.extra_rows = copies_.by_row ? (most_dy - least_dy_) / pass.step[0] : 0;
  copies_.band = pass.out[0];
  const size_t row = pass.out[1];
  // a band's places are whole lines, so that no two bands share one
  int unit = 1;
  while (unit * row % LINE) ++unit;
  while (!copies_.direct && copies_.band > unit &&
         (copies_.band + copies_.extra_rows) * row * copies_.planes.size() > BAND_FLOATS)
    copies_.band = (copies_.band / 2 + unit - 1) / unit * unit;
  copies_.plane = ((copies_.band + copies_.extra_rows) * row + LINE - 1) / LINE * LINE;
  Packer packer;
  packer.block = choice_.block;
  packer.offset = [&, row](const Entry& entry) -> size_t {
    if (copies_.direct) return entry.channel * source.channel / LINE;
    const int dy = plane_dy(copies_, pass, least_dy_, entry.dy);
    const uint32_t plane = known.at({entry.channel, {dy, entry.dx}});
    return (plane * copies_.plane + size_t((entry.dy - dy) / pass.step[0]) * row) / LINE;
  };
  if (copies_.direct) copies_.planes.clear();
  packing_ = packer.pack(pass, spec.weight->value);
}

PlacesConv::PlacesConv(const ConvSpec& given, const Choice& choice, const Layout& source,
                       const Kernels& kernels)
    : spec(given), choice_(choice), kernels_(&kernels) {
  plan_copies(source);
  const int size[2] = {1, choice.width};
  const auto tiles = [&](int rows) {
    const int lines = int((size_t(rows) * spec.pass.out[1] + LINE - 1) / LINE);
    return cover(kernels, packing_, 1, 1, lines, size);
  };
  tiles_ = tiles(copies_.band);
  last_tiles_ = tiles(spec.pass.out[0] - (num_bands() - 1) * copies_.band);
  spec.pass.entries = {};
}

Description PlacesConv::describe() const {
  std::string text = "places R" + std::to_string(choice_.block) + " 1x" + std::to_string(choice_.width);
  if (num_bands() > 1) text += " in " + std::to_string(num_bands()) + " bands";
  return {text, seconds * 1e6};
}

void PlacesConv::copy_plane(const Scene& scene, const Plane& plane, int top, float* to) const {
  const Pass& pass = spec.pass;
  const Layout& layout = scene.layout(spec.source);
  const float* channel = scene.at(spec.source, 0) + plane.channel * layout.channel;
  const int rows = std::min(copies_.band, pass.out[0] - top) + copies_.extra_rows;
  const int step = pass.step[1];
  // columns of the output whose tap lies inside the image
  const int left = std::min(pass.out[1], plane.dx >= 0 ? 0 : (-plane.dx + step - 1) / step);
  const int inside = pass.in[1] - 1 - plane.dx;
  const int right = inside < 0 ? left : std::max(left, std::min(pass.out[1], inside / step + 1));
  for (int r = 0; r < rows; ++r, to += pass.out[1]) {
    const int y = (top + r) * pass.step[0] + plane.dy;
    if (y < 0 || y >= pass.in[0]) {
      std::fill(to, to + pass.out[1], 0.0f);
      continue;
    }
    const float* from = channel + y * layout.row + plane.dx;
    for (int x = 0; x < left; ++x) to[x] = 0.0f;
    if (step == 1)
      std::copy(from + left, from + right, to + left);
    else
      for (int x = left; x < right; ++x) to[x] = from[x * step];
    for (int x = right; x < pass.out[1]; ++x) to[x] = 0.0f;
  }
}

void PlacesConv::compute(const Scene& scene, int band, const float* copies, const Worker& worker) const {
  const size_t first_place = size_t(band) * copies_.band * spec.pass.out[1];
  const std::vector<Tile>& tiles = band + 1 == num_bands() ? last_tiles_ : tiles_;
  ConvCall call = {};
  call.values = packing_.values.data();
  call.offsets = packing_.offsets();
  call.starts = packing_.part(0);
  call.num_out = uint32_t(spec.pass.num_rows);
  call.out_channel = scene.layout(spec.out).channel;
  call.out_step = call.residual_step = LINE;
  call.bias = spec.bias;
  call.relu = spec.relu;
  call.finish = true;
  const bool many = tiles.size() >= size_t(2 * worker.num_threads);
  call.first = many ? 0 : packing_.share(worker.thread, worker.num_threads);
  call.last = many ? packing_.num_blocks : packing_.share(worker.thread + 1, worker.num_threads);
  const size_t begin = many ? worker.begin(tiles.size()) : 0;
  const size_t end = many ? worker.end(tiles.size()) : tiles.size();
  for (size_t i = begin; i < end; ++i) {
    const size_t place = tiles[i].x * LINE;
    call.source = copies + packing_.bases[0] * LINE + place;
    call.out = scene.at(spec.out, 0) + first_place + place;
    if (spec.residual >= 0) call.residual = scene.at(spec.residual, 0) + first_place + place;
    call.residual_channel = call.out_channel;
    tiles[i].kernel(call);
  }
}

void PlacesConv::run(const Scene& scene, const Worker& worker) const {
  if (copies_.direct) return compute(scene, 0, scene.at(spec.source, 0), worker);
  const int bands = num_bands();
  const auto copy = [&](int band, float* to, const Worker& who) {
    for (size_t i = who.begin(copies_.planes.size()); i < who.end(copies_.planes.size()); ++i)
      copy_plane(scene, copies_.planes[i], band * copies_.band, to + i * copies_.plane);
  };
  if (worker.num_threads > 1 && bands < worker.num_threads) {
    for (int band = 0; band < bands; ++band) {
      if (band > 0) worker.wait();  // the copies of the band before are still in use
      copy(band, scene.scratch, worker);
      worker.wait();
      compute(scene, band, scene.scratch, worker);
    }
    return;
  }
  float* scratch = scene.scratches[worker.thread];
  for (size_t band = worker.begin(bands); band < worker.end(bands); ++band) {
    copy(int(band), scratch, Worker{});
    compute(scene, int(band), scratch, Worker{});
  }
}

}  // namespace

std::unique_ptr<Step> make_places_conv(ConvSpec spec, const Layout& source, const Layout& out,
                                       const Kernels& kernels, const Options& options) {
  const int lines = int((spec.pass.places() + LINE - 1) / LINE);
  std::vector<Choice> choices;
  for (int block : block_sizes(spec.pass, options)) {
    const int room = std::max(1, std::min(NO_BLOCK_LIMIT, kernels.num_registers / 2) / block);
    int width = 1;
    while (width * 2 <= std::min(lines, room)) width *= 2;
    if (options.tile[1]) width = options.tile[1];
    choices.push_back({block, width});
    if (width >= 8 && !options.tile[1]) choices.push_back({block, width / 2});
  }
  ConvSpec measured = spec;
  measured.source = 0, measured.out = 1, measured.residual = spec.residual >= 0 ? 2 : -1;
  std::unique_ptr<PlacesConv> best;
  for (const Choice& choice : choices) {
    auto step = std::make_unique<PlacesConv>(measured, choice, source, kernels);
    if (options.tune) step->seconds = Bench(source, out, step->scratch_size()).seconds(*step);
    if (!best || step->seconds < best->seconds) best = std::move(step);
    if (!options.tune) break;
  }
  best->spec.source = spec.source, best->spec.out = spec.out, best->spec.residual = spec.residual;
  return best;
}

}  // namespace wiry

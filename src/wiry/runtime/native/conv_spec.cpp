#include "conv_spec.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace wiry {
namespace {

constexpr double WORTH_TRYING = 1.6;  // times the best guess of the cost
constexpr size_t FIRST_CACHE_FLOATS = 7 << 10;  // 28 KiB
constexpr double FEWEST_COLUMNS = 5;  // of an output channel in a part: sums are loaded and stored

int part_of(int rest, int size) {
  while (size > rest) size /= 2;
  return size;
}

// Columns that at least one of each R neighbouring output channels has.
size_t count_columns(const Pass& pass, int block) {
  std::unordered_set<uint64_t> columns;
  for (const Entry& entry : pass.entries)
    columns.insert(((uint64_t(entry.row / block) << 24 | entry.channel) << 20) ^
                   (uint64_t(uint32_t(entry.dy + 512)) << 10 ^ uint32_t(entry.dx + 512)));
  return columns.size();
}

}  // namespace

std::string ConvSpec::signature(const Layout& source, const Layout& out) const {
  std::string text;
  const auto note = [&](long long number) { text += std::to_string(number) + " "; };
  note(pass.num_rows), note(pass.num_channels), note(pass.rows_per_group);
  for (int axis : {0, 1}) {
    note(pass.in[axis]), note(pass.out[axis]), note(pass.step[axis]), note(pass.out_step[axis]);
    note(source.frame[axis]), note(out.frame[axis]);
  }
  // density in steps of about 12 percent
  note(std::lround(8 * std::log2(1.0 + double(pass.entries.size()))));
  note(source.place), note(residual >= 0), note(mask >= 0), note(relu);
  return text;
}

int log2_of(int power) {
  int log = 0;
  while (1 << (log + 1) <= power) ++log;
  return log;
}

std::vector<Tile> cover(const Kernels& kernels, const Packing& packing, int step, int height, int width,
                        const int (&size)[2]) {
  std::vector<Tile> tiles;
  const int kind = step <= 2 ? step : 0;
  for (int y = 0; y < height;) {
    const int rows = part_of(height - y, size[0]);
    for (int x = 0; x < width;) {
      const int columns = part_of(width - x, size[1]);
      const ConvKernel kernel = kernels.conv[packing.is_wide()][log2_of(packing.block)]
                                            [log2_of(rows)][log2_of(columns)][kind];
      tiles.push_back({y, x, rows, columns, kernel});
      x += columns;
    }
    y += rows;
  }
  return tiles;
}

void run_parts(const Packing& packing, size_t unit, ConvCall call, ConvKernel kernel) {
  const float* source = call.source;
  const size_t parts = packing.bases.size();
  // adding to what is there: the sums begin with it (a bias there is not, it would be lost)
  const bool in_place = call.residual == call.out;
  if (in_place) call.residual = nullptr;
  for (size_t part = 0; part < parts; ++part) {
    call.source = source + packing.bases[part] * unit;
    call.starts = packing.part(part);
    call.resume = part > 0 || in_place;
    call.finish = part + 1 == parts;
    kernel(call);
  }
}

std::vector<uint32_t> part_sizes(const Pass& pass, size_t floats_of_channel, const Options& options) {
  if (options.channels_per_part > 0) return {uint32_t(options.channels_per_part)};
  if (options.channels_per_part == 0) return {UINT32_MAX};
  std::vector<uint32_t> sizes = {UINT32_MAX};
  const double columns = double(pass.entries.size()) / pass.num_rows / pass.num_channels;
  const size_t fill = std::max(size_t(1), FIRST_CACHE_FLOATS / std::max(size_t(1), floats_of_channel));
  for (const size_t channels : {fill, 2 * fill})
    if (channels < size_t(pass.num_channels) && columns * double(channels) >= FEWEST_COLUMNS)
      sizes.push_back(uint32_t(channels));
  return sizes;
}

std::vector<int> block_sizes(const Pass& pass, const Options& options) {
  const auto fits = [&](int block) {
    return pass.rows_per_group == pass.num_rows || pass.rows_per_group % block == 0;
  };
  if (options.block) return {fits(options.block) ? options.block : 1};
  if (pass.entries.size() < 64) return {1};
  std::vector<std::pair<double, int>> guesses;
  for (int block : {1, 2, 4, 8})
    if (fits(block)) {
      // a column costs its loads and its multiply-adds: one alone is bound by the load
      const double columns = block == 1 ? double(pass.entries.size()) : double(count_columns(pass, block));
      guesses.push_back({columns * (block == 1 ? 1.0 : 0.85 * block), block});
    }
  std::sort(guesses.begin(), guesses.end());
  std::vector<int> sizes;
  for (const auto& guess : guesses)
    if (guess.first <= WORTH_TRYING * guesses[0].first) sizes.push_back(guess.second);
  return sizes;
}

}  // namespace wiry

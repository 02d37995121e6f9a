#include "pack.hpp"

#include <algorithm>

namespace wiry {
namespace {

struct Item {
  size_t offset;
  uint32_t row, weight;
};

// Items by bucket (part, block, segment), and by offset within each.
struct Sorted {
  std::vector<uint32_t> starts;  // [buckets + 1]
  std::vector<Item> items;
};

Sorted sort_items(const Packer& packer, const Pass& pass, const Packing& packing, size_t parts) {
  const size_t in_part = size_t(packing.num_blocks) * packing.segments;
  const auto bucket_of = [&](const Entry& entry) {
    const size_t segment = packer.segment ? packer.segment(entry) : 0;
    return entry.channel / packer.channels_per_part * in_part +
           entry.row / uint32_t(packer.block) * packing.segments + segment;
  };
  Sorted sorted;
  sorted.starts.assign(parts * in_part + 1, 0);
  for (const Entry& entry : pass.entries) ++sorted.starts[bucket_of(entry) + 1];
  for (size_t i = 1; i < sorted.starts.size(); ++i) sorted.starts[i] += sorted.starts[i - 1];
  std::vector<uint32_t> next(sorted.starts.begin(), sorted.starts.end() - 1);
  sorted.items.resize(pass.entries.size());
  for (const Entry& entry : pass.entries)
    sorted.items[next[bucket_of(entry)]++] = {packer.offset(entry), entry.row, entry.weight};
  const auto before = [](const Item& a, const Item& b) { return a.offset < b.offset; };
  for (size_t i = 0; i + 1 < sorted.starts.size(); ++i) {
    const auto begin = sorted.items.begin() + sorted.starts[i];
    const auto end = sorted.items.begin() + sorted.starts[i + 1];
    if (!std::is_sorted(begin, end, before)) std::sort(begin, end, before);
  }
  return sorted;
}

// Offsets count from the smallest of their part, so that most fit into 16 bits.
void place_bases(const Sorted& sorted, size_t in_part, Packing& packing) {
  for (size_t part = 0; part < packing.bases.size(); ++part) {
    const uint32_t begin = sorted.starts[part * in_part], end = sorted.starts[(part + 1) * in_part];
    size_t least = begin == end ? 0 : SIZE_MAX;
    for (uint32_t i = begin; i < end; ++i) least = std::min(least, sorted.items[i].offset);
    packing.bases[part] = least;
  }
}

// Appends the columns of one bucket: items of equal offset share one.
void append_columns(const Sorted& sorted, size_t bucket, size_t base, Packing& packing) {
  packing.starts.push_back(uint32_t(packing.wide.size()));
  size_t last = SIZE_MAX;
  for (uint32_t i = sorted.starts[bucket]; i < sorted.starts[bucket + 1]; ++i) {
    const Item& item = sorted.items[i];
    if (item.offset != last) {
      packing.wide.push_back(uint32_t(item.offset - base));
      packing.origin.resize(packing.origin.size() + packing.block, NO_WEIGHT);
      last = item.offset;
    }
    packing.origin[packing.origin.size() - packing.block + item.row % packing.block] = item.weight;
  }
}

void narrow_offsets(Packing& packing) {
  for (uint32_t offset : packing.wide)
    if (offset > UINT16_MAX) return;
  packing.narrow.assign(packing.wide.begin(), packing.wide.end());
  packing.wide = {};
}

}  // namespace

uint32_t Packing::share(int thread, int num_threads) const {
  const uint32_t* begin = part(0);
  const uint32_t count = num_blocks * segments;
  // a block costs about as much as four columns even if it is empty
  const auto cost = [&](uint32_t block) {
    return size_t(begin[size_t(block) * segments] - begin[0]) + size_t(block) * 4;
  };
  const size_t total = size_t(begin[count] - begin[0]) + size_t(num_blocks) * 4;
  const size_t wanted = total * thread / num_threads;
  uint32_t low = 0, high = num_blocks;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (cost(middle) < wanted)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void Packing::set_values(const std::vector<float>& weights) {
  for (size_t i = 0; i < origin.size(); ++i)
    values[i] = origin[i] == NO_WEIGHT ? 0.0f : weights[origin[i]];
}

Packing Packer::pack(const Pass& pass, const std::vector<float>& weights) const {
  Packing packing;
  packing.block = block;
  packing.segments = num_segments;
  packing.num_blocks = uint32_t((pass.num_rows + block - 1) / block);
  const size_t parts = (size_t(pass.num_channels) + channels_per_part - 1) / channels_per_part;
  const size_t in_part = size_t(packing.num_blocks) * num_segments;
  packing.bases.assign(parts, 0);
  const Sorted sorted = sort_items(*this, pass, packing, parts);
  place_bases(sorted, in_part, packing);
  packing.starts.reserve(parts * (in_part + 1));
  packing.wide.reserve(pass.entries.size());
  packing.origin.reserve(pass.entries.size());
  for (size_t part = 0; part < parts; ++part) {
    for (size_t bucket = 0; bucket < in_part; ++bucket)
      append_columns(sorted, part * in_part + bucket, packing.bases[part], packing);
    packing.starts.push_back(uint32_t(packing.wide.size()));
  }
  packing.values.resize(packing.origin.size());
  packing.set_values(weights);
  narrow_offsets(packing);
  return packing;
}

}  // namespace wiry

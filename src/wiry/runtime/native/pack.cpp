#include "pack.hpp"

#include <algorithm>

namespace wiry {
namespace {

struct Item {
  size_t bucket;  // part, block, segment
  size_t offset;
  uint32_t row, weight;
};

bool before(const Item& a, const Item& b) {
  return a.bucket != b.bucket ? a.bucket < b.bucket : a.offset < b.offset;
}

std::vector<Item> sorted_items(const Packer& packer, const Pass& pass, const Packing& packing) {
  std::vector<Item> items;
  items.reserve(pass.entries.size());
  const size_t buckets = size_t(packing.num_blocks) * packing.segments;
  for (const Entry& entry : pass.entries) {
    const size_t part = entry.channel / packer.channels_per_part;
    const size_t block = entry.row / uint32_t(packer.block);
    const size_t segment = packer.segment ? packer.segment(entry) : 0;
    items.push_back({part * buckets + block * packing.segments + segment, packer.offset(entry),
                     entry.row, entry.weight});
  }
  if (!std::is_sorted(items.begin(), items.end(), before))
    std::sort(items.begin(), items.end(), before);
  return items;
}

// Offsets count from the smallest of their part, so that most fit into 16 bits.
void place_bases(const std::vector<Item>& items, size_t buckets, Packing& packing) {
  std::vector<size_t> least(packing.bases.size(), SIZE_MAX);
  for (const Item& item : items) {
    size_t& base = least[item.bucket / buckets];
    base = std::min(base, item.offset);
  }
  for (size_t part = 0; part < least.size(); ++part)
    packing.bases[part] = least[part] == SIZE_MAX ? 0 : least[part];
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
  const size_t buckets = size_t(packing.num_blocks) * num_segments;
  packing.bases.assign(parts, 0);
  const std::vector<Item> items = sorted_items(*this, pass, packing);
  place_bases(items, buckets, packing);
  packing.starts.reserve(parts * (buckets + 1));
  size_t next = 0;
  for (size_t part = 0; part < parts; ++part) {
    for (size_t bucket = 0; bucket < buckets; ++bucket) {
      packing.starts.push_back(uint32_t(packing.wide.size()));
      for (size_t last = SIZE_MAX; next < items.size() && items[next].bucket == part * buckets + bucket;
           ++next) {
        const Item& item = items[next];
        if (item.offset != last) {
          packing.wide.push_back(uint32_t(item.offset - packing.bases[part]));
          packing.origin.resize(packing.origin.size() + block, NO_WEIGHT);
          last = item.offset;
        }
        packing.origin[packing.origin.size() - block + item.row % block] = item.weight;
      }
    }
    packing.starts.push_back(uint32_t(packing.wide.size()));
  }
  packing.values.resize(packing.origin.size());
  packing.set_values(weights);
  narrow_offsets(packing);
  return packing;
}

}  // namespace wiry

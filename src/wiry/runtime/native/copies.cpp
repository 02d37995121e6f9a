#include "copies.hpp"

#include <algorithm>
#include <cstring>

namespace wiry {
namespace {

constexpr size_t BAND_FLOATS = size_t(96) << 10;  // 384 KiB of copies: well within the second cache

int floor_mod(int value, int by) { return (value % by + by) % by; }

bool is_pointwise(const Pass& pass) {
  bool pointwise = pass.step[0] == 1 && pass.step[1] == 1;
  for (const Entry& entry : pass.entries) pointwise = pointwise && entry.dy == 0 && entry.dx == 0;
  return pointwise && pass.in[0] == pass.out[0] && pass.in[1] == pass.out[1];
}

}  // namespace

Copies::Copies(const Pass& pass, const Layout& source, size_t unit, const Kernels& kernels)
    : unit_(unit), source_channel_(source.channel), source_row_(source.row), kernels_(&kernels) {
  for (int axis : {0, 1})
    in_[axis] = pass.in[axis], out_[axis] = pass.out[axis], step_[axis] = pass.step[axis];
  direct_ = is_pointwise(pass);
  by_row_ = out_[1] % int(LINE) == 0;
  by_mask_ = unit == LINE && step_[0] == 1 && step_[1] == 1 && in_[1] == out_[1];
  band_ = out_[0];
  if (direct_ || pass.entries.empty()) return;
  int most[2] = {INT32_MIN, INT32_MIN};
  least_dy_ = least_dx_ = INT32_MAX;
  for (const Entry& entry : pass.entries) {
    least_dy_ = std::min(least_dy_, entry.dy), most[0] = std::max(most[0], entry.dy);
    least_dx_ = std::min(least_dx_, entry.dx), most[1] = std::max(most[1], entry.dx);
  }
  reach_[0] = most[0] - least_dy_ + 1, reach_[1] = most[1] - least_dx_ + 1;
  extra_rows_ = by_row_ ? (most[0] - least_dy_) / step_[0] : 0;
  number_planes(pass);
  choose_band(int(planes_.size()));
  if (by_mask_) make_masks();
}

// Which plane an entry reads, among those that could be.
size_t Copies::key(const Entry& entry) const {
  return (size_t(entry.channel) * reach_[0] + size_t(first_dy(entry.dy) - least_dy_)) * reach_[1] +
         size_t(entry.dx - least_dx_);
}

void Copies::number_planes(const Pass& pass) {
  numbers_.assign(size_t(pass.num_channels) * reach_[0] * reach_[1], UINT32_MAX);
  for (const Entry& entry : pass.entries) numbers_[key(entry)] = 0;
  const size_t shifts = size_t(reach_[0]) * reach_[1];
  for (size_t k = 0; k < numbers_.size(); ++k) {
    if (numbers_[k] == UINT32_MAX) continue;
    numbers_[k] = uint32_t(planes_.size());
    const std::pair<int, int> shift = {int(k % shifts) / reach_[1] + least_dy_,
                                       int(k % shifts) % reach_[1] + least_dx_};
    auto found = std::find(mask_shifts_.begin(), mask_shifts_.end(), shift);
    if (found == mask_shifts_.end()) found = mask_shifts_.insert(found, shift);
    planes_.push_back({uint32_t(k / shifts), shift.first, shift.second,
                       size_t(found - mask_shifts_.begin())});
  }
}

int Copies::first_dy(int dy) const {
  return by_row_ ? least_dy_ + floor_mod(dy - least_dy_, step_[0]) : dy;
}

// Bands of whole units, so that no two share one, small enough for the cache.
void Copies::choose_band(int num_planes) {
  int rows = 1;
  while (size_t(rows) * out_[1] % unit_) ++rows;
  while (band_ > rows && size_t(band_ + extra_rows_) * out_[1] * num_planes > BAND_FLOATS)
    band_ = (band_ / 2 + rows - 1) / rows * rows;
  num_bands_ = (out_[0] + band_ - 1) / band_;
  plane_ = (size_t(band_ + extra_rows_) * out_[1] + unit_ - 1) / unit_ * unit_;
}

size_t Copies::offset(const Entry& entry) const {
  if (direct_) return entry.channel * source_channel_ / unit_;
  const size_t rows = size_t(entry.dy - first_dy(entry.dy)) / step_[0];
  return (numbers_[key(entry)] * plane_ + rows * out_[1]) / unit_;
}

void Copies::make_masks() {
  const size_t shifts = mask_shifts_.size();
  masks_ = make_floats(num_bands_ * shifts * plane_);
  kinds_.assign(num_bands_ * shifts * plane_ / LINE, 0);
  for (int band = 0; band < num_bands_; ++band)
    for (size_t m = 0; m < shifts; ++m) {
      const size_t start = (band * shifts + m) * plane_;
      const int rows = band_rows(band) + extra_rows_;
      for (int place = 0; place < rows * out_[1]; ++place) {
        const int y = source_row(band * band_, place / out_[1], mask_shifts_[m].first);
        const int x = place % out_[1] + mask_shifts_[m].second;
        if (y < 0 || y >= in_[0] || x < 0 || x >= in_[1]) continue;
        std::memset(&masks_[start + place], 0xff, sizeof(float));
        kinds_[(start + place) / LINE] = 1;
      }
    }
}

void Copies::copy_rows(const float* channel, const Plane& plane, int top, int rows, float* to) const {
  const int step = step_[1];
  // columns of the output whose tap lies inside the image
  const int left = std::min(out_[1], plane.dx >= 0 ? 0 : (-plane.dx + step - 1) / step);
  const int inside = in_[1] - 1 - plane.dx;
  const int right = inside < 0 ? left : std::max(left, std::min(out_[1], inside / step + 1));
  for (int r = 0; r < rows; ++r, to += out_[1]) {
    const int y = source_row(top, r, plane.dy);
    if (y < 0 || y >= in_[0]) {
      std::fill(to, to + out_[1], 0.0f);
      continue;
    }
    const float* from = channel + y * source_row_ + plane.dx;
    for (int x = 0; x < left; ++x) to[x] = 0.0f;
    if (step == 2)
      for (int x = left; x < right; ++x) to[x] = from[2 * x];
    else
      for (int x = left; x < right; ++x) to[x] = from[x * step];
    for (int x = right; x < out_[1]; ++x) to[x] = 0.0f;
  }
}

void Copies::make(const float* image, int band, float* to, const Worker& worker) const {
  const int top = band * band_;
  for (size_t i = worker.begin(planes_.size()); i < worker.end(planes_.size()); ++i) {
    const Plane& plane = planes_[i];
    const float* channel = image + plane.channel * source_channel_;
    float* start = to + i * plane_;
    if (!by_mask_) {
      copy_rows(channel, plane, top, band_rows(band) + extra_rows_, start);
      continue;
    }
    const size_t mask = (band * mask_shifts_.size() + plane.mask) * plane_;
    const ptrdiff_t shift = ptrdiff_t(top + plane.dy) * ptrdiff_t(source_row_) + plane.dx;
    kernels_->shift(channel + shift, &masks_[mask], &kinds_[mask / LINE], start, plane_ / LINE);
  }
}

}  // namespace wiry

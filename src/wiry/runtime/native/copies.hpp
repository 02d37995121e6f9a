// Copies of one image's input in which the window of every tap is contiguous and aligned.
//
// A plane holds, for each place of a band of the output, what one tap (or, where rows are whole lines,
// all taps that are whole rows apart) reads there, zeros for padding included.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "memory.hpp"
#include "pass.hpp"
#include "step.hpp"

namespace wiry {

class Copies {
 public:
  // `unit` is what offsets count in and planes are whole multiples of: LINE, or 4 floats.
  Copies(const Pass& pass, const Layout& source, size_t unit, const Kernels& kernels);

  size_t offset(const Entry& entry) const;  // in units
  // Copies a worker's share of the planes of one band.
  void make(const float* image, int band, float* to, const Worker& worker) const;

  bool direct() const { return direct_; }  // none needed: the input serves as it is
  int num_bands() const { return num_bands_; }
  int band_rows(int band) const { return std::min(band_, out_[0] - band * band_); }
  size_t first_place(int band) const { return size_t(band) * band_ * out_[1]; }
  size_t size() const { return direct_ ? 0 : plane_ * planes_.size(); }  // floats

 private:
  struct Plane {
    uint32_t channel;
    int dy, dx;   // of the plane's first place
    size_t mask;  // number of its mask
  };
  int first_dy(int dy) const;
  void choose_band(int num_planes);
  void make_masks();
  void copy_rows(const float* channel, const Plane& plane, int top, int rows, float* to) const;
  int source_row(int top, int r, int dy) const { return (top + r) * step_[0] + dy; }

  int in_[2], out_[2], step_[2];
  size_t unit_, source_channel_, source_row_;
  const Kernels* kernels_;
  bool direct_ = false, by_row_ = false, by_mask_ = false;
  int least_dy_ = 0, extra_rows_ = 0, band_ = 1, num_bands_ = 1;
  size_t plane_ = 0;  // floats of a plane
  std::vector<Plane> planes_;
  size_t key(const Entry& entry) const;
  void number_planes(const Pass& pass);

  int least_dx_ = 0, reach_[2] = {1, 1};  // ranges of the shifts
  std::vector<uint32_t> numbers_;         // of the plane of each channel and shift
  std::vector<std::pair<int, int>> mask_shifts_;
  Floats masks_;                // [bands][shifts][plane]
  std::vector<uint8_t> kinds_;  // [bands][shifts][lines of a plane]
};

}  // namespace wiry

// Whole images of 2x2 or 4x4 places, one of 16 images in a line, under 3x3 kernels of stride 1.
//
// Most taps of so small an image touch the padding. The columns of an output channel are sorted by
// tap, and each tap has its own loop that visits the places it reaches, with no padding at all:
// `starts` has nine entries a channel. Included by kernels/set.hpp only.

template <int SIDE, int GROUPS, int KY, int KX>
WIRY_INLINE void add_tap(const ConvCall& call, const float* from, float value,
                         Line (&sum)[GROUPS][SIDE][SIDE]) {
  constexpr int TOP = KY == 0 ? 1 : 0, BOTTOM = KY == 2 ? SIDE - 1 : SIDE;
  constexpr int LEFT = KX == 0 ? 1 : 0, RIGHT = KX == 2 ? SIDE - 1 : SIDE;
#pragma GCC unroll 4
  for (int g = 0; g < GROUPS; ++g)
#pragma GCC unroll 4
    for (int y = TOP; y < BOTTOM; ++y)
#pragma GCC unroll 4
      for (int x = LEFT; x < RIGHT; ++x)
        multiply_add(sum[g][y][x], value,
                     load(from + g * call.source_step + (y + KY - 1) * ptrdiff_t(call.source_row) +
                          (x + KX - 1) * ptrdiff_t(LINE)));
}

template <class Offset, int SIDE, int GROUPS, int TAP>
WIRY_INLINE void add_taps(const ConvCall& call, const uint32_t* starts,
                          Line (&sum)[GROUPS][SIDE][SIDE]) {
  if constexpr (TAP < 9) {
    const Offset* offsets = static_cast<const Offset*>(call.offsets);
    for (uint32_t j = starts[TAP]; j < starts[TAP + 1]; ++j)
      add_tap<SIDE, GROUPS, TAP / 3, TAP % 3>(call, call.source + size_t(offsets[j]) * LINE,
                                              call.values[j], sum);
    add_taps<Offset, SIDE, GROUPS, TAP + 1>(call, starts, sum);
  }
}

// The groups of 16 images stand in the place of a tile's rows: strides `*_step` lie between them.
template <class Offset, int SIDE, int GROUPS>
static void convolve_small(const ConvCall& call) {
  for (uint32_t row = call.first; row < call.last; ++row) {
    Line sum[GROUPS][SIDE][SIDE];
    for (int g = 0; g < GROUPS; ++g) {
      ConvCall part = call;
      part.out += g * call.out_step;
      part.out_step = LINE;
      begin_tile<1, SIDE, SIDE>(part, row, *reinterpret_cast<Line(*)[1][SIDE][SIDE]>(&sum[g]));
    }
    add_taps<Offset, SIDE, GROUPS, 0>(call, call.starts + size_t(row) * 9, sum);
    for (int g = 0; g < GROUPS; ++g) {
      ConvCall part = call;
      part.out += g * call.out_step;
      if (call.residual) part.residual += g * call.residual_step;
      if (call.mask) part.mask += g * call.mask_step;
      part.out_step = part.residual_step = part.mask_step = LINE;
      end_tile<1, SIDE, SIDE>(part, row, *reinterpret_cast<Line(*)[1][SIDE][SIDE]>(&sum[g]));
    }
  }
}

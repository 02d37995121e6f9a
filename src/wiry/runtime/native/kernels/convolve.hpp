// The kernel of nearly everything: a tile of TH x TW lines of R output channels.
//
// For each stored column: load the tile's lines at an offset, one multiply-add each with the column's
// R values. R = 1 is unstructured sparsity; with R = 2, 4, 8 a column is one that any of R channels
// has; R = 8 with every column is a dense layer. What a line is (16 places of one image, one place of
// 16 images) is up to the caller. Included by kernels/set.hpp only.

template <int R, int TH, int TW>
WIRY_INLINE void begin_tile(const ConvCall& call, uint32_t row, Line (&sum)[R][TH][TW]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    uint32_t channel = row * R + r;
    if (channel >= call.num_out) channel = call.num_out - 1;
    const float* out = call.out + channel * call.out_channel;
    const Line start = broadcast(call.bias ? call.bias[channel] : 0.0f);
#pragma GCC unroll 4
    for (int y = 0; y < TH; ++y)
#pragma GCC unroll 16
      for (int x = 0; x < TW; ++x)
        sum[r][y][x] = call.resume ? load(out + y * call.out_row + x * call.out_step) : start;
  }
}

WIRY_INLINE void finish_line(const ConvCall& call, Line& line, uint32_t channel, int y, int x) {
  if (!call.finish) return;
  if (call.residual)
    add(line, load(call.residual + channel * call.residual_channel + y * call.residual_row +
                   x * call.residual_step));
  if (call.relu) rectify(line);
  if (call.mask)
    keep_where_positive(
        line, load(call.mask + channel * call.mask_channel + y * call.mask_row + x * call.mask_step));
}

template <int R, int TH, int TW>
WIRY_INLINE void end_tile(const ConvCall& call, uint32_t row, Line (&sum)[R][TH][TW]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const uint32_t channel = row * R + r;
    if (channel >= call.num_out) return;
    float* out = call.out + channel * call.out_channel;
#pragma GCC unroll 4
    for (int y = 0; y < TH; ++y)
#pragma GCC unroll 16
      for (int x = 0; x < TW; ++x) {
        finish_line(call, sum[r][y][x], channel, y, x);
        store(out + y * call.out_row + x * call.out_step, sum[r][y][x]);
      }
  }
}

template <int R, int TH, int TW, int STEP>
WIRY_INLINE void add_column(const ConvCall& call, const float* from, const float* values,
                            Line (&sum)[R][TH][TW]) {
  const size_t step = STEP ? STEP * LINE : call.source_step;
#pragma GCC unroll 4
  for (int y = 0; y < TH; ++y)
#pragma GCC unroll 16
    for (int x = 0; x < TW; ++x) {
      const Line line = load(from + y * call.source_row + x * step);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) multiply_add(sum[r][y][x], values[r], line);
    }
}

// Few accumulators would wait for each other: several sets of them take turns.
template <int R, int TH, int TW>
constexpr int num_sets() {
  const int used = R * TH * TW * PARTS;
  return used >= 8 ? 1 : used >= 4 ? 2 : used >= 2 ? 4 : 8;
}

template <class Offset, int R, int TH, int TW, int STEP>
static void convolve(const ConvCall& call) {
  constexpr int SETS = num_sets<R, TH, TW>();
  const Offset* offsets = static_cast<const Offset*>(call.offsets);
  for (uint32_t row = call.first; row < call.last; ++row) {
    Line sum[SETS][R][TH][TW];
    begin_tile<R, TH, TW>(call, row, sum[0]);
#pragma GCC unroll 8
    for (int s = 1; s < SETS; ++s)
#pragma GCC unroll 8
      for (int i = 0; i < R * TH * TW; ++i) (&sum[s][0][0][0])[i] = broadcast(0.0f);
    uint32_t j = call.starts[row];
    const uint32_t end = call.starts[row + 1];
    for (; j + SETS <= end; j += SETS)
#pragma GCC unroll 8
      for (int s = 0; s < SETS; ++s)
        add_column<R, TH, TW, STEP>(call, call.source + size_t(offsets[j + s]) * LINE,
                                    call.values + size_t(j + s) * R, sum[s]);
    for (; j < end; ++j)
      add_column<R, TH, TW, STEP>(call, call.source + size_t(offsets[j]) * LINE,
                                  call.values + size_t(j) * R, sum[0]);
#pragma GCC unroll 8
    for (int s = 1; s < SETS; ++s)
#pragma GCC unroll 8
      for (int i = 0; i < R * TH * TW; ++i) add((&sum[0][0][0][0])[i], (&sum[s][0][0][0])[i]);
    end_tile<R, TH, TW>(call, row, sum[0]);
  }
}

// One image of at most four places (2x2): a tile is a vector of 4 floats. And the copies of shifted
// lines for kernels on one image. Included by kernels/set.hpp only.

using Four = float __attribute__((vector_size(16), may_alias));

template <class Offset>
WIRY_INLINE Four sum_fours(const ConvCall& call, uint32_t j, uint32_t end) {
  constexpr int SETS = 8;  // sums that take turns, so that none waits for the one before
  const Offset* offsets = static_cast<const Offset*>(call.offsets);
  const auto four = [&](uint32_t column) {
    return *reinterpret_cast<const Four*>(call.source + size_t(offsets[column]) * 4);
  };
  Four sum[SETS] = {};
  for (; j + SETS <= end; j += SETS)
#pragma GCC unroll 8
    for (int s = 0; s < SETS; ++s) sum[s] += call.values[j + s] * four(j + s);
  for (; j < end; ++j) sum[0] += call.values[j] * four(j);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

template <class Offset>
static void convolve_four(const ConvCall& call) {
  for (uint32_t row = call.first; row < call.last; ++row) {
    Four sum = sum_fours<Offset>(call, call.starts[row], call.starts[row + 1]);
    sum += call.bias ? call.bias[row] : 0.0f;
    if (call.residual)
      sum += *reinterpret_cast<const Four*>(call.residual + row * call.residual_channel);
    if (call.relu) sum = sum < 0.0f - Four{} ? Four{} : sum;
    *reinterpret_cast<Four*>(call.out + row * call.out_channel) = sum;
  }
}

static void shift_lines(const float* from, const float* mask, const uint8_t* kinds, float* to,
                        size_t count) {
  for (size_t i = 0; i < count; ++i) {
    Line line = broadcast(0.0f);
    if (kinds[i]) {
      line = load_anywhere(from + i * LINE);
      keep_bits(line, load(mask + i * LINE));
    }
    store(to + i * LINE, line);
  }
}

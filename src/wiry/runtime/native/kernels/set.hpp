// All kernels of one instruction set, and the table of them. Each set_*.cpp names a namespace and the
// bytes of a vector and includes this file; nothing else may be included there.

#include "calls.hpp"

namespace wiry {
namespace WIRY_SET {

#include "lines.hpp"

#include "convolve.hpp"
#include "elementwise.hpp"
#include "matrix.hpp"
#include "four.hpp"
#include "pool_gradient.hpp"
#include "small.hpp"

constexpr int power(int exponent) { return 1 << exponent; }

// Sums of a tile at most: what fits into the 32 registers of AVX-512, half of it where vectors are
// smaller; larger tiles are never chosen.
constexpr int MOST_SUMS = 16;

template <class Offset, int B, int H, int W, int STEP>
constexpr ConvKernel tile_kernel() {
  if constexpr (power(B) * power(H) * power(W) <= MOST_SUMS)
    return convolve<Offset, power(B), power(H), power(W), STEP>;
  else
    return nullptr;
}

template <class Offset, int B, int H, int W>
static void fill_steps(Kernels& table, int wide) {
  ConvKernel(&row)[NUM_STEPS] = table.conv[wide][B][H][W];
  row[0] = tile_kernel<Offset, B, H, W, 0>();
  row[1] = tile_kernel<Offset, B, H, W, 1>();
  row[2] = tile_kernel<Offset, B, H, W, 2>();
}

template <class Offset, int B, int H>
static void fill_widths(Kernels& table, int wide) {
  fill_steps<Offset, B, H, 0>(table, wide);
  fill_steps<Offset, B, H, 1>(table, wide);
  fill_steps<Offset, B, H, 2>(table, wide);
  fill_steps<Offset, B, H, 3>(table, wide);
  fill_steps<Offset, B, H, 4>(table, wide);
}

template <class Offset, int B>
static void fill_heights(Kernels& table, int wide) {
  fill_widths<Offset, B, 0>(table, wide);
  fill_widths<Offset, B, 1>(table, wide);
  fill_widths<Offset, B, 2>(table, wide);
}

template <class Offset>
static void fill_conv(Kernels& table, int wide) {
  fill_heights<Offset, 0>(table, wide);
  fill_heights<Offset, 1>(table, wide);
  fill_heights<Offset, 2>(table, wide);
  fill_heights<Offset, 3>(table, wide);
  table.small2[wide][0] = convolve_small<Offset, 2, 1>;
  table.small2[wide][1] = convolve_small<Offset, 2, 2>;
  table.small2[wide][2] = convolve_small<Offset, 2, 4>;
  table.small4[wide] = convolve_small<Offset, 4, 1>;
}

static Kernels make_table(const char* name) {
  Kernels table = {};
  table.name = name;
  table.num_registers = PARTS == 1 ? 32 : PARTS == 2 ? 8 : WIRY_SMALL_VECTORS / PARTS;
  fill_conv<uint16_t>(table, 0);
  fill_conv<uint32_t>(table, 1);
  table.four[0] = convolve_four<uint16_t>;
  table.four[1] = convolve_four<uint32_t>;
  table.shift = shift_lines;
  table.rows[0] = multiply_rows<uint16_t>;
  table.rows[1] = multiply_rows<uint32_t>;
  table.dense = multiply_dense;
  table.max_pool[0] = pool_places<true>;
  table.max_pool[1] = pool_lines<true>;
  table.avg_pool[0] = pool_places<false>;
  table.avg_pool[1] = pool_lines<false>;
  table.max_pool_gradient = spread_maxima;
  table.avg_pool_gradient = spread_means;
  table.relu = relu_values;
  table.add = add_values;
  table.scale = scale_values;
  table.mask = mask_values;
  table.sum = sum_values;
  table.sum_lines = sum_lines;
  table.interleave = interleave;
  table.separate = separate;
  return table;
}

}  // namespace WIRY_SET
}  // namespace wiry

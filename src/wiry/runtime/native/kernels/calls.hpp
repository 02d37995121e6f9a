// What a kernel is told: plain pointers and strides, and the table of kernels of one instruction set.
//
// This is the only header that the kernels, compiled once for each instruction set, share with the
// rest. It holds no code: a function compiled for AVX-512 must never replace a plain one at link time.
// Strides are in floats. A line is 16 floats: one AVX-512 vector, two of AVX2, four of NEON or SSE.
#pragma once

#include <cstddef>
#include <cstdint>

namespace wiry {

constexpr size_t LINE = 16;  // floats

// One tile of one convolution: every output channel in [first, last), TH x TW lines of each.
struct ConvCall {
  const float* source;  // window of the tile's first place, for offset 0
  size_t source_row;    // between the tile's rows
  size_t source_step;   // between the tile's columns; read by kernels of step 0 only
  const void* offsets;  // of each stored column, in lines: uint16_t or uint32_t
  const float* values;  // R of each stored column
  const uint32_t* starts;  // first stored column of each block of R output channels, and the end
  uint32_t first, last;    // blocks of R output channels
  uint32_t num_out;        // output channels of the layer
  float* out;
  size_t out_channel, out_row, out_step;
  const float* residual;  // added, may be null
  size_t residual_channel, residual_row, residual_step;
  const float* mask;  // where it is not above zero the result is zero; may be null
  size_t mask_channel, mask_row, mask_step;
  const float* bias;  // may be null
  bool relu;
  bool resume;  // start from what `out` holds, not from the bias
  bool finish;  // residual, ReLU and mask come now, not with a later part of the columns
};

using ConvKernel = void (*)(const ConvCall&);

// Rows of a sparse matrix times one vector: out = relu?(matrix x + bias + residual).
struct MatrixCall {
  const float* input;
  const void* columns;  // inputs of the stored values: uint16_t or uint32_t; null for dense rows
  const float* values;
  const uint32_t* starts;
  uint32_t first, last;  // rows, or blocks of 16 rows
  uint32_t num_out;
  uint32_t num_in;
  float* out;
  const float* residual;
  const float* bias;
  bool relu;
};

using MatrixKernel = void (*)(const MatrixCall&);

// A rectangle of a plane for pooling; `pixel` floats a place (1 or LINE).
struct PoolCall {
  const float* source;  // place (0, 0) of the channel
  size_t source_row;
  float* out;
  size_t out_row;
  int height, width, out_height, out_width;
  int kernel[2], stride[2], padding[2];
  bool count_padding;
};

using PoolKernel = void (*)(const PoolCall&);

// The gradient of pooling in lines: adds to `to`, which lies like the pool's source.
struct PoolGradientCall {
  PoolCall pool;  // with the values that were read and made
  const float* from;
  size_t from_row;
  float* to;
  size_t to_row;
};

constexpr int NUM_BLOCKS = 4;  // R = 1, 2, 4, 8
constexpr int NUM_HEIGHTS = 3;  // TH = 1, 2, 4
constexpr int NUM_WIDTHS = 5;   // TW = 1, 2, 4, 8, 16
constexpr int NUM_STEPS = 3;    // any, 1, 2

struct Kernels {
  const char* name;
  int num_registers;  // lines that fit into the registers
  // [wide offsets][log2 R][log2 TH][log2 TW][step]; null where a tile does not fit
  ConvKernel conv[2][NUM_BLOCKS][NUM_HEIGHTS][NUM_WIDTHS][NUM_STEPS];
  // whole images of 2x2 and 4x4 under 3x3 kernels; columns sorted by tap; [wide offsets][log2 groups]
  ConvKernel small2[2][3];
  ConvKernel small4[2];
  // images of at most four places: a tile is 4 floats and so is the unit of the offsets
  ConvKernel four[2];
  // copies `count` lines from anywhere to aligned ones, zero where the mask's bits are zero;
  // `kinds` has a byte a line: 0 all zero (nothing is read), else masked
  void (*shift)(const float* from, const float* mask, const uint8_t* kinds, float* to, size_t count);
  MatrixKernel rows[2];  // sparse rows one after the other; [wide columns]
  MatrixKernel dense;    // 16 dense rows side by side
  PoolKernel max_pool[2];  // [pixel is a line]
  PoolKernel avg_pool[2];
  void (*max_pool_gradient)(const PoolGradientCall&);  // to the first of equal maxima, as in torch
  void (*avg_pool_gradient)(const PoolGradientCall&);
  void (*relu)(const float* source, float* out, size_t count);
  void (*add)(const float* a, const float* b, float* out, size_t count, bool relu);
  void (*scale)(const float* source, float* out, size_t count, float scale, float shift);
  void (*mask)(const float* gradient, const float* value, float* out, size_t count);
  float (*sum)(const float* source, size_t count);
  void (*sum_lines)(const float* source, size_t num_lines, float* out);  // out[16] += each line
  // 16 images, `stride` floats apart, to and from `count` lines; absent images count as zero
  void (*interleave)(const float* images, size_t stride, int num_images, float* out, size_t count);
  void (*separate)(const float* lines, size_t count, float* images, size_t stride, int num_images);
};

}  // namespace wiry

// A matrix times one vector, for linear layers on one image. Included by kernels/set.hpp only.
//
// `rows` adds up each sparse row in four sums, so that they do not wait for each other, and
// `dense` has 16 dense rows in a line: one multiply-add with a broadcast input for each column.

WIRY_INLINE void finish_row(const MatrixCall& call, uint32_t row, float sum) {
  if (call.bias) sum += call.bias[row];
  if (call.residual) sum += call.residual[row];
  call.out[row] = call.relu && sum < 0.0f ? 0.0f : sum;
}

template <class Column>
WIRY_INLINE float sum_row(const MatrixCall& call, uint32_t begin, uint32_t end) {
  const Column* columns = static_cast<const Column*>(call.columns);
  float a = 0.0f, b = 0.0f, c = 0.0f, d = 0.0f;
  uint32_t j = begin;
  for (; j + 4 <= end; j += 4) {
    a += call.values[j] * call.input[columns[j]];
    b += call.values[j + 1] * call.input[columns[j + 1]];
    c += call.values[j + 2] * call.input[columns[j + 2]];
    d += call.values[j + 3] * call.input[columns[j + 3]];
  }
  for (; j < end; ++j) a += call.values[j] * call.input[columns[j]];
  return (a + b) + (c + d);
}

template <class Column>
static void multiply_rows(const MatrixCall& call) {
  for (uint32_t row = call.first; row < call.last; ++row)
    finish_row(call, row, sum_row<Column>(call, call.starts[row], call.starts[row + 1]));
}

static void multiply_dense(const MatrixCall& call) {
  for (uint32_t block = call.first; block < call.last; ++block) {
    const float* values = call.values + size_t(block) * call.num_in * LINE;
    Line sum[4] = {broadcast(0.0f), broadcast(0.0f), broadcast(0.0f), broadcast(0.0f)};
    uint32_t j = 0;
    for (; j + 4 <= call.num_in; j += 4)
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s)
        multiply_add(sum[s], call.input[j + s], load(values + size_t(j + s) * LINE));
    for (; j < call.num_in; ++j) multiply_add(sum[0], call.input[j], load(values + size_t(j) * LINE));
    add(sum[0], sum[1]);
    add(sum[2], sum[3]);
    add(sum[0], sum[2]);
    alignas(64) float line[LINE];
    store(line, sum[0]);
    for (uint32_t i = 0; i < LINE && block * LINE + i < call.num_out; ++i)
      finish_row(call, block * LINE + i, line[i]);
  }
}

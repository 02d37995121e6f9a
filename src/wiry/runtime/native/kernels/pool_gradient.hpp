// Gradients of pooling in lines of 16 images. Included by kernels/set.hpp only.

static void spread_means(const PoolGradientCall& call) {
  const PoolCall& pool = call.pool;
  for (int y = 0; y < pool.out_height; ++y)
    for (int x = 0; x < pool.out_width; ++x) {
      const Window window = window_at(pool, y, x);
      Line share = broadcast(0.0f);
      multiply_add(share, 1.0f / divisor_of(pool, window), load(call.from + y * call.from_row + x * LINE));
      for (int i = window.top; i < window.bottom; ++i)
        for (int j = window.left; j < window.right; ++j) {
          float* to = call.to + i * call.to_row + j * LINE;
          Line sum = load(to);
          add(sum, share);
          store(to, sum);
        }
    }
}

// Moves to `sum` what is left of the gradient where the value is the maximum.
WIRY_INLINE void take_where_equal(Line& sum, Line& left, const Line& value, const Line& most) {
  for (int i = 0; i < PARTS; ++i) {
    sum.part[i] += value.part[i] == most.part[i] ? left.part[i] : Native{};
    left.part[i] = value.part[i] == most.part[i] ? Native{} : left.part[i];
  }
}

static void spread_maxima(const PoolGradientCall& call) {
  const PoolCall& pool = call.pool;
  for (int y = 0; y < pool.out_height; ++y)
    for (int x = 0; x < pool.out_width; ++x) {
      const Window window = window_at(pool, y, x);
      Line left = load(call.from + y * call.from_row + x * LINE);
      const Line most = load(pool.out + y * pool.out_row + x * LINE);
      for (int i = window.top; i < window.bottom; ++i)
        for (int j = window.left; j < window.right; ++j) {
          float* to = call.to + i * call.to_row + j * LINE;
          Line sum = load(to);
          take_where_equal(sum, left, load(pool.source + i * pool.source_row + j * LINE), most);
          store(to, sum);
        }
    }
}

// Pooling, addition, ReLU, scaling, and the way into and out of lines of 16 images.
//
// Included by kernels/set.hpp only. Counts are in floats and may be anything.

static void relu_values(const float* source, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = source[i] < 0.0f ? 0.0f : source[i];
}

static void add_values(const float* a, const float* b, float* out, size_t count, bool relu) {
  if (relu)
    for (size_t i = 0; i < count; ++i) {
      const float sum = a[i] + b[i];
      out[i] = sum < 0.0f ? 0.0f : sum;
    }
  else
    for (size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

static void scale_values(const float* source, float* out, size_t count, float scale, float shift) {
  for (size_t i = 0; i < count; ++i) out[i] = source[i] * scale + shift;
}

static void mask_values(const float* gradient, const float* value, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = value[i] > 0.0f ? gradient[i] : 0.0f;
}

static float sum_values(const float* source, size_t count) {
  float sums[LINE] = {};
  size_t i = 0;
  for (; i + LINE <= count; i += LINE)
    for (size_t l = 0; l < LINE; ++l) sums[l] += source[i + l];
  float sum = 0.0f;
  for (; i < count; ++i) sum += source[i];
  for (size_t l = 0; l < LINE; ++l) sum += sums[l];
  return sum;
}

static void sum_lines(const float* source, size_t num_lines, float* out) {
  Line sum = load(out);
  for (size_t i = 0; i < num_lines; ++i) add(sum, load(source + i * LINE));
  store(out, sum);
}

struct Window {
  int top, bottom, left, right;
};

WIRY_INLINE Window window_at(const PoolCall& call, int y, int x) {
  const int top = y * call.stride[0] - call.padding[0], left = x * call.stride[1] - call.padding[1];
  const int bottom = top + call.kernel[0], right = left + call.kernel[1];
  return {top < 0 ? 0 : top, bottom > call.height ? call.height : bottom, left < 0 ? 0 : left,
          right > call.width ? call.width : right};
}

// What an average divides by: as in torch, padding counts but what lies beyond it does not.
WIRY_INLINE int divisor_of(const PoolCall& call, const Window& window) {
  if (!call.count_padding) return (window.bottom - window.top) * (window.right - window.left);
  return call.kernel[0] * call.kernel[1];
}

template <bool MAXIMUM>
static void pool_lines(const PoolCall& call) {
  for (int y = 0; y < call.out_height; ++y)
    for (int x = 0; x < call.out_width; ++x) {
      const Window window = window_at(call, y, x);
      Line line = MAXIMUM ? load(call.source + window.top * call.source_row + window.left * LINE)
                          : broadcast(0.0f);
      for (int i = window.top; i < window.bottom; ++i)
        for (int j = window.left; j < window.right; ++j) {
          const Line next = load(call.source + i * call.source_row + j * LINE);
          MAXIMUM ? maximum(line, next) : add(line, next);
        }
      if (!MAXIMUM) {
        Line mean = broadcast(0.0f);
        multiply_add(mean, 1.0f / divisor_of(call, window), line);
        line = mean;
      }
      store(call.out + y * call.out_row + x * LINE, line);
    }
}

// The most common pooling of one image, 2x2 places without overlap, in a form that compilers vectorise.
template <bool MAXIMUM>
static void pool_two(const PoolCall& call) {
  for (int y = 0; y < call.out_height; ++y) {
    const float* __restrict a = call.source + 2 * y * call.source_row;
    const float* __restrict b = a + call.source_row;
    float* __restrict out = call.out + y * call.out_row;
    for (int x = 0; x < call.out_width; ++x) {
      const float p = a[2 * x], q = a[2 * x + 1], r = b[2 * x], s = b[2 * x + 1];
      const float above = p > q ? p : q, below = r > s ? r : s;
      out[x] = MAXIMUM ? (above > below ? above : below) : ((p + q) + (r + s)) * 0.25f;
    }
  }
}

WIRY_INLINE bool is_two(const PoolCall& call) {
  bool two = true;
  for (int axis = 0; axis < 2; ++axis)
    two = two && call.kernel[axis] == 2 && call.stride[axis] == 2 && call.padding[axis] == 0;
  return two;
}

template <bool MAXIMUM>
static void pool_places(const PoolCall& call) {
  if (is_two(call)) return pool_two<MAXIMUM>(call);
  for (int y = 0; y < call.out_height; ++y)
    for (int x = 0; x < call.out_width; ++x) {
      const Window window = window_at(call, y, x);
      float value = MAXIMUM ? call.source[window.top * call.source_row + window.left] : 0.0f;
      for (int i = window.top; i < window.bottom; ++i)
        for (int j = window.left; j < window.right; ++j) {
          const float next = call.source[i * call.source_row + j];
          if (MAXIMUM)
            value = value > next ? value : next;
          else
            value += next;
        }
      call.out[y * call.out_row + x] = MAXIMUM ? value : value / divisor_of(call, window);
    }
}

static void interleave(const float* images, size_t stride, int num_images, float* out, size_t count) {
  for (size_t first = 0; first < count; first += 16) {
    const size_t last = first + 16 < count ? first + 16 : count;
    for (int i = 0; i < int(LINE); ++i)
      for (size_t place = first; place < last; ++place)
        out[place * LINE + i] = i < num_images ? images[i * stride + place] : 0.0f;
  }
}

static void separate(const float* lines, size_t count, float* images, size_t stride, int num_images) {
  for (int i = 0; i < num_images; ++i)
    for (size_t place = 0; place < count; ++place) images[i * stride + place] = lines[place * LINE + i];
}

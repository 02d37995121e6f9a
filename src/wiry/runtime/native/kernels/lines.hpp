// A line of 16 floats in the vectors of the instruction set that the file is compiled for.
//
// Written with the vector extensions of GCC and Clang, so one source serves AVX-512, AVX2, NEON and
// plain C++; the compiler fuses multiply and add. Included by kernels/set.hpp only, inside a
// namespace of the instruction set, so that nothing here is shared between them.

using Native = float __attribute__((vector_size(WIRY_VECTOR_BYTES), may_alias));
constexpr int PARTS = 64 / WIRY_VECTOR_BYTES;
constexpr int LANES = WIRY_VECTOR_BYTES / 4;

using NativeBits = int32_t __attribute__((vector_size(WIRY_VECTOR_BYTES), may_alias));
using Anywhere = float __attribute__((vector_size(WIRY_VECTOR_BYTES), may_alias, aligned(4)));

struct Line {
  Native part[PARTS];
};

#define WIRY_INLINE static inline __attribute__((always_inline))

WIRY_INLINE Line load(const float* from) {
  Line line;
  for (int i = 0; i < PARTS; ++i) line.part[i] = *reinterpret_cast<const Native*>(from + i * LANES);
  return line;
}

WIRY_INLINE void store(float* to, const Line& line) {
  for (int i = 0; i < PARTS; ++i) *reinterpret_cast<Native*>(to + i * LANES) = line.part[i];
}

WIRY_INLINE Line broadcast(float value) {
  Line line;
  for (int i = 0; i < PARTS; ++i) line.part[i] = value - Native{};
  return line;
}

WIRY_INLINE void add(Line& sum, const Line& other) {
  for (int i = 0; i < PARTS; ++i) sum.part[i] += other.part[i];
}

WIRY_INLINE void multiply_add(Line& sum, float weight, const Line& x) {
  for (int i = 0; i < PARTS; ++i) sum.part[i] += weight * x.part[i];
}

WIRY_INLINE void maximum(Line& most, const Line& other) {
  for (int i = 0; i < PARTS; ++i)
    most.part[i] = most.part[i] > other.part[i] ? most.part[i] : other.part[i];
}

// Zero where `value` is not above zero; a NaN stays, as in torch.
WIRY_INLINE void rectify(Line& line) {
  for (int i = 0; i < PARTS; ++i) line.part[i] = line.part[i] < 0.0f - Native{} ? Native{} : line.part[i];
}

WIRY_INLINE void keep_where_positive(Line& line, const Line& value) {
  for (int i = 0; i < PARTS; ++i) line.part[i] = value.part[i] > Native{} ? line.part[i] : Native{};
}

WIRY_INLINE Line load_anywhere(const float* from) {
  Line line;
  for (int i = 0; i < PARTS; ++i) line.part[i] = *reinterpret_cast<const Anywhere*>(from + i * LANES);
  return line;
}

// The bits of a line where those of the mask are set.
WIRY_INLINE void keep_bits(Line& line, const Line& mask) {
  for (int i = 0; i < PARTS; ++i)
    line.part[i] = (Native)((NativeBits)line.part[i] & (NativeBits)mask.part[i]);
}

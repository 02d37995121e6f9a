// The kernels compiled for avx2; the build gives this file its own flags.
#define WIRY_SET set_avx2
#define WIRY_VECTOR_BYTES 32
#define WIRY_SMALL_VECTORS 16  // registers

#include "set.hpp"

namespace wiry {

const Kernels& kernels_avx2() {
  static const Kernels table = set_avx2::make_table("avx2");
  return table;
}

}  // namespace wiry

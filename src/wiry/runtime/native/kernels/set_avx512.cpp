// The kernels compiled for avx512; the build gives this file its own flags.
#define WIRY_SET set_avx512
#define WIRY_VECTOR_BYTES 64
#define WIRY_SMALL_VECTORS 32  // registers

#include "set.hpp"

namespace wiry {

const Kernels& kernels_avx512() {
  static const Kernels table = set_avx512::make_table("avx512");
  return table;
}

}  // namespace wiry

// The kernels compiled for neon; the build gives this file its own flags.
#define WIRY_SET set_neon
#define WIRY_VECTOR_BYTES 16
#define WIRY_SMALL_VECTORS 32  // registers

#include "set.hpp"

namespace wiry {

const Kernels& kernels_neon() {
  static const Kernels table = set_neon::make_table("neon");
  return table;
}

}  // namespace wiry

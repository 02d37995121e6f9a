// The kernels compiled for portable; the build gives this file its own flags.
#define WIRY_SET set_portable
#define WIRY_VECTOR_BYTES 16
#define WIRY_SMALL_VECTORS 16  // registers

#include "set.hpp"

namespace wiry {

const Kernels& kernels_portable() {
  static const Kernels table = set_portable::make_table("portable");
  return table;
}

}  // namespace wiry

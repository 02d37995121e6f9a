#include "kernels.hpp"

#include <stdexcept>

namespace wiry {

const Kernels& kernels_portable();
#ifdef WIRY_X86
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
#endif
#ifdef WIRY_NEON
const Kernels& kernels_neon();
#endif

std::vector<std::string> instruction_sets() {
  std::vector<std::string> sets;
#ifdef WIRY_X86
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    sets.push_back("avx512");
  if (avx2) sets.push_back("avx2");
#endif
#ifdef WIRY_NEON
  sets.push_back("neon");
#endif
  sets.push_back("portable");
  return sets;
}

const Kernels& kernels_for(const std::string& instruction_set) {
  const std::vector<std::string> sets = instruction_sets();
  const std::string& wanted = instruction_set.empty() ? sets.front() : instruction_set;
  std::string known;
  for (const std::string& set : sets) {
    known += (known.empty() ? "" : ", ") + set;
    if (set != wanted) continue;
#ifdef WIRY_X86
    if (set == "avx512") return kernels_avx512();
    if (set == "avx2") return kernels_avx2();
#endif
#ifdef WIRY_NEON
    if (set == "neon") return kernels_neon();
#endif
    return kernels_portable();
  }
  throw std::invalid_argument("no instruction set '" + wanted + "' here; this processor has: " + known);
}

}  // namespace wiry

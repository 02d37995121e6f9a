// Floats aligned to a cache line, zero at first, with a guard line at both ends.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/calls.hpp"

namespace wiry {

struct Free {
  void operator()(float* data) const { std::free(data - LINE); }
};

using Floats = std::unique_ptr<float[], Free>;

inline Floats make_floats(size_t count) {
  const size_t lines = (count + LINE - 1) / LINE + 2;
  void* data = std::aligned_alloc(64, lines * LINE * sizeof(float));
  if (!data) throw std::bad_alloc();
  std::memset(data, 0, lines * LINE * sizeof(float));
  return Floats(static_cast<float*>(data) + LINE);
}

}  // namespace wiry

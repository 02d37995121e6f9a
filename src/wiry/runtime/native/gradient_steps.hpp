// Gradients of operations without weights, in lines.
#pragma once

#include <memory>

#include "step.hpp"

namespace wiry {

// What one of these steps shall do: values of the combined numbering of gradient.hpp.
struct Flow {
  int from = 0, to = 0;        // gradients of the output and of the input
  int input = 0, output = 0;   // values
  bool add = false;            // to what is there
};

std::unique_ptr<Step> make_copy_step(const Shape& shape, const Flow& flow, const Kernels& kernels);
// to = from + to, or from + `input` where that is another gradient.
std::unique_ptr<Step> make_sum_step(const Shape& shape, const Flow& flow, const Kernels& kernels);
// to = from where value `output` is above zero
std::unique_ptr<Step> make_mask_step(const Shape& shape, const Flow& flow, const Kernels& kernels);
std::unique_ptr<Step> make_plain_gradient(const Op& op, const Shape& in, const Shape& out,
                                          const Flow& flow, const Kernels& kernels);

}  // namespace wiry

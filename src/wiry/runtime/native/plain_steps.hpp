// Operations without weights, in both layouts.
#pragma once

#include <memory>

#include "step.hpp"

namespace wiry {

std::unique_ptr<Step> make_plain_step(const Graph& graph, const Op& op, const Kernels& kernels);

}  // namespace wiry

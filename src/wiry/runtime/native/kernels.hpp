// The instruction sets that were compiled in and that this processor has.
#pragma once

#include <string>
#include <vector>

#include "kernels/calls.hpp"

namespace wiry {

std::vector<std::string> instruction_sets();  // best first

// Raises std::invalid_argument if it is unknown or this processor lacks it. Empty: the best.
const Kernels& kernels_for(const std::string& instruction_set);

}  // namespace wiry

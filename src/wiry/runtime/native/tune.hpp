// Picks the fastest of several ways to run a layer by running each.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"
#include "step.hpp"

namespace wiry {

// Seconds of the fastest of a few runs.
double measure(const std::function<void()>& run);

// What was found to be fastest for a layer, for others that look the same. One for each plan.
class Findings {
 public:
  struct Finding {
    std::vector<int64_t> choice;
    double seconds;
  };
  // Null if there is none.
  const Finding* find(const std::string& layer) const {
    const auto found = known_.find(layer);
    return found == known_.end() ? nullptr : &found->second;
  }
  void note(const std::string& layer, Finding finding) { known_[layer] = std::move(finding); }

 private:
  std::map<std::string, Finding> known_;
};

// What a convolution is measured on: a source, an output and perhaps something to add.
class Bench {
 public:
  Bench(const Layout& source, const Layout& out, size_t scratch_size, int num_groups = 1);
  double seconds(const Step& step) const;  // the step's values are 0, 1 and 2

 private:
  Arrangement arrangement_;
  int num_groups_;
  std::vector<Floats> floats_;
  std::vector<float*> buffers_;
};

}  // namespace wiry

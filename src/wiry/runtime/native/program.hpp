// The whole network in one layout: its steps, in order, and how images come in and logits go out.
#pragma once

#include <memory>
#include <vector>

#include "memory.hpp"
#include "options.hpp"
#include "step.hpp"

namespace wiry {

constexpr int MOST_GROUPS = 4;  // of 16 images, that run jointly

enum class Layouts { places, lines };

// The buffers of one call at a time.
struct Workspace {
  std::vector<Floats> floats;
  std::vector<float*> buffers;
  int num_groups = 0;  // room for
};

class Program {
 public:
  Program(const Graph& graph, Layouts layouts, const Kernels& kernels, const Options& options,
          bool keep = false);

  // Runs one image (places) or up to 16 * MOST_GROUPS images (lines). All workers of a team call it
  // with the same arguments; `scratches` are of each worker.
  void run(Workspace& space, float* const* scratches, const float* images, int num_images,
           float* logits, const Worker& worker) const;
  void prepare(Workspace& space, int num_groups) const;
  void load(const Workspace& space, const float* images, int num_images, int group,
            const Worker& worker) const;
  void run_steps(const Scene& scene, int num_groups, const Worker& worker) const;

  size_t scratch_size() const { return scratch_size_; }
  double seconds() const { return seconds_; }  // all layers with weights, as measured
  void set_values(int op, const std::vector<float>& weights) { steps_[op]->set_values(weights); }
  Description describe(int op) const { return steps_[op]->describe(); }
  const Arrangement& arrangement() const { return arrangement_; }

 private:
  void save(const Workspace& space, int num_images, float* logits, const Worker& worker) const;

  const Graph* graph_;
  Layouts layouts_;
  const Kernels* kernels_;
  Arrangement arrangement_;
  std::vector<std::unique_ptr<Step>> steps_;
  size_t scratch_size_ = 0;
  double seconds_ = 0.0;
};

}  // namespace wiry

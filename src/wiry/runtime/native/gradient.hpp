// The gradient on the images: the operations backwards, in lines of 16 images.
//
// Reads the values that a forward program which keeps them has left. Values of the network are
// numbered as in the graph, their gradients follow: gradient of value v is value `num_values + v`.
#pragma once

#include "program.hpp"

namespace wiry {

class Gradient {
 public:
  Gradient(const Graph& graph, const Arrangement& kept, const Kernels& kernels,
           const Options& options);

  // One chunk of up to 16 * MOST_GROUPS images. All workers of a team call it with the same arguments.
  void run(const Workspace& kept, Workspace& space, const float* logits_gradient, int num_images,
           float* images_gradient, const Worker& worker) const;
  void prepare(Workspace& space, int num_groups) const;
  void set_values(int op, const std::vector<float>& weights);
  std::vector<Description> describe(int op) const;

 private:
  struct Planned {  // a step, which operation it is of, and what it touches
    std::unique_ptr<Step> step;
    int op;
    std::vector<int> reads;
    int writes;
  };
  // How much of a value's gradient is there: nothing, all of another value's (not copied), or a sum.
  struct State {
    int same_as = -1;
    bool stored = false, masked = false;
    int readers = 0;  // that have not contributed
  };

  int gradient_of(int value) const { return num_values_ + value; }
  void arrange(const Arrangement& kept);
  void share_buffers(const std::vector<bool>& joint);
  void complete(int value, int op);
  void pass_on(int from, int value, int op);
  void add_conv(const Op& op, int number);
  void add_plain(const Op& op, int number);
  void add_step(std::unique_ptr<Step> step, int op, std::vector<int> reads, int writes);
  void run_steps(bool tail, Scene scene, const Worker& worker) const;

  const Graph* graph_;
  const Kernels* kernels_;
  const Options options_;
  const int num_values_;
  int num_head_ops_ = 0;
  Arrangement arrangement_;  // of values and gradients
  size_t num_kept_ = 0;      // buffers of the forward program, which come first
  std::vector<bool> rectified_;  // values that a ReLU made
  std::vector<State> states_;
  std::vector<Planned> steps_;
};

}  // namespace wiry

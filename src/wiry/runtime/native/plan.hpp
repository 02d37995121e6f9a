// A network ready to run: what the Python module hands out.
//
// Several threads may call `run` at once: each takes a context (a team of threads and its buffers)
// from a pool. `set_weights` must not overlap with other calls; it waits for them.
#pragma once

#include <map>
#include <mutex>
#include <shared_mutex>

#include "gradient.hpp"
#include "graph.hpp"
#include "program.hpp"
#include "team.hpp"
#include "tune.hpp"

namespace wiry {

constexpr int MOST_THREADS = 256;

// What `forward` leaves for `backward`: all values of all images, in chunks.
struct Chunk {
  size_t first, count;  // images
  Workspace kept;
};

class Plan {
 public:
  // Gives its buffers back to the plan, which must live longer.
  struct Tape {
    Tape(Plan& of, size_t count) : plan(&of), num_images(count), version(of.version_) {}
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;
    ~Tape() { plan->take_back(chunks); }

    Plan* plan;
    size_t num_images, version;
    std::vector<Chunk> chunks;
  };

  Plan(Graph graph, int num_threads, const std::string& instruction_set, const Options& options);
  ~Plan();

  void run(const float* images, size_t num_images, float* logits);
  // As `run`, and returns what `backward` needs.
  std::unique_ptr<Tape> forward(const float* images, size_t num_images, float* logits);
  // Writes the gradient on the images, from that on the logits. Raises std::invalid_argument if the
  // weights have changed since.
  void backward(const Tape& tape, const float* logits_gradient, float* images_gradient);
  void set_weights(size_t op, const float* weight, const float* bias);
  Description describe(size_t op, Layouts layouts) const;
  std::vector<Description> describe_gradient(size_t op) const;

  const Graph& graph() const { return graph_; }
  const char* instruction_set() const { return kernels_->name; }
  int num_threads() const { return num_threads_; }
  double seconds(Layouts layouts) const;

 private:
  struct Context;
  struct Borrowed;
  struct Job;

  void run_job(Context& context, const Job& job, const Worker& worker);
  size_t images_in_lines(size_t num_images) const;

  void build_gradient();
  void take_back(std::vector<Chunk>& chunks);
  Workspace lend();

  Graph graph_;
  const Kernels* kernels_;
  const int num_threads_;
  Options options_;
  Findings findings_;
  std::unique_ptr<Program> places_, lines_, kept_;  // the last one keeps all values
  std::unique_ptr<Gradient> gradient_;              // made, as kept_, when first used
  std::vector<Workspace> lendable_;                 // for tapes
  size_t version_ = 0;                              // of the weights
  std::shared_mutex weights_;  // shared by runs, held alone by set_weights
  std::mutex contexts_mutex_;
  std::vector<std::unique_ptr<Context>> idle_;
  int owner_;  // process that made the contexts' threads
};

}  // namespace wiry

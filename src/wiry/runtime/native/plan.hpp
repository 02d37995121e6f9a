// A network ready to run: what the Python module hands out.
//
// Several threads may call `run` at once: each takes a context (a team of threads and its buffers)
// from a pool. `set_weights` must not overlap with other calls; it waits for them.
#pragma once

#include <map>
#include <mutex>
#include <shared_mutex>

#include "graph.hpp"
#include "program.hpp"
#include "team.hpp"

namespace wiry {

constexpr int MOST_THREADS = 256;

class Plan {
 public:
  Plan(Graph graph, int num_threads, const std::string& instruction_set, const Options& options);

  void run(const float* images, size_t num_images, float* logits);
  void set_weights(size_t op, const float* weight, const float* bias);
  Description describe(size_t op, Layouts layouts) const;

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

  Graph graph_;
  const Kernels* kernels_;
  const int num_threads_;
  std::unique_ptr<Program> places_, lines_;
  std::shared_mutex weights_;  // shared by runs, held alone by set_weights
  std::mutex contexts_mutex_;
  std::vector<std::unique_ptr<Context>> idle_;
  int owner_;  // process that made the contexts' threads

 public:
  ~Plan();
};

}  // namespace wiry

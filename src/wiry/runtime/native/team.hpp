// A team of threads that work on one call together: one parallel region, barriers inside it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace wiry {

// Waits by spinning for a while, then gives the core away: threads may outnumber cores.
class Barrier {
 public:
  explicit Barrier(int num_threads) : num_threads_(num_threads) {}
  void wait();

 private:
  const int num_threads_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> round_{0};
};

// Who I am in a parallel region. A worker alone has no barrier.
struct Worker {
  int thread = 0, num_threads = 1;
  Barrier* barrier = nullptr;
  void wait() const {
    if (barrier) barrier->wait();
  }
  // My share of [0, count).
  size_t begin(size_t count) const { return count * thread / num_threads; }
  size_t end(size_t count) const { return count * (thread + 1) / num_threads; }
};

class Team {
 public:
  explicit Team(int num_threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // Runs `work` once on each thread of the team, the caller's among them, and waits for all.
  void run(const std::function<void(const Worker&)>& work);
  int num_threads() const { return num_threads_; }

 private:
  void serve(int thread);

  const int num_threads_;
  Barrier barrier_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<unsigned> round_{0};
  std::atomic<int> running_{0};
  bool stop_ = false;
  const std::function<void(const Worker&)>* work_ = nullptr;
  std::vector<std::thread> threads_;
};

}  // namespace wiry

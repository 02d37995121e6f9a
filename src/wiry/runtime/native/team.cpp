#include "team.hpp"

namespace wiry {
namespace {

constexpr int SPINS = 4000;  // about 40 us; layers are shorter

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Returns true once `done` holds, false if it did not within a short while.
template <class Condition>
bool spin(const Condition& done) {
  for (int i = 0; i < SPINS; ++i) {
    if (done()) return true;
    pause();
  }
  return false;
}

template <class Condition>
void wait_until(const Condition& done) {
  if (spin(done)) return;
  while (!done()) std::this_thread::yield();
}

}  // namespace

void Barrier::wait() {
  const unsigned round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == num_threads_) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
}

Team::Team(int num_threads) : num_threads_(num_threads), barrier_(num_threads) {
  try {
    for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this, i] { serve(i); });
  } catch (...) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
}

Team::~Team() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::run(const std::function<void(const Worker&)>& work) {
  if (num_threads_ == 1) return work(Worker{});
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = &work;
    running_.store(num_threads_ - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
  }
  changed_.notify_all();
  work(Worker{0, num_threads_, &barrier_});
  wait_until([&] { return running_.load(std::memory_order_acquire) == 0; });
}

void Team::serve(int thread) {
  unsigned seen = 0;
  while (true) {
    if (!spin([&] { return round_.load(std::memory_order_acquire) != seen; })) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || round_.load() != seen; });
    }
    if (round_.load(std::memory_order_acquire) == seen) return;  // woken to stop
    ++seen;
    (*work_)(Worker{thread, num_threads_, &barrier_});
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace wiry

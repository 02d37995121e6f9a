// Threads and buffers of one call of a plan; included by the plan's own files only.
#pragma once

#include <unistd.h>

#include "plan.hpp"

namespace wiry {

// What one call needs: threads, and buffers for each of them and for all of them together.
struct Plan::Context {
  explicit Context(int num_threads)
      : team(num_threads), places(num_threads), lines(num_threads), gradients(num_threads) {}

  Team team;
  std::vector<Workspace> places, lines, gradients;  // the first also serves the team as a whole
  std::vector<Floats> scratch_floats;
  std::vector<float*> scratches;
};

// Takes a context from the pool and puts it back.
struct Plan::Borrowed {
  explicit Borrowed(Plan& from) : plan(from) {
    std::lock_guard<std::mutex> lock(plan.contexts_mutex_);
    if (plan.owner_ != getpid()) {  // after a fork the threads are gone: leave them alone
      for (auto& idle : plan.idle_) (void)idle.release();
      plan.idle_.clear();
      plan.owner_ = getpid();
    }
    if (!plan.idle_.empty()) {
      context = std::move(plan.idle_.back());
      plan.idle_.pop_back();
    } else {
      context = std::make_unique<Context>(plan.num_threads_);
    }
  }
  ~Borrowed() {
    std::lock_guard<std::mutex> lock(plan.contexts_mutex_);
    plan.idle_.push_back(std::move(context));
  }

  Plan& plan;
  std::unique_ptr<Context> context;
};

}  // namespace wiry

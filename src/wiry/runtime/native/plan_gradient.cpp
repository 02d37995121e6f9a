// Forward with everything kept, and backward to the images.
#include <algorithm>
#include <stdexcept>

#include "context.hpp"

namespace wiry {

void Plan::build_gradient() {
  {
    std::shared_lock<std::shared_mutex> reading(weights_);
    if (gradient_) return;
  }
  std::unique_lock<std::shared_mutex> writing(weights_);
  if (gradient_) return;
  kept_ = std::make_unique<Program>(graph_, Layouts::lines, *kernels_, options_, true);
  gradient_ = std::make_unique<Gradient>(graph_, kept_->arrangement(), *kernels_, options_);
}

Workspace Plan::lend() {
  std::lock_guard<std::mutex> lock(contexts_mutex_);
  if (lendable_.empty()) return {};
  Workspace space = std::move(lendable_.back());
  lendable_.pop_back();
  return space;
}

void Plan::take_back(std::vector<Chunk>& chunks) {
  std::lock_guard<std::mutex> lock(contexts_mutex_);
  for (Chunk& chunk : chunks) lendable_.push_back(std::move(chunk.kept));
  chunks.clear();
}

std::unique_ptr<Plan::Tape> Plan::forward(const float* images, size_t num_images, float* logits) {
  build_gradient();
  std::shared_lock<std::shared_mutex> reading(weights_);
  auto tape = std::make_unique<Tape>(*this, num_images);
  const size_t groups = (num_images + LINE - 1) / LINE, threads = size_t(num_threads_);
  const size_t share = std::min(size_t(MOST_GROUPS), std::max(size_t(1), groups / threads));
  for (size_t first = 0; first < num_images; first += share * LINE) {
    const size_t count = std::min(share * LINE, num_images - first);
    tape->chunks.push_back({first, count, lend()});
    kept_->prepare(tape->chunks.back().kept, int((count + LINE - 1) / LINE));
  }
  Borrowed borrowed(*this);
  float* no_scratch[1] = {nullptr};
  const auto run = [&](Chunk& chunk, const Worker& worker) {
    kept_->run(chunk.kept, no_scratch, images + chunk.first * graph_.input().entries(),
               int(chunk.count), logits + chunk.first * graph_.num_classes(), worker);
  };
  borrowed.context->team.run([&](const Worker& worker) {
    if (tape->chunks.size() < threads)
      for (Chunk& chunk : tape->chunks) run(chunk, worker);
    else
      for (size_t i = worker.begin(tape->chunks.size()); i < worker.end(tape->chunks.size()); ++i)
        run(tape->chunks[i], Worker{});
  });
  return tape;
}

void Plan::backward(const Tape& tape, const float* logits_gradient, float* images_gradient) {
  std::shared_lock<std::shared_mutex> reading(weights_);
  if (tape.version != version_)
    throw std::invalid_argument("the weights have changed since this forward pass; run it again");
  Borrowed borrowed(*this);
  const size_t threads = size_t(num_threads_);
  for (Workspace& space : borrowed.context->gradients)
    gradient_->prepare(space, tape.chunks.empty() ? 0 : int(tape.chunks[0].count + LINE - 1) / int(LINE));
  const auto run = [&](const Chunk& chunk, Workspace& space, const Worker& worker) {
    gradient_->run(chunk.kept, space, logits_gradient + chunk.first * graph_.num_classes(),
                   int(chunk.count), images_gradient + chunk.first * graph_.input().entries(), worker);
  };
  std::vector<Workspace>& spaces = borrowed.context->gradients;
  borrowed.context->team.run([&](const Worker& worker) {
    if (tape.chunks.size() < threads)
      for (const Chunk& chunk : tape.chunks) run(chunk, spaces[0], worker);
    else
      for (size_t i = worker.begin(tape.chunks.size()); i < worker.end(tape.chunks.size()); ++i)
        run(tape.chunks[i], spaces[worker.thread], Worker{});
  });
}

}  // namespace wiry

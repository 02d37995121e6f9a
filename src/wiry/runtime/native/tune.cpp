#include "tune.hpp"

#include <algorithm>

namespace wiry {
namespace {

constexpr int MOST_RUNS = 4;
constexpr double ENOUGH_SECONDS = 2e-3;  // for one candidate

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double measure(const std::function<void()>& run) {
  run();  // caches and pages
  double best = 1e30, spent = 0.0;
  for (int i = 0; i < MOST_RUNS && spent < ENOUGH_SECONDS; ++i) {
    const double begin = now();
    run();
    const double taken = now() - begin;
    best = std::min(best, taken);
    spent += taken;
  }
  return best;
}

Bench::Bench(const Layout& source, const Layout& out, size_t scratch_size, int num_groups)
    : num_groups_(num_groups) {
  arrangement_.layouts = {source, out, out};
  arrangement_.buffers = {0, 1, 2};
  arrangement_.joint = {true, true, true};
  for (const Layout& layout : arrangement_.layouts) floats_.push_back(make_floats(layout.size * size_t(num_groups)));
  floats_.push_back(make_floats(scratch_size));
  for (const Floats& floats : floats_) buffers_.push_back(floats.get());
}

double Bench::seconds(const Step& step) const {
  Scene scene{&arrangement_, buffers_.data()};
  scene.num_groups = num_groups_;
  scene.scratch = buffers_[3];
  scene.scratches = &buffers_[3];
  return measure([&] { step.run(scene, Worker{}); });
}

}  // namespace wiry

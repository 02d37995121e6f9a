#include "plan.hpp"

#include <algorithm>
#include <stdexcept>

#include "context.hpp"
#include "kernels.hpp"

namespace wiry {

struct Plan::Job {
  const float* images;
  size_t first, last;  // images
  float* logits;
  Layouts layouts;
  bool together;  // the team works on each image or group, rather than each worker on its own
};

Plan::Plan(Graph graph, int num_threads, const std::string& instruction_set, const Options& options)
    : graph_(std::move(graph)),
      kernels_(&kernels_for(instruction_set)),
      num_threads_(num_threads),
      options_(options),
      owner_(getpid()) {
  if (num_threads < 1 || num_threads > MOST_THREADS)
    throw std::invalid_argument("num_threads is from 1 to " + std::to_string(MOST_THREADS));
  options_.findings = &findings_;
  if (options.layout != "lines")
    places_ = std::make_unique<Program>(graph_, Layouts::places, *kernels_, options_);
  if (options.layout != "places")
    lines_ = std::make_unique<Program>(graph_, Layouts::lines, *kernels_, options_);
}

Plan::~Plan() {
  if (owner_ != getpid())
    for (auto& idle : idle_) (void)idle.release();
}

double Plan::seconds(Layouts layouts) const {
  const auto& program = layouts == Layouts::places ? places_ : lines_;
  return program ? program->seconds() : 0.0;
}

Description Plan::describe(size_t op, Layouts layouts) const {
  const auto& program = layouts == Layouts::places ? places_ : lines_;
  return program ? program->describe(int(op)) : Description{};
}

std::vector<Description> Plan::describe_gradient(size_t op) const {
  return gradient_ ? gradient_->describe(int(op)) : std::vector<Description>{};
}

// Whole groups of 16 go in lines, and the rest too unless so few images are faster one by one.
size_t Plan::images_in_lines(size_t num_images) const {
  if (!places_) return num_images;
  if (!lines_) return 0;
  const size_t rest = num_images % LINE;
  const bool all = double(rest) * places_->seconds() > lines_->seconds();
  return all && rest > 1 ? num_images : num_images - rest;
}

void Plan::run_job(Context& context, const Job& job, const Worker& worker) {
  const bool lines = job.layouts == Layouts::lines;
  const Program& program = lines ? *lines_ : *places_;
  const size_t unit = lines ? LINE : 1, most = lines ? LINE * MOST_GROUPS : 1;
  const size_t units = (job.last - job.first + unit - 1) / unit;
  const Worker alone{};
  const Worker& who = job.together ? worker : alone;
  const size_t begin = job.first + unit * (job.together ? 0 : worker.begin(units));
  const size_t end =
      std::min(job.last, job.first + unit * (job.together ? units : worker.end(units)));
  const int mine = job.together ? 0 : worker.thread;
  Workspace& space = lines ? context.lines[mine] : context.places[mine];
  float* const* scratches = context.scratches.data() + mine;
  for (size_t first = begin; first < end; first += most) {
    const size_t count = std::min(most, end - first);
    program.run(space, scratches, job.images + first * graph_.input().entries(), int(count),
                job.logits + first * graph_.num_classes(), who);
  }
}

void Plan::run(const float* images, size_t num_images, float* logits) {
  if (num_images == 0) return;
  std::shared_lock<std::shared_mutex> reading(weights_);
  Borrowed borrowed(*this);
  Context& context = *borrowed.context;
  const size_t split = images_in_lines(num_images);
  std::vector<Job> jobs;
  const size_t groups = (split + LINE - 1) / LINE, threads = size_t(num_threads_);
  if (split > 0) jobs.push_back({images, 0, split, logits, Layouts::lines, groups < threads});
  if (split < num_images)
    jobs.push_back({images, split, num_images, logits, Layouts::places, num_images - split < threads});
  for (const Job& job : jobs) {
    const bool lines = job.layouts == Layouts::lines;
    const Program& program = lines ? *lines_ : *places_;
    const size_t share = job.together ? groups : (groups + threads - 1) / threads;
    for (size_t i = 0; i < (job.together ? 1 : threads); ++i)
      program.prepare(lines ? context.lines[i] : context.places[i],
                      lines ? int(std::min(share, size_t(MOST_GROUPS))) : 1);
  }
  while (context.scratches.size() < threads) {
    context.scratch_floats.push_back(make_floats(places_ ? places_->scratch_size() : 0));
    context.scratches.push_back(context.scratch_floats.back().get());
  }
  const std::function<void(const Worker&)> work = [&](const Worker& worker) {
    for (const Job& job : jobs) run_job(context, job, worker);
  };
  context.team.run(work);
}

void Plan::set_weights(size_t index, const float* weight, const float* bias) {
  if (index >= graph_.ops.size() || !graph_.ops[index].has_weight())
    throw std::invalid_argument("operation " + std::to_string(index) + " has no weights");
  std::unique_lock<std::shared_mutex> writing(weights_);
  Op& op = graph_.ops[index];
  for (size_t i = 0; i < op.weight.index.size(); ++i)
    op.weight.value[i] = weight[op.weight.index[i]];
  std::copy(bias, bias + op.bias.size(), op.bias.begin());
  for (Program* program : {places_.get(), lines_.get(), kept_.get()})
    if (program) program->set_values(int(index), op.weight.value);
  if (gradient_) gradient_->set_values(int(index), op.weight.value);
  ++version_;
}

}  // namespace wiry

#include "layout.hpp"

#include <algorithm>

namespace wiry {
namespace {

size_t whole_lines(size_t count) { return (count + LINE - 1) / LINE * LINE; }

// The last operation that reads each value; the logits live to the end.
std::vector<int> last_uses(const Graph& graph) {
  std::vector<int> last(graph.values.size(), -1);
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    for (int input : graph.ops[i].inputs) last[input] = int(i);
    last[graph.ops[i].output] = std::max(last[graph.ops[i].output], int(i));
  }
  last.back() = int(graph.ops.size());
  return last;
}

bool same(const Layout& a, const Layout& b) {
  return a.size == b.size && a.row == b.row && a.channel == b.channel && a.origin == b.origin;
}

struct Sharing {
  const std::vector<bool>& joint_values;
  Arrangement& arrangement;
  std::vector<Layout> buffer_layouts;
  std::vector<int> free;

  // A value takes a free buffer of the very same layout, so that its frame of zeros stays.
  void place(int value, bool may_share) {
    const Layout& layout = arrangement.layouts[value];
    for (size_t i = 0; may_share && i < free.size(); ++i) {
      if (!same(buffer_layouts[free[i]], layout) ||
          arrangement.joint[free[i]] != joint_values[value])
        continue;
      arrangement.buffers[value] = free[i];
      free.erase(free.begin() + i);
      return;
    }
    arrangement.buffers[value] = int(buffer_layouts.size());
    buffer_layouts.push_back(layout);
    arrangement.buffer_sizes.push_back(layout.size);
    arrangement.joint.push_back(joint_values[value]);
  }
};

void share_buffers(const Graph& graph, bool keep, const std::vector<bool>& joint,
                   Arrangement& arrangement) {
  const std::vector<int> last = last_uses(graph);
  arrangement.buffers.assign(graph.values.size(), -1);
  Sharing sharing{joint, arrangement, {}, {}};
  sharing.place(0, false);
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    sharing.place(graph.ops[i].output, !keep);
    for (size_t value = 0; value < graph.values.size(); ++value)
      if (last[value] == int(i) && arrangement.buffers[value] >= 0)
        sharing.free.push_back(arrangement.buffers[value]);
  }
}

bool is_tiny(const Graph& graph, const Op& op) {
  bool tiny = graph.values[op.output].places() <= 4;
  for (int input : op.inputs) tiny = tiny && graph.values[input].places() <= 4;
  return tiny;
}

}  // namespace

Layout layout_of_places(const Shape& shape) {
  Layout layout;
  layout.row = shape.flat ? 1 : size_t(shape.width);
  layout.channel = shape.flat ? 1 : whole_lines(shape.places());
  layout.size = whole_lines(shape.channels * layout.channel);
  return layout;
}

Layout layout_of_lines(const Shape& shape, const int (&frame)[2]) {
  Layout layout;
  layout.place = LINE;
  layout.frame[0] = frame[0], layout.frame[1] = frame[1];
  layout.row = size_t(shape.width + 2 * frame[1]) * LINE;
  layout.channel = size_t(shape.height + 2 * frame[0]) * layout.row;
  layout.origin = frame[0] * layout.row + frame[1] * LINE;
  layout.size = shape.channels * layout.channel;
  return layout;
}

Arrangement arrange_places(const Graph& graph) {
  Arrangement arrangement;
  for (const Shape& shape : graph.values) arrangement.layouts.push_back(layout_of_places(shape));
  share_buffers(graph, false, std::vector<bool>(graph.values.size(), false), arrangement);
  arrangement.num_head_ops = int(graph.ops.size());
  return arrangement;
}

Arrangement arrange_lines(const Graph& graph, bool keep) {
  std::vector<int> frames(2 * graph.values.size(), 0);
  for (const Op& op : graph.ops)
    for (int axis : {0, 1})
      if (op.kind == Kind::conv2d) {
        int& frame = frames[2 * op.inputs[0] + axis];
        frame = std::max(frame, op.padding[axis]);
      }
  Arrangement arrangement;
  for (size_t i = 0; i < graph.values.size(); ++i) {
    const int frame[2] = {frames[2 * i], frames[2 * i + 1]};
    arrangement.layouts.push_back(layout_of_lines(graph.values[i], frame));
  }
  int head = int(graph.ops.size());
  while (head > 0 && is_tiny(graph, graph.ops[head - 1])) --head;
  std::vector<bool> joint(graph.values.size(), keep);
  for (int i = head; i < int(graph.ops.size()); ++i) {
    joint[graph.ops[i].output] = true;
    for (int input : graph.ops[i].inputs) joint[input] = true;
  }
  joint.back() = true;
  share_buffers(graph, keep, joint, arrangement);
  arrangement.num_head_ops = head;
  return arrangement;
}

}  // namespace wiry

// A packed network as a list of steps, each making one value; how they are read and in which order they run.
#pragma once
#include <ATen/ThreadLocalState.h>
#include <ATen/ops/cat.h>

#include "conv.h"

namespace resteutils {

enum Operation : int64_t { STEM, PROJECT, BINARY_VALUE, BINARY_SIGN, MAX_POOL, PAD, AVG_POOL, FLATTEN, AFFINE, LINEAR, ACTIVATE, ADD, MEAN_POOL };

struct Step {  // the fields that onebit/compiled.py writes, in its order
  int64_t operation, source, skip, relu, floats, bits, kh, kw, sh, sw, ph, pw, in, out, first, groups, dh, dw;
};
constexpr int64_t FIELDS = 18;
static_assert(sizeof(Step) == FIELDS * sizeof(int64_t));

// At most so many images at a time: what lies between the layers stays in a cache. Never fewer than half as many of a larger
// batch, since torch rounds the sums of one image alone in another order. A power of two of such parts, for threads to share.
constexpr int64_t IMAGES = 16;

// Runs the program, which comes as a tensor (a list of hundreds of numbers would be turned from Python to C++ at every call).
// begin(images, values) puts the images first among the values and gives what runs a step; a value goes with its last reader.
template <typename Value, typename Begin>
Tensor run_steps(const Tensor& x, const std::vector<Tensor>& tensors, const Tensor& code, int64_t classes, const Begin& begin) {
  TORCH_CHECK(x.dim() == 4 && x.scalar_type() == at::kFloat, "a packed network takes float32 images (N, C, H, W), got ", x.sizes(), " ", x.scalar_type());
  TORCH_CHECK(code.dim() == 2 && code.size(0) && code.size(1) == FIELDS && code.scalar_type() == at::kLong && code.is_contiguous() && !tensors.empty(),
              "damaged program of a packed network");
  const int64_t count = code.size(0);
  int64_t parts = 1;
  while (parts * IMAGES < x.size(0)) parts *= 2;
  std::vector<Step> steps(count);
  std::memcpy(steps.data(), code.const_data_ptr<int64_t>(), count * sizeof(Step));
  std::vector<int64_t> last(count + 1, -1);  // step that reads a value last
  for (int64_t i = count - 1; i >= 0; --i) {
    const Step& s = steps[i];
    TORCH_CHECK(s.source >= 0 && s.source <= i && s.skip <= i && s.first >= 0, "damaged program of a packed network");
    for (const int64_t read : {s.source, s.skip})
      if (read >= 0 && last[read] < 0) last[read] = i;
  }
  std::vector<Tensor> logits(parts);
  const auto run_part = [&](int64_t part) {
    const int64_t from = x.size(0) * part / parts, until = x.size(0) * (part + 1) / parts;
    std::vector<Value> values(count + 1);
    const auto network = begin(x.narrow(0, from, until - from).contiguous(), values);
    for (int64_t i = 0; i < count; ++i) {
      values[i + 1] = network.run(steps[i]);
      for (const int64_t read : {steps[i].source, steps[i].skip})
        if (read >= 0 && last[read] == i) values[read] = {};
    }
    logits[part] = values[count].floats.flatten(1);
    TORCH_CHECK(logits[part].size(1) == classes, "the program yields ", logits[part].size(1), " numbers an image, not ", classes);
  };
  // Parts that keep every thread as busy as the others go to a thread each: no thread waits after a layer. What is inside then
  // runs on that thread alone. Torch's threads do not know the caller's modes (inference, gradients), so they are told.
  const int64_t threads = at::get_num_threads();
  if (threads > 1 && (parts % threads == 0 || parts >= 4 * threads)) {
    const at::ThreadLocalState modes;
    at::parallel_for(0, parts, 1, [&](int64_t from, int64_t until) {
      const at::ThreadLocalStateGuard guard(modes);
      for (int64_t part = from; part < until; ++part) run_part(part);
    });
  } else {
    for (int64_t part = 0; part < parts; ++part) run_part(part);
  }
  return parts == 1 ? logits[0] : at::cat(logits);
}

}  // namespace resteutils

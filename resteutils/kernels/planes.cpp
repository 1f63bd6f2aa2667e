// A whole packed network of few channels in one call, its values as planes (planes.h): the steps of program.h, and the same numbers as
// program.cpp's, to the last bit.
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "planes.h"
#include "program.h"

namespace resteutils {
namespace {

struct Planes {  // of N images: floats (N, C, H, W), nibbles (N, ceil(C / 4), H + 2, W + 2) with room behind them
  Tensor floats, nibbles;
  int64_t n = 0, c = 0, h = 0, w = 0;
  int64_t nibbles_of_one() const { return (c + 3) / 4 * (h + 2) * (w + 2); }
};

#if defined(__x86_64__)

struct PlanesNetwork {
  const std::vector<Tensor>& tensors;
  const std::vector<Planes>& values;

  template <typename T>
  const T* of(const Step& s, int i, int64_t size) const {
    const Tensor& t = tensors.at(s.first + i);
    TORCH_CHECK(t.numel() == size && t.is_contiguous(), "damaged program of a packed network: a tensor of ", t.numel(), " elements, expected ", size);
    return t.const_data_ptr<T>();
  }

  float floor(const Step& s) const { return s.relu ? 0.0f : -std::numeric_limits<float>::infinity(); }

  Planes prepare(const Step& s, int64_t n, int64_t h, int64_t w) const {
    Planes v;
    v.n = n, v.c = s.out, v.h = h, v.w = w;
    if (s.floats) v.floats = at::empty({n, s.out, h, w}, tensors[0].options().dtype(at::kFloat));
    if (s.bits) v.nibbles = at::zeros({n * v.nibbles_of_one() + PIXELS}, tensors[0].options().dtype(at::kByte));
    return v;
  }

  Planes stem(const Step& s) const {  // torch's own convolution, in the layout that the float model uses: the same rounding
    const Tensor y = at::conv2d(values[s.source].floats, tensors[s.first], {}, {s.sh, s.sw}, {s.ph, s.pw}).contiguous();
    const int64_t h = y.size(2), w = y.size(3), planes = (s.out + 3) / 4;
    Planes v = prepare(s, y.size(0), h, w);
    if (s.floats) v.floats = y;
    float* floats = y.mutable_data_ptr<float>();
    uint8_t* nibbles = s.bits ? v.nibbles.mutable_data_ptr<uint8_t>() : nullptr;
    const float *gain = of<float>(s, 1, s.out), *offset = of<float>(s, 2, s.out);
    share(v.n * planes, 100.0 * h * w * 4, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u)
        for (int64_t c = u % planes * 4; c < std::min(u % planes * 4 + 4, s.out); ++c)
          avx2_finish(floats + (u / planes * s.out + c) * h * w, h, w, gain[c], offset[c], floor(s), nibbles ? nibbles + u * (h + 2) * (w + 2) : nullptr, int(c % 4));
    });
    return v;
  }

  Planes binary(const Step& s) const {
    const Planes& x = values[s.source];
    TORCH_CHECK(s.kh == 3 && s.kw == 3 && s.ph == 1 && s.pw == 1 && s.sh == s.sw && s.in == x.c && s.in <= 4 * MOST_PLANES && x.nibbles.defined(),
                "damaged program of a packed network");
    PlanesLayer l{s.in, s.out, s.sh, x.h, x.w, (x.h - 1) / s.sh + 1, (x.w - 1) / s.sw + 1};
    const bool cut = s.operation == BINARY_SIGN;
    const int64_t numbers = tensors.at(s.first + 2).numel();
    l.weights = of<uint8_t>(s, 0, s.out * 9 * l.in_planes());
    l.tiles = of<int32_t>(s, 1, l.number());
    const int32_t most = *std::max_element(l.tiles, l.tiles + l.number());
    TORCH_CHECK(numbers % (s.out * PIXELS) == 0 && most >= 0 && most < numbers / (s.out * PIXELS), "damaged program of a packed network");
    if (cut) l.cut = of<int16_t>(s, 2, numbers), l.flip = of<uint8_t>(s, 3, s.out);
    else l.base = of<float>(s, 2, numbers), l.alpha = of<float>(s, 3, s.out), l.gain = of<float>(s, 4, s.out), l.offset = of<float>(s, 5, s.out);
    l.floor = floor(s);
    Planes v = prepare(s, x.n, l.oh, l.ow);
    const float* skip = s.skip >= 0 ? values.at(s.skip).floats.const_data_ptr<float>() : nullptr;
    const uint8_t* source = x.nibbles.const_data_ptr<uint8_t>();
    float* floats = s.floats ? v.floats.mutable_data_ptr<float>() : nullptr;
    uint8_t* nibbles = s.bits ? v.nibbles.mutable_data_ptr<uint8_t>() : nullptr;
    const int64_t groups = (l.number() + 3) / 4, size = s.out * l.oh * l.ow;
    share(v.n * groups, 4.0 * PIXELS * s.out * s.in * 9, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t image = u / groups, first = u % groups * 4;
        avx2_planes(l, source + image * x.nibbles_of_one(), skip ? skip + image * size : nullptr, floats ? floats + image * size : nullptr,
                    nibbles ? nibbles + image * v.nibbles_of_one() : nullptr, first, std::min(first + 4, l.number()));
      }
    });
    return v;
  }

  Planes pad(const Step& s) const {  // ResNet-20's shortcut: every stride-th pixel, zero channels before (ph) and after
    const Planes& x = values[s.source];
    const int64_t h = (x.h - 1) / s.sh + 1, w = (x.w - 1) / s.sw + 1;
    Planes v = prepare(s, x.n, h, w);
    const float* from = x.floats.const_data_ptr<float>();
    float* to = v.floats.mutable_data_ptr<float>();
    for (int64_t i = 0; i < x.n * s.out; ++i, to += h * w) {
      const int64_t c = i % s.out - s.ph;
      if (c < 0 || c >= s.in) {
        std::fill(to, to + h * w, 0.0f);
        continue;
      }
      const float* plane = from + (i / s.out * s.in + c) * x.h * x.w;
      for (int64_t y = 0; y < h; ++y)
        for (int64_t k = 0; k < w; ++k) to[y * w + k] = plane[y * s.sh * x.w + k * s.sw];
    }
    return v;
  }

  Planes rows_of(const Step& s, const Tensor& matrix) const {
    Planes v;
    v.floats = matrix, v.n = matrix.size(0), v.c = s.out, v.h = v.w = 1;
    return v;
  }

  Planes affine(const Step& s) const {
    const Planes& x = values[s.source];
    Planes v = prepare(s, x.n, 1, 1);
    const float *from = x.floats.const_data_ptr<float>(), *gain = of<float>(s, 0, s.out), *offset = of<float>(s, 1, s.out);
    float* to = v.floats.mutable_data_ptr<float>();
    for (int64_t i = 0; i < x.n * s.out; ++i) to[i] = std::fma(std::max(from[i], floor(s)), gain[i % s.out], offset[i % s.out]);
    return v;
  }

  Planes run(const Step& s) const {
    const Tensor& floats = values[s.source].floats;
    switch (s.operation) {
      case STEM: return stem(s);
      case BINARY_VALUE:
      case BINARY_SIGN: return binary(s);
      case PAD: return pad(s);
      case AVG_POOL: return rows_of(s, at::adaptive_avg_pool2d(floats, {1, 1}).flatten(1));
      case FLATTEN: return rows_of(s, floats.flatten(1));
      case AFFINE: return affine(s);
      case LINEAR: return rows_of(s, at::linear(floats.flatten(1), tensors.at(s.first), tensors.at(s.first + 1)));
    }
    TORCH_CHECK(false, "operation ", s.operation, " of a packed network does not work on planes");
  }
};

#endif

Tensor run_planes(const Tensor& x, at::TensorList tensors, const Tensor& code, int64_t classes, c10::string_view name) {
#if defined(__x86_64__)
  TORCH_CHECK(std::string(path(name).name) == "avx2", "planes are for AVX2, not for ", path(name).name);
  const std::vector<Tensor> held(tensors.begin(), tensors.end());
  return run_steps<Planes>(x, held, code, classes, [&](const Tensor& part, std::vector<Planes>& values) {
    values[0].floats = part, values[0].n = part.size(0), values[0].c = part.size(1), values[0].h = part.size(2), values[0].w = part.size(3);
    return PlanesNetwork{held, values};
  });
#else
  TORCH_CHECK(false, "planes are for AVX2");
#endif
}

}  // namespace
}  // namespace resteutils

TORCH_LIBRARY_FRAGMENT(resteutils, m) { m.def("run_planes(Tensor x, Tensor[] tensors, Tensor code, int classes, str path='') -> Tensor"); }

TORCH_LIBRARY_IMPL(resteutils, CPU, m) { m.impl("run_planes", &resteutils::run_planes); }

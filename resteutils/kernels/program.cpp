// A whole packed network in one call: a list of steps, each making one value, run without going back to Python. What the steps
// mean is written down in resteutils/onebit/program.py; the executor of model.py, in torch alone, is the reference for this one.
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/add.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <torch/library.h>

#include <limits>

#include "conv.h"
#include "program.h"

namespace resteutils {
namespace {

struct Value {   // one of, or both of: floats (N, H, W, C), bits (N, H, W, bytes); the network's input is (N, C, H, W)
  Tensor floats, bits;
  int64_t channels = 0;
};

// Where a tile of dot products goes: through scale, ReLU, BatchNorm and the residual into floats and bits, or through thresholds.
struct Sink {
  const Path& path;
  const Step& step;
  const float *alpha = nullptr, *gain = nullptr, *offset = nullptr, *threshold = nullptr, *skip = nullptr;
  const int32_t* flip = nullptr;
  float* floats = nullptr;
  uint8_t* bits = nullptr;

  void operator()(int64_t m, int many, int64_t block, float* dots) const {
    const int64_t c = block * LANES, bytes = (step.out + 7) / 8;
    const int lanes = int(std::min<int64_t>(LANES, step.out - c));
    uint32_t words[TILE];
    if (threshold) {
      path.threshold(dots, many, {nullptr, nullptr, nullptr, threshold + c, uint32_t(flip[block]), 0.0f}, words);
    } else {
      const Channels channels = {alpha + c, gain + c, offset + c, nullptr, 0, step.relu ? 0.0f : -std::numeric_limits<float>::infinity()};
      path.residual(dots, many, lanes, channels, skip ? skip + m * step.out + c : nullptr, step.out, words);
    }
    if (floats) path.store_rows(dots, many, lanes, floats + m * step.out + c, step.out);
    if (!bits) return;
    uint8_t* to = bits + m * bytes + block * 4;
    if (lanes > 24)
      for (int i = 0; i < many; ++i) std::memcpy(to + i * bytes, words + i, 4);
    else
      for (int i = 0; i < many; ++i)
        for (int b = 0; b * 8 < lanes; ++b) to[i * bytes + b] = uint8_t(words[i] >> (8 * b));
  }
};

struct Network {
  const Path& path;
  const std::vector<Tensor>& tensors;
  const std::vector<Value>& values;

  const float* numbers(const Step& s, int i) const { return tensors.at(s.first + i).const_data_ptr<float>(); }

  Value prepare(const Step& s, int64_t n, int64_t h, int64_t w) const {
    Value v;
    v.channels = s.out;
    if (s.floats) v.floats = at::empty({n, h, w, s.out}, tensors[0].options().dtype(at::kFloat));
    if (s.bits) v.bits = at::empty({n, h, w, (s.out + 7) / 8}, tensors[0].options().dtype(at::kByte));
    return v;
  }

  Sink sink(const Step& s, Value& to, int first = 1) const {
    Sink out{path, s};
    out.alpha = numbers(s, first), out.gain = numbers(s, first + 1), out.offset = numbers(s, first + 2);
    if (s.skip >= 0) out.skip = values.at(s.skip).floats.const_data_ptr<float>();
    if (s.floats) out.floats = to.floats.mutable_data_ptr<float>();
    if (s.bits) out.bits = to.bits.mutable_data_ptr<uint8_t>();
    return out;
  }

  // Floats that torch computed, through the same sink. plane > 0: x is (N, C, plane) with `plane` pixels; else rows of pixels.
  void finish(const Step& s, const float* x, int64_t pixels, int64_t plane, const Sink& sink) const {
    const int64_t blocks = (s.out + LANES - 1) / LANES, images = plane ? pixels / plane : 1, per = plane ? plane : pixels;
    const int64_t tiles = (per + TILE - 1) / TILE;
    share(images * tiles, double(TILE) * s.out * 100, [&](int64_t begin, int64_t end) {
      alignas(64) float dots[TILE * LANES] = {};
      for (int64_t u = begin; u < end; ++u) {
        const int64_t image = u / tiles, p = u % tiles * TILE, m = image * per + p;
        const int many = int(std::min<int64_t>(TILE, per - p));
        for (int64_t b = 0; b < blocks; ++b) {
          const int lanes = int(std::min<int64_t>(LANES, s.out - b * LANES));
          if (plane) path.load_planes(x + (image * s.out + b * LANES) * plane + p, many, lanes, plane, dots);
          else
            for (int i = 0; i < many; ++i) std::memcpy(dots + i * LANES, x + (m + i) * s.out + b * LANES, sizeof(float) * lanes);
          sink(m, many, b, dots);
        }
      }
    });
  }

  Value stem(const Step& s) const {  // torch's own convolution, in the layout that the float model uses: the same rounding
    const Tensor y = at::conv2d(planes(s), tensors[s.first], {}, {s.sh, s.sw}, {s.ph, s.pw}, {s.dh, s.dw}, s.groups).contiguous();
    Value v = prepare(s, y.size(0), y.size(2), y.size(3));
    finish(s, y.const_data_ptr<float>(), y.size(0) * y.size(2) * y.size(3), y.size(2) * y.size(3), sink(s, v));
    return v;
  }

  // The bits of `count` channels from `first` on, where a group may begin inside a byte.
  static Tensor bits_of(const Tensor& bits, int64_t first, int64_t count) {
    const int64_t bytes = bits.size(3), part = (count + 7) / 8, skipped = first / 8, shift = first % 8;
    Tensor group = at::empty({bits.size(0), bits.size(1), bits.size(2), part}, bits.options());
    const uint8_t* from = bits.const_data_ptr<uint8_t>() + skipped;
    uint8_t* to = group.mutable_data_ptr<uint8_t>();
    share(bits.numel() / bytes, double(part) * 8, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        for (int64_t b = 0; b < part; ++b) {
          const uint8_t* byte = from + p * bytes + b;
          const int next = shift && skipped + b + 1 < bytes ? byte[1] : 0;
          to[p * part + b] = uint8_t((byte[0] | next << 8) >> shift & ((1 << std::min<int64_t>(8, count - b * 8)) - 1));
        }
    });
    return group;
  }

  // Groups one after the other, then scale and thresholds of them all.
  Value grouped(const Step& s) const {
    const int64_t in = s.in / s.groups, out = s.out / s.groups;
    Tensor y;
    for (int64_t g = 0; g < s.groups; ++g) {
      const Tensor bits = bits_of(values[s.source].bits, g * in, in);
      const Conv conv = convolution(s, bits, tensors[s.first].select(0, g), in, out);
      if (!g) y = at::empty({conv.n, conv.oh, conv.ow, s.out}, bits.options().dtype(at::kFloat));
      float* to = y.mutable_data_ptr<float>() + g * out;
      conv.run(4, [&](int64_t m, int many, int64_t block, const float* dots) {
        path.store_rows(dots, many, int(std::min<int64_t>(LANES, out - block * LANES)), to + m * s.out + block * LANES, s.out);
      });
    }
    Value v = prepare(s, y.size(0), y.size(1), y.size(2));
    finish(s, y.const_data_ptr<float>(), y.numel() / s.out, 0, s.operation == BINARY_VALUE ? sink(s, v) : cut(s, v));
    return v;
  }

  // Groups of few channels would leave most lanes empty: torch convolves their signs as floats, which gives the same integers.
  Value depthwise(const Step& s) const {
    const Tensor& bits = values[s.source].bits;
    const int64_t n = bits.size(0), pixels = bits.size(1) * bits.size(2), bytes = bits.size(3);
    Tensor signs = at::empty({n, s.in, bits.size(1), bits.size(2)}, bits.options().dtype(at::kFloat));
    const uint8_t* from = bits.const_data_ptr<uint8_t>();
    float* to = signs.mutable_data_ptr<float>();
    share(n * s.in, double(pixels) * 4, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t c = u % s.in;
        const uint8_t* byte = from + u / s.in * pixels * bytes + c / 8;
        for (int64_t p = 0; p < pixels; ++p) to[u * pixels + p] = byte[p * bytes] >> (c % 8) & 1 ? -1.0f : 1.0f;
      }
    });
    const Tensor y = at::conv2d(signs, tensors[s.first], {}, {s.sh, s.sw}, {s.ph, s.pw}, {s.dh, s.dw}, s.groups).contiguous();
    Value v = prepare(s, n, y.size(2), y.size(3));
    finish(s, y.const_data_ptr<float>(), n * y.size(2) * y.size(3), y.size(2) * y.size(3),
           s.operation == BINARY_VALUE ? sink(s, v) : cut(s, v));
    return v;
  }

  Sink cut(const Step& s, Value& to) const {
    Sink out{path, s};
    out.threshold = numbers(s, 1), out.flip = tensors[s.first + 2].const_data_ptr<int32_t>();
    out.bits = to.bits.mutable_data_ptr<uint8_t>();
    return out;
  }

  Conv convolution(const Step& s, const Tensor& bits, const Tensor& blob, int64_t in, int64_t out) const {
    check_conv(bits, in, out, {s.kh, s.kw}, {s.sh, s.sw}, {s.ph, s.pw}, {s.dh, s.dw});
    return Conv(path, bits, blob, in, out, {s.kh, s.kw}, {s.sh, s.sw}, {s.ph, s.pw}, {s.dh, s.dw});
  }

  Value project(const Step& s) const {  // 1x1 convolution: every stride-th pixel times a matrix (in, out)
    const Tensor x = rows(s).slice(1, 0, {}, s.sh).slice(2, 0, {}, s.sw).contiguous();
    const Tensor y = at::mm(x.view({-1, s.in}), tensors[s.first]);
    Value v = prepare(s, x.size(0), x.size(1), x.size(2));
    finish(s, y.const_data_ptr<float>(), y.size(0), 0, sink(s, v));
    return v;
  }

  Value binary(const Step& s) const {
    if (s.groups > 1) return tensors[s.first].is_floating_point() ? depthwise(s) : grouped(s);
    const Conv conv = convolution(s, values[s.source].bits, tensors[s.first], s.in, s.out);
    Value v = prepare(s, conv.n, conv.oh, conv.ow);
    if (s.operation == BINARY_VALUE) {
      conv.run(4, sink(s, v));
      return v;
    }
    conv.run(4, cut(s, v));
    return v;
  }

  // Of floats the maximum; of bits (1 for -1) their conjunction, as sign(max) is the maximum of the signs. Padding never wins.
  template <typename T, typename Combine>
  Tensor pool(const Step& s, const Tensor& x, T least, const Combine& combine) const {
    const int64_t n = x.size(0), h = x.size(1), w = x.size(2), c = x.size(3);
    const int64_t oh = (h + 2 * s.ph - s.kh) / s.sh + 1, ow = (w + 2 * s.pw - s.kw) / s.sw + 1;
    Tensor y = at::empty({n, oh, ow, c}, x.options());
    const T* from = x.const_data_ptr<T>();
    T* to = y.mutable_data_ptr<T>();
    share(n * oh, double(ow) * c * s.kh * s.kw * 20, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u)
        for (int64_t ox = 0; ox < ow; ++ox) {
          T* out = to + (u * ow + ox) * c;
          std::fill(out, out + c, least);
          for (int64_t i = 0; i < s.kh; ++i)
            for (int64_t j = 0; j < s.kw; ++j) {
              const int64_t iy = u % oh * s.sh - s.ph + i, ix = ox * s.sw - s.pw + j;
              if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
              const T* in = from + ((u / oh * h + iy) * w + ix) * c;
              for (int64_t k = 0; k < c; ++k) out[k] = combine(out[k], in[k]);
            }
        }
    });
    return y;
  }

  Value max_pool(const Step& s) const {
    const Value& x = values[s.source];
    Value v;
    v.channels = x.channels;
    if (s.floats)  // a NaN wins, as in torch
      v.floats = pool<float>(s, rows(s), -std::numeric_limits<float>::infinity(), [](float a, float b) { return b > a || b != b ? b : a; });
    if (s.bits) v.bits = pool<uint8_t>(s, x.bits, 0xff, [](uint8_t a, uint8_t b) { return uint8_t(a & b); });
    return v;
  }

  Value pad(const Step& s) const {  // ResNet-20's shortcut: every stride-th pixel, zero channels before (ph) and after
    const Tensor x = rows(s).slice(1, 0, {}, s.sh).slice(2, 0, {}, s.sw).contiguous();
    Tensor y = at::empty({x.size(0), x.size(1), x.size(2), s.out}, x.options());
    const float* from = x.const_data_ptr<float>();
    float* to = y.mutable_data_ptr<float>();
    for (int64_t p = 0; p < x.numel() / s.in; ++p, to += s.out, from += s.in) {
      std::fill(to, to + s.out, 0.0f);
      std::copy(from, from + s.in, to + s.ph);
    }
    return made(s, y);
  }

  // The source's floats as (N, H, W, C) and as (N, C, H, W); the image is kept as it comes, everything else by pixels.
  Tensor rows(const Step& s) const { return s.source ? values[s.source].floats : values[0].floats.permute({0, 2, 3, 1}).contiguous(); }
  Tensor planes(const Step& s) const { return s.source ? values[s.source].floats.permute({0, 3, 1, 2}).contiguous() : values[0].floats; }

  // Floats (N, H, W, C) that torch computed, and their signs where somebody reads them.
  Value made(const Step& s, const Tensor& y) const {
    Value v{y.contiguous(), {}, s.out};
    if (!s.bits) return v;
    const int64_t pixels = v.floats.numel() / s.out, bytes = (s.out + 7) / 8;
    v.bits = at::empty({y.size(0), y.size(1), y.size(2), bytes}, y.options().dtype(at::kByte)).zero_();
    const float* from = v.floats.const_data_ptr<float>();
    uint8_t* to = v.bits.mutable_data_ptr<uint8_t>();
    share(pixels, double(s.out) * 4, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        for (int64_t c = 0; c < s.out; ++c) to[p * bytes + c / 8] |= uint8_t((from[p * s.out + c] < 0) << (c % 8));
    });
    if (!s.floats) v.floats = Tensor();
    return v;
  }

  Value rows_of(const Step& s, const Tensor& matrix) const { return made(s, matrix.view({matrix.size(0), 1, 1, matrix.size(1)})); }

  Value activate(const Step& s) const {
    const Tensor x = rows(s);
    const float *slope = numbers(s, 0), *limits = numbers(s, 1);
    Tensor y = at::empty(x.sizes(), x.options());
    const float* from = x.const_data_ptr<float>();
    float* to = y.mutable_data_ptr<float>();
    share(x.numel() / s.out, double(s.out) * 2, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        for (int64_t c = 0; c < s.out; ++c) {
          const float z = from[p * s.out + c], line = z < 0 ? z * slope[c] : z;
          to[p * s.out + c] = line < limits[0] ? limits[0] : line > limits[1] ? limits[1] : line;  // NaN stays
        }
    });
    return made(s, y);
  }

  Value mean_pool(const Step& s) const {
    const Tensor y = at::avg_pool2d(planes(s), {s.kh, s.kw}, {s.sh, s.sw}, {s.ph, s.pw}, false, s.relu != 0);
    return made(s, y.permute({0, 2, 3, 1}));
  }

  Value affine(const Step& s) const {
    const Tensor x = rows(s);
    Value v = prepare(s, x.size(0), x.size(1), x.size(2));
    finish(s, x.const_data_ptr<float>(), x.numel() / s.out, 0, sink(s, v, 0));
    return v;
  }

  Value run(const Step& s) const {
    switch (s.operation) {
      case STEM: return stem(s);
      case PROJECT: return project(s);
      case BINARY_VALUE:
      case BINARY_SIGN: return binary(s);
      case MAX_POOL: return max_pool(s);
      case PAD: return pad(s);
      case AVG_POOL: return rows_of(s, at::adaptive_avg_pool2d(planes(s), {1, 1}).flatten(1));
      case FLATTEN: return rows_of(s, planes(s).flatten(1));
      case AFFINE: return affine(s);
      case LINEAR: return rows_of(s, at::linear(values[s.source].floats.flatten(1), tensors[s.first], tensors[s.first + 1]));
      case ACTIVATE: return activate(s);
      case ADD: return made(s, at::add(rows(s), values[s.skip].floats));
      case MEAN_POOL: return mean_pool(s);
    }
    TORCH_CHECK(false, "unknown operation ", s.operation, " in a packed network's program");
  }
};

Tensor run_program(const Tensor& x, at::TensorList tensors, const Tensor& code, int64_t classes, c10::string_view name) {
  const std::vector<Tensor> held(tensors.begin(), tensors.end());
  const Path& chosen = path(name);
  return run_steps<Value>(x, held, code, classes, [&](const Tensor& part, std::vector<Value>& values) {
    values[0] = {part, {}, part.size(1)};
    return Network{chosen, held, values};
  });
}

}  // namespace
}  // namespace resteutils

TORCH_LIBRARY_FRAGMENT(resteutils, m) { m.def("run_program(Tensor x, Tensor[] tensors, Tensor code, int classes, str path='') -> Tensor"); }

TORCH_LIBRARY_IMPL(resteutils, CPU, m) { m.impl("run_program", &resteutils::run_program); }

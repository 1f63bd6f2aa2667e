// The operations as torch sees them: shapes, memory formats, threads. Bits travel as uint8 tensors of shape (N, H, W, bytes), eight
// channels a byte, lowest bit first, 1 for -1. Prepared weights ("blob") are laid out for one instruction set:
// blocks of LANES output channels, then, per tap, how many -1 each output channel has (what zero padding needs).
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "paths.h"

namespace resteutils {
namespace {

using at::Tensor;

// ---------------------------------------------------------------------------------------------------------------- paths

std::vector<const Path*> usable_paths() {
  std::vector<const Path*> paths;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vpopcntdq");
  if (avx512) paths.push_back(&avx512_path);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) paths.push_back(&avx2_path);
#endif
  paths.push_back(&scalar_path);
  return paths;
}

std::string path_names() {
  std::string names;
  for (const Path* p : usable_paths()) names += (names.empty() ? "" : ",") + std::string(p->name);
  return names;
}

const Path& path(c10::string_view name) {
  static const std::vector<const Path*> usable = usable_paths();
  if (name.empty()) {
    static const Path* best = [] {
      const char* wish = std::getenv("RESTEUTILS_KERNEL");
      for (const Path* p : usable)
        if (wish && std::string(wish) == p->name) return p;
      TORCH_CHECK(!wish || !*wish || std::string(wish) == "auto", "RESTEUTILS_KERNEL=", wish, ": this machine offers auto,", path_names());
      return usable.front();
    }();
    return *best;
  }
  for (const Path* p : usable)
    if (name == p->name) return *p;
  TORCH_CHECK(false, "kernel path '", name, "': this machine offers ", path_names());
}

// Splits `units` over torch's threads, at least `cost` multiply-accumulates (or their like) to a share worth waking a thread for.
template <typename F>
void share(int64_t units, double cost_per_unit, const F& work) {
  constexpr double WORTH = 4e6;
  const int64_t grain = std::max<int64_t>(1, int64_t(WORTH / std::max(1.0, cost_per_unit)));
  at::parallel_for(0, units, grain, work);
}

// ----------------------------------------------------------------------------------------------------------------- bits

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

bool is_channels_last(const Tensor& x) { return !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast); }

// float32 or float64 (its smallest numbers would round to zero, and zero has the other sign); halves are exact in float32
Tensor as_float(const Tensor& x) {
  TORCH_CHECK(x.is_floating_point(), "binary kernels take floating-point tensors, got ", x.scalar_type());
  if (x.scalar_type() == at::kFloat) return x;
  if (x.scalar_type() == at::kDouble) return x.sign().to(at::kFloat);
  return x.to(at::kFloat);
}

// (N, C, H, W) -> bits (N, H, W, ceil(C / 8)) and, per n, whether it holds a NaN
std::tuple<Tensor, Tensor> pack_bits_with(const Tensor& input, const Path& path) {
  TORCH_CHECK(input.dim() == 4, "pack_bits takes (N, C, H, W), got ", input.sizes());
  Tensor x = as_float(input);
  const bool last = is_channels_last(x);
  if (!last) x = x.contiguous();
  const int64_t n = x.size(0), c = x.size(1), hw = x.size(2) * x.size(3), bytes = (c + 7) / 8;
  Tensor bits = at::empty({n, x.size(2), x.size(3), bytes}, x.options().dtype(at::kByte));
  Tensor nan = at::empty({n}, bits.options());
  const float* from = x.const_data_ptr<float>();
  uint8_t *to = bits.mutable_data_ptr<uint8_t>(), *seen = nan.mutable_data_ptr<uint8_t>();
  std::memset(seen, 0, n);
  const int64_t part = std::max<int64_t>(16, round_up(16384 / std::max<int64_t>(c, 1), 16)), parts = (hw + part - 1) / part;
  share(n * parts, 100.0 * part * c, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      const int64_t i = u / parts, p = u % parts * part, count = std::min(part, hw - p);
      uint8_t* out = to + (i * hw + p) * bytes;
      const bool met = last ? path.pack_rows(from + (i * hw + p) * c, c, count, out) : path.pack_planes(from + i * c * hw + p, c, hw, count, out);
      if (met) seen[i] = 1;
    }
  });
  return {bits, nan};
}

std::tuple<Tensor, Tensor> pack_bits(const Tensor& x, c10::string_view name) { return pack_bits_with(x, path(name)); }

// -------------------------------------------------------------------------------------------------------------- weights

struct Weights {  // how a blob is laid out
  int64_t out, in, taps, bytes, row, blocks;
  Weights(int64_t out_channels, int64_t in_channels, int64_t taps)
      : out(out_channels), in(in_channels), taps(taps), bytes((in + 7) / 8), row(round_up(taps * bytes, 8)), blocks((out + LANES - 1) / LANES) {}
  int64_t block_size() const { return row * LANES; }
  int64_t size() const { return blocks * (block_size() + taps * LANES * int64_t(sizeof(int32_t))); }
};

// bits of weights (O, kh, kw, bytes) -> blob
Tensor prepare_with(const Tensor& weight_bits, int64_t in_channels, const Path& path) {
  TORCH_CHECK(weight_bits.dim() == 4 && weight_bits.scalar_type() == at::kByte, "bits of weights are uint8 of shape (out, kh, kw, bytes)");
  const Tensor bits = weight_bits.contiguous();
  const Weights w(bits.size(0), in_channels, bits.size(1) * bits.size(2));
  TORCH_CHECK(bits.size(3) == w.bytes, in_channels, " input channels take ", w.bytes, " bytes a tap, got ", bits.size(3));
  Tensor blob = at::empty({w.size()}, bits.options());
  const uint8_t* from = bits.const_data_ptr<uint8_t>();
  uint8_t* to = blob.mutable_data_ptr<uint8_t>();
  share(w.blocks, double(w.block_size()) * 64, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> padded(w.row * LANES);
    for (int64_t b = begin; b < end; ++b) {
      int32_t* negative = reinterpret_cast<int32_t*>(to + w.blocks * w.block_size()) + b * w.taps * LANES;
      const uint8_t* rows[LANES];
      std::fill(padded.begin(), padded.end(), uint8_t(0));
      for (int lane = 0; lane < LANES; ++lane) {
        rows[lane] = padded.data() + lane * w.row;
        const bool real = b * LANES + lane < w.out;
        if (real) std::memcpy(padded.data() + lane * w.row, from + (b * LANES + lane) * w.taps * w.bytes, w.taps * w.bytes);
        for (int64_t tap = 0; tap < w.taps; ++tap)
          negative[tap * LANES + lane] = int32_t(path.ones(rows[lane] + tap * w.bytes, w.bytes));
      }
      path.interleave(rows, w.row, to + b * w.block_size());
    }
  });
  return blob;
}

Tensor prepare_weight(const Tensor& bits, int64_t in_channels, c10::string_view name) { return prepare_with(bits, in_channels, path(name)); }

// ---------------------------------------------------------------------------------------------------------- convolution

// The valid taps of an output position along one axis, as a range; positions that share it share a class.
struct Axis {
  std::vector<int64_t> begin, end;  // per class
  std::vector<int> of;              // class of each output position
  Axis(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding) {
    for (int64_t o = 0; o < out; ++o) {
      const int64_t start = o * stride - padding;
      const int64_t lo = std::min(kernel, std::max<int64_t>(0, -start)), hi = std::max(lo, std::min(kernel, in - start));
      if (begin.empty() || begin.back() != lo || end.back() != hi) {
        begin.push_back(lo);
        end.push_back(hi);
      }
      of.push_back(int(begin.size()) - 1);
    }
  }
};

struct Conv {
  const Path& path;
  const uint8_t* bits;
  int64_t n, h, w;
  Weights weights;
  const uint8_t* blob;
  int64_t kh, kw, sh, sw, ph, pw, oh, ow;
  Axis rows, columns;
  std::vector<float> base;  // [class of row][class of column][channel]: the dot product if no bit differed, padding taken out

  Conv(const Path& path, const Tensor& bits, const Tensor& blob, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p)
      : path(path), bits(bits.const_data_ptr<uint8_t>()), n(bits.size(0)), h(bits.size(1)), w(bits.size(2)), weights(out, in, k[0] * k[1]),
        blob(blob.const_data_ptr<uint8_t>()), kh(k[0]), kw(k[1]), sh(s[0]), sw(s[1]), ph(p[0]), pw(p[1]),
        oh((h + 2 * ph - kh) / sh + 1), ow((w + 2 * pw - kw) / sw + 1), rows(h, oh, kh, sh, ph), columns(w, ow, kw, sw, pw) {
    TORCH_CHECK(blob.numel() == weights.size() && blob.is_contiguous(), "prepared weights of ", blob.numel(), " bytes, expected ", weights.size(),
                " for ", out, "x", in, "x", kh, "x", kw, ": prepare them with pack_weight");
    const int64_t padded = weights.blocks * LANES, ny = rows.begin.size(), nx = columns.begin.size();
    const int32_t* negative = reinterpret_cast<const int32_t*>(this->blob + weights.blocks * weights.block_size());
    base.resize(ny * nx * padded);
    for (int64_t y = 0; y < ny; ++y)
      for (int64_t x = 0; x < nx; ++x)
        for (int64_t b = 0; b < weights.blocks; ++b) {
          int32_t sum[LANES] = {};
          int64_t valid = 0;
          for (int64_t i = 0; i < kh; ++i)
            for (int64_t j = 0; j < kw; ++j) {
              if (i >= rows.begin[y] && i < rows.end[y] && j >= columns.begin[x] && j < columns.end[x]) {
                ++valid;
                continue;
              }
              // padding reads as +1 everywhere, so it "differs" wherever the weight is -1: give those counts back
              const int32_t* tap = negative + (b * weights.taps + i * kw + j) * LANES;
              for (int lane = 0; lane < LANES; ++lane) sum[lane] += 2 * tap[lane];
            }
          float* to = base.data() + (y * nx + x) * padded + b * LANES;
          for (int lane = 0; lane < LANES; ++lane) to[lane] = float(sum[lane] + valid * weights.in);
        }
  }

  int64_t pixels() const { return n * oh * ow; }

  // For each of `many` output pixels from m on, the bits under the kernel in one row, padding as zeros, and its base values.
  void gather(int64_t m, int many, uint8_t* row, const float** bases) const {
    const int64_t span = kw * weights.bytes, used = weights.taps * weights.bytes, step = w * weights.bytes;
    int64_t x = m % ow, y = m / ow % oh, image = m / ow / oh;
    for (int i = 0; i < many; ++i, row += weights.row) {
      const int ry = rows.of[y], cx = columns.of[x];
      const int64_t top = rows.begin[ry], bottom = rows.end[ry], left = columns.begin[cx], right = columns.end[cx];
      const uint8_t* from = bits + ((image * h + y * sh - ph) * w + x * sw - pw) * weights.bytes;
      if (bottom - top == kh && right - left == kw) {
        path.copy(row, from, span, step, kh);
        std::memset(row + used, 0, weights.row - used);
      } else {
        std::memset(row, 0, weights.row);
        for (int64_t k = top; k < bottom && left < right; ++k)
          path.copy(row + k * span + left * weights.bytes, from + k * step + left * weights.bytes, (right - left) * weights.bytes, 0, 1);
      }
      bases[i] = base.data() + (int64_t(ry) * columns.begin.size() + cx) * weights.blocks * LANES;
      if (++x == ow) {
        x = 0;
        if (++y == oh) y = 0, ++image;
      }
    }
  }

  // Calls emit(first pixel, pixels, block, dots) for every tile of pixels and block of channels. multiple: pixels in a tile come in such steps.
  template <typename Emit>
  void run(int64_t multiple, const Emit& emit) const {
    const int64_t total = pixels();
    if (!total || !weights.blocks) return;
    const int64_t tiles = (total + TILE - 1) / TILE, tile = std::min<int64_t>(TILE, round_up((total + tiles - 1) / tiles, multiple));
    const int64_t units = (total + tile - 1) / tile * weights.blocks;
    share(units, double(tile) * LANES * weights.row * 8, [&](int64_t begin, int64_t end) {
      std::vector<uint8_t> gathered(tile * weights.row + 64);
      alignas(64) int32_t counts[TILE * LANES];
      alignas(64) float dots[TILE * LANES];
      const float* bases[TILE];
      int64_t have = -1;
      for (int64_t u = begin; u < end; ++u) {
        const int64_t t = u / weights.blocks, block = u % weights.blocks, m = t * tile;
        const int many = int(std::min(tile, total - m));
        if (t != have) gather(m, many, gathered.data(), bases);
        for (int i = 0; i < many; ++i) bases[i] += t != have ? block * LANES : LANES;
        have = t;
        path.mismatches(gathered.data(), many, weights.row, blob + block * weights.block_size(), counts);
        path.dots(counts, many, bases, dots);
        emit(m, many, block, dots);
      }
    });
  }
};

void check_conv(const Tensor& bits, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p) {
  TORCH_CHECK(k.size() == 2 && s.size() == 2 && p.size() == 2, "kernel, stride and padding take two numbers each");
  TORCH_CHECK(in > 0 && out > 0 && k[0] > 0 && k[1] > 0 && s[0] > 0 && s[1] > 0 && p[0] >= 0 && p[1] >= 0,
              "channels, kernel and stride must be positive and padding not negative, got ", in, " -> ", out, ", kernel ", k, ", stride ", s, ", padding ", p);
  TORCH_CHECK(bits.dim() == 4 && bits.scalar_type() == at::kByte && bits.is_contiguous() && bits.size(3) == (in + 7) / 8,
              "bits are a contiguous uint8 tensor (N, H, W, ", (in + 7) / 8, ") for ", in, " channels, got ", bits.sizes());
  TORCH_CHECK(bits.size(1) + 2 * p[0] >= k[0] && bits.size(2) + 2 * p[1] >= k[1], "kernel ", k, " does not fit into ", bits.size(1), "x", bits.size(2),
              " with padding ", p);
}

Tensor conv_bits_with(const Tensor& bits, const Tensor& blob, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p,
                      bool channels_last, const Path& path) {
  check_conv(bits, in, out, k, s, p);
  const Conv conv(path, bits, blob, in, out, k, s, p);
  const int64_t plane = conv.oh * conv.ow;
  Tensor result = at::empty({conv.n, out, conv.oh, conv.ow}, bits.options().dtype(at::kFloat),
                            channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  float* to = result.mutable_data_ptr<float>();
  if (channels_last || plane == 1) {
    conv.run(4, [&](int64_t m, int many, int64_t block, const float* dots) {
      path.store_rows(dots, many, int(std::min<int64_t>(LANES, out - block * LANES)), to + m * out + block * LANES, out);
    });
  } else {
    conv.run(16, [&](int64_t m, int many, int64_t block, const float* dots) {
      const int lanes = int(std::min<int64_t>(LANES, out - block * LANES));
      for (int done = 0; done < many;) {  // a tile may span images
        const int64_t image = (m + done) / plane, p = (m + done) % plane;
        const int part = int(std::min<int64_t>(many - done, plane - p));
        path.store_planes(dots + done * LANES, part, lanes, to + (image * out + block * LANES) * plane + p, plane);
        done += part;
      }
    });
  }
  return result;
}

Tensor conv2d_bits(const Tensor& bits, const Tensor& blob, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p,
                   bool channels_last, c10::string_view name) {
  return conv_bits_with(bits.contiguous(), blob, in, out, k, s, p, channels_last, path(name));
}

Tensor conv2d_packed(const Tensor& x, const Tensor& blob, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p, c10::string_view name) {
  const Path& chosen = path(name);
  auto [bits, nan] = pack_bits_with(x, chosen);
  Tensor result = conv_bits_with(bits, blob, x.size(1), out, k, s, p, is_channels_last(x), chosen);
  const uint8_t* seen = nan.const_data_ptr<uint8_t>();
  for (int64_t i = 0; i < x.size(0); ++i)
    if (seen[i]) result.select(0, i).fill_(std::numeric_limits<float>::quiet_NaN());
  return x.scalar_type() == at::kFloat ? result : result.to(x.scalar_type());
}

Tensor conv2d(const Tensor& x, const Tensor& weight, at::IntArrayRef s, at::IntArrayRef p, c10::string_view name) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && x.size(1) == weight.size(1), "binary_conv2d takes (N, C, H, W) and (out, C, kh, kw), got ", x.sizes(),
              " and ", weight.sizes());
  const Path& chosen = path(name);
  auto [bits, nan] = pack_bits_with(weight, chosen);
  const Tensor blob = prepare_with(bits, weight.size(1), chosen);
  Tensor result = conv2d_packed(x, blob, weight.size(0), weight.sizes().slice(2), s, p, name);
  const uint8_t* seen = nan.const_data_ptr<uint8_t>();
  for (int64_t o = 0; o < weight.size(0); ++o)
    if (seen[o]) result.select(1, o).fill_(std::numeric_limits<double>::quiet_NaN());
  return result;
}

// --------------------------------------------------------------------------------------------------------- ReSTE's slope

Tensor reste_backward(const Tensor& grad_in, const Tensor& z_in, double scale, double exponent, double plateau, double m, double t, c10::string_view name) {
  TORCH_CHECK(grad_in.scalar_type() == at::kFloat && z_in.scalar_type() == at::kFloat && grad_in.sizes() == z_in.sizes(),
              "reste_backward takes two float32 tensors of one shape, got ", grad_in.sizes(), " ", grad_in.scalar_type(), " and ", z_in.sizes(), " ", z_in.scalar_type());
  const bool last = is_channels_last(z_in);
  const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const Tensor z = z_in.contiguous(format), grad = grad_in.contiguous(format);
  Tensor out = at::empty(z.sizes(), z.options(), format);
  const Path& chosen = path(name);
  const float high = float(exponent);
  const Power power = {float(scale), high, float(exponent - high), float(plateau), float(m), float(t)};
  const bool stream = z.numel() >= (1 << 20);  // results larger than a cache do not wait there for their reader
  const float *g = grad.const_data_ptr<float>(), *from = z.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, (z.numel() + 1023) / 1024, 32, [&](int64_t begin, int64_t end) {
    const int64_t a = begin * 1024, count = std::min(end * 1024, z.numel()) - a;
    chosen.reste_backward(g + a, from + a, to + a, count, power, stream);
  });
  return out;
}

}  // namespace
}  // namespace resteutils

TORCH_LIBRARY(resteutils, m) {
  m.def("paths() -> str", &resteutils::path_names);
  m.def("pack_bits(Tensor x, str path='') -> (Tensor, Tensor)");
  m.def("prepare_weight(Tensor bits, int in_channels, str path='') -> Tensor");
  m.def("conv2d_bits(Tensor bits, Tensor blob, int in_channels, int out_channels, int[2] kernel, int[2] stride, int[2] padding, bool channels_last=False, str path='') -> Tensor");
  m.def("conv2d_packed(Tensor x, Tensor blob, int out_channels, int[2] kernel, int[2] stride, int[2] padding, str path='') -> Tensor");
  m.def("conv2d(Tensor x, Tensor weight, int[2] stride, int[2] padding, str path='') -> Tensor");
  m.def("reste_backward(Tensor grad, Tensor z, float scale, float exponent, float plateau, float m, float t, str path='') -> Tensor");
}

TORCH_LIBRARY_IMPL(resteutils, CPU, m) {
  m.impl("pack_bits", &resteutils::pack_bits);
  m.impl("prepare_weight", &resteutils::prepare_weight);
  m.impl("conv2d_bits", &resteutils::conv2d_bits);
  m.impl("conv2d_packed", &resteutils::conv2d_packed);
  m.impl("conv2d", &resteutils::conv2d);
  m.impl("reste_backward", &resteutils::reste_backward);
}

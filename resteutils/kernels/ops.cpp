// The operations as torch sees them. Bits travel as uint8 tensors of shape (N, H, W, bytes), eight channels a byte, lowest
// bit first, 1 for -1. Prepared weights ("blob") are laid out for one instruction set: blocks of LANES output channels,
// then, per tap, how many -1 each output channel has (what zero padding needs).
#include <ATen/ops/cat.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "conv.h"

namespace resteutils {

// ---------------------------------------------------------------------------------------------------------------- paths

static std::vector<const Path*> usable_paths() {
  std::vector<const Path*> paths;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vpopcntdq");
  if (avx512) paths.push_back(&avx512_path);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) paths.push_back(&avx2_path);
#elif defined(__aarch64__)
  paths.push_back(&neon_path);
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

// ----------------------------------------------------------------------------------------------------------------- bits

bool is_channels_last(const Tensor& x) { return !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast); }

// float32 or float64 (its smallest numbers would round to zero, and zero has the other sign); halves are exact in float32
static Tensor as_float(const Tensor& x) {
  TORCH_CHECK(x.is_floating_point(), "binary kernels take floating-point tensors, got ", x.scalar_type());
  if (x.scalar_type() == at::kFloat) return x;
  if (x.scalar_type() == at::kDouble) return x.sign().masked_fill_(x.isnan(), NAN).to(at::kFloat);  // sign(NaN) is 0
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

// -------------------------------------------------------------------------------------------------------------- weights

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

// ---------------------------------------------------------------------------------------------------------- convolution

namespace {

std::tuple<Tensor, Tensor> pack_bits(const Tensor& x, c10::string_view name) { return pack_bits_with(x, path(name)); }

Tensor prepare_weight(const Tensor& bits, int64_t in_channels, c10::string_view name) {
  return prepare_with(bits, in_channels, path(name));
}

Tensor conv_bits_with(const Tensor& bits, const Tensor& blob, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p,
                      at::IntArrayRef d, bool channels_last, const Path& path) {
  check_conv(bits, in, out, k, s, p, d);
  const Conv conv(path, bits, blob, in, out, k, s, p, d);
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

Tensor conv2d_packed(const Tensor& x, const Tensor& blob, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d,
                     c10::string_view name) {
  const Path& chosen = path(name);
  auto [bits, nan] = pack_bits_with(x, chosen);
  Tensor result = conv_bits_with(bits, blob, x.size(1), out, k, s, p, d, is_channels_last(x), chosen);
  const uint8_t* seen = nan.const_data_ptr<uint8_t>();
  for (int64_t i = 0; i < x.size(0); ++i)
    if (seen[i]) result.select(0, i).fill_(std::numeric_limits<float>::quiet_NaN());
  return x.scalar_type() == at::kFloat ? result : result.to(x.scalar_type());
}

Tensor conv2d(const Tensor& x, const Tensor& weight, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d, int64_t groups, c10::string_view name) {
  TORCH_CHECK(x.dim() == 4 && weight.dim() == 4 && groups > 0 && x.size(1) == groups * weight.size(1) && weight.size(0) % groups == 0,
              "binary_conv2d takes (N, C, H, W) and (out, C / groups, kh, kw), got ", x.sizes(), " and ", weight.sizes(), " in ", groups, " groups");
  if (groups > 1) {
    const std::vector<Tensor> images = x.chunk(groups, 1), kernels = weight.chunk(groups, 0);
    std::vector<Tensor> parts;
    for (int64_t g = 0; g < groups; ++g) parts.push_back(conv2d(images[g], kernels[g], s, p, d, 1, name));
    return at::cat(parts, 1).contiguous(is_channels_last(x) ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
  }
  const Path& chosen = path(name);
  auto [bits, nan] = pack_bits_with(weight, chosen);
  const Tensor blob = prepare_with(bits, weight.size(1), chosen);
  Tensor result = conv2d_packed(x, blob, weight.size(0), weight.sizes().slice(2), s, p, d, name);
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
  m.def("conv2d_packed(Tensor x, Tensor blob, int out_channels, int[2] kernel, int[2] stride, int[2] padding, int[2] dilation=1, str path='') -> Tensor");
  m.def("conv2d(Tensor x, Tensor weight, int[2] stride, int[2] padding, int[2] dilation=1, int groups=1, str path='') -> Tensor");
  m.def("reste_backward(Tensor grad, Tensor z, float scale, float exponent, float plateau, float m, float t, str path='') -> Tensor");
}

TORCH_LIBRARY_IMPL(resteutils, CPU, m) {
  m.impl("pack_bits", &resteutils::pack_bits);
  m.impl("prepare_weight", &resteutils::prepare_weight);
  m.impl("conv2d_packed", &resteutils::conv2d_packed);
  m.impl("conv2d", &resteutils::conv2d);
  m.impl("reste_backward", &resteutils::reste_backward);
}

// Shapes, threads and the loop over tiles of a binary convolution; shared by ops.cpp and program.cpp.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "paths.h"

namespace resteutils {

using at::Tensor;

std::string path_names();
const Path& path(c10::string_view name);
std::tuple<Tensor, Tensor> pack_bits_with(const Tensor& input, const Path& path);
Tensor prepare_with(const Tensor& weight_bits, int64_t in_channels, const Path& path);
bool is_channels_last(const Tensor& x);

inline int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// Splits `units` over torch's threads, at least `cost` multiply-accumulates (or their like) to a share worth waking a thread for.
template <typename F>
inline void share(int64_t units, double cost_per_unit, const F& work) {
  constexpr double WORTH = 4e6;
  const int64_t grain = std::max<int64_t>(1, int64_t(WORTH / std::max(1.0, cost_per_unit)));
  at::parallel_for(0, units, grain, work);
}

struct Weights {  // how a blob is laid out
  int64_t out, in, taps, bytes, row, blocks;
  Weights(int64_t out_channels, int64_t in_channels, int64_t taps)
      : out(out_channels), in(in_channels), taps(taps), bytes((in + 7) / 8), row(round_up(taps * bytes, 8)), blocks((out + LANES - 1) / LANES) {}
  int64_t block_size() const { return row * LANES; }
  int64_t size() const { return blocks * (block_size() + taps * LANES * int64_t(sizeof(int32_t))); }
};

// Height and width of the input that a kernel sees at once.
inline int64_t spread(int64_t kernel, int64_t dilation) { return dilation * (kernel - 1) + 1; }

// The valid taps of an output position along one axis, as a range; positions that share it share a class.
struct Axis {
  std::vector<int64_t> begin, end;  // per class
  std::vector<int> of;              // class of each output position
  Axis(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
    const auto taps_below = [&](int64_t distance) { return std::min(kernel, (std::max<int64_t>(0, distance) + dilation - 1) / dilation); };
    for (int64_t o = 0; o < out; ++o) {
      const int64_t start = o * stride - padding, lo = taps_below(-start), hi = std::max(lo, taps_below(in - start));
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
  int64_t kh, kw, sh, sw, ph, pw, dh, dw, oh, ow;
  Axis rows, columns;
  std::vector<float> base;  // [class of row][class of column][channel]: the dot product if no bit differed, padding taken out

  Conv(const Path& path, const Tensor& bits, const Tensor& blob, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d)
      : path(path), bits(bits.const_data_ptr<uint8_t>()), n(bits.size(0)), h(bits.size(1)), w(bits.size(2)), weights(out, in, k[0] * k[1]),
        blob(blob.const_data_ptr<uint8_t>()), kh(k[0]), kw(k[1]), sh(s[0]), sw(s[1]), ph(p[0]), pw(p[1]), dh(d[0]), dw(d[1]),
        oh((h + 2 * ph - spread(kh, dh)) / sh + 1), ow((w + 2 * pw - spread(kw, dw)) / sw + 1), rows(h, oh, kh, sh, ph, dh),
        columns(w, ow, kw, sw, pw, dw) {
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
    const int64_t bytes = weights.bytes, span = kw * bytes, used = weights.taps * bytes, step = dh * w * bytes;
    int64_t x = m % ow, y = m / ow % oh, image = m / ow / oh;
    for (int i = 0; i < many; ++i, row += weights.row) {
      const int ry = rows.of[y], cx = columns.of[x];
      const int64_t top = rows.begin[ry], bottom = rows.end[ry], left = columns.begin[cx], right = columns.end[cx];
      const uint8_t* from = bits + ((image * h + y * sh - ph) * w + x * sw - pw) * bytes;
      if (bottom - top == kh && right - left == kw && dw == 1) {
        path.copy(row, from, span, step, kh);
        std::memset(row + used, 0, weights.row - used);
      } else {
        std::memset(row, 0, weights.row);
        const int64_t piece = dw == 1 ? (right - left) * bytes : bytes, pieces = dw == 1 ? 1 : right - left;
        for (int64_t k = top; k < bottom && left < right; ++k)
          path.copy(row + k * span + left * bytes, from + k * step + left * dw * bytes, piece, dw * bytes, pieces);
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
    const int64_t at_once = path.mismatches_of_two ? 2 : 1, groups = (weights.blocks + at_once - 1) / at_once;
    const int64_t units = (total + tile - 1) / tile * groups;
    share(units, double(tile) * at_once * LANES * weights.row * 8, [&](int64_t begin, int64_t end) {
      std::vector<uint8_t> gathered(tile * weights.row + 64);
      alignas(64) int32_t counts[2 * TILE * LANES];
      alignas(64) float dots[TILE * LANES];
      const float* bases[TILE];
      int64_t have = -1;
      for (int64_t u = begin; u < end; ++u) {
        const int64_t t = u / groups, first = u % groups * at_once, m = t * tile;
        const int64_t blocks = std::min(at_once, weights.blocks - first);
        const int many = int(std::min(tile, total - m));
        if (t != have) {
          gather(m, many, gathered.data(), bases);
          for (int i = 0; i < many; ++i) bases[i] += first * LANES;
          have = t;
        }
        const auto count = blocks == 2 ? path.mismatches_of_two : path.mismatches;
        count(gathered.data(), many, weights.row, blob + first * weights.block_size(), counts);
        for (int64_t b = 0; b < blocks; ++b) {
          path.dots(counts + b * TILE * LANES, many, bases, dots);
          for (int i = 0; i < many; ++i) bases[i] += LANES;
          emit(m, many, first + b, dots);
        }
      }
    });
  }
};

inline void check_conv(const Tensor& bits, int64_t in, int64_t out, at::IntArrayRef k, at::IntArrayRef s, at::IntArrayRef p, at::IntArrayRef d) {
  TORCH_CHECK(k.size() == 2 && s.size() == 2 && p.size() == 2 && d.size() == 2, "kernel, stride, padding and dilation take two numbers each");
  TORCH_CHECK(in > 0 && out > 0 && k[0] > 0 && k[1] > 0 && s[0] > 0 && s[1] > 0 && p[0] >= 0 && p[1] >= 0 && d[0] > 0 && d[1] > 0,
              "channels, kernel, stride and dilation must be positive and padding not negative, got ", in, " -> ", out, ", kernel ", k, ", stride ", s,
              ", padding ", p, ", dilation ", d);
  TORCH_CHECK(bits.dim() == 4 && bits.scalar_type() == at::kByte && bits.is_contiguous() && bits.size(3) == (in + 7) / 8,
              "bits are a contiguous uint8 tensor (N, H, W, ", (in + 7) / 8, ") for ", in, " channels, got ", bits.sizes());
  TORCH_CHECK(bits.size(1) + 2 * p[0] >= spread(k[0], d[0]) && bits.size(2) + 2 * p[1] >= spread(k[1], d[1]), "kernel ", k, " with dilation ", d,
              " does not fit into ", bits.size(1), "x", bits.size(2), " with padding ", p);
}

}  // namespace resteutils

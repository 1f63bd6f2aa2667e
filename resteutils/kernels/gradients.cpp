// Both gradients of a binary convolution as torch sees them: shapes, threads, memory formats. The arithmetic is in tables.cpp.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <limits>

#include "conv.h"
#include "tables.h"

namespace resteutils {
namespace {

constexpr auto LAST = at::MemoryFormat::ChannelsLast;

const Tables& tables_of(c10::string_view name) {
#if defined(__x86_64__)
  if (std::string(path(name).name) != "scalar") return avx2_tables;  // AVX-512 machines have AVX2
#endif
  return plain_tables;
}

Geometry checked(const char* what, const Tensor& grad, const Tensor& x, const Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding) {
  for (const Tensor* t : {&grad, &x, &weight})
    TORCH_CHECK(t->dim() == 4 && t->scalar_type() == at::kFloat, what, " takes float32 tensors of four dimensions, got ", t->sizes(), " ", t->scalar_type());
  TORCH_CHECK(stride.size() == 2 && padding.size() == 2, "stride and padding take two numbers each");
  const Geometry s = {x.size(0), x.size(1), x.size(2), x.size(3), weight.size(0), grad.size(2), grad.size(3), weight.size(2), weight.size(3),
                      stride[0], stride[1], padding[0], padding[1]};
  TORCH_CHECK(s.sh > 0 && s.sw > 0 && s.ph >= 0 && s.pw >= 0 && weight.size(1) == s.ci && grad.size(0) == s.n && grad.size(1) == s.co &&
                  s.oh == (s.ih + 2 * s.ph - s.kh) / s.sh + 1 && s.ow == (s.iw + 2 * s.pw - s.kw) / s.sw + 1,
              what, ": gradient ", grad.sizes(), " does not belong to input ", x.sizes(), " and weights ", weight.sizes());
  return s;
}

// What Tables::input reads of the weights; whether one of them is NaN.
bool index_weights(const Geometry& s, const Tensor& weight, std::vector<uint16_t>& index) {
  const float* w = weight.const_data_ptr<float>();
  const int64_t so = weight.stride(0), sc = weight.stride(1), sh = weight.stride(2), sw = weight.stride(3);
  std::vector<char> nan(s.sets());
  share(s.sets(), 16.0 * s.ci * s.kh * s.kw, [&](int64_t begin, int64_t end) {
    for (int64_t set = begin; set < end; ++set) {
      unsigned unordered = 0;
      for (int64_t g = 0; g < SET; ++g)
        for (int64_t q = 0; q < 4 && set * 4 * SET + g * 4 + q < s.co; ++q)
          for (int64_t t = 0; t < s.kh * s.kw; ++t) {
            const float* from = w + (set * 4 * SET + g * 4 + q) * so + t / s.kw * sh + t % s.kw * sw;
            uint16_t* to = index.data() + (t * s.sets() + set) * s.ci * SET + g;
            for (int64_t c = 0; c < s.ci; ++c) {
              const float v = from[c * sc];
              unordered |= v != v;
              to[c * SET] |= uint16_t(v < 0) * uint16_t(WIDE << q);
            }
          }
      nan[set] = unordered != 0;
    }
  });
  return std::find(nan.begin(), nan.end(), char(1)) != nan.end();
}

Tensor input_gradient(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& alpha, at::IntArrayRef stride, at::IntArrayRef padding,
                      c10::string_view name) {
  const Geometry s = checked("input_gradient", grad, x, weight, stride, padding);
  TORCH_CHECK(alpha.scalar_type() == at::kFloat && (alpha.numel() == 1 || alpha.numel() == s.co), "input_gradient: alpha is one float32 number or ", s.co,
              ", got ", alpha.sizes(), " ", alpha.scalar_type());
  const Tables& tables = tables_of(name);
  Tensor dx = at::empty(x.sizes(), x.options(), LAST);
  std::vector<uint16_t> index(s.kh * s.kw * s.sets() * s.ci * SET);
  if (!grad.numel()) {
    dx.zero_();
  } else if (index_weights(s, weight, index)) {
    dx.fill_(std::numeric_limits<float>::quiet_NaN());
  } else {
    const Tensor dy = grad.contiguous(LAST), number = alpha.contiguous();
    std::vector<float> scale(s.sets() * 4 * SET);
    for (int64_t o = 0; o < s.co; ++o) scale[o] = number.const_data_ptr<float>()[number.numel() == 1 ? 0 : o];
    // Sixteen images a share, cut into bands of rows where there are more threads: their sums do not depend on either.
    const int64_t groups = (s.n + WIDE - 1) / WIDE, threads = at::get_num_threads();
    const int64_t bands = std::max<int64_t>(1, std::min(s.ih / 4, (threads + groups - 1) / groups)), rows = (s.ih + bands - 1) / bands;
    const float* from = dy.const_data_ptr<float>();
    float* to = dx.mutable_data_ptr<float>();
    at::parallel_for(0, groups * bands, 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) {
        const int64_t first = u / bands * WIDE, top = u % bands * rows;
        if (top < s.ih) tables.input(s, from, scale.data(), index.data(), to, first, std::min<int64_t>(WIDE, s.n - first), top, std::min(top + rows, s.ih));
      }
    });
  }
  return dx.contiguous(is_channels_last(x) ? LAST : at::MemoryFormat::Contiguous);
}

// Every thread sums up four images after the other; their sums are added in a fixed order: the same bits for a number of threads.
Tensor weight_gradient(const Tensor& grad, const Tensor& x, const Tensor& weight, at::IntArrayRef stride, at::IntArrayRef padding, c10::string_view name) {
  const Geometry s = checked("weight_gradient", grad, x, weight, stride, padding);
  const Tables& tables = tables_of(name);
  Tensor dw = at::empty_like(weight);
  if (!grad.numel()) return dw.zero_();
  const Tensor dy = grad.contiguous(LAST), rows = x.contiguous(LAST);
  const float *upper = dy.const_data_ptr<float>(), *lower = rows.const_data_ptr<float>();
  const int64_t taps = s.kh * s.kw, block = taps * s.ci * WIDE, size = s.padded() / WIDE * block, fours = (s.n + 3) / 4;
  const int64_t shares = std::max<int64_t>(1, std::min<int64_t>(fours, at::get_num_threads()));
  std::vector<float> parts(shares * size);
  std::vector<char> nan(shares);
  at::parallel_for(0, shares, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u)
      nan[u] = tables.weight(s, upper, lower, fours * u / shares * 4, std::min(s.n, fours * (u + 1) / shares * 4), parts.data() + u * size);
  });
  if (std::find(nan.begin(), nan.end(), char(1)) != nan.end()) return dw.fill_(std::numeric_limits<float>::quiet_NaN());
  float* to = dw.mutable_data_ptr<float>();
  const int64_t so = dw.stride(0), sc = dw.stride(1), sh = dw.stride(2), sw = dw.stride(3);
  share(s.padded() / WIDE, double(block) * 8, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      for (int64_t c = 0; c < s.ci; ++c)
        for (int64_t lane = 0; lane < std::min<int64_t>(WIDE, s.co - b * WIDE); ++lane)
          for (int64_t t = 0; t < taps; ++t) {
            const float* from = parts.data() + b * block + (t * s.ci + c) * WIDE + lane;
            float sum = from[0];
            for (int64_t u = 1; u < shares; ++u) sum += from[u * size];
            to[(b * WIDE + lane) * so + c * sc + t / s.kw * sh + t % s.kw * sw] = sum;
          }
  });
  return dw;
}

}  // namespace
}  // namespace resteutils

TORCH_LIBRARY_FRAGMENT(resteutils, m) {
  m.def("input_gradient(Tensor grad, Tensor x, Tensor weight, Tensor alpha, int[2] stride, int[2] padding, str path='') -> Tensor");
  m.def("weight_gradient(Tensor grad, Tensor x, Tensor weight, int[2] stride, int[2] padding, str path='') -> Tensor");
}

TORCH_LIBRARY_IMPL(resteutils, CPU, m) {
  m.impl("input_gradient", &resteutils::input_gradient);
  m.impl("weight_gradient", &resteutils::weight_gradient);
}

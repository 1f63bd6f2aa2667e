// Plain C++, for any machine; also the definition that the other paths are tested against.
#include <cmath>
#include <cstring>

#include "paths.h"

namespace resteutils {
namespace {

bool pack(const float* x, int64_t channels, int64_t step, int64_t next, int64_t pixels, uint8_t* bits) {
  const int64_t bytes = (channels + 7) / 8;
  bool nan = false;
  std::memset(bits, 0, pixels * bytes);
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < channels; ++c) {
      const float v = x[c * step + p * next];
      nan |= v != v;
      if (v < 0) bits[p * bytes + c / 8] |= uint8_t(1u << (c % 8));
    }
  return nan;
}

bool pack_planes(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* bits) {
  return pack(x, channels, plane, 1, pixels, bits);
}

bool pack_rows(const float* x, int64_t channels, int64_t pixels, uint8_t* bits) {
  return pack(x, channels, 1, channels, pixels, bits);
}

inline uint32_t population(uint32_t v) {  // written out: vectorises where no population count does
  v -= (v >> 1) & 0x55555555u;
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0fu;
  return (v * 0x01010101u) >> 24;
}

int64_t ones(const uint8_t* bits, int64_t bytes) {
  int64_t sum = 0;
  for (int64_t k = 0; k < bytes; ++k) sum += population(bits[k]);
  return sum;
}

void copy(uint8_t* to, const uint8_t* from, int64_t span, int64_t step, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i) std::memcpy(to + i * span, from + i * step, span);
}

// block[word][lane]: the 32-bit words of all lanes side by side
void mismatches(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  std::memset(counts, 0, sizeof(int32_t) * pixels * LANES);
  for (int p = 0; p < pixels; ++p)
    for (int64_t k = 0; k < row_bytes / 4; ++k) {
      uint32_t x, w[LANES];
      std::memcpy(&x, rows + p * row_bytes + k * 4, 4);
      std::memcpy(w, block + k * LANES * 4, sizeof w);
      for (int lane = 0; lane < LANES; ++lane) counts[p * LANES + lane] += int32_t(population(w[lane] ^ x));
    }
}

void dots(const int32_t* counts, int pixels, const float* const* base, float* out) {
  for (int p = 0; p < pixels; ++p)
    for (int lane = 0; lane < LANES; ++lane) out[p * LANES + lane] = base[p][lane] - 2.0f * float(counts[p * LANES + lane]);
}

void store_rows(const float* dots, int pixels, int lanes, float* out, int64_t stride) {
  for (int p = 0; p < pixels; ++p) std::memcpy(out + p * stride, dots + p * LANES, sizeof(float) * lanes);
}

void store_planes(const float* dots, int pixels, int lanes, float* out, int64_t plane) {
  for (int lane = 0; lane < lanes; ++lane)
    for (int p = 0; p < pixels; ++p) out[lane * plane + p] = dots[p * LANES + lane];
}

void load_planes(const float* x, int pixels, int lanes, int64_t plane, float* dots) {
  for (int lane = 0; lane < lanes; ++lane)
    for (int p = 0; p < pixels; ++p) dots[p * LANES + lane] = x[lane * plane + p];
}

void threshold(const float* dots, int pixels, const Channels& c, uint32_t* bits) {
  for (int p = 0; p < pixels; ++p) {
    uint32_t word = 0;
    for (int lane = 0; lane < LANES; ++lane) word |= uint32_t(dots[p * LANES + lane] < c.threshold[lane]) << lane;
    bits[p] = word ^ c.flip;
  }
}

void residual(float* dots, int pixels, int lanes, const Channels& c, const float* residual, int64_t stride, uint32_t* bits) {
  for (int p = 0; p < pixels; ++p) {
    uint32_t word = 0;
    for (int lane = 0; lane < lanes; ++lane) {
      const float n = dots[p * LANES + lane] * c.alpha[lane];
      float v = std::fma(n > c.floor ? n : c.floor, c.gain[lane], c.offset[lane]);
      if (residual) v += residual[p * stride + lane];
      dots[p * LANES + lane] = v;
      word |= uint32_t(v < 0) << lane;
    }
    bits[p] = word;
  }
}

void reste_backward(const float* grad, const float* z, float* out, int64_t n, const Power& p, bool) {
  const float exponent = p.exponent + p.exponent_rest;
  for (int64_t i = 0; i < n; ++i) {
    const float a = std::fabs(z[i]);
    // a NaN fails both comparisons of the zones and keeps itself
    const float slope = a <= p.m ? p.plateau : a <= p.t ? p.scale * std::pow(a, exponent) : a == a ? 0.0f : a;
    out[i] = grad[i] * slope;
  }
}

}  // namespace

const Path scalar_path = {"scalar", pack_planes, pack_rows, ones, copy, interleave_by<4>, mismatches, dots, store_rows,
                          store_planes, load_planes, threshold, residual,   reste_backward, nullptr};

}  // namespace resteutils

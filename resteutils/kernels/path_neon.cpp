// NEON, on 64-bit ARM. It counts the bits of every byte by itself (vcnt), so no lookup is needed. What the compiler turns into
// vectors without help is taken from the plain path.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#include "paths.h"

namespace resteutils {
namespace {

inline float32x4_t load_first(const float* x, int64_t n) {  // the first n of 4 lanes, zeros behind
  if (n >= 4) return vld1q_f32(x);
  float lanes[4] = {0, 0, 0, 0};
  std::memcpy(lanes, x, sizeof(float) * n);
  return vld1q_f32(lanes);
}

inline uint32x4_t is_number(float32x4_t v) { return vceqq_f32(v, v); }

bool pack_planes(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* bits) {
  const int64_t bytes = (channels + 7) / 8;
  uint32x4_t numbers = vdupq_n_u32(~0u);
  for (int64_t p = 0; p < pixels; p += 4) {
    const int64_t count = pixels - p < 4 ? pixels - p : 4;
    for (int64_t c = 0; c < channels; c += 32) {
      const int64_t depth = channels - c < 32 ? channels - c : 32;
      uint32x4_t word = vdupq_n_u32(0);
      for (int64_t j = 0; j < depth; ++j) {
        const float32x4_t v = load_first(x + (c + j) * plane + p, count);
        numbers = vandq_u32(numbers, is_number(v));
        word = vorrq_u32(word, vandq_u32(vcltzq_f32(v), vdupq_n_u32(1u << j)));
      }
      uint32_t words[4];
      vst1q_u32(words, word);
      for (int64_t i = 0; i < count; ++i) std::memcpy(bits + (p + i) * bytes + c / 8, words + i, (depth + 7) / 8);
    }
  }
  return vminvq_u32(numbers) == 0;
}

bool pack_rows(const float* x, int64_t channels, int64_t pixels, uint8_t* bits) {
  constexpr uint32_t LOW[4] = {1, 2, 4, 8}, HIGH[4] = {16, 32, 64, 128};
  const uint32x4_t low = vld1q_u32(LOW), high = vld1q_u32(HIGH);
  uint32x4_t numbers = vdupq_n_u32(~0u);
  for (int64_t p = 0; p < pixels; ++p, x += channels)
    for (int64_t c = 0; c < channels; c += 8) {
      const float32x4_t a = load_first(x + c, channels - c);
      const float32x4_t b = channels - c > 4 ? load_first(x + c + 4, channels - c - 4) : vdupq_n_f32(0);
      numbers = vandq_u32(numbers, vandq_u32(is_number(a), is_number(b)));
      *bits++ = uint8_t(vaddvq_u32(vorrq_u32(vandq_u32(vcltzq_f32(a), low), vandq_u32(vcltzq_f32(b), high))));
    }
  return vminvq_u32(numbers) == 0;
}

inline void add_to(int32_t* counts, uint8x16_t sum) {
  const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(sum)), vmovl_high_u8(sum)};
  for (int h = 0; h < 2; ++h) {
    int32_t* to = counts + 8 * h;
    vst1q_s32(to, vaddq_s32(vld1q_s32(to), vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(halves[h])))));
    vst1q_s32(to + 4, vaddq_s32(vld1q_s32(to + 4), vreinterpretq_s32_u32(vmovl_high_u16(halves[h]))));
  }
}

// P pixels at once: the weights, once loaded, answer for all of them.
template <int P>
inline void count(const uint8_t* rows, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  std::memset(counts, 0, sizeof(int32_t) * P * LANES);
  for (int64_t start = 0; start < row_bytes; start += 31) {  // 31 bytes of bits: at most 248, which a byte holds
    const int64_t stop = start + 31 < row_bytes ? start + 31 : row_bytes;
    uint8x16_t sum[P][2];
    for (int p = 0; p < P; ++p) sum[p][0] = sum[p][1] = vdupq_n_u8(0);
    for (int64_t k = start; k < stop; ++k) {
      const uint8x16_t w[2] = {vld1q_u8(block + k * LANES), vld1q_u8(block + k * LANES + 16)};
      for (int p = 0; p < P; ++p) {
        const uint8x16_t x = vdupq_n_u8(rows[p * row_bytes + k]);
        for (int h = 0; h < 2; ++h) sum[p][h] = vaddq_u8(sum[p][h], vcntq_u8(veorq_u8(w[h], x)));
      }
    }
    for (int p = 0; p < P; ++p)
      for (int h = 0; h < 2; ++h) add_to(counts + p * LANES + 16 * h, sum[p][h]);
  }
}

void mismatches(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  int p = 0;
  for (; p + 8 <= pixels; p += 8) count<8>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  for (; p < pixels; ++p) count<1>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
}

// As in path_avx2.cpp.
inline float32x4_t power(float32x4_t a, float exponent, float rest) {
  const uint32x4_t tiny = vcltq_f32(a, vdupq_n_f32(1.17549435e-38f));
  const int32x4_t raw = vreinterpretq_s32_f32(vbslq_f32(tiny, vmulq_n_f32(a, 16777216.0f), a));
  const int32x4_t shift = vshrq_n_s32(vsubq_s32(raw, vdupq_n_s32(0x3f400000)), 23);
  const float32x4_t f = vsubq_f32(vreinterpretq_f32_s32(vsubq_s32(raw, vshlq_n_s32(shift, 23))), vdupq_n_f32(1.0f));
  const float32x4_t k = vsubq_f32(vcvtq_f32_s32(shift), vbslq_f32(tiny, vdupq_n_f32(24.0f), vdupq_n_f32(0.0f)));
  float32x4_t log = vdupq_n_f32(LOG2[8]);
  for (int i = 7; i >= 0; --i) log = vfmaq_f32(vdupq_n_f32(LOG2[i]), log, f);
  log = vmulq_f32(log, f);
  float32x4_t whole = vrndnq_f32(vmulq_n_f32(vaddq_f32(k, log), exponent));
  whole = vmaxq_f32(vminq_f32(whole, vdupq_n_f32(254.0f)), vdupq_n_f32(-252.0f));
  float32x4_t r = vfmaq_n_f32(vnegq_f32(whole), k, exponent);
  r = vfmaq_n_f32(r, k, rest);
  r = vfmaq_n_f32(r, log, exponent);
  float32x4_t y = vdupq_n_f32(EXP2[6]);
  for (int i = 5; i >= 0; --i) y = vfmaq_f32(vdupq_n_f32(EXP2[i]), y, r);
  const int32x4_t n = vcvtq_s32_f32(whole), half = vshrq_n_s32(n, 1), bias = vdupq_n_s32(127);
  y = vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23)));
  return vmulq_f32(y, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(n, half), bias), 23)));
}

inline float32x4_t slope_times(float32x4_t grad, float32x4_t z, const Power& p) {
  const float32x4_t a = vabsq_f32(z);
  const uint32x4_t inner = vcleq_f32(a, vdupq_n_f32(p.m)), outer = vcleq_f32(a, vdupq_n_f32(p.t));
  float32x4_t slope = vmulq_n_f32(power(a, p.exponent, p.exponent_rest), p.scale);
  slope = vbslq_f32(outer, slope, vdupq_n_f32(0.0f));
  slope = vbslq_f32(inner, vdupq_n_f32(p.plateau), slope);
  return vmulq_f32(grad, vbslq_f32(is_number(z), slope, z));
}

void reste_backward(const float* grad, const float* z, float* out, int64_t n, const Power& p, bool) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(out + i, slope_times(vld1q_f32(grad + i), vld1q_f32(z + i), p));
  if (i == n) return;
  float last[4];
  vst1q_f32(last, slope_times(load_first(grad + i, n - i), load_first(z + i, n - i), p));
  std::memcpy(out + i, last, sizeof(float) * (n - i));
}

}  // namespace

const Path neon_path = [] {
  Path path = scalar_path;
  path.name = "neon";
  path.pack_planes = pack_planes;
  path.pack_rows = pack_rows;
  path.interleave = interleave_by<1>;
  path.mismatches = mismatches;
  path.reste_backward = reste_backward;
  return path;
}();

}  // namespace resteutils
#endif

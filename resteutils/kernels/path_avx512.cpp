// AVX-512 with VPOPCNTDQ (Ice Lake, Zen 4 and later). Bits are counted in carry-save form: one ternary-logic instruction
// does two XORs or a majority, so two words of bits cost three of them plus one population count and one addition.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "paths.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,avx2,fma")))

namespace resteutils {
namespace {

AVX512 inline __mmask16 first(int64_t n) { return __mmask16(n >= 16 ? 0xffff : (1u << n) - 1); }

AVX512 inline __mmask16 negative(__m512 v, __mmask16& nan) {
  nan |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
}

AVX512 bool pack_planes(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* bits) {
  const int64_t bytes = (channels + 7) / 8;
  __mmask16 nan = 0;
  alignas(64) uint32_t words[16];
  for (int64_t p = 0; p < pixels; p += 16) {
    const int count = int(pixels - p < 16 ? pixels - p : 16);
    const __mmask16 live = first(count);
    for (int64_t c = 0; c < channels; c += 32) {
      const int depth = int(channels - c < 32 ? channels - c : 32);
      __m512i word = _mm512_setzero_si512();
      for (int j = 0; j < depth; ++j) {
        const __m512 v = _mm512_maskz_loadu_ps(live, x + (c + j) * plane + p);
        word = _mm512_mask_or_epi32(word, negative(v, nan), word, _mm512_set1_epi32(int(1u << j)));
      }
      _mm512_store_si512(words, word);
      uint8_t* to = bits + p * bytes + c / 8;
      if (depth > 24)
        for (int i = 0; i < count; ++i) std::memcpy(to + i * bytes, words + i, 4);
      else
        for (int i = 0; i < count; ++i)
          for (int b = 0; b * 8 < depth; ++b) to[i * bytes + b] = uint8_t(words[i] >> (8 * b));
    }
  }
  return nan != 0;
}

AVX512 bool pack_rows(const float* x, int64_t channels, int64_t pixels, uint8_t* bits) {
  __mmask16 nan = 0;
  for (int64_t p = 0; p < pixels; ++p) {
    int64_t c = channels;
    for (; c >= 32; c -= 32, x += 32, bits += 4) {
      const uint32_t low = negative(_mm512_loadu_ps(x), nan), high = negative(_mm512_loadu_ps(x + 16), nan);
      const uint32_t word = low | high << 16;
      std::memcpy(bits, &word, 4);
    }
    for (; c > 0; c -= 8, x += c < 0 ? 8 + c : 8) *bits++ = uint8_t(negative(_mm512_maskz_loadu_ps(first(c > 8 ? 8 : c), x), nan));
  }
  return nan != 0;
}

AVX512 int64_t ones(const uint8_t* bits, int64_t bytes) {
  __m512i sum = _mm512_setzero_si512();
  for (int64_t k = 0; k < bytes; k += 64) {
    const __mmask64 live = bytes - k >= 64 ? ~0ull : (1ull << (bytes - k)) - 1;
    sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_maskz_loadu_epi8(live, bits + k)));
  }
  return _mm512_reduce_add_epi64(sum);
}

AVX512 void copy(uint8_t* to, const uint8_t* from, int64_t span, int64_t step, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i, to += span, from += step)
    for (int64_t k = 0; k < span; k += 64) {
      const __mmask64 live = span - k >= 64 ? ~0ull : (1ull << (span - k)) - 1;
      _mm512_mask_storeu_epi8(to + k, live, _mm512_maskz_loadu_epi8(live, from + k));
    }
}

// block[word][lane], 32-bit words
AVX512 void interleave(const uint8_t* const* rows, int64_t row_bytes, uint8_t* block) { interleave_by<4>(rows, row_bytes, block); }

constexpr int XOR3 = 0x96;
constexpr int CARRY = 0x3a;  // from t = a ^ b and s = t ^ c: the majority of a, b, c

AVX512 inline __m512i spread(const uint8_t* word) {  // a load that broadcasts: no work for the shuffle port
  return _mm512_broadcastd_epi32(_mm_loadu_si32(word));
}

template <int P>
AVX512 inline void count(const uint8_t* rows, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  __m512i sum[P][2], total[P][2];
  for (int p = 0; p < P; ++p)
    for (int h = 0; h < 2; ++h) sum[p][h] = total[p][h] = _mm512_setzero_si512();
  for (int64_t k = 0; k < row_bytes; k += 8, block += 256) {
    __m512i w[2][2];
    for (int i = 0; i < 4; ++i) w[i / 2][i % 2] = _mm512_loadu_si512(block + i * 64);
    for (int p = 0; p < P; ++p) {
      const __m512i x0 = spread(rows + p * row_bytes + k), x1 = spread(rows + p * row_bytes + k + 4);
      for (int h = 0; h < 2; ++h) {
        const __m512i t = _mm512_ternarylogic_epi32(x0, w[0][h], sum[p][h], XOR3);
        const __m512i s = _mm512_ternarylogic_epi32(x1, w[1][h], t, XOR3);
        const __m512i carry = _mm512_ternarylogic_epi32(t, s, sum[p][h], CARRY);
        sum[p][h] = s;
        total[p][h] = _mm512_add_epi32(total[p][h], _mm512_popcnt_epi32(carry));
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512i n = _mm512_add_epi32(_mm512_popcnt_epi32(sum[p][h]), _mm512_slli_epi32(total[p][h], 1));
      _mm512_store_si512(counts + p * LANES + h * 16, n);
    }
}

AVX512 void mismatches(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  int p = 0;
  for (; p + 4 <= pixels; p += 4) count<4>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  if (pixels - p == 3) count<3>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  if (pixels - p == 2) count<2>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  if (pixels - p == 1) count<1>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
}

AVX512 void dots(const int32_t* counts, int pixels, const float* const* base, float* out) {
  const __m512 minus_two = _mm512_set1_ps(-2.0f);
  for (int p = 0; p < pixels; ++p)
    for (int h = 0; h < LANES; h += 16) {
      const __m512 n = _mm512_cvtepi32_ps(_mm512_load_si512(counts + p * LANES + h));
      _mm512_store_ps(out + p * LANES + h, _mm512_fmadd_ps(n, minus_two, _mm512_loadu_ps(base[p] + h)));
    }
}

AVX512 void store_rows(const float* dots, int pixels, int lanes, float* out, int64_t stride) {
  for (int p = 0; p < pixels; ++p)
    for (int h = 0; h < lanes; h += 16)
      _mm512_mask_storeu_ps(out + p * stride + h, first(lanes - h), _mm512_load_ps(dots + p * LANES + h));
}

AVX512 inline void transpose(__m512 (&r)[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      const __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
      r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
      r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
  }
}

AVX512 void store_planes(const float* dots, int pixels, int lanes, float* out, int64_t plane) {
  for (int p = 0; p < pixels; p += 16)
    for (int h = 0; h < lanes; h += 16) {
      const int count = pixels - p < 16 ? pixels - p : 16;
      __m512 r[16];
      for (int i = 0; i < 16; ++i) r[i] = i < count ? _mm512_load_ps(dots + (p + i) * LANES + h) : _mm512_setzero_ps();
      transpose(r);
      for (int i = 0; i < 16 && h + i < lanes; ++i) _mm512_mask_storeu_ps(out + (h + i) * plane + p, first(count), r[i]);
    }
}

AVX512 void load_planes(const float* x, int pixels, int lanes, int64_t plane, float* dots) {
  for (int p = 0; p < pixels; p += 16)
    for (int h = 0; h < lanes; h += 16) {
      const int count = pixels - p < 16 ? pixels - p : 16;
      __m512 r[16];
      for (int i = 0; i < 16; ++i)
        r[i] = h + i < lanes ? _mm512_maskz_loadu_ps(first(count), x + (h + i) * plane + p) : _mm512_setzero_ps();
      transpose(r);
      for (int i = 0; i < count; ++i) _mm512_store_ps(dots + (p + i) * LANES + h, r[i]);
    }
}

AVX512 void threshold(const float* dots, int pixels, const Channels& c, uint32_t* bits) {
  const __m512 low = _mm512_loadu_ps(c.threshold), high = _mm512_loadu_ps(c.threshold + 16);
  for (int p = 0; p < pixels; ++p) {
    const uint32_t a = _mm512_cmp_ps_mask(_mm512_load_ps(dots + p * LANES), low, _CMP_LT_OQ);
    const uint32_t b = _mm512_cmp_ps_mask(_mm512_load_ps(dots + p * LANES + 16), high, _CMP_LT_OQ);
    bits[p] = (a | b << 16) ^ c.flip;
  }
}

AVX512 void residual(float* dots, int pixels, int lanes, const Channels& c, const float* residual, int64_t stride, uint32_t* bits) {
  const __m512 zero = _mm512_setzero_ps(), floor = _mm512_set1_ps(c.floor);
  std::memset(bits, 0, sizeof(uint32_t) * pixels);
  for (int h = 0; h < lanes; h += 16) {
    const __mmask16 live = first(lanes - h);
    const __m512 alpha = _mm512_loadu_ps(c.alpha + h), gain = _mm512_loadu_ps(c.gain + h), offset = _mm512_loadu_ps(c.offset + h);
    for (int p = 0; p < pixels; ++p) {
      const __m512 n = _mm512_max_ps(_mm512_mul_ps(_mm512_load_ps(dots + p * LANES + h), alpha), floor);
      __m512 v = _mm512_fmadd_ps(n, gain, offset);
      if (residual) v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(live, residual + p * stride + h));
      _mm512_store_ps(dots + p * LANES + h, v);
      bits[p] |= uint32_t(_mm512_mask_cmp_ps_mask(live, v, zero, _CMP_LT_OQ)) << h;
    }
  }
}

// log2(a) = k + f with the mantissa in [0.75, 1.5); both polynomials are minimax fits, 3e-8 and 2e-9 relative.
AVX512 inline __m512 power(__m512 a, __m512 exponent, __m512 rest) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 mantissa = _mm512_getmant_ps(a, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  const __m512 exponent2 = _mm512_getexp_ps(a);
  const __m512 k = _mm512_mask_add_ps(exponent2, _mm512_cmp_ps_mask(mantissa, one, _CMP_LT_OQ), exponent2, one);
  const __m512 f = _mm512_sub_ps(mantissa, one);
  __m512 log = _mm512_set1_ps(LOG2[8]);
  for (int i = 7; i >= 0; --i) log = _mm512_fmadd_ps(log, f, _mm512_set1_ps(LOG2[i]));
  log = _mm512_mul_ps(log, f);
  const __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(exponent, _mm512_add_ps(k, log)), 0);
  __m512 r = _mm512_fmsub_ps(exponent, k, whole);  // exact product: k may be large, the remainder is not
  r = _mm512_fmadd_ps(rest, k, r);
  r = _mm512_fmadd_ps(exponent, log, r);
  __m512 y = _mm512_set1_ps(EXP2[6]);
  for (int i = 5; i >= 0; --i) y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(EXP2[i]));
  return _mm512_scalef_ps(y, whole);
}

AVX512 inline __m512 slope_times(__m512 grad, __m512 z, const Power& p) {
  const __m512 a = _mm512_abs_ps(z);
  const __mmask16 inner = _mm512_cmp_ps_mask(a, _mm512_set1_ps(p.m), _CMP_LE_OQ);
  const __mmask16 outer = _mm512_cmp_ps_mask(a, _mm512_set1_ps(p.t), _CMP_LE_OQ);
  const __m512 y = power(a, _mm512_set1_ps(p.exponent), _mm512_set1_ps(p.exponent_rest));
  __m512 slope = _mm512_maskz_mul_ps(outer, y, _mm512_set1_ps(p.scale));
  slope = _mm512_mask_mov_ps(slope, inner, _mm512_set1_ps(p.plateau));
  slope = _mm512_mask_mov_ps(slope, _mm512_cmp_ps_mask(z, z, _CMP_UNORD_Q), z);
  return _mm512_mul_ps(grad, slope);
}

AVX512 void reste_backward(const float* grad, const float* z, float* out, int64_t n, const Power& p, bool stream) {
  int64_t i = 0;
  if (stream) {  // past the caches: an ordinary store would first read what it overwrites
    for (; i < n && (reinterpret_cast<uintptr_t>(out + i) & 63); ++i) {
      const __m512 v = slope_times(_mm512_maskz_loadu_ps(1, grad + i), _mm512_maskz_loadu_ps(1, z + i), p);
      _mm512_mask_storeu_ps(out + i, 1, v);
    }
    for (; i + 16 <= n; i += 16) _mm512_stream_ps(out + i, slope_times(_mm512_loadu_ps(grad + i), _mm512_loadu_ps(z + i), p));
    _mm_sfence();
  }
  for (; i < n; i += 16) {
    const __mmask16 live = first(n - i);
    const __m512 v = slope_times(_mm512_maskz_loadu_ps(live, grad + i), _mm512_maskz_loadu_ps(live, z + i), p);
    _mm512_mask_storeu_ps(out + i, live, v);
  }
}

}  // namespace

const Path avx512_path = {"avx512", pack_planes, pack_rows, ones, copy, interleave, mismatches, dots, store_rows,
                          store_planes, load_planes, threshold, residual,   reste_backward, nullptr};

}  // namespace resteutils
#endif

// AVX2. No population count over vectors exists here, so bits are counted by lookup: four bits of a pixel choose a table of
// 16 bytes, four bits of each of 32 output channels index it, and one byte shuffle answers how many of the four differ.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#include "lookup_avx2.h"
#include "paths.h"

namespace resteutils {
namespace {

AVX2 bool pack_planes(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* bits) {
  const int64_t bytes = (channels + 7) / 8;
  const __m256 zero = _mm256_setzero_ps();
  __m256 nan = zero;
  alignas(32) uint32_t words[8];
  for (int64_t p = 0; p < pixels; p += 8) {
    const int count = int(pixels - p < 8 ? pixels - p : 8);
    const __m256i live = first(count);
    for (int64_t c = 0; c < channels; c += 32) {
      const int depth = int(channels - c < 32 ? channels - c : 32);
      __m256i word = _mm256_setzero_si256();
      for (int j = 0; j < depth; ++j) {
        const float* from = x + (c + j) * plane + p;
        const __m256 v = count == 8 ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, live);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const __m256i negative = _mm256_castps_si256(_mm256_cmp_ps(v, zero, _CMP_LT_OQ));
        word = _mm256_or_si256(word, _mm256_and_si256(negative, _mm256_set1_epi32(int(1u << j))));
      }
      _mm256_store_si256(reinterpret_cast<__m256i*>(words), word);
      uint8_t* to = bits + p * bytes + c / 8;
      if (depth > 24)
        for (int i = 0; i < count; ++i) std::memcpy(to + i * bytes, words + i, 4);
      else
        for (int i = 0; i < count; ++i)
          for (int b = 0; b * 8 < depth; ++b) to[i * bytes + b] = uint8_t(words[i] >> (8 * b));
    }
  }
  return _mm256_movemask_ps(nan) != 0;
}

AVX2 bool pack_rows(const float* x, int64_t channels, int64_t pixels, uint8_t* bits) {
  const __m256 zero = _mm256_setzero_ps();
  __m256 nan = zero;
  for (int64_t p = 0; p < pixels; ++p, x += channels)
    for (int64_t c = 0; c < channels; c += 8) {
      const __m256 v = channels - c >= 8 ? _mm256_loadu_ps(x + c) : _mm256_maskload_ps(x + c, first(channels - c));
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
      *bits++ = uint8_t(_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_LT_OQ)));
    }
  return _mm256_movemask_ps(nan) != 0;
}

AVX2 int64_t ones(const uint8_t* bits, int64_t bytes) {
  int64_t sum = 0;
  for (; bytes >= 8; bytes -= 8, bits += 8) {
    uint64_t word;
    std::memcpy(&word, bits, 8);
    sum += __builtin_popcountll(word);
  }
  for (; bytes > 0; --bytes) sum += __builtin_popcount(*bits++);
  return sum;
}

AVX2 void copy(uint8_t* to, const uint8_t* from, int64_t span, int64_t step, int64_t rows) {
  for (int64_t i = 0; i < rows; ++i, to += span, from += step) {
    int64_t k = 0;
    for (; k + 32 <= span; k += 32)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k)));
    for (; k + 8 <= span; k += 8) std::memcpy(to + k, from + k, 8);
    for (; k < span; ++k) to[k] = from[k];
  }
}

AVX2 void interleave(const uint8_t* const* rows, int64_t row_bytes, uint8_t* block) { interleave_by<1>(rows, row_bytes, block); }

// P pixels against B blocks: a table, once chosen, answers for all B.
template <int P, int B>
AVX2 inline void count(const uint8_t* rows, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  const __m256i low4 = _mm256_set1_epi8(15), high4 = _mm256_set1_epi8(char(0xf0)), low8 = _mm256_set1_epi16(255);
  __m256i even[P][B], odd[P][B];  // 16-bit sums of the lanes
  for (int p = 0; p < P; ++p)
    for (int b = 0; b < B; ++b) even[p][b] = odd[p][b] = _mm256_setzero_si256();
  for (int64_t start = 0; start < row_bytes; start += 24) {  // 24 bytes of bits: at most 192, which a byte holds
    const int stop = int(start + 24 < row_bytes ? 24 : row_bytes - start);
    alignas(32) uint8_t offsets[P][2][32];  // of the tables that the pixel's nibbles choose
    __m256i sum[P][B];
    for (int p = 0; p < P; ++p) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows + p * row_bytes + start));
      _mm256_store_si256(reinterpret_cast<__m256i*>(offsets[p][0]), _mm256_and_si256(_mm256_slli_epi16(x, 4), high4));
      _mm256_store_si256(reinterpret_cast<__m256i*>(offsets[p][1]), _mm256_and_si256(x, high4));
      for (int b = 0; b < B; ++b) sum[p][b] = _mm256_setzero_si256();
    }
    for (int k = 0; k < stop; ++k) {
      __m256i low[B], high[B];
      for (int b = 0; b < B; ++b) {
        const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + (b * row_bytes + start + k) * LANES));
        low[b] = _mm256_and_si256(w, low4);
        high[b] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low4);
      }
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const __m256i lower = table(offsets[p][0][k]);
        for (int b = 0; b < B; ++b) sum[p][b] = add_lookup(sum[p][b], lower, low[b]);
        const __m256i upper = table(offsets[p][1][k]);
        for (int b = 0; b < B; ++b) sum[p][b] = add_lookup(sum[p][b], upper, high[b]);
      }
    }
    for (int p = 0; p < P; ++p)
      for (int b = 0; b < B; ++b) {
        even[p][b] = _mm256_add_epi16(even[p][b], _mm256_and_si256(sum[p][b], low8));
        odd[p][b] = _mm256_add_epi16(odd[p][b], _mm256_srli_epi16(sum[p][b], 8));
      }
  }
  for (int p = 0; p < P; ++p)
    for (int b = 0; b < B; ++b) {
      const __m256i a = _mm256_unpacklo_epi16(even[p][b], odd[p][b]), c = _mm256_unpackhi_epi16(even[p][b], odd[p][b]);
      __m256i* to = reinterpret_cast<__m256i*>(counts + (b * TILE + p) * LANES);
      _mm256_store_si256(to, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)));
      _mm256_store_si256(to + 1, _mm256_cvtepu16_epi32(_mm256_castsi256_si128(c)));
      _mm256_store_si256(to + 2, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)));
      _mm256_store_si256(to + 3, _mm256_cvtepu16_epi32(_mm256_extracti128_si256(c, 1)));
    }
}

constexpr int64_t PART = 8000;  // 16-bit counters hold 65535 bits; longer rows are counted in parts

template <int B>
AVX2 inline void count_all(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  constexpr int MANY = 8 / B;  // as many sums as registers hold
  int p = 0;
  for (; p + MANY <= pixels; p += MANY) count<MANY, B>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  for (; p + 2 <= pixels; p += 2) count<2, B>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
  for (; p < pixels; ++p) count<1, B>(rows + p * row_bytes, row_bytes, block, counts + p * LANES);
}

AVX2 void mismatches(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts) {
  if (row_bytes <= PART) return count_all<1>(rows, pixels, row_bytes, block, counts);
  alignas(32) int32_t part[LANES];
  std::memset(counts, 0, sizeof(int32_t) * pixels * LANES);
  for (int p = 0; p < pixels; ++p)
    for (int64_t k = 0; k < row_bytes; k += PART) {
      count<1, 1>(rows + p * row_bytes + k, row_bytes - k < PART ? row_bytes - k : PART, block + k * LANES, part);
      for (int lane = 0; lane < LANES; ++lane) counts[p * LANES + lane] += part[lane];
    }
}

AVX2 void mismatches_of_two(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* blocks, int32_t* counts) {
  if (row_bytes <= PART) return count_all<2>(rows, pixels, row_bytes, blocks, counts);
  for (int b = 0; b < 2; ++b) mismatches(rows, pixels, row_bytes, blocks + b * row_bytes * LANES, counts + b * TILE * LANES);
}

AVX2 void dots(const int32_t* counts, int pixels, const float* const* base, float* out) {
  const __m256 minus_two = _mm256_set1_ps(-2.0f);
  for (int p = 0; p < pixels; ++p)
    for (int h = 0; h < LANES; h += 8) {
      const __m256i n = _mm256_load_si256(reinterpret_cast<const __m256i*>(counts + p * LANES + h));
      _mm256_store_ps(out + p * LANES + h, _mm256_fmadd_ps(_mm256_cvtepi32_ps(n), minus_two, _mm256_loadu_ps(base[p] + h)));
    }
}

AVX2 void store_rows(const float* dots, int pixels, int lanes, float* out, int64_t stride) {
  for (int p = 0; p < pixels; ++p) std::memcpy(out + p * stride, dots + p * LANES, sizeof(float) * lanes);
}

AVX2 inline void transpose(__m256 (&r)[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
      r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
    }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}

AVX2 void store_planes(const float* dots, int pixels, int lanes, float* out, int64_t plane) {
  for (int p = 0; p < pixels; p += 8)
    for (int h = 0; h < lanes; h += 8) {
      const int count = pixels - p < 8 ? pixels - p : 8;
      __m256 r[8];
      for (int i = 0; i < 8; ++i) r[i] = i < count ? _mm256_load_ps(dots + (p + i) * LANES + h) : _mm256_setzero_ps();
      transpose(r);
      for (int i = 0; i < 8 && h + i < lanes; ++i) _mm256_maskstore_ps(out + (h + i) * plane + p, first(count), r[i]);
    }
}

AVX2 void load_planes(const float* x, int pixels, int lanes, int64_t plane, float* dots) {
  for (int p = 0; p < pixels; p += 8)
    for (int h = 0; h < lanes; h += 8) {
      const int count = pixels - p < 8 ? pixels - p : 8;
      __m256 r[8];
      for (int i = 0; i < 8; ++i)
        r[i] = h + i < lanes ? _mm256_maskload_ps(x + (h + i) * plane + p, first(count)) : _mm256_setzero_ps();
      transpose(r);
      for (int i = 0; i < count; ++i) _mm256_store_ps(dots + (p + i) * LANES + h, r[i]);
    }
}

AVX2 void threshold(const float* dots, int pixels, const Channels& c, uint32_t* bits) {
  for (int p = 0; p < pixels; ++p) {
    uint32_t word = 0;
    for (int h = 0; h < LANES; h += 8) {
      const __m256 below = _mm256_cmp_ps(_mm256_load_ps(dots + p * LANES + h), _mm256_loadu_ps(c.threshold + h), _CMP_LT_OQ);
      word |= uint32_t(_mm256_movemask_ps(below)) << h;
    }
    bits[p] = word ^ c.flip;
  }
}

AVX2 void residual(float* dots, int pixels, int lanes, const Channels& c, const float* residual, int64_t stride, uint32_t* bits) {
  const __m256 zero = _mm256_setzero_ps(), floor = _mm256_set1_ps(c.floor);
  std::memset(bits, 0, sizeof(uint32_t) * pixels);
  for (int h = 0; h < lanes; h += 8) {
    const __m256i live = first(lanes - h);
    const uint32_t lower = uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(live)));
    const __m256 alpha = _mm256_loadu_ps(c.alpha + h), gain = _mm256_loadu_ps(c.gain + h), offset = _mm256_loadu_ps(c.offset + h);
    for (int p = 0; p < pixels; ++p) {
      const __m256 n = _mm256_max_ps(_mm256_mul_ps(_mm256_load_ps(dots + p * LANES + h), alpha), floor);
      __m256 v = _mm256_fmadd_ps(n, gain, offset);
      if (residual) v = _mm256_add_ps(v, _mm256_maskload_ps(residual + p * stride + h, live));
      _mm256_store_ps(dots + p * LANES + h, v);
      bits[p] |= (uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(v, zero, _CMP_LT_OQ))) & lower) << h;
    }
  }
}

// As in path_avx512.cpp; the mantissa and the exponent are cut out by hand, denormal numbers scaled first.
AVX2 inline __m256 power(__m256 a, __m256 exponent, __m256 rest) {
  const __m256 tiny = _mm256_cmp_ps(a, _mm256_set1_ps(1.17549435e-38f), _CMP_LT_OQ);
  const __m256i raw = _mm256_castps_si256(_mm256_blendv_ps(a, _mm256_mul_ps(a, _mm256_set1_ps(16777216.0f)), tiny));
  const __m256i shift = _mm256_srai_epi32(_mm256_sub_epi32(raw, _mm256_set1_epi32(0x3f400000)), 23);
  const __m256 f = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_sub_epi32(raw, _mm256_slli_epi32(shift, 23))), _mm256_set1_ps(1.0f));
  const __m256 k = _mm256_sub_ps(_mm256_cvtepi32_ps(shift), _mm256_and_ps(tiny, _mm256_set1_ps(24.0f)));
  __m256 log = _mm256_set1_ps(LOG2[8]);
  for (int i = 7; i >= 0; --i) log = _mm256_fmadd_ps(log, f, _mm256_set1_ps(LOG2[i]));
  log = _mm256_mul_ps(log, f);
  __m256 whole = _mm256_round_ps(_mm256_mul_ps(exponent, _mm256_add_ps(k, log)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  whole = _mm256_max_ps(_mm256_min_ps(whole, _mm256_set1_ps(254.0f)), _mm256_set1_ps(-252.0f));
  __m256 r = _mm256_fmsub_ps(exponent, k, whole);
  r = _mm256_fmadd_ps(rest, k, r);
  r = _mm256_fmadd_ps(exponent, log, r);
  __m256 y = _mm256_set1_ps(EXP2[6]);
  for (int i = 5; i >= 0; --i) y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(EXP2[i]));
  // times 2^whole in two halves, so that neither leaves the range of a float's exponent
  const __m256i n = _mm256_cvtps_epi32(whole), half = _mm256_srai_epi32(n, 1), bias = _mm256_set1_epi32(127);
  y = _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
  return _mm256_mul_ps(y, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias), 23)));
}

AVX2 inline __m256 slope_times(__m256 grad, __m256 z, const Power& p) {
  const __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), z);
  const __m256 inner = _mm256_cmp_ps(a, _mm256_set1_ps(p.m), _CMP_LE_OQ);
  const __m256 outer = _mm256_cmp_ps(a, _mm256_set1_ps(p.t), _CMP_LE_OQ);
  const __m256 y = power(a, _mm256_set1_ps(p.exponent), _mm256_set1_ps(p.exponent_rest));
  __m256 slope = _mm256_and_ps(outer, _mm256_mul_ps(y, _mm256_set1_ps(p.scale)));
  slope = _mm256_blendv_ps(slope, _mm256_set1_ps(p.plateau), inner);
  slope = _mm256_blendv_ps(slope, z, _mm256_cmp_ps(z, z, _CMP_UNORD_Q));
  return _mm256_mul_ps(grad, slope);
}

AVX2 inline void partial(const float* grad, const float* z, float* out, __m256i live, const Power& p) {
  _mm256_maskstore_ps(out, live, slope_times(_mm256_maskload_ps(grad, live), _mm256_maskload_ps(z, live), p));
}

AVX2 void reste_backward(const float* grad, const float* z, float* out, int64_t n, const Power& p, bool stream) {
  int64_t i = 0;
  if (stream) {  // past the caches: an ordinary store would first read what it overwrites
    for (; i < n && (reinterpret_cast<uintptr_t>(out + i) & 31); ++i) partial(grad + i, z + i, out + i, first(1), p);
    for (; i + 8 <= n; i += 8) _mm256_stream_ps(out + i, slope_times(_mm256_loadu_ps(grad + i), _mm256_loadu_ps(z + i), p));
    _mm_sfence();
  }
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, slope_times(_mm256_loadu_ps(grad + i), _mm256_loadu_ps(z + i), p));
  if (i < n) partial(grad + i, z + i, out + i, first(n - i), p);
}

}  // namespace

const Path avx2_path = {"avx2", pack_planes, pack_rows, ones, copy, interleave, mismatches, dots, store_rows,
                        store_planes, load_planes, threshold, residual,   reste_backward, mismatches_of_two};

}  // namespace resteutils
#endif

// How many lookups (AVX2) or popcounts (AVX-512) a core does in a second, from registers alone: no 1-bit arithmetic by the
// same instructions can be faster. Each call does n rounds of eight independent sums.
#include <immintrin.h>

#include <cstdint>

extern "C" {

__attribute__((target("avx2"))) int64_t lookups(int64_t n) {
  __m256i sum[8], table = _mm256_set1_epi8(3), index = _mm256_set1_epi8(1);
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sum[i] = _mm256_setzero_si256();
  for (int64_t k = 0; k < n; ++k)
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      asm("" : "+x"(table), "+x"(index));
      sum[i] = _mm256_add_epi8(sum[i], _mm256_shuffle_epi8(table, index));
      asm("" : "+x"(sum[i]));
    }
#pragma GCC unroll 8
  for (int i = 1; i < 8; ++i) sum[0] = _mm256_add_epi8(sum[0], sum[i]);
  return _mm256_extract_epi64(sum[0], 0);
}

// Five operations for two words of 512: two carry-save additions, the differing bits in them, a popcount and its sum.
__attribute__((target("avx512f,avx512bw,avx512vpopcntdq"))) int64_t popcounts(int64_t n) {
  __m512i sum[4], low[4], a = _mm512_set1_epi32(0x1234567), b = _mm512_set1_epi32(0x89abcdef);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sum[i] = low[i] = _mm512_setzero_si512();
  for (int64_t k = 0; k < n; ++k)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      asm("" : "+v"(a), "+v"(b));
      const __m512i t = _mm512_ternarylogic_epi32(a, b, low[i], 0x96), next = _mm512_ternarylogic_epi32(b, a, t, 0x96);
      sum[i] = _mm512_add_epi32(sum[i], _mm512_popcnt_epi32(_mm512_ternarylogic_epi32(t, next, low[i], 0x3a)));
      low[i] = next;
      asm("" : "+v"(sum[i]), "+v"(low[i]));
    }
#pragma GCC unroll 4
  for (int i = 1; i < 4; ++i) sum[0] = _mm512_add_epi32(sum[0], sum[i]);
  return _mm512_reduce_add_epi32(sum[0]);
}

}

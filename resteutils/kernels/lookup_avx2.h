// Bits that differ, by lookup: four bits choose a table of 16 bytes, four bits of each of 32 others index it.
#pragma once
#include <immintrin.h>

#include <array>
#include <cstdint>

#define AVX2 __attribute__((target("avx2,fma,popcnt")))

namespace resteutils {
namespace {

// TABLES[nibble][index]: bits that differ
constexpr std::array<std::array<uint8_t, 16>, 16> make_tables() {
  std::array<std::array<uint8_t, 16>, 16> tables{};
  for (int a = 0; a < 16; ++a)
    for (int b = 0; b < 16; ++b) {
      const int d = a ^ b;
      tables[a][b] = uint8_t((d & 1) + (d >> 1 & 1) + (d >> 2 & 1) + (d >> 3 & 1));
    }
  return tables;
}
alignas(64) constexpr auto TABLES = make_tables();

AVX2 inline __m256i table(uint8_t offset) {  // offset = 16 * nibble
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(TABLES[0].data() + offset)));
}

AVX2 inline __m256i first(int64_t n) {  // mask of the first n of 8 lanes
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n > 8 ? 8 : n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Keeps the compiler from summing lookups in another order, which takes more registers than there are and is half as fast.
AVX2 inline __m256i add_lookup(__m256i sum, __m256i table, __m256i index) {
  sum = _mm256_add_epi8(sum, _mm256_shuffle_epi8(table, index));
  asm("" : "+x"(sum));
  return sum;
}

}  // namespace
}  // namespace resteutils

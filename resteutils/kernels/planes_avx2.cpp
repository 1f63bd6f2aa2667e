// As described in planes.h. Four bits of a weight choose a table of 16 bytes, four bits of each of 32 pixels index it.
#if defined(__x86_64__)
#include <algorithm>
#include <cstring>

#include "lookup_avx2.h"
#include "planes.h"

namespace resteutils {
namespace {

constexpr int MOST_TILES = 4;  // at once: a table, once chosen, answers for all of them
constexpr int AT_ONCE = 60;    // lookups of at most 4 that a byte can sum up

AVX2 inline void copy_pixels(uint8_t* to, const uint8_t* from, int64_t many, int64_t step) {
  if (step == 1) {
    switch (many) {
      case 32: std::memcpy(to, from, 32); return;
      case 16: std::memcpy(to, from, 16); return;
      case 8: std::memcpy(to, from, 8); return;
    }
    std::memcpy(to, from, many);
    return;
  }
  int64_t k = 0;
  if (step == 2) {
    const __m128i even = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, -1, -1, -1, -1, -1, -1, -1, -1);
    for (; k + 8 <= many; k += 8)
      _mm_storel_epi64(reinterpret_cast<__m128i*>(to + k), _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * k)), even));
  }
  for (; k < many; ++k) to[k] = from[k * step];
}

struct Tile {
  int64_t y, x, rows, across;  // its first output pixel; pixels = rows * across
  int64_t pixels() const { return rows * across; }
};

AVX2 inline Tile tile_of(const PlanesLayer& l, int64_t t) {
  const int64_t y = t / l.across() * l.rows(), x = t % l.across() * PIXELS;
  return {y, x, std::min(l.rows(), l.oh - y), std::min<int64_t>(PIXELS, l.ow - x)};
}

// The bits that each tap reads for the pixels of a tile: lookups[k * step], k over taps and planes.
AVX2 inline void gather(const PlanesLayer& l, const Tile& tile, const uint8_t* source, uint8_t* lookups, int64_t step) {
  const int64_t planes = l.in_planes(), pitch = l.w + 2, plane = (l.h + 2) * pitch;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      for (int64_t p = 0; p < planes; ++p, lookups += step)
        for (int64_t r = 0; r < tile.rows; ++r)
          copy_pixels(lookups + r * tile.across, source + p * plane + ((tile.y + r) * l.stride + i) * pitch + tile.x * l.stride + j, tile.across, l.stride);
}

// 16-bit counts of differing bits of even and odd pixels, for T tiles.
template <int T>
AVX2 inline void count(const uint8_t* lookups, const uint8_t* weights, int64_t many, __m256i (&even)[T], __m256i (&odd)[T]) {
  const __m256i low8 = _mm256_set1_epi16(255);
  for (int t = 0; t < T; ++t) even[t] = odd[t] = _mm256_setzero_si256();
  for (int64_t start = 0; start < many; start += AT_ONCE) {
    const int64_t stop = std::min<int64_t>(many, start + AT_ONCE);
    __m256i sum[T];
    for (int t = 0; t < T; ++t) sum[t] = _mm256_setzero_si256();
    for (int64_t k = start; k < stop; ++k) {
      const __m256i chosen = table(weights[k]);
      for (int t = 0; t < T; ++t) sum[t] = add_lookup(sum[t], chosen, _mm256_load_si256(reinterpret_cast<const __m256i*>(lookups + (k * T + t) * PIXELS)));
    }
    for (int t = 0; t < T; ++t) {
      even[t] = _mm256_add_epi16(even[t], _mm256_and_si256(sum[t], low8));
      odd[t] = _mm256_add_epi16(odd[t], _mm256_srli_epi16(sum[t], 8));
    }
  }
}

AVX2 inline __m256i negative_by_cut(const PlanesLayer& l, int64_t o, int32_t kind, __m256i even, __m256i odd) {
  const int16_t* cut = l.cut + (kind * l.out + o) * PIXELS;
  const __m256i a = _mm256_cmpgt_epi16(even, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cut)));
  const __m256i b = _mm256_cmpgt_epi16(odd, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(cut + PIXELS / 2)));
  const __m256i both = _mm256_blendv_epi8(a, b, _mm256_set1_epi16(short(0xff00)));
  return _mm256_xor_si256(both, _mm256_set1_epi8(l.flip[o] ? char(0xff) : 0));
}

// Values of one channel of a tile; where they are negative.
AVX2 inline __m256i values(const PlanesLayer& l, int64_t o, int32_t kind, __m256i even, __m256i odd, int64_t pixels, const float* skip, float* floats) {
  const __m256 minus_two = _mm256_set1_ps(-2.0f), zero = _mm256_setzero_ps(), floor = _mm256_set1_ps(l.floor);
  const __m256 alpha = _mm256_set1_ps(l.alpha[o]), gain = _mm256_set1_ps(l.gain[o]), offset = _mm256_set1_ps(l.offset[o]);
  const __m256i a = _mm256_unpacklo_epi16(even, odd), b = _mm256_unpackhi_epi16(even, odd);
  const __m128i eights[4] = {_mm256_castsi256_si128(a), _mm256_castsi256_si128(b), _mm256_extracti128_si256(a, 1), _mm256_extracti128_si256(b, 1)};
  const float* base = l.base + (kind * l.out + o) * PIXELS;
  __m256i below[4];
  for (int64_t q = 0; q < 4; ++q) {
    const __m256 n = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(eights[q])), minus_two, _mm256_loadu_ps(base + 8 * q));
    __m256 v = _mm256_fmadd_ps(_mm256_max_ps(_mm256_mul_ps(n, alpha), floor), gain, offset);
    const int64_t left = pixels - 8 * q;
    if (left >= 8) {
      if (skip) v = _mm256_add_ps(v, _mm256_loadu_ps(skip + 8 * q));
      if (floats) _mm256_storeu_ps(floats + 8 * q, v);
    } else if (left > 0) {
      const __m256i live = first(left);
      if (skip) v = _mm256_add_ps(v, _mm256_maskload_ps(skip + 8 * q, live));
      if (floats) _mm256_maskstore_ps(floats + 8 * q, live, v);
    }
    below[q] = _mm256_castps_si256(_mm256_cmp_ps(v, zero, _CMP_LT_OQ));
  }
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(below[0], below[1]), _mm256_packs_epi32(below[2], below[3]));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

AVX2 inline void store_nibbles(const PlanesLayer& l, const Tile& tile, __m256i nibbles, uint8_t* plane) {
  alignas(32) uint8_t room[PIXELS];
  _mm256_store_si256(reinterpret_cast<__m256i*>(room), nibbles);
  for (int64_t r = 0; r < tile.rows; ++r) copy_pixels(plane + (tile.y + r + 1) * (l.ow + 2) + tile.x + 1, room + r * tile.across, tile.across, 1);
}

template <int T>
AVX2 inline void tiles(const PlanesLayer& l, const uint8_t* source, const float* skip, float* floats, uint8_t* nibbles, int64_t first) {
  alignas(32) uint8_t lookups[9 * MOST_PLANES * T * PIXELS];
  const int64_t many = 9 * l.in_planes(), plane = (l.oh + 2) * (l.ow + 2);
  Tile tile[T];
  __m256i made[T];
  for (int t = 0; t < T; ++t) {
    tile[t] = tile_of(l, first + t);
    if (tile[t].pixels() < PIXELS)  // lanes beyond the tile are not read, but their indices must be nibbles
      for (int64_t k = 0; k < many; ++k) std::memset(lookups + (k * T + t) * PIXELS, 0, PIXELS);
    gather(l, tile[t], source, lookups + t * PIXELS, T * PIXELS);
    made[t] = _mm256_setzero_si256();
  }
  for (int64_t o = 0; o < l.out; ++o) {
    __m256i even[T], odd[T];
    count<T>(lookups, l.weights + o * many, many, even, odd);
    const __m256i bit = _mm256_set1_epi8(char(1 << (o % 4)));
    for (int t = 0; t < T; ++t) {
      const int32_t kind = l.tiles[first + t];
      const int64_t at = o * l.oh * l.ow + tile[t].y * l.ow + tile[t].x;
      const __m256i below = l.cut ? negative_by_cut(l, o, kind, even[t], odd[t])
                                  : values(l, o, kind, even[t], odd[t], tile[t].pixels(), skip ? skip + at : nullptr, floats ? floats + at : nullptr);
      made[t] = _mm256_or_si256(made[t], _mm256_and_si256(below, bit));
      if (nibbles && (o % 4 == 3 || o == l.out - 1)) {
        store_nibbles(l, tile[t], made[t], nibbles + o / 4 * plane);
        made[t] = _mm256_setzero_si256();
      }
    }
  }
}

}  // namespace

AVX2 void avx2_planes(const PlanesLayer& layer, const uint8_t* source, const float* skip, float* floats, uint8_t* nibbles, int64_t begin, int64_t end) {
  int64_t t = begin;
  for (; t + MOST_TILES <= end; t += MOST_TILES) tiles<MOST_TILES>(layer, source, skip, floats, nibbles, t);
  for (; t + 2 <= end; t += 2) tiles<2>(layer, source, skip, floats, nibbles, t);
  for (; t < end; ++t) tiles<1>(layer, source, skip, floats, nibbles, t);
}

AVX2 void avx2_finish(float* v, int64_t h, int64_t w, float gain, float offset, float floor, uint8_t* plane, int bit) {
  const __m256 zero = _mm256_setzero_ps(), least = _mm256_set1_ps(floor), times = _mm256_set1_ps(gain), plus = _mm256_set1_ps(offset);
  const __m128i mark = _mm_set1_epi8(char(1 << bit));
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; x += 8) {
      float* at = v + y * w + x;
      const int64_t many = std::min<int64_t>(8, w - x);
      const __m256i live = first(many);
      const __m256 made = _mm256_fmadd_ps(_mm256_max_ps(_mm256_maskload_ps(at, live), least), times, plus);
      _mm256_maskstore_ps(at, live, made);
      if (!plane) continue;
      const __m256i below = _mm256_castps_si256(_mm256_cmp_ps(made, zero, _CMP_LT_OQ));
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(below), _mm256_extracti128_si256(below, 1));
      const __m128i bytes = _mm_and_si128(_mm_packs_epi16(words, words), mark);
      uint8_t room[8], *to = plane + (y + 1) * (w + 2) + x + 1;
      _mm_storel_epi64(reinterpret_cast<__m128i*>(room), bytes);
      for (int64_t k = 0; k < many; ++k) to[k] |= room[k];
    }
}

}  // namespace resteutils
#endif

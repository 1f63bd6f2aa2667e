// One source for every machine: vectors of eight floats, which the compiler splits where registers are shorter.
#include "tables.h"

#include <algorithm>
#include <cstring>
#include <vector>

#define INLINE __attribute__((always_inline)) inline

namespace resteutils {
namespace {

typedef float V __attribute__((vector_size(32)));

constexpr int64_t MOST = 32;                // tables of dW made at once: what the first cache holds
constexpr int64_t INDEX_BYTES = 128 * 1024;  // of the signs of images that dW keeps at hand

INLINE V load(const float* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
INLINE void store(float* to, V v) { std::memcpy(to, &v, sizeof v); }

// 8 x 8 floats, turned
INLINE void turn(V (&r)[8]) {
#if defined(__clang__) || __GNUC__ >= 12
  V t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      r[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      r[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int i = 0; i < 4; ++i) {
    const V a = r[i], b = r[i + 4];
    r[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  const V s[8] = {r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]};
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) r[i][j] = s[j][i];
#endif
}

// The sixteen signed sums of four vectors of WIDE floats, times a number each; bit q of an entry's number takes d[q] away.
INLINE void fill_table(const float* d, const float* times, float* table) {
  for (int h = 0; h < WIDE; h += 8) {
    const V a = load(d + h) * times[0], b = load(d + WIDE + h) * times[1], c = load(d + 2 * WIDE + h) * times[2], e = load(d + 3 * WIDE + h) * times[3];
    const V low[4] = {a + b, b - a, a - b, -(a + b)}, high[4] = {c + e, e - c, c - e, -(c + e)};
    for (int i = 0; i < 16; ++i) store(table + i * WIDE + h, low[i & 3] + high[i >> 2]);
  }
}

// Up to sixteen channels of one pixel of up to WIDE images -> [channel][image], zeros beyond
INLINE void gather_images(const float* from, int64_t step, int64_t count, int64_t channels, float* to) {
  for (int64_t h = 0; h < WIDE; h += 8)
    for (int64_t c = 0; c < 4 * SET; c += 8) {
      const int64_t many = std::max<int64_t>(0, std::min<int64_t>(8, channels - c));
      V r[8];
      for (int64_t i = 0; i < 8; ++i) {
        r[i] = V{};
        if (h + i >= count) continue;
        if (many == 8) r[i] = load(from + (h + i) * step + c);
        else std::memcpy(&r[i], from + (h + i) * step + c, many * sizeof(float));
      }
      turn(r);
      for (int64_t i = 0; i < 8; ++i) store(to + (c + i) * WIDE + h, r[i]);
    }
}

// and back, all channels
INLINE void scatter_images(const float* from, int64_t step, int64_t count, int64_t channels, float* to) {
  for (int64_t h = 0; h < count; h += 8)
    for (int64_t c = 0; c < channels; c += 8) {
      const int64_t many = std::min<int64_t>(8, channels - c);
      V r[8];
      for (int64_t i = 0; i < 8; ++i) r[i] = i < many ? load(from + (c + i) * WIDE + h) : V{};
      turn(r);
      for (int64_t i = 0; i < std::min<int64_t>(8, count - h); ++i) std::memcpy(to + (h + i) * step + c, &r[i], many * sizeof(float));
    }
}

// Adds to each channel's sums what T neighbouring pixels' tables hold for its signs.
template <int T>
INLINE void add_taps(const float* const* tables, const uint16_t* const* index, int64_t channels, float* sums) {
  for (int64_t c = 0; c < channels; ++c, sums += WIDE) {
    V a = load(sums), b = load(sums + 8);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t)
#pragma GCC unroll 8
      for (int g = 0; g < SET; ++g) {
        const float* entry = tables[t] + g * 16 * WIDE + index[t][c * SET + g];
        a += load(entry);
        b += load(entry + 8);
      }
    store(sums, a);
    store(sums + 8, b);
  }
}

INLINE void input_gradient(const Geometry& s, const float* dy, const float* alpha, const uint16_t* index, float* dx, int64_t first, int64_t count,
                           int64_t top, int64_t bottom) {
  const int64_t ring = s.ring(), row = s.iw * s.ci, slots = (s.kw + s.sw - 1) / s.sw, slot = SET * 16 * WIDE;
  std::vector<float> sums(ring * row * WIDE), tables(slots * slot), turned(4 * SET * WIDE);
  int64_t opened = top, closed = top;
  const auto close = [&](int64_t until) {  // rows that no further row of dY reaches go out, in the layout of dX
    for (; closed < until; ++closed) {
      float* from = sums.data() + closed % ring * row * WIDE;
      for (int64_t x = 0; x < s.iw; ++x)
        scatter_images(from + x * s.ci * WIDE, s.ih * row, count, s.ci, dx + (first * s.ih + closed) * row + x * s.ci);
    }
  };
  const auto open = [&](int64_t until) {
    for (; opened < until; ++opened) {
      close(opened - ring + 1);
      std::memset(sums.data() + opened % ring * row * WIDE, 0, sizeof(float) * row * WIDE);
    }
  };
  for (int64_t oy = 0; oy < s.oh; ++oy) {
    const int64_t start = oy * s.sh - s.ph, low = std::max(start, top), high = std::min(start + s.kh, bottom);
    if (low >= high) continue;
    open(high);
    for (int64_t set = 0; set < s.sets(); ++set) {
      int64_t built = 0;
      for (int64_t x = 0; x < s.iw; ++x) {
        for (; built < s.ow && built * s.sw <= x + s.pw; ++built) {
          const int64_t o = set * 4 * SET;
          gather_images(dy + ((first * s.oh + oy) * s.ow + built) * s.co + o, s.oh * s.ow * s.co, count, s.co - o, turned.data());
          for (int g = 0; g < SET; ++g) fill_table(turned.data() + g * 4 * WIDE, alpha + o + g * 4, tables.data() + built % slots * slot + g * 16 * WIDE);
        }
        for (int64_t j = 0; j < s.kw;) {
          const float* from[3];
          int64_t taps[3];
          int many = 0;
          for (; j < s.kw && many < 3; ++j) {
            const int64_t at = x + s.pw - j;
            if (at < 0 || at % s.sw || at / s.sw >= s.ow) continue;
            from[many] = tables.data() + at / s.sw % slots * slot;
            taps[many++] = j;
          }
          for (int64_t y = low; y < high && many; ++y) {
            const uint16_t* signs[3];
            for (int t = 0; t < many; ++t) signs[t] = index + (((y - start) * s.kw + taps[t]) * s.sets() + set) * s.ci * SET;
            float* to = sums.data() + (y % ring * s.iw + x) * s.ci * WIDE;
            if (many == 3) add_taps<3>(from, signs, s.ci, to);
            else if (many == 2) add_taps<2>(from, signs, s.ci, to);
            else add_taps<1>(from, signs, s.ci, to);
          }
        }
      }
    }
  }
  open(bottom);
  close(bottom);
}

// The signs of four images, as offsets into tables: index[(y * ci + c) * width + phase * (width / sw) + x / sw], phase = x % sw,
// so that the pixels that a tap reads for neighbouring outputs are neighbours. Rows of zeros stand for images beyond `count`.
INLINE bool index_images(const Geometry& s, const float* x, int64_t count, int64_t width, uint16_t* index) {
  typedef int I __attribute__((vector_size(32)));
  typedef uint16_t S __attribute__((vector_size(16)));
  const int64_t image = s.ih * s.iw * s.ci;
  I nan{};
  for (int64_t y = 0; y < s.ih; ++y)
    for (int64_t c = 0; c < s.ci; c += 8) {
      const int64_t many = std::min<int64_t>(8, s.ci - c);
      for (int64_t u = 0; u < s.iw; ++u) {
        const float* from = x + (y * s.iw + u) * s.ci + c;
        I bits{};
        for (int64_t q = 0; q < count; ++q) {
          V v{};
          if (many == 8) v = load(from + q * image);
          else std::memcpy(&v, from + q * image, many * sizeof(float));
          bits |= (I)(v < 0) & (WIDE << q);
          nan |= (I)(v != v);
        }
        const S narrow = __builtin_convertvector(bits, S);
        uint16_t* to = index + (y * s.ci + c) * width + u % s.sw * (width / s.sw) + u / s.sw;
        for (int64_t k = 0; k < many; ++k) to[k * width] = narrow[k];
      }
    }
  int any = 0;
  for (int k = 0; k < 8; ++k) any |= nan[k];
  return any;
}

INLINE void add_pixels(const float* table, const uint16_t* index, int64_t many, V (&a)[4], V (&b)[4]) {
  int64_t m = 0;
  for (; m + 4 <= many; m += 4)
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const float* entry = table + (m + u) * 16 * WIDE + index[m + u];
      a[u] += load(entry);
      b[u] += load(entry + 8);
    }
  table += m * 16 * WIDE, index += m;
  if (many - m > 0) a[0] += load(table + index[0]), b[0] += load(table + index[0] + 8);
  if (many - m > 1) table += 16 * WIDE, a[1] += load(table + index[1]), b[1] += load(table + index[1] + 8);
  if (many - m > 2) table += 16 * WIDE, a[2] += load(table + index[2]), b[2] += load(table + index[2] + 8);
}

INLINE bool weight_gradient(const Geometry& s, const float* dy_all, const float* x, int64_t first, int64_t last, float* dw) {
  const int64_t width = (s.iw + s.sw - 1) / s.sw * s.sw, image = s.ih * s.ci * width, taps = s.kh * s.kw, block = taps * s.ci * WIDE;
  const int64_t parts = (s.ow + MOST - 1) / MOST, across = (s.ow + parts - 1) / parts, down = std::max<int64_t>(1, std::min(s.oh, MOST / across));
  const int64_t quads = std::min((last - first + 3) / 4, std::max<int64_t>(1, INDEX_BYTES / (image * 2)));
  std::vector<uint16_t> index(quads * image);
  std::vector<float> tables(down * across * 16 * WIDE), four(4 * WIDE), sums(block);
  const std::vector<float> ones(WIDE, 1.0f);
  bool nan = false;
  for (int64_t begin = first; begin < last; begin += 4 * quads) {
    const int64_t stop = std::min(last, begin + 4 * quads);
    for (int64_t n = begin; n < stop; n += 4)
      nan |= index_images(s, x + n * s.ih * s.iw * s.ci, std::min<int64_t>(4, stop - n), width, index.data() + (n - begin) / 4 * image);
    for (int64_t o = 0; o < s.co; o += WIDE) {
      const int64_t lanes = std::min<int64_t>(WIDE, s.co - o);
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t n = begin; n < stop; n += 4)
        for (int64_t r0 = 0; r0 < s.oh; r0 += down)
          for (int64_t x0 = 0; x0 < s.ow; x0 += across) {
            const int64_t rows = std::min(down, s.oh - r0), columns = std::min(across, s.ow - x0);
            for (int64_t r = 0; r < rows; ++r)
              for (int64_t u = 0; u < columns; ++u) {
                for (int64_t q = 0; q < 4; ++q) {
                  float* to = four.data() + q * WIDE;
                  if (n + q < stop && lanes == WIDE) std::memcpy(to, dy_all + (((n + q) * s.oh + r0 + r) * s.ow + x0 + u) * s.co + o, sizeof(float) * WIDE);
                  else {
                    std::memset(to, 0, sizeof(float) * WIDE);
                    if (n + q < stop) std::memcpy(to, dy_all + (((n + q) * s.oh + r0 + r) * s.ow + x0 + u) * s.co + o, sizeof(float) * lanes);
                  }
                }
                fill_table(four.data(), ones.data(), tables.data() + (r * across + u) * 16 * WIDE);
              }
            for (int64_t i = 0; i < s.kh; ++i) {
              int64_t low = 0, high = rows;  // those whose row of x lies in the image
              while (low < high && (r0 + low) * s.sh + i - s.ph < 0) ++low;
              while (low < high && (r0 + high - 1) * s.sh + i - s.ph >= s.ih) --high;
              if (low == high) continue;
              for (int64_t j = 0; j < s.kw; ++j) {
                int64_t left = 0, right = columns;
                while (left < right && (x0 + left) * s.sw + j - s.pw < 0) ++left;
                while (left < right && (x0 + right - 1) * s.sw + j - s.pw >= s.iw) --right;
                if (left == right) continue;
                const int64_t at = (x0 + left) * s.sw + j - s.pw;
                const uint16_t* signs = index.data() + (n - begin) / 4 * image + ((r0 + low) * s.sh + i - s.ph) * s.ci * width + at % s.sw * (width / s.sw) + at / s.sw;
                const float* table = tables.data() + (low * across + left) * 16 * WIDE;
                float* to = sums.data() + (i * s.kw + j) * s.ci * WIDE;
                for (int64_t c = 0; c < s.ci; ++c, signs += width, to += WIDE) {
                  V a[4] = {load(to)}, b[4] = {load(to + 8)};
                  for (int64_t r = 0; r < high - low; ++r) add_pixels(table + r * across * 16 * WIDE, signs + r * s.sh * s.ci * width, right - left, a, b);
                  store(to, (a[0] + a[1]) + (a[2] + a[3]));
                  store(to + 8, (b[0] + b[1]) + (b[2] + b[3]));
                }
              }
            }
          }
      float* to = dw + o / WIDE * block;
      for (int64_t k = 0; k < block; ++k) to[k] += sums[k];
    }
  }
  return nan;
}

void plain_input(const Geometry& s, const float* dy, const float* alpha, const uint16_t* index, float* dx, int64_t first, int64_t count, int64_t top,
                 int64_t bottom) {
  input_gradient(s, dy, alpha, index, dx, first, count, top, bottom);
}
bool plain_weight(const Geometry& s, const float* dy, const float* x, int64_t first, int64_t last, float* dw) {
  return weight_gradient(s, dy, x, first, last, dw);
}

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma")))
AVX2 void avx2_input(const Geometry& s, const float* dy, const float* alpha, const uint16_t* index, float* dx, int64_t first, int64_t count, int64_t top,
                     int64_t bottom) {
  input_gradient(s, dy, alpha, index, dx, first, count, top, bottom);
}
AVX2 bool avx2_weight(const Geometry& s, const float* dy, const float* x, int64_t first, int64_t last, float* dw) {
  return weight_gradient(s, dy, x, first, last, dw);
}
#endif

}  // namespace

const Tables plain_tables = {plain_input, plain_weight};
#if defined(__x86_64__)
const Tables avx2_tables = {avx2_input, avx2_weight};
#endif

}  // namespace resteutils

// Gradients of a binary convolution. Products of +-1 with floats are signed sums: of every four floats all sixteen signed
// sums are made once, and each user adds the one that its four signs name, instead of four multiply-adds. The arithmetic is
// float32; only the order of summation differs from a convolution's.
#pragma once
#include <cstdint>

namespace resteutils {

constexpr int WIDE = 16;  // floats that one entry of a table holds: images for dX, output channels for dW
constexpr int SET = 4;    // tables that dX adds up together: of 4 * SET output channels

struct Geometry {
  int64_t n, ci, ih, iw, co, oh, ow, kh, kw, sh, sw, ph, pw;
  int64_t padded() const { return (co + WIDE - 1) / WIDE * WIDE; }
  int64_t sets() const { return (co + 4 * SET - 1) / (4 * SET); }
  int64_t ring() const { return kh > sh ? kh : sh; }  // rows of dX under way
};

struct Tables {
  // Rows top .. bottom - 1 of dX of images first .. first + count - 1, at most WIDE of them. dy and dx: (N, H, W, C); alpha: one
  // number per (padded) output channel; index[((tap * sets + set) * ci + c) * SET + g] = WIDE * (signs of four weights as bits).
  void (*input)(const Geometry& s, const float* dy, const float* alpha, const uint16_t* index, float* dx, int64_t first, int64_t count,
                int64_t top, int64_t bottom);
  // Adds what images first .. last - 1 give to dw[padded / WIDE][tap][ci][WIDE]. Returns whether x held a NaN.
  bool (*weight)(const Geometry& s, const float* dy, const float* x, int64_t first, int64_t last, float* dw);
};

extern const Tables plain_tables;
#if defined(__x86_64__)
extern const Tables avx2_tables;
#endif

}  // namespace resteutils

// What one instruction set must offer: a handful of plain functions. ops.cpp knows shapes, threads and torch; the files
// path_*.cpp know registers. A bit is 1 for -1 and 0 for +1, so that zeroed padding bits agree with each other and cost nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace resteutils {

constexpr int LANES = 32;  // output channels that one block of weights holds side by side
constexpr int TILE = 32;   // pixels whose rows of bits are gathered at a time

// Rearranges the rows of LANES output channels for mismatches(): block[piece][lane], in pieces of BYTES bytes.
// Inlined, so that each path compiles it for its own instructions (AVX2: 44 against 67 us for 256 x 256 x 3 x 3 weights).
template <int BYTES>
__attribute__((always_inline)) inline void interleave_by(const uint8_t* const* rows, int64_t row_bytes, uint8_t* block) {
  for (int64_t k = 0; k < row_bytes; k += BYTES)
    for (int lane = 0; lane < LANES; ++lane) std::memcpy(block + k * LANES + lane * BYTES, rows[lane] + k, BYTES);
}

// grad * (plateau if |z| <= m; scale * |z|^exponent if |z| <= t; 0 beyond)
struct Power {
  float scale, exponent, exponent_rest, plateau, m, t;  // exponent + exponent_rest: the double, in two floats
};

// log2(1 + f) / f for f in [-1/4, 1/2), and 2^r for r in [-1/2, 1/2]: minimax polynomials, lowest order first
constexpr float LOG2[9] = {1.44269503f, -0.72134848f, 0.48090208f, -0.36057592f, 0.28819151f, -0.24272353f, 0.21632486f, -0.17423017f, 0.07806667f};
constexpr float EXP2[7] = {1.0f, 0.69314721f, 0.24022647f, 0.05550329f, 0.00961849f, 0.00133999f, 0.00015346f};

// What follows a binary convolution in a packed network; every pointer holds LANES values of one block of channels.
// v = max(n * alpha, floor) * gain + offset (+ residual), floor 0 (ReLU) or -inf; the bit is v < 0. Or, with thresholds, the
// bit is (n < threshold) ^ flip.
struct Channels {
  const float *alpha, *gain, *offset, *threshold;
  uint32_t flip;
  float floor;
};

struct Path {
  const char* name;
  // Bits of neighbouring pixels, from planes (NCHW: channel c of pixel p is x[c * plane + p]) or from rows (NHWC).
  // Writes (channels + 7) / 8 bytes a pixel. Returns whether it met a NaN (whose bit is that of +1).
  bool (*pack_planes)(const float* x, int64_t channels, int64_t plane, int64_t pixels, uint8_t* bits);
  bool (*pack_rows)(const float* x, int64_t channels, int64_t pixels, uint8_t* bits);
  // How many bits are 1.
  int64_t (*ones)(const uint8_t* bits, int64_t bytes);
  // Copies `rows` pieces of `span` bytes, `step` bytes apart, one behind the other.
  void (*copy)(uint8_t* to, const uint8_t* from, int64_t span, int64_t step, int64_t rows);
  // Rearranges the rows of LANES output channels, row_bytes each (a multiple of 8), for mismatches().
  void (*interleave)(const uint8_t* const* rows, int64_t row_bytes, uint8_t* block);
  // counts[p * LANES + lane] = number of bits in which the row of pixel p and that of output channel `lane` differ.
  void (*mismatches)(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* block, int32_t* counts);
  // The dot products of +-1: dots[p * LANES + lane] = base[p][lane] - 2 counts[p * LANES + lane].
  void (*dots)(const int32_t* counts, int pixels, const float* const* base, float* dots);
  // Writes `lanes` of them to out[p * stride + lane], or, turned, to out[lane * plane + p].
  void (*store_rows)(const float* dots, int pixels, int lanes, float* out, int64_t stride);
  void (*store_planes)(const float* dots, int pixels, int lanes, float* out, int64_t plane);
  // The way back: planes of `lanes` channels into dots; lanes beyond are left alone.
  void (*load_planes)(const float* x, int pixels, int lanes, int64_t plane, float* dots);
  // One 32-bit word of bits per pixel, bit `lane` as described at Channels.
  void (*threshold)(const float* dots, int pixels, const Channels& c, uint32_t* bits);
  // v as described at Channels, in place of the dots, and its bits. residual may be null; `lanes` of it are read per pixel.
  void (*residual)(float* dots, int pixels, int lanes, const Channels& c, const float* residual, int64_t stride, uint32_t* bits);
  void (*reste_backward)(const float* grad, const float* z, float* out, int64_t n, const Power& p, bool stream);
  // As mismatches(), with two neighbouring blocks at once; the counts of the second follow TILE * LANES behind those of the first.
  // Null where two at once gain nothing.
  void (*mismatches_of_two)(const uint8_t* rows, int pixels, int64_t row_bytes, const uint8_t* blocks, int32_t* counts);
};

extern const Path scalar_path;
#if defined(__x86_64__)
extern const Path avx2_path;
extern const Path avx512_path;
#elif defined(__aarch64__)
extern const Path neon_path;
#endif

}  // namespace resteutils

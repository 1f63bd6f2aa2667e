// Binary convolutions of few channels with the pixels in the lanes: no bits are gathered, no lane is idle. A value is planes:
// floats (N, C, H, W), and nibbles (N, ceil(C / 4), H + 2, W + 2), a byte a pixel: bit b of plane p is 1 where channel 4 p + b
// is negative. Their border is zero, which is the zero padding of 3x3 kernels (a bit 0 stands for +1; `base` takes it out again).
#pragma once
#include <cstdint>

namespace resteutils {

constexpr int PIXELS = 32;      // of a tile
constexpr int MOST_PLANES = 16;  // 64 channels

struct PlanesLayer {
  int64_t in, out, stride, h, w, oh, ow;
  const uint8_t* weights;   // [out][9 * planes]: 16 * nibble, taps outermost
  const int32_t* tiles;     // class of each tile of an image
  const float* base;        // [class][out][PIXELS]: the dot product where no bit differs
  const int16_t* cut;       // [class][out][PIXELS], even pixels first: negative where more bits differ than this; or null,
  const uint8_t* flip;      // and then turned about where this is 1 (one byte per output channel)
  const float *alpha, *gain, *offset;  // without a cut: v = max(n * alpha, floor) * gain + offset (+ skip)
  float floor;
  int64_t in_planes() const { return (in + 3) / 4; }
  int64_t out_planes() const { return (out + 3) / 4; }
  // A tile is a piece of a row, or as many whole rows as it holds.
  int64_t rows() const { return ow > PIXELS ? 1 : PIXELS / ow; }
  int64_t across() const { return (ow + PIXELS - 1) / PIXELS; }
  int64_t number() const { return (oh + rows() - 1) / rows() * across(); }
};

// Tiles begin .. end - 1 of one image: nibbles of the source, floats to be added (or null), floats and nibbles that come out (or null).
void avx2_planes(const PlanesLayer& layer, const uint8_t* source, const float* skip, float* floats, uint8_t* nibbles, int64_t begin, int64_t end);
// v = max(v, floor) * gain + offset of `pixels` floats of one channel, in place, and bit `bit` of their nibbles, row by row into a plane with border.
void avx2_finish(float* v, int64_t h, int64_t w, float gain, float offset, float floor, uint8_t* plane, int bit);

}  // namespace resteutils

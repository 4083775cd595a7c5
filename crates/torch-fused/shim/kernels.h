// Passes over activations in channels-last layout: `rows` rows of `channels` values, one after the other. bf16 values are
// the upper halves of f32 values. All arithmetic is f32. Values of different channels never meet, so the width of vector
// registers does not affect the bits.
#pragma once

#include <cstdint>

namespace retort {

struct Bf16 {
  uint16_t bits;
};

// value = input * factor + offset + residual, between lower and upper.
struct Affine {
  const float* factor;
  const float* offset;
  float lower;
  float upper;
};

// The gradient of the input is factor * (gradient - mean_gradient - (input - mean) * slope).
struct InputGradient {
  const float* factor;
  const float* mean;
  const float* mean_gradient;
  const float* slope;
};

// Means and sums of squared differences from them, of each channel. `scratch` has 2 * channels values.
void moments(const float* input, int64_t rows, int64_t channels, float* mean, float* squares, float* scratch);
void moments(const Bf16* input, int64_t rows, int64_t channels, float* mean, float* squares, float* scratch);

// Writes the output. `residual` may be null.
void apply(const float* input, const float* residual, const Affine& affine, int64_t rows, int64_t channels, float* output);
void apply(const Bf16* input, const Bf16* residual, const Affine& affine, int64_t rows, int64_t channels, Bf16* output);

// Sums of the gradient of the value, and of its product with (input - mean), of each channel. That gradient is that of the
// output, or 0 where a limit applied. Also written to `masked`, if there is a residual. `scratch` has 2 * channels values.
void gradient_sums(
    const float* input, const float* residual, const float* gradient, const Affine& affine, const float* mean, int64_t rows,
    int64_t channels, float* sums, float* products, float* masked, float* scratch);
void gradient_sums(
    const Bf16* input, const Bf16* residual, const Bf16* gradient, const Affine& affine, const float* mean, int64_t rows,
    int64_t channels, float* sums, float* products, Bf16* masked, float* scratch);

// Writes the gradient of the input. `gradient` is that of the output, or with `is_masked` that of the value.
void input_gradient(
    const float* input, const float* gradient, bool is_masked, const Affine& affine, const InputGradient& terms, int64_t rows,
    int64_t channels, float* output);
void input_gradient(
    const Bf16* input, const Bf16* gradient, bool is_masked, const Affine& affine, const InputGradient& terms, int64_t rows,
    int64_t channels, Bf16* output);

}  // namespace retort

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

// `T` is float or Bf16. `residual` may be null.
template <typename T>
struct Kernels {
  // Means and sums of squared differences from them, of each channel.
  void (*moments)(const T* input, int64_t rows, int64_t channels, float* mean, float* squares);

  // Writes the output.
  void (*apply)(
      const T* input, const T* residual, const Affine& affine, int64_t rows, int64_t channels, T* output);

  // Sums of the gradient of the value, and of its product with (input - mean), of each channel. That gradient is that of
  // the output, or 0 where a limit applied. Also written to `masked`, if there is a residual.
  void (*gradient_sums)(
      const T* input, const T* residual, const T* gradient, const Affine& affine, const float* mean, int64_t rows,
      int64_t channels, float* sums, float* products, T* masked);

  // Writes the gradient of the input. `gradient` is that of the output, or with `is_masked` that of the value.
  void (*input_gradient)(
      const T* input, const T* gradient, bool is_masked, const Affine& affine, const InputGradient& terms, int64_t rows,
      int64_t channels, T* output);
};

// Those with the widest vectors of this processor.
template <typename T>
const Kernels<T>& kernels();

}  // namespace retort

// A C interface to batch normalization in training with what usually comes right after it: a sum and a ReLU.
//
// A tensor is a pointer to an at::Tensor, as in the C interface of the crate torch-sys.
#pragma once

#include <cstddef>

extern "C" {

// What the operation computes with besides its input.
struct RetortBatchNorm {
  // f32 [channels]; gradients flow to both.
  const void* scale;
  const void* shift;
  // f32 [channels], updated in place.
  const void* running_mean;
  const void* running_variance;
  // Added to the normalized input before the limits apply; the input's shape. Null for none.
  const void* residual;
  double momentum;
  double epsilon;
  // The limits of the result: those of ReLU are 0 and infinity.
  float lower;
  float upper;
};

// Whether the operation takes this input: f32 or bf16 on the CPU, with four dimensions in channels-last layout.
bool retort_fuses_batch_norm(const void* input) noexcept;

// Stores a new tensor, which the caller owns, in `*output`, in the type and layout of the input. On failure returns
// false and stores a message that ends with a zero byte in `error`, which has `capacity` bytes.
bool retort_batch_norm(
    const void* input,
    const RetortBatchNorm* norm,
    void** output,
    char* error,
    size_t capacity) noexcept;

}

#include "kernels.h"

#include <algorithm>

// The machine's widest vectors are chosen when the program starts.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST_VECTORS __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define WIDEST_VECTORS
#endif
#define INLINE inline __attribute__((always_inline))

namespace retort {
namespace {

// Values of a block, which stays in the first-level cache between two passes over it.
constexpr int64_t BLOCK_VALUES = 8192;
// Rows whose values are added before they are added to a sum, which shortens the chain of additions.
constexpr int64_t STEP = 4;

INLINE float widen(float value) {
  return value;
}

INLINE float widen(Bf16 value) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(value.bits) << 16);
}

INLINE void store(float value, float* target) {
  *target = value;
}

// Rounds to the nearest, ties to even. A NaN stays one: its upper half is never that of an infinity.
INLINE void store(float value, Bf16* target) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  target->bits = static_cast<uint16_t>(value == value ? rounded : 0x7fc0);
}

INLINE int64_t block_rows(int64_t channels) {
  return std::max<int64_t>(16, BLOCK_VALUES / channels);
}

INLINE void clear(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    values[i] = 0.0F;
  }
}

template <typename T>
INLINE void moments_of(
    const T* __restrict input, int64_t rows, int64_t channels, float* __restrict mean, float* __restrict squares,
    float* __restrict scratch) {
  float* __restrict block_mean = scratch;
  float* __restrict block_squares = scratch + channels;
  clear(mean, channels);
  clear(squares, channels);
  const int64_t most = block_rows(channels);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t count = std::min(most, rows - first);
    const T* __restrict block = input + first * channels;
    clear(block_mean, channels);
    clear(block_squares, channels);
    int64_t row = 0;
    for (; row + STEP <= count; row += STEP) {
      const T* __restrict x = block + row * channels;
      for (int64_t c = 0; c < channels; ++c) {
        block_mean[c] += (widen(x[c]) + widen(x[channels + c])) + (widen(x[2 * channels + c]) + widen(x[3 * channels + c]));
      }
    }
    for (; row < count; ++row) {
      for (int64_t c = 0; c < channels; ++c) {
        block_mean[c] += widen(block[row * channels + c]);
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      block_mean[c] /= static_cast<float>(count);
    }
    for (row = 0; row + STEP <= count; row += STEP) {
      const T* __restrict x = block + row * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float a = widen(x[c]) - block_mean[c];
        const float b = widen(x[channels + c]) - block_mean[c];
        const float d = widen(x[2 * channels + c]) - block_mean[c];
        const float e = widen(x[3 * channels + c]) - block_mean[c];
        block_squares[c] += (a * a + b * b) + (d * d + e * e);
      }
    }
    for (; row < count; ++row) {
      for (int64_t c = 0; c < channels; ++c) {
        const float a = widen(block[row * channels + c]) - block_mean[c];
        block_squares[c] += a * a;
      }
    }
    // Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    const float share = static_cast<float>(count) / static_cast<float>(first + count);
    const float weight = static_cast<float>(first) * share;
    for (int64_t c = 0; c < channels; ++c) {
      const float difference = block_mean[c] - mean[c];
      mean[c] += difference * share;
      squares[c] += block_squares[c] + difference * difference * weight;
    }
  }
}

// A comparison with NaN is false, so NaN passes.
INLINE float limited(float value, const Affine& affine) {
  value = value < affine.lower ? affine.lower : value;
  return value > affine.upper ? affine.upper : value;
}

INLINE bool is_inside(float value, const Affine& affine) {
  return value > affine.lower && value < affine.upper;
}

template <typename T, bool HAS_RESIDUAL>
INLINE float value_of(const T* input, const T* residual, const Affine& affine, int64_t at, int64_t c) {
  const float value = widen(input[at]) * affine.factor[c] + affine.offset[c];
  return HAS_RESIDUAL ? value + widen(residual[at]) : value;
}

template <typename T, bool HAS_RESIDUAL>
INLINE void apply_to(
    const T* __restrict input, const T* __restrict residual, const Affine affine, int64_t rows, int64_t channels,
    T* __restrict output) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = row * channels;
    for (int64_t c = 0; c < channels; ++c) {
      store(limited(value_of<T, HAS_RESIDUAL>(input, residual, affine, start + c, c), affine), output + start + c);
    }
  }
}

template <typename T, bool HAS_RESIDUAL, bool WRITES>
INLINE void sum_gradients(
    const T* __restrict input, const T* __restrict residual, const T* __restrict gradient, const Affine affine,
    const float* __restrict mean, int64_t rows, int64_t channels, float* __restrict sums, float* __restrict products,
    T* __restrict masked, float* __restrict scratch) {
  float* __restrict block_sums = scratch;
  float* __restrict block_products = scratch + channels;
  clear(sums, channels);
  clear(products, channels);
  const int64_t most = block_rows(channels);
  const auto term = [&](int64_t at, int64_t c) __attribute__((always_inline)) {
    const bool inside = is_inside(value_of<T, HAS_RESIDUAL>(input, residual, affine, at, c), affine);
    return inside ? widen(gradient[at]) : 0.0F;
  };
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t end = std::min(rows, first + most);
    clear(block_sums, channels);
    clear(block_products, channels);
    int64_t row = first;
    for (; row + 2 <= end; row += 2) {
      const int64_t start = row * channels;
      const int64_t next = start + channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float a = term(start + c, c);
        const float b = term(next + c, c);
        block_sums[c] += a + b;
        block_products[c] += a * (widen(input[start + c]) - mean[c]) + b * (widen(input[next + c]) - mean[c]);
        if (WRITES) {
          store(a, masked + start + c);
          store(b, masked + next + c);
        }
      }
    }
    for (; row < end; ++row) {
      const int64_t start = row * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float a = term(start + c, c);
        block_sums[c] += a;
        block_products[c] += a * (widen(input[start + c]) - mean[c]);
        if (WRITES) {
          store(a, masked + start + c);
        }
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += block_sums[c];
      products[c] += block_products[c];
    }
  }
}

template <typename T, bool IS_MASKED>
INLINE void write_input_gradient(
    const T* __restrict input, const T* __restrict gradient, const Affine affine, const InputGradient terms, int64_t rows,
    int64_t channels, T* __restrict output) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t start = row * channels;
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = start + c;
      float value = widen(gradient[at]);
      if (!IS_MASKED) {
        value = is_inside(value_of<T, false>(input, nullptr, affine, at, c), affine) ? value : 0.0F;
      }
      const float centered = widen(input[at]) - terms.mean[c];
      store(terms.factor[c] * (value - terms.mean_gradient[c] - centered * terms.slope[c]), output + at);
    }
  }
}

}  // namespace

// One function for each type, because templates cannot be cloned.
#define KERNELS(T)                                                                                                        \
  WIDEST_VECTORS void moments(                                                                                            \
      const T* input, int64_t rows, int64_t channels, float* mean, float* squares, float* scratch) {                      \
    moments_of(input, rows, channels, mean, squares, scratch);                                                            \
  }                                                                                                                       \
  WIDEST_VECTORS void apply(                                                                                              \
      const T* input, const T* residual, const Affine& affine, int64_t rows, int64_t channels, T* output) {               \
    if (residual == nullptr) {                                                                                            \
      apply_to<T, false>(input, residual, affine, rows, channels, output);                                                \
    } else {                                                                                                              \
      apply_to<T, true>(input, residual, affine, rows, channels, output);                                                 \
    }                                                                                                                     \
  }                                                                                                                       \
  WIDEST_VECTORS void gradient_sums(                                                                                      \
      const T* input, const T* residual, const T* gradient, const Affine& affine, const float* mean, int64_t rows,        \
      int64_t channels, float* sums, float* products, T* masked, float* scratch) {                                        \
    if (residual == nullptr) {                                                                                            \
      sum_gradients<T, false, false>(                                                                                     \
          input, residual, gradient, affine, mean, rows, channels, sums, products, masked, scratch);                      \
    } else {                                                                                                              \
      sum_gradients<T, true, true>(                                                                                       \
          input, residual, gradient, affine, mean, rows, channels, sums, products, masked, scratch);                      \
    }                                                                                                                     \
  }                                                                                                                       \
  WIDEST_VECTORS void input_gradient(                                                                                     \
      const T* input, const T* gradient, bool is_masked, const Affine& affine, const InputGradient& terms, int64_t rows,  \
      int64_t channels, T* output) {                                                                                      \
    if (is_masked) {                                                                                                      \
      write_input_gradient<T, true>(input, gradient, affine, terms, rows, channels, output);                              \
    } else {                                                                                                              \
      write_input_gradient<T, false>(input, gradient, affine, terms, rows, channels, output);                             \
    }                                                                                                                     \
  }

KERNELS(float)
KERNELS(Bf16)

}  // namespace retort

#include "kernels.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#define INLINE inline __attribute__((always_inline))

// How vectors are passed to functions does not matter, because all of these functions are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace retort {
namespace {

// Values of a block, which stays in the caches from one pass over it to the next.
constexpr int64_t BLOCK_VALUES = 8192;
// Channels whose sums a pass keeps at the same time.
constexpr int64_t PANEL = 256;

}  // namespace
}  // namespace retort

// Everything that the kernels use of the standard library was included before, for every processor.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_WIDER_VECTORS

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace retort {
namespace avx512 {
namespace {
constexpr int WIDEST = 16;
#include "passes.inc"
}  // namespace
}  // namespace avx512
}  // namespace retort
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2")
namespace retort {
namespace avx2 {
namespace {
constexpr int WIDEST = 8;
#include "passes.inc"
}  // namespace
}  // namespace avx2
}  // namespace retort
#pragma GCC pop_options
#endif

namespace retort {
namespace baseline {
namespace {
constexpr int WIDEST = 4;
#include "passes.inc"
}  // namespace
}  // namespace baseline

template <typename T>
const Kernels<T>& kernels() {
#ifdef HAS_WIDER_VECTORS
  static const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx512) {
    return avx512::KERNELS<T>;
  }
  static const bool has_avx2 = __builtin_cpu_supports("avx2");
  if (has_avx2) {
    return avx2::KERNELS<T>;
  }
#endif
  return baseline::KERNELS<T>;
}

template const Kernels<float>& kernels();
template const Kernels<Bf16>& kernels();

}  // namespace retort

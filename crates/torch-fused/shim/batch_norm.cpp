#include "batch_norm.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels.h"

using at::MemoryFormat;
using at::Tensor;
using retort::Affine;
using retort::Bf16;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

// Values for which another thread is worth its start.
constexpr int64_t GRAIN = 1 << 15;

// Calls `function` for the numbers from 0 to `count`, on the threads on which libtorch's own operations run: those of its
// libgomp, which this program cannot link, because its name differs between builds of libtorch. Without it, on the
// caller's thread. `function` must not throw.
template <typename Function>
void for_each_chunk(int64_t count, const Function& function) {
  using Run = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
  static const auto run = reinterpret_cast<Run>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  struct Work {
    std::atomic<int64_t> next;
    int64_t count;
    const Function& function;
  } work{{0}, count, function};
  const auto loop = [](void* data) {
    auto& work = *static_cast<Work*>(data);
    for (int64_t number = work.next++; number < work.count; number = work.next++) {
      work.function(number);
    }
  };
  if (count > 1 && run != nullptr) {
    run(loop, &work, 0, 0);
  } else {
    loop(&work);
  }
}

// Rows of channels, in as many chunks as there are threads: bits are a function of the number of threads. Each chunk has
// at least one row, because the means of none are not numbers.
struct Rows {
  int64_t rows;
  int64_t channels;
  int64_t chunks;

  explicit Rows(const Tensor& input) : rows(input.numel() / input.size(1)), channels(input.size(1)) {
    const int64_t useful = std::max<int64_t>(1, input.numel() / GRAIN);
    chunks = std::min({static_cast<int64_t>(at::get_num_threads()), useful, rows});
  }

  int64_t first(int64_t chunk) const {
    return rows * chunk / chunks;
  }

  // Calls function(number of the chunk, its first value, its number of rows).
  template <typename Function>
  void for_each(const Function& function) const {
    for_each_chunk(chunks, [&](int64_t chunk) {
      function(chunk, first(chunk) * channels, first(chunk + 1) - first(chunk));
    });
  }
};

// The values of a tensor as the kernels take them; `T` is float or Bf16.
template <typename T>
T* values(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

// Calls `function` with a value of the type of the tensor's values.
template <typename Function>
void with_type(const Tensor& tensor, const Function& function) {
  if (tensor.scalar_type() == at::kBFloat16) {
    function(Bf16{});
  } else {
    function(0.0F);
  }
}

struct Moments {
  std::vector<float> mean;
  // Sums of squared differences from the mean.
  std::vector<float> squares;
};

Moments moments_of(const Tensor& input, const Rows& rows) {
  const int64_t channels = rows.channels;
  std::vector<float> mean(rows.chunks * channels), squares(rows.chunks * channels);
  with_type(input, [&](auto type) {
    using T = decltype(type);
    const auto* x = values<T>(input);
    rows.for_each([&](int64_t chunk, int64_t first, int64_t count) {
      const int64_t at = chunk * channels;
      retort::kernels<T>().moments(x + first, count, channels, &mean[at], &squares[at]);
    });
  });
  Moments sum{{mean.begin(), mean.begin() + channels}, {squares.begin(), squares.begin() + channels}};
  for (int64_t chunk = 1; chunk < rows.chunks; ++chunk) {
    const auto before = static_cast<float>(rows.first(chunk));
    const auto after = static_cast<float>(rows.first(chunk + 1));
    const float share = (after - before) / after;
    for (int64_t c = 0; c < channels; ++c) {
      const float difference = mean[chunk * channels + c] - sum.mean[c];
      sum.mean[c] += difference * share;
      sum.squares[c] += squares[chunk * channels + c] + difference * difference * before * share;
    }
  }
  return sum;
}

// The inputs of the operation that may have gradients, in their order.
enum Differentiable : size_t { INPUT, SCALE, SHIFT, RESIDUAL };

class BatchNorm : public torch::autograd::Function<BatchNorm> {
 public:
  static Tensor forward(
      AutogradContext* context, const Tensor& input, const Tensor& scale, const Tensor& shift,
      const std::optional<Tensor>& added, const RetortBatchNorm& norm) {
    const Tensor residual = added.value_or(Tensor());
    const Rows rows(input);
    const int64_t channels = rows.channels;
    const auto moments = moments_of(input, rows);
    auto saved = at::empty({4, channels}, scale.options().requires_grad(false));
    float* factor = values<float>(saved);
    float* offset = factor + channels;
    float* mean = offset + channels;
    float* deviation = mean + channels;
    float* running_mean = values<float>(*static_cast<const Tensor*>(norm.running_mean));
    float* running_variance = values<float>(*static_cast<const Tensor*>(norm.running_variance));
    const auto kept = static_cast<float>(1.0 - norm.momentum);
    const auto taken = static_cast<float>(norm.momentum);
    const auto count = static_cast<float>(rows.rows);
    for (int64_t c = 0; c < channels; ++c) {
      mean[c] = moments.mean[c];
      deviation[c] = std::sqrt(moments.squares[c] / count + static_cast<float>(norm.epsilon));
      factor[c] = values<float>(scale)[c] / deviation[c];
      offset[c] = values<float>(shift)[c] - mean[c] * factor[c];
      running_mean[c] = kept * running_mean[c] + taken * mean[c];
      running_variance[c] = kept * running_variance[c] + taken * (moments.squares[c] / (count - 1.0F));
    }
    auto output = at::empty_like(input);
    const Affine affine{factor, offset, norm.lower, norm.upper};
    with_type(input, [&](auto type) {
      using T = decltype(type);
      const T* addends = values<T>(residual);
      rows.for_each([&](int64_t, int64_t first, int64_t count) {
        const T* part = addends == nullptr ? nullptr : addends + first;
        retort::kernels<T>().apply(values<T>(input) + first, part, affine, count, channels, values<T>(output) + first);
      });
    });
    context->save_for_backward({input, residual, saved});
    context->saved_data["lower"] = static_cast<double>(norm.lower);
    context->saved_data["upper"] = static_cast<double>(norm.upper);
    return output;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "a fused batch-norm has no second derivatives");
    const auto tensors = context->get_saved_variables();
    const Tensor& input = tensors[0];
    const Tensor& residual = tensors[1];
    const float* factor = values<float>(tensors[2]);
    const Rows rows(input);
    const int64_t channels = rows.channels;
    const float* mean = factor + 2 * channels;
    const float* deviation = factor + 3 * channels;
    const Affine affine{
        factor, factor + channels, static_cast<float>(context->saved_data["lower"].toDouble()),
        static_cast<float>(context->saved_data["upper"].toDouble())};
    const Tensor gradient = gradients[0].to(input.scalar_type()).contiguous(MemoryFormat::ChannelsLast);
    // The gradient of the residual, from which that of the input follows.
    const Tensor masked = residual.defined() ? at::empty_like(input) : Tensor();
    const Tensor of_parameters = at::empty({2, channels}, tensors[2].options());
    float* of_scale = values<float>(of_parameters);
    float* of_shift = of_scale + channels;
    std::vector<float> sums(rows.chunks * channels), products(rows.chunks * channels);
    with_type(input, [&](auto type) {
      using T = decltype(type);
      rows.for_each([&](int64_t chunk, int64_t first, int64_t count) {
        const int64_t at = chunk * channels;
        const bool is_sum = residual.defined();
        retort::kernels<T>().gradient_sums(
            values<T>(input) + first, is_sum ? values<T>(residual) + first : nullptr, values<T>(gradient) + first, affine,
            mean, count, channels, &sums[at], &products[at], is_sum ? values<T>(masked) + first : nullptr);
      });
    });
    for (int64_t chunk = 1; chunk < rows.chunks; ++chunk) {
      for (int64_t c = 0; c < channels; ++c) {
        sums[c] += sums[chunk * channels + c];
        products[c] += products[chunk * channels + c];
      }
    }
    std::vector<float> mean_gradient(channels), slope(channels);
    const auto count = static_cast<float>(rows.rows);
    for (int64_t c = 0; c < channels; ++c) {
      of_scale[c] = products[c] / deviation[c];
      of_shift[c] = sums[c];
      mean_gradient[c] = sums[c] / count;
      slope[c] = products[c] / (deviation[c] * deviation[c] * count);
    }
    Tensor of_input;
    if (context->needs_input_grad(INPUT)) {
      of_input = at::empty_like(input);
      const retort::InputGradient terms{factor, mean, mean_gradient.data(), slope.data()};
      with_type(input, [&](auto type) {
        using T = decltype(type);
        const bool is_masked = masked.defined();
        const T* source = values<T>(is_masked ? masked : gradient);
        rows.for_each([&](int64_t, int64_t first, int64_t count) {
          retort::kernels<T>().input_gradient(
              values<T>(input) + first, source + first, is_masked, affine, terms, count, channels,
              values<T>(of_input) + first);
        });
      });
    }
    const auto if_needed = [&](Differentiable which, const Tensor& found) {
      return context->needs_input_grad(which) ? found : Tensor();
    };
    // Without a residual, the graph has no place for its gradient.
    const Tensor of_residual = masked.defined() ? if_needed(RESIDUAL, masked) : Tensor();
    return {
        of_input, if_needed(SCALE, of_parameters[0]), if_needed(SHIFT, of_parameters[1]), of_residual, Tensor()};
  }
};

const Tensor& tensor(const void* pointer) {
  return *static_cast<const Tensor*>(pointer);
}

void keep(const char* problem, char* error, size_t capacity) {
  if (capacity > 0) {
    strncpy(error, problem, capacity - 1);
    error[capacity - 1] = '\0';
  }
}

}  // namespace

bool retort_fuses_batch_norm(const void* input) noexcept {
  try {
    const Tensor& it = tensor(input);
    const bool has_type = it.scalar_type() == at::kFloat || it.scalar_type() == at::kBFloat16;
    return it.device().is_cpu() && has_type && it.dim() == 4 && it.numel() > 0 && it.is_contiguous(MemoryFormat::ChannelsLast);
  } catch (...) {
    return false;
  }
}

bool retort_batch_norm(
    const void* input, const RetortBatchNorm* norm, void** output, char* error, size_t capacity) noexcept {
  try {
    std::optional<Tensor> residual;
    if (norm->residual != nullptr) {
      const Tensor& given = tensor(norm->residual);
      TORCH_CHECK(given.sizes() == tensor(input).sizes(), "the residual has another shape");
      TORCH_CHECK(given.device().is_cpu(), "the residual is not on the CPU");
      residual = given.to(tensor(input).scalar_type()).contiguous(MemoryFormat::ChannelsLast);
    }
    const Tensor result = BatchNorm::apply(tensor(input), tensor(norm->scale), tensor(norm->shift), residual, *norm);
    *output = new Tensor(result);
    return true;
  } catch (const c10::Error& problem) {
    keep(problem.what_without_backtrace(), error, capacity);
  } catch (const std::exception& problem) {
    keep(problem.what(), error, capacity);
  } catch (...) {
    keep("libtorch threw an exception of an unknown type", error, capacity);
  }
  return false;
}

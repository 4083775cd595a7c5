#include "model_runner.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <torch/nativert/ModelRunnerHandle.h>

using torch::nativert::ModelRunnerHandle;

namespace {

// Calls `function`; returns whether it ended without an exception.
template <typename Function>
bool guarded(char** message, Function function) noexcept {
  *message = nullptr;
  try {
    function();
    return true;
  } catch (const c10::Error& error) {
    *message = strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    *message = strdup(error.what());
  } catch (...) {
    *message = strdup("libtorch threw an exception of an unknown type");
  }
  return false;
}

// Keeps warnings of libtorch off standard error, which belongs to the program's log: the runner lists the operators that
// it runs without its fast path.
class OnlyErrorsLogged {
 public:
  OnlyErrorsLogged() : before_(FLAGS_caffe2_log_level) {
    FLAGS_caffe2_log_level = c10::GLOG_ERROR;
  }
  ~OnlyErrorsLogged() {
    FLAGS_caffe2_log_level = before_;
  }

 private:
  int before_;
};

// The tensor in output number `index`.
std::unique_ptr<at::Tensor> tensor(const c10::IValue& value, size_t index) {
  if (!value.isTensor()) {
    throw std::runtime_error("output " + std::to_string(index) + " is a value of type " + value.tagKind() + ", not a tensor");
  }
  return std::make_unique<at::Tensor>(value.toTensor());
}

}  // namespace

bool retort_open_runner(const char* path, const char* model, void** runner, char** message) {
  return guarded(message, [&] {
    OnlyErrorsLogged only_errors;
    *runner = new ModelRunnerHandle(path, model);
  });
}

void retort_close_runner(void* runner) {
  delete static_cast<ModelRunnerHandle*>(runner);
}

bool retort_run(
    void* runner,
    const void* const* inputs,
    size_t input_count,
    void** outputs,
    size_t output_count,
    char** message) {
  return guarded(message, [&] {
    std::vector<c10::IValue> arguments;
    arguments.reserve(input_count);
    for (size_t i = 0; i < input_count; ++i) {
      arguments.emplace_back(*static_cast<const at::Tensor*>(inputs[i]));
    }
    auto values = static_cast<ModelRunnerHandle*>(runner)->runWithFlatInputsAndOutputs(std::move(arguments));
    if (values.size() != output_count) {
      throw std::runtime_error(
          "the program returned " + std::to_string(values.size()) + " values, but its signature names " +
          std::to_string(output_count));
    }
    std::vector<std::unique_ptr<at::Tensor>> tensors;
    tensors.reserve(output_count);
    for (size_t i = 0; i < output_count; ++i) {
      tensors.push_back(tensor(values[i], i));
    }
    for (size_t i = 0; i < output_count; ++i) {
      outputs[i] = tensors[i].release();
    }
  });
}

void retort_release_message(char* message) {
  free(message);
}

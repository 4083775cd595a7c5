#include "cuda.h"

#include <dlfcn.h>

#include <climits>

#include <ATen/Context.h>
#include <c10/util/Exception.h>

namespace {

// Functions and constants of the driver, which are the same in all of its versions
// (https://docs.nvidia.com/cuda/cuda-driver-api). libtorch's headers declare them only together with CUDA's toolkit.
using Init = int (*)(unsigned flags);
using GetDevice = int (*)(int* device, int index);
using GetName = int (*)(char* name, int capacity, int device);
using GetAttribute = int (*)(int* value, int attribute, int device);
using GetUuid = int (*)(unsigned char* uuid, int device);
constexpr int SUCCESS = 0;
constexpr int COMPUTE_CAPABILITY_MAJOR = 75;
constexpr int COMPUTE_CAPABILITY_MINOR = 76;

template <typename Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

// Drops warnings: libtorch announces that it will rename the setting for TF32.
class NoWarnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}
};

}  // namespace

bool retort_describe_cuda_device(
    int index,
    char* name,
    size_t capacity,
    int* major,
    int* minor,
    unsigned char* uuid) noexcept {
  // Stays open: libtorch uses it too.
  void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) {
    return false;
  }
  const auto init = symbol<Init>(driver, "cuInit");
  const auto get_device = symbol<GetDevice>(driver, "cuDeviceGet");
  const auto get_name = symbol<GetName>(driver, "cuDeviceGetName");
  const auto get_attribute = symbol<GetAttribute>(driver, "cuDeviceGetAttribute");
  // Of a part of a GPU (MIG) it gives the part's.
  const auto get_uuid = symbol<GetUuid>(driver, "cuDeviceGetUuid_v2");
  if (!init || !get_device || !get_name || !get_attribute || !get_uuid || capacity > INT_MAX) {
    return false;
  }
  int device = 0;
  return init(0) == SUCCESS && get_device(&device, index) == SUCCESS &&
      get_name(name, static_cast<int>(capacity), device) == SUCCESS &&
      get_attribute(major, COMPUTE_CAPABILITY_MAJOR, device) == SUCCESS &&
      get_attribute(minor, COMPUTE_CAPABILITY_MINOR, device) == SUCCESS && get_uuid(uuid, device) == SUCCESS;
}

bool retort_make_cuda_reproducible() noexcept {
  try {
    NoWarnings handler;
    c10::WarningUtils::WarningHandlerGuard guard(&handler);
    at::Context& context = at::globalContext();
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowTF32CuBLAS(false);
    return true;
  } catch (...) {
    return false;
  }
}

#include "process_group.h"

// libtorch's builds contain Gloo, and its header declares it only with this macro.
#define USE_C10D_GLOO

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

struct retort_process_group {
  c10::intrusive_ptr<c10d::Store> store;
  std::chrono::milliseconds timeout;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
#ifdef USE_C10D_NCCL
  // Null until the first exchange between GPUs.
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> nccl{};
#endif
};

namespace {

void store(const std::string& text, char* error, size_t capacity) noexcept {
  const size_t length = std::min(text.size(), capacity - 1);
  std::memcpy(error, text.data(), length);
  error[length] = '\0';
}

// Calls `action`, stores the text of its exception, and returns whether there was none.
template <typename Action>
bool succeeds(Action action, char* error, size_t capacity) noexcept {
  try {
    action();
    return true;
  } catch (const c10::Error& failure) {
    store(failure.what_without_backtrace(), error, capacity);
  } catch (const std::exception& failure) {
    store(failure.what(), error, capacity);
  } catch (...) {
    store("an unknown exception", error, capacity);
  }
  return false;
}

c10::intrusive_ptr<c10d::Store> open_store(const retort_rendezvous& rendezvous) {
  c10d::TCPStoreOptions options;
  options.port = rendezvous.port;
  options.isServer = rendezvous.rank == 0 && !rendezvous.store_is_elsewhere;
  options.timeout = std::chrono::milliseconds(rendezvous.timeout_milliseconds);
  if (!rendezvous.store_is_elsewhere) {
    options.numWorkers = rendezvous.size;
    return c10::make_intrusive<c10d::TCPStore>(rendezvous.host, options);
  }
  options.waitWorkers = false;
  auto store = c10::make_intrusive<c10d::TCPStore>(rendezvous.host, options);
  return c10::make_intrusive<c10d::PrefixStore>(rendezvous.key_prefix, std::move(store));
}

at::Tensor as_tensor(void* bytes, size_t length) {
  return at::from_blob(bytes, {static_cast<int64_t>(length)}, at::TensorOptions(at::kByte));
}

#ifdef USE_C10D_NCCL
void gather_on_gpus(retort_process_group& group, at::Tensor& output, at::Tensor& input) {
  if (!group.nccl) {
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = group.timeout;
    group.nccl = c10::make_intrusive<c10d::ProcessGroupNCCL>(
        c10::make_intrusive<c10d::PrefixStore>("nccl", group.store),
        group.gloo->getRank(),
        group.gloo->getSize(),
        std::move(options));
  }
  // Gloo notices at once if a process has left. NCCL's kernels would wait for it until the limit.
  group.gloo->barrier()->wait();
  group.nccl->_allgather_base(output, input)->wait();
}
#else
void gather_on_gpus(retort_process_group&, at::Tensor&, at::Tensor&) {
  TORCH_CHECK(false, "this build has no NCCL");
}
#endif

} // namespace

retort_process_group* retort_join_group(
    const retort_rendezvous* rendezvous,
    char* error,
    size_t capacity) noexcept {
  retort_process_group* group = nullptr;
  succeeds(
      [&] {
        const auto timeout = std::chrono::milliseconds(rendezvous->timeout_milliseconds);
        const auto store = open_store(*rendezvous);
        auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(
            store, rendezvous->rank, rendezvous->size, c10d::ProcessGroupGloo::Options::create_default(timeout));
        group = new retort_process_group{store, timeout, std::move(gloo)};
      },
      error,
      capacity);
  return group;
}

bool retort_broadcast(retort_process_group* group, void* bytes, size_t length, char* error, size_t capacity) noexcept {
  return succeeds(
      [&] {
        std::vector<at::Tensor> tensors{as_tensor(bytes, length)};
        group->gloo->broadcast(tensors)->wait();
      },
      error,
      capacity);
}

bool retort_all_gather(
    retort_process_group* group,
    const void* own,
    size_t length,
    void* all,
    char* error,
    size_t capacity) noexcept {
  return succeeds(
      [&] {
        // c10d only reads the input.
        auto input = as_tensor(const_cast<void*>(own), length);
        auto output = as_tensor(all, length * static_cast<size_t>(group->gloo->getSize()));
        group->gloo->_allgather_base(output, input)->wait();
      },
      error,
      capacity);
}

bool retort_gather(retort_process_group* group, const void* own, const void* all, char* error, size_t capacity) noexcept {
  return succeeds(
      [&] {
        auto input = *static_cast<const at::Tensor*>(own);
        auto output = *static_cast<const at::Tensor*>(all);
        if (input.is_cpu()) {
          group->gloo->_allgather_base(output, input)->wait();
        } else {
          gather_on_gpus(*group, output, input);
        }
      },
      error,
      capacity);
}

bool retort_has_nccl() noexcept {
#ifdef USE_C10D_NCCL
  return true;
#else
  return false;
#endif
}

void retort_leave_group(retort_process_group* group) noexcept {
#ifdef USE_C10D_NCCL
  if (group->nccl) {
    // Every exchange has ended. Unlike `shutdown`, this does not wait for the others, which may be lost.
    char ignored[1];
    succeeds([&] { group->nccl->abort(); }, ignored, sizeof(ignored));
  }
#endif
  delete group;
}

#include "process_group.h"

// libtorch's builds contain Gloo, and its header declares it only with this macro.
#define USE_C10D_GLOO

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

struct retort_process_group {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
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

} // namespace

retort_process_group* retort_join_group(
    const retort_rendezvous* rendezvous,
    char* error,
    size_t capacity) noexcept {
  retort_process_group* group = nullptr;
  succeeds(
      [&] {
        const auto timeout = std::chrono::milliseconds(rendezvous->timeout_milliseconds);
        group = new retort_process_group{c10::make_intrusive<c10d::ProcessGroupGloo>(
            open_store(*rendezvous),
            rendezvous->rank,
            rendezvous->size,
            c10d::ProcessGroupGloo::Options::create_default(timeout))};
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

void retort_leave_group(retort_process_group* group) noexcept {
  delete group;
}

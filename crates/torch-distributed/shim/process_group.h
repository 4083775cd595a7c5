// A C interface to c10d, libtorch's library for processes that train together: a group that meets at a TCPStore and
// exchanges the memory of the CPU over Gloo, and that of GPUs over NCCL.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct retort_rendezvous {
  // Host and port of the store.
  const char* host;
  uint16_t port;
  int rank;
  int size;
  // Whether another program, such as torchrun, serves the store; otherwise rank 0 does.
  bool store_is_elsewhere;
  // Precedes the keys of a store that is elsewhere.
  const char* key_prefix;
  // Limit for the others to come, and for each exchange.
  int64_t timeout_milliseconds;
};

struct retort_process_group;

// Joins the group and waits for the others. Returns null on failure, with the reason in `error` as a text that ends with a
// zero byte within `capacity`.
retort_process_group* retort_join_group(const retort_rendezvous* rendezvous, char* error, size_t capacity) noexcept;

// Replaces `bytes` with those of rank 0. `length` must be the same in all processes. Returns false on failure, as above.
bool retort_broadcast(retort_process_group* group, void* bytes, size_t length, char* error, size_t capacity) noexcept;

// Stores the `length` bytes of every process in `all`, in the order of ranks. Returns false on failure, as above.
bool retort_all_gather(
    retort_process_group* group,
    const void* own,
    size_t length,
    void* all,
    char* error,
    size_t capacity) noexcept;

// Stores the values of the `at::Tensor` `own` of every process in the `at::Tensor` `all`, in the order of ranks. Both are
// contiguous, of one type and on one device: the CPU, or a GPU that no other process of the group has. Returns false on
// failure, as above.
bool retort_gather(retort_process_group* group, const void* own, const void* all, char* error, size_t capacity) noexcept;

// Whether the tensors of `retort_gather` may be on GPUs. This build of libtorch and its headers decide it.
bool retort_has_nccl() noexcept;

// Leaves the group and frees it.
void retort_leave_group(retort_process_group* group) noexcept;

}

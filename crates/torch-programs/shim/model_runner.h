// A C interface to torch::nativert::ModelRunnerHandle, libtorch's runner of exported programs.
//
// No C++ exception leaves these functions: a function that can fail returns false and stores a message, which the
// caller releases with retort_release_message(). A message is null only if there is no memory for it.
//
// A tensor is a pointer to an at::Tensor made with new, as in the C interface of the crate torch-sys.
#pragma once

#include <cstddef>

extern "C" {

// Loads the exported program `model` of the archive at `path` and stores the runner in `*runner`.
bool retort_open_runner(const char* path, const char* model, void** runner, char** message);

// Releases a runner.
void retort_close_runner(void* runner);

// Runs the program. The inputs stay the caller's. On success every one of the `output_count` elements of `outputs` is a
// new tensor, which the caller owns; on failure none is. Fails if the program returns another number of values, or a
// value that is not a tensor.
bool retort_run(
    void* runner,
    const void* const* inputs,
    size_t input_count,
    void** outputs,
    size_t output_count,
    char** message);

// Releases a message.
void retort_release_message(char* message);

}

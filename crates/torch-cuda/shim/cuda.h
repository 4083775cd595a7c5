// A C interface to what torch-sys lacks for CUDA: the properties of a device, and libtorch's settings for the same bits
// in every run.
#pragma once

#include <cstddef>

extern "C" {

// Stores the name of the CUDA device `index` with a zero byte at its end, its compute capability, and the 16 bytes that identify
// it among all devices. Counts devices as CUDA does, so CUDA_VISIBLE_DEVICES applies. Returns false if there is no driver, if it
// is older than CUDA 11.4, or if there is no such device.
bool retort_describe_cuda_device(
    int index,
    char* name,
    size_t capacity,
    int* major,
    int* minor,
    unsigned char* uuid) noexcept;

// Makes libtorch choose cuDNN's algorithms that give the same bits in every run, without measuring which is fastest, and
// compute f32 in f32 instead of TF32. Holds for the whole process. Returns false if libtorch refuses.
bool retort_make_cuda_reproducible() noexcept;

}

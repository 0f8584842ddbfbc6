// What the tiled and vectorised kernels share, on host and device.
#pragma once

#include <cstdint>

namespace facelatent {

constexpr int THREADS = 256;  // of a block

// Numbers that are read and written in one go.
template <typename T, int size>
struct alignas(size * sizeof(T)) Vector {
    T v[size];
};

inline bool aligned(const void* pointer, int64_t bytes) { return (uintptr_t)pointer % bytes == 0; }

}  // namespace facelatent

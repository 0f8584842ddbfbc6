// What the CUDA launchers share: half precision types, the device, the choice of a dtype.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "abi.h"

namespace facelatent {

// Our runtime keeps a current device of its own, so torch's choice has to be repeated to it.
inline int use_device(int device) {
    int current = -1;
    const cudaError_t error = cudaGetDevice(&current);
    return error != cudaSuccess || current != device ? (int)cudaSetDevice(device) : 0;
}

}  // namespace facelatent

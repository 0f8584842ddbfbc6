#include <cuda_runtime.h>

#include "abi.h"

FACELATENT_API const char* facelatent_error(int code) {
    const char* text = facelatent_own_error(code);
    return text ? text : cudaGetErrorString((cudaError_t)code);
}

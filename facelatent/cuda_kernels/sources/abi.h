// What every launcher shares: the version of the argument structs, dtype and error codes, visibility.
#pragma once

#include <cstdint>

#define FACELATENT_ABI 1
// The build may hide symbols by default; launchers are the exception.
#define FACELATENT_API extern "C" __attribute__((visibility("default")))

#if defined(__CUDACC__)
#define FACELATENT_HD __host__ __device__ __forceinline__
#else
#define FACELATENT_HD inline
#endif

enum facelatent_dtype : int32_t { FACELATENT_F32 = 0, FACELATENT_F16 = 1, FACELATENT_BF16 = 2, FACELATENT_F64 = 3 };

// Codes from 1000 are ours; smaller ones are CUDA's own.
enum facelatent_code : int {
    FACELATENT_OK = 0,
    FACELATENT_BAD_ABI = 1000,    // struct of another version or size
    FACELATENT_BAD_DTYPE = 1001,  // dtype code that the launcher does not take
    FACELATENT_BAD_SIZE = 1002,   // sizes that the launcher does not take
    FACELATENT_NO_MEMORY = 1003,
};

inline const char* facelatent_own_error(int code) {
    switch (code) {
        case FACELATENT_OK: return "no error";
        case FACELATENT_BAD_ABI: return "arguments of another version of the kernels";
        case FACELATENT_BAD_DTYPE: return "a dtype that this kernel does not take";
        case FACELATENT_BAD_SIZE: return "sizes that this kernel does not take";
        case FACELATENT_NO_MEMORY: return "not enough memory";
        default: return nullptr;
    }
}

// First fields of every argument struct.
template <typename Arguments>
inline bool facelatent_abi_matches(const Arguments* arguments) {
    return arguments && arguments->abi == FACELATENT_ABI && arguments->bytes == (int32_t)sizeof(Arguments);
}

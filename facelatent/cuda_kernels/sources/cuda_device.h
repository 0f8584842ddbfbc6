// The device of a call is made current for its launches, and the caller's is restored.
#pragma once
#include <cuda_runtime.h>

namespace facelatent {

class DeviceGuard {
public:
    explicit DeviceGuard(int device) {
        code_ = cudaGetDevice(&before_);
        if (code_ == cudaSuccess && before_ != device) {
            code_ = cudaSetDevice(device);
            changed_ = code_ == cudaSuccess;
        }
    }
    ~DeviceGuard() {
        if (changed_) cudaSetDevice(before_);
    }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;
    int code() const { return code_; }

private:
    cudaError_t code_;
    int before_ = 0;
    bool changed_ = false;
};

}  // namespace facelatent

#include "epilogue_run.cuh"

FACELATENT_API int facelatent_epilogue_cuda(const facelatent_epilogue* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (const int code = use_device(call->device)) return code;
    return launch_forward<__half, __nv_bfloat16>(call, OnDevice{static_cast<cudaStream_t>(call->stream)});
}

FACELATENT_API int facelatent_skip_add_cuda(const facelatent_skip_add* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (const int code = use_device(call->device)) return code;
    return launch_skip_add(call, OnDevice{static_cast<cudaStream_t>(call->stream)});
}

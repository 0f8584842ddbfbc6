#include "epilogue_run.cuh"

FACELATENT_API int64_t facelatent_epilogue_backward_segments(const facelatent_epilogue_backward* call) {
    return facelatent::gradient_segments<__half, __nv_bfloat16>(call);
}

FACELATENT_API int facelatent_epilogue_backward_cuda(const facelatent_epilogue_backward* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (const int code = use_device(call->device)) return code;
    return launch_backward<__half, __nv_bfloat16>(call, OnDevice{static_cast<cudaStream_t>(call->stream)});
}

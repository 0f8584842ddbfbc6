// bias_act and its first two gradients on the GPU: one pass, 16 bytes of each tensor at a time.

#include "arguments.h"
#include "bias_act.h"
#include "cuda_types.h"

namespace facelatent {
namespace {

constexpr int VECTORS = 2;  // of a thread, for more bytes under way

template <typename T, int order, Family family>
__global__ void __launch_bounds__(THREADS) bias_act(const __grid_constant__ BiasActKernelArguments<Accumulator<T>> a) {
    using Thread = BiasActThread<T, order, family>;
    const int64_t first = blockIdx.x * (int64_t)(THREADS * VECTORS) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < VECTORS; ++i) Thread::run(a, (first + i * THREADS) * Thread::LANES);
}

template <typename T, int order>
int run(const facelatent_bias_act_arguments& call) {
    if (call.activation < LINEAR || call.activation > SWISH) return FACELATENT_BAD_SIZE;
    const auto a = bias_act_arguments<T>(call);
    const int64_t each = THREADS * VECTORS * BiasActThread<T, order, Family::SMOOTH>::LANES;
    const int64_t blocks = (call.count + each - 1) / each;
    if (blocks > INT32_MAX) return FACELATENT_BAD_SIZE;
    const cudaStream_t stream = (cudaStream_t)call.stream;
    if (call.activation > LRELU) bias_act<T, order, Family::SMOOTH><<<(unsigned)blocks, THREADS, 0, stream>>>(a);
    else bias_act<T, order, Family::PIECEWISE><<<(unsigned)blocks, THREADS, 0, stream>>>(a);
    return (int)cudaGetLastError();
}

template <typename T>
int run_order(const facelatent_bias_act_arguments& call) {
    switch (call.order) {
        case 0: return run<T, 0>(call);
        case 1: return run<T, 1>(call);
        case 2: return run<T, 2>(call);
        default: return FACELATENT_BAD_SIZE;
    }
}

}  // namespace
}  // namespace facelatent

FACELATENT_API int facelatent_bias_act_cuda(const facelatent_bias_act_arguments* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (const int code = use_device(call->device)) return code;
    switch (call->dtype) {
        case FACELATENT_F32: return run_order<float>(*call);
        case FACELATENT_F16: return run_order<__half>(*call);
        case FACELATENT_BF16: return run_order<__nv_bfloat16>(*call);
        case FACELATENT_F64: return run_order<double>(*call);
        default: return FACELATENT_BAD_DTYPE;
    }
}

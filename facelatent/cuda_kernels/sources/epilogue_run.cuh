// Runs the phases of epilogue_phases.h on a GPU.
#pragma once
#include "cuda_types.h"
#include "epilogue_launch.h"

namespace facelatent {

template <typename K, typename R>
__global__ void __launch_bounds__(THREADS, K::BLOCKS) epilogue_kernel(const Layer a, const Plan plan) {
    extern __shared__ __align__(16) unsigned char memory[];
    R* shared = reinterpret_cast<R*>(memory);
    K thread;
    thread.begin(a, plan, blockIdx.x, threadIdx.x);
    // The same for all threads of a block, as everything that decides about a barrier.
    const int groups = (thread.at.end - thread.at.row + GROUP - 1) / GROUP;
    for (int group = 0; group < groups; ++group) {
        thread.rows(a, plan, shared);
        if (K::sums(a)) {
            __syncthreads();
            thread.meet(a, plan, shared, threadIdx.x);
            __syncthreads();
        }
    }
    if constexpr (K::TOTALS) {
        thread.end(plan, shared);
        __syncthreads();
        thread.total(a, plan, shared, threadIdx.x);
    }
}

template <typename R, int WIDTH>
__global__ void __launch_bounds__(THREADS) skip_kernel(const Layer a) {
    skip_phase<R, WIDTH>(a, int64_t(blockIdx.x) * THREADS + threadIdx.x);
}

struct OnDevice {
    cudaStream_t stream;

    template <typename K>
    int run(const Layer& a, const Plan& plan) {
        const auto blocks = static_cast<unsigned>(plan.blocks);
        epilogue_kernel<K, typename K::R><<<blocks, plan.threads(), plan.shared_bytes, stream>>>(a, plan);
        return cudaGetLastError();
    }

    template <typename R, int WIDTH>
    int skip(const Layer& a, int64_t blocks) {
        skip_kernel<R, WIDTH><<<static_cast<unsigned>(blocks), THREADS, 0, stream>>>(a);
        return cudaGetLastError();
    }
};

}  // namespace facelatent

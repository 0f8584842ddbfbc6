// upfirdn2d on the GPU: the tiled kernel of upfirdn2d.h for what StyleGAN2 does, one thread a pixel for the rest.

#include <algorithm>

#include "arguments.h"
#include "cuda_types.h"
#include "upfirdn2d.h"

namespace facelatent {
namespace {

constexpr int64_t GRID_LIMIT = 65535;  // of the grid's y and z

// Blocks on a multiprocessor at once: what registers allow without spilling, and shared memory allows at all.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int PIXEL_BLOCKS = 2;
#else
constexpr int PIXEL_BLOCKS = 3;
#endif

template <typename T, int UP, int DOWN, bool PIXELS>
__global__ void __launch_bounds__(THREADS, PIXELS ? PIXEL_BLOCKS : 4)
    tiled(const __grid_constant__ TiledArguments<Accumulator<T>> a, const int groups) {
    using Kernel = Tile<T, UP, DOWN, PIXELS>;
    __shared__ typename Kernel::Cell cells[Kernel::S::CELLS];
    const int tile_x = PIXELS ? blockIdx.x / groups : blockIdx.x;
    const int group = PIXELS ? blockIdx.x % groups : 0;
    for (int64_t plane = blockIdx.z; plane < a.planes; plane += gridDim.z) {
        const TilePlace at{tile_x, (int)blockIdx.y, group * Kernel::S::DEEP, plane};
        Kernel::load(a, at, threadIdx.x, cells);
        __syncthreads();
        Kernel::compute(a, at, threadIdx.x, cells);
        if (gridDim.z < a.planes) __syncthreads();
    }
}

template <typename A>
struct GenericArguments {
    const void* x;
    void* y;
    Axis along_x, along_y;
    int64_t x_stride[4], y_stride[4];
    int64_t n, c, out_h, out_w;
    bool pixels;
    A filter[FACELATENT_MAX_TAPS * FACELATENT_MAX_TAPS];
};

template <typename T>
__global__ void __launch_bounds__(THREADS) generic(const __grid_constant__ GenericArguments<Accumulator<T>> a) {
    const int64_t inner = a.pixels ? a.c : 1, planes = a.pixels ? a.n : a.n * a.c, row = a.out_w * inner;
    for (int64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
        const int64_t n = a.pixels ? plane : plane / a.c;
        for (int64_t out_y = blockIdx.y; out_y < a.out_h; out_y += gridDim.y) {
            for (int64_t i = blockIdx.x * (int64_t)THREADS + threadIdx.x; i < row; i += (int64_t)gridDim.x * THREADS) {
                const int64_t c = a.pixels ? i % inner : plane - n * a.c, out_x = a.pixels ? i / inner : i;
                const T* x = (const T*)a.x + n * a.x_stride[0] + c * a.x_stride[1];
                T* y = (T*)a.y + n * a.y_stride[0] + c * a.y_stride[1];
                const auto sum = upfirdn2d_pixel(x, a.x_stride[2], a.x_stride[3], a.filter, a.along_x, a.along_y, out_x, out_y);
                y[out_y * a.y_stride[2] + out_x * a.y_stride[3]] = (T)sum;
            }
        }
    }
}

template <typename T, int UP, int DOWN, bool PIXELS>
bool try_tiled(const facelatent_upfirdn2d_arguments& call, cudaStream_t stream) {
    using S = TileShape<T, UP, DOWN, PIXELS>;
    TiledArguments<Accumulator<T>> a;
    if (!tiled_arguments<T, UP, DOWN, PIXELS>(call, &a)) return false;
    const TileGrid grid = tile_grid<S>(a);
    if (grid.x > INT32_MAX || grid.y > GRID_LIMIT) return false;
    const dim3 blocks((unsigned)grid.x, (unsigned)grid.y, (unsigned)std::min(a.planes, GRID_LIMIT));
    tiled<T, UP, DOWN, PIXELS><<<blocks, THREADS, 0, stream>>>(a, grid.groups);
    return true;
}

template <typename T>
int run_generic(const facelatent_upfirdn2d_arguments& call, bool pixels, cudaStream_t stream) {
    if (call.taps_x > FACELATENT_MAX_TAPS || call.taps_y > FACELATENT_MAX_TAPS) return FACELATENT_BAD_SIZE;
    GenericArguments<Accumulator<T>> a;
    a.x = call.x, a.y = call.y, a.n = call.n, a.c = call.c, a.out_h = call.out_h, a.out_w = call.out_w;
    a.pixels = pixels;
    a.along_x = {call.in_w, call.pad_left, call.up_x, call.down_x, call.taps_x};
    a.along_y = {call.in_h, call.pad_top, call.up_y, call.down_y, call.taps_y};
    std::copy(call.x_stride, call.x_stride + 4, a.x_stride);
    std::copy(call.y_stride, call.y_stride + 4, a.y_stride);
    for (int y = 0; y < call.taps_y; ++y) {
        for (int x = 0; x < call.taps_x; ++x) {
            const int i = y * call.taps_x + x;
            const double tap = call.separable ? call.filter[x] * call.filter[call.taps_x + y] : call.filter[i];
            a.filter[i] = (Accumulator<T>)tap;
        }
    }
    const int64_t row = call.out_w * (pixels ? call.c : 1), planes = pixels ? call.n : call.n * call.c;
    const dim3 blocks((unsigned)std::min<int64_t>((row + THREADS - 1) / THREADS, INT32_MAX),
                      (unsigned)std::min(call.out_h, GRID_LIMIT), (unsigned)std::min(planes, GRID_LIMIT));
    generic<T><<<blocks, THREADS, 0, stream>>>(a);
    return FACELATENT_OK;
}

template <typename T, bool PIXELS>
bool try_all(const facelatent_upfirdn2d_arguments& call, cudaStream_t stream) {
    return try_tiled<T, 1, 1, PIXELS>(call, stream) || try_tiled<T, 2, 1, PIXELS>(call, stream) ||
           try_tiled<T, 1, 2, PIXELS>(call, stream);
}

template <typename T>
int run(const facelatent_upfirdn2d_arguments& call) {
    const cudaStream_t stream = (cudaStream_t)call.stream;
    const bool pixels = call.c > 1 && call.x_stride[1] == 1 && call.y_stride[1] == 1 && call.y_stride[3] == call.c;
    int code = FACELATENT_OK;
    // double is for checking gradients: it has no tiles.
    if constexpr (std::is_same_v<T, double>) code = run_generic<T>(call, pixels, stream);
    else if (!(pixels ? try_all<T, true>(call, stream) : try_all<T, false>(call, stream)))
        code = run_generic<T>(call, pixels, stream);
    return code ? code : (int)cudaGetLastError();
}

}  // namespace
}  // namespace facelatent

FACELATENT_API int facelatent_upfirdn2d_cuda(const facelatent_upfirdn2d_arguments* call) {
    using namespace facelatent;
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (const int code = use_device(call->device)) return code;
    switch (call->dtype) {
        case FACELATENT_F32: return run<float>(*call);
        case FACELATENT_F16: return run<__half>(*call);
        case FACELATENT_BF16: return run<__nv_bfloat16>(*call);
        case FACELATENT_F64: return run<double>(*call);
        default: return FACELATENT_BAD_DTYPE;
    }
}

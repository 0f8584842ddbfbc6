// Runs the phases of the CUDA kernels on the host, thread by thread, a phase after the other, and compares with the
// oracle of pixel.h. Built with the address and undefined-behaviour sanitizers, which see what a GPU would not tell.
//
//     emulator CASES RESULTS
//
// CASES holds, one after the other: int64 fields, doubles, tensors as raw memory (see the readers below). RESULTS gets
// the raw memory of each result. Exits 1 with a line if a result is not the oracle's.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <vector>

#include "arguments.h"
#include "bias_act.h"
#include "cpu_types.h"
#include "upfirdn2d.h"

namespace facelatent {
namespace {

std::ifstream cases;
std::ofstream results;

template <typename T>
std::vector<T> read(int64_t count) {
    std::vector<T> values(count);
    if (count && !cases.read((char*)values.data(), count * sizeof(T))) exit(2);
    return values;
}

template <typename T>
void write(const std::vector<T>& values) {
    results.write((const char*)values.data(), values.size() * sizeof(T));
}

template <typename T>
double tolerance() {
    return sizeof(T) == 8 ? 1e-14 : sizeof(T) == 4 ? 1e-6 : std::is_same_v<T, BFloat16> ? 8e-3 : 1e-3;
}

template <typename T, typename A>
void check(const char* what, int64_t at, T found, A wanted) {
    const double difference = std::abs((double)(A)found - (double)wanted);
    if (difference <= tolerance<T>() * (1 + std::abs((double)wanted))) return;
    std::printf("%s: element %lld is %g, the oracle says %g\n", what, (long long)at, (double)(A)found, (double)wanted);
    exit(1);
}

template <typename T, int UP, int DOWN, bool PIXELS>
void run_blocks(const facelatent_upfirdn2d_arguments& call) {
    using Kernel = Tile<T, UP, DOWN, PIXELS>;
    using S = typename Kernel::S;
    TiledArguments<Accumulator<T>> a;
    if (!tiled_arguments<T, UP, DOWN, PIXELS>(call, &a)) exit(3);
    const TileGrid grid = tile_grid<S>(a);
    std::vector<typename Kernel::Cell> cells(S::CELLS);
    for (int64_t plane = 0; plane < a.planes; ++plane) {
        for (int64_t y = 0; y < grid.y; ++y) {
            for (int64_t x = 0; x < grid.x; ++x) {
                // Shared memory is not cleared between blocks: whatever is read unwritten must show.
                for (auto& cell : cells)
                    for (auto& number : cell.v) number = std::numeric_limits<float>::quiet_NaN();
                const TilePlace at{(int)(x / grid.groups), (int)y, (int)(x % grid.groups) * S::DEEP, plane};
                for (int thread = 0; thread < THREADS; ++thread) Kernel::load(a, at, thread, cells.data());
                for (int thread = 0; thread < THREADS; ++thread) Kernel::compute(a, at, thread, cells.data());
            }
        }
    }
}

template <typename T>
void check_pixels(const facelatent_upfirdn2d_arguments& call) {
    using A = Accumulator<T>;
    A filter[TILED_TAPS * TILED_TAPS];
    for (int i = 0; i < TILED_TAPS * TILED_TAPS; ++i)
        filter[i] = (A)(call.filter[i % TILED_TAPS] * call.filter[TILED_TAPS + i / TILED_TAPS]);
    const Axis ax{call.in_w, call.pad_left, call.up_x, call.down_x, call.taps_x};
    const Axis ay{call.in_h, call.pad_top, call.up_y, call.down_y, call.taps_y};
    for (int64_t i = 0; i < call.n * call.c * call.out_h * call.out_w; ++i) {
        const int64_t x = i % call.out_w, y = i / call.out_w % call.out_h;
        const int64_t c = i / call.out_w / call.out_h % call.c, n = i / call.out_w / call.out_h / call.c;
        const int64_t from = n * call.x_stride[0] + c * call.x_stride[1];
        const int64_t to = n * call.y_stride[0] + c * call.y_stride[1] + y * call.y_stride[2] + x * call.y_stride[3];
        const A wanted =
            upfirdn2d_pixel((const T*)call.x + from, call.x_stride[2], call.x_stride[3], filter, ax, ay, x, y);
        check("upfirdn2d", i, ((const T*)call.y)[to], wanted);
    }
}

void set_strides(int64_t* stride, bool pixels, int64_t c, int64_t h, int64_t w) {
    stride[0] = c * h * w;
    stride[1] = pixels ? 1 : h * w;
    stride[2] = pixels ? c * w : w;
    stride[3] = pixels ? c : 1;
}

// int64: pixels, n, c, in_h, in_w, out_h, out_w, up, down, pad_left, pad_top; doubles: 4 taps along x, 4 along y; x.
template <typename T>
void upfirdn2d() {
    const std::vector<int64_t> v = read<int64_t>(11);
    const std::vector<double> filter = read<double>(2 * TILED_TAPS);
    const bool pixels = v[0];
    facelatent_upfirdn2d_arguments call = {};
    call.n = v[1], call.c = v[2], call.in_h = v[3], call.in_w = v[4], call.out_h = v[5], call.out_w = v[6];
    call.up_x = call.up_y = (int)v[7], call.down_x = call.down_y = (int)v[8];
    call.pad_left = v[9], call.pad_top = v[10];
    call.taps_x = call.taps_y = TILED_TAPS, call.separable = 1, call.filter = filter.data();
    const std::vector<T> x = read<T>(call.n * call.c * call.in_h * call.in_w);
    std::vector<T> y(call.n * call.c * call.out_h * call.out_w, T(std::numeric_limits<float>::quiet_NaN()));
    set_strides(call.x_stride, pixels, call.c, call.in_h, call.in_w);
    set_strides(call.y_stride, pixels, call.c, call.out_h, call.out_w);
    call.x = x.data(), call.y = y.data();
    if (v[7] == 2) pixels ? run_blocks<T, 2, 1, true>(call) : run_blocks<T, 2, 1, false>(call);
    else if (v[8] == 2) pixels ? run_blocks<T, 1, 2, true>(call) : run_blocks<T, 1, 2, false>(call);
    else pixels ? run_blocks<T, 1, 1, true>(call) : run_blocks<T, 1, 1, false>(call);
    check_pixels<T>(call);
    write(y);
}

template <typename T, int order, Family family>
void run_threads(const BiasActKernelArguments<Accumulator<T>>& a) {
    using Thread = BiasActThread<T, order, family>;
    for (int64_t start = 0; start < a.count + 2 * Thread::LANES; start += Thread::LANES) Thread::run(a, start);
}

// int64: order, activation, count, bias_size (0: no bias), bias_step, elements by which all tensors are misaligned;
// doubles: alpha, gain, clamp; x, b, g, h.
template <typename T>
void bias_act() {
    const std::vector<int64_t> v = read<int64_t>(6);
    const std::vector<double> scalars = read<double>(3);
    const int64_t order = v[0], count = v[2], skip = v[5];
    const std::vector<T> x = read<T>(count + skip), b = read<T>(v[3]);
    const std::vector<T> g = read<T>(order > 0 ? count + skip : 0), h = read<T>(order > 1 ? count + skip : 0);
    std::vector<T> y(count + skip, T(0));
    facelatent_bias_act_arguments call = {};
    call.order = (int)order, call.activation = (int)v[1], call.count = count;
    call.bias_size = v[3] ? v[3] : 1, call.bias_step = v[3] ? v[4] : count;
    call.alpha = scalars[0], call.gain = scalars[1], call.clamp = scalars[2];
    call.x = x.data() + skip, call.y = y.data() + skip, call.b = v[3] ? b.data() : nullptr;
    call.g = order > 0 ? g.data() + skip : nullptr, call.h = order > 1 ? h.data() + skip : nullptr;
    const auto a = bias_act_arguments<T>(call);
    const bool smooth = call.activation > LRELU;
    if (order == 0) smooth ? run_threads<T, 0, Family::SMOOTH>(a) : run_threads<T, 0, Family::PIECEWISE>(a);
    if (order == 1) smooth ? run_threads<T, 1, Family::SMOOTH>(a) : run_threads<T, 1, Family::PIECEWISE>(a);
    if (order == 2) smooth ? run_threads<T, 2, Family::SMOOTH>(a) : run_threads<T, 2, Family::PIECEWISE>(a);
    write(y);
}

template <typename T>
void run(int64_t operation) {
    operation ? bias_act<T>() : upfirdn2d<T>();
}

}  // namespace
}  // namespace facelatent

// int64: 0 for upfirdn2d or 1 for bias_act, the dtype's code; then what the readers above say.
int main(int, char** arguments) {
    using namespace facelatent;
    cases.open(arguments[1], std::ios::binary);
    results.open(arguments[2], std::ios::binary);
    for (int64_t head[2]; cases.read((char*)head, sizeof head);) {
        if (head[1] == FACELATENT_F32) run<float>(head[0]);
        if (head[1] == FACELATENT_F64) run<double>(head[0]);
        if (head[1] == FACELATENT_F16) run<Half>(head[0]);
        if (head[1] == FACELATENT_BF16) run<BFloat16>(head[0]);
    }
    return 0;
}

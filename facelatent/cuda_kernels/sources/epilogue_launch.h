// From a call to launches, for a GPU and for its emulator: checks, choice of kernel, and how it covers the result.
// A Runner has `template <typename K> int run(const Layer&, const Plan&)`, and the same for skip_phase.
#pragma once
#include <math.h>

#include <type_traits>

#include "epilogue.h"
#include "epilogue_phases.h"

namespace facelatent {

constexpr int ROWS_MOST = 32;          // a tile slides down this many rows where there is work enough
constexpr int64_t BLOCKS_ENOUGH = 1024;  // a few for each multiprocessor of a large GPU
constexpr int64_t BLOCKS_MOST = 2147483647;

inline int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

// The launch that covers a from vector `first` on: all vectors, or, where sums over channels must meet in one block, as
// many as a block has threads.
template <typename T, typename K>
Plan plan_of(const Layer& a, int first) {
    const bool whole = K::sums(a);
    const int total = a.c / K::WIDTH;
    // 128 neighbouring bytes fill a cache line; more columns side by side share more of what the blur reads.
    const int line = static_cast<int>(128 / (sizeof(T) * K::WIDTH));
    Plan plan = {};
    plan.lanes = static_cast<int>(lesser(total, whole ? THREADS : line));
    plan.columns = static_cast<int>(lesser(THREADS / plan.lanes, ceil_of(a.w, K::PIXELS)));
    plan.first = first;
    plan.vectors = whole ? static_cast<int>(lesser(total, first + plan.lanes)) : total;
    plan.tiles_v = static_cast<int>(ceil_of(plan.vectors - first, plan.lanes));
    plan.tiles_x = static_cast<int>(ceil_of(a.w, plan.columns * K::PIXELS));
    const int64_t across = int64_t(plan.tiles_v) * plan.tiles_x * a.n;
    plan.rows = ROWS_MOST;
    while (plan.rows > GROUP && across * ceil_of(a.h, plan.rows) < BLOCKS_ENOUGH) plan.rows /= 2;
    plan.tiles_y = static_cast<int>(ceil_of(a.h, plan.rows));
    plan.blocks = across * plan.tiles_y;
    // Odd multiples of the columns that a warp spans: its lanes fall on different banks.
    const int span = 32 / plan.lanes > 1 ? 32 / plan.lanes : 1;
    plan.stride = span * static_cast<int>(ceil_of(plan.columns * K::PIXELS, span) | 1);
    const int64_t sums = whole ? GROUP * K::VALUES * plan.lanes * plan.stride : 0;
    const int64_t totals = K::TOTALS ? GRADIENTS * K::WIDTH * plan.threads() : 0;
    plan.shared_bytes = (sums > totals ? sums : totals) * static_cast<int64_t>(sizeof(Real<T>));
    return plan;
}

template <typename T, typename K, typename Runner>
int run_all(const Layer& whole, Runner& runner) {
    const int total = whole.c / K::WIDTH;
    for (int first = 0; first < total;) {
        Layer a = whole;
        const Plan plan = plan_of<T, K>(a, first);
        if (plan.blocks > BLOCKS_MOST) return FACELATENT_BAD_SIZE;
        a.accumulate = first > 0;
        if (plan.vectors < total) {  // the picture is made of all channels' colours
            a.rgb_bias = a.previous = nullptr;
            a.rgb_limit = INFINITY;
        }
        if (const int code = runner.template run<K>(a, plan)) return code;
        first = plan.vectors;
    }
    return FACELATENT_OK;
}

inline bool fits(int64_t size) { return size >= 0 && size < BLOCKS_MOST; }

template <typename T>
bool aligned(const void* pointer, int width, int64_t row_stride, int64_t batch_stride) {
    return reinterpret_cast<uintptr_t>(pointer) % (width * sizeof(T)) == 0 && row_stride % width == 0 &&
           batch_stride % width == 0;
}

// What both calls have in common.
template <typename Call>
Layer layer_of(const Call& call) {
    Layer a = {};
    a.x = call.x;
    a.demodulation = call.demodulation;
    a.noise = call.noise;
    a.bias = call.bias;
    a.style = call.style;
    a.rgb_weight = call.rgb_weight;
    a.noise_batch_stride = call.noise_batch_stride;
    a.n = static_cast<int32_t>(call.n);
    a.c = static_cast<int32_t>(call.c);
    a.h = static_cast<int32_t>(call.h);
    a.w = static_cast<int32_t>(call.w);
    a.blur = call.blur != 0;
    a.x_rows = a.h + a.blur;
    a.x_columns = a.w + a.blur;
    a.pad_x = a.pad_y = a.blur;
    a.slope = call.slope;
    a.gain = call.gain;
    a.limit = call.clamp < 0 ? INFINITY : call.clamp / fabs(call.gain);
    a.rgb_limit = INFINITY;
    return a;
}

inline Layer forward_layer(const facelatent_epilogue& call) {
    Layer a = layer_of(call);
    a.y = call.y;
    a.rgb = call.rgb;
    a.x_batch_stride = call.x_batch_stride;
    a.x_row_stride = call.x_row_stride;
    a.y_batch_stride = call.y_batch_stride;
    a.y_row_stride = call.y_row_stride;
    a.rgb_batch_stride = call.rgb_batch_stride;
    a.rgb_channel_stride = call.rgb_channel_stride;
    a.rgb_row_stride = call.rgb_row_stride;
    if (a.blur) {
        a.x_rows = static_cast<int32_t>(call.h + 3 - call.pad_top - call.pad_bottom);
        a.pad_y = call.pad_top;
    }
    if (call.rgb_bias) {
        a.rgb_bias = call.rgb_bias;
        a.previous = call.previous;
        a.rgb_limit = call.rgb_clamp < 0 ? INFINITY : call.rgb_clamp;
    }
    return a;
}

inline Layer backward_layer(const facelatent_epilogue_backward& call) {
    Layer a = layer_of(call);
    a.gy = call.gy;
    a.grgb = call.grgb;
    a.gnoise = call.g_noise;
    a.partial = call.partial;
    a.y = a.blur ? call.unblurred : call.gx;
    a.x_row_stride = int64_t(a.x_columns) * a.c;
    a.x_batch_stride = a.x_rows * a.x_row_stride;
    a.y_row_stride = int64_t(a.w) * a.c;
    a.y_batch_stride = a.h * a.y_row_stride;
    a.rgb_row_stride = a.w;
    a.rgb_channel_stride = int64_t(a.h) * a.w;
    a.rgb_batch_stride = 3 * a.rgb_channel_stride;
    return a;
}

// The gradient of x from the gradient of what the blur gave: the same symmetric blur, seen from the other side.
inline Layer blur_gradient_layer(const facelatent_epilogue_backward& call) {
    Layer a = {};
    a.x = call.unblurred;
    a.y = call.gx;
    a.n = static_cast<int32_t>(call.n);
    a.c = static_cast<int32_t>(call.c);
    a.x_rows = static_cast<int32_t>(call.h);
    a.x_columns = static_cast<int32_t>(call.w);
    a.h = a.x_rows + 1;
    a.w = a.x_columns + 1;
    a.pad_y = a.pad_x = 2;
    a.x_row_stride = int64_t(a.x_columns) * a.c;
    a.x_batch_stride = a.x_rows * a.x_row_stride;
    a.y_row_stride = int64_t(a.w) * a.c;
    a.y_batch_stride = a.h * a.y_row_stride;
    a.slope = a.gain = 1;
    a.limit = a.rgb_limit = INFINITY;
    a.blur = true;
    return a;
}

// Registers, not bytes, limit what a thread of these keeps in flight.
constexpr int NARROW = 4;

template <typename T>
bool packed(const Layer& a, int width) {
    return sizeof(T) < sizeof(double) && a.c % width == 0 && aligned<T>(a.x, width, a.x_row_stride, a.x_batch_stride) &&
           (!a.y || aligned<T>(a.y, width, a.y_row_stride, a.y_batch_stride));
}

// The vector of a kernel: double has none.
template <typename T, int WIDTH>
constexpr int vector_of = sizeof(T) < sizeof(double) ? WIDTH : 1;

template <typename T, bool BLUR, bool RGB, typename Runner>
int forward_kernel(const Layer& a, Runner& runner) {
    constexpr int WIDTH = vector_of<T, BLUR ? NARROW : VECTOR_BYTES / sizeof(T)>;
    if (WIDTH > 1 && packed<T>(a, WIDTH)) return run_all<T, Forward<T, WIDTH, BLUR, RGB>>(a, runner);
    return run_all<T, Forward<T, 1, BLUR, RGB>>(a, runner);
}

template <typename T, typename Runner>
int forward_typed(const Layer& a, Runner& runner) {
    if (a.blur) return a.rgb ? forward_kernel<T, true, true>(a, runner) : forward_kernel<T, true, false>(a, runner);
    return a.rgb ? forward_kernel<T, false, true>(a, runner) : forward_kernel<T, false, false>(a, runner);
}

// Calls use(kernel) for the kernel that a call takes.
template <typename T, typename Use>
auto with_gradient_kernel(const facelatent_epilogue_backward& call, Use use) {
    constexpr int WIDTH = vector_of<T, NARROW>;
    if (packed<T>(backward_layer(call), WIDTH) && aligned<T>(call.gy, WIDTH, 0, 0))
        return call.blur ? use(Backward<T, WIDTH, true>{}) : use(Backward<T, WIDTH, false>{});
    return call.blur ? use(Backward<T, 1, true>{}) : use(Backward<T, 1, false>{});
}

template <typename T>
int64_t segments_typed(const facelatent_epilogue_backward& call) {
    const Layer a = backward_layer(call);
    return with_gradient_kernel<T>(call, [&](auto kernel) { return plan_of<T, decltype(kernel)>(a, 0).segments(); });
}

template <typename T, typename Runner>
int backward_typed(const facelatent_epilogue_backward& call, Runner& runner) {
    if (segments_typed<T>(call) != call.segments) return FACELATENT_BAD_SIZE;
    const Layer a = backward_layer(call);
    const int code = with_gradient_kernel<T>(
        call, [&](auto kernel) { return run_all<T, decltype(kernel)>(a, runner); });
    if (code || !call.blur || !call.gx) return code;
    return forward_kernel<T, true, false>(blur_gradient_layer(call), runner);
}

template <typename Call>
bool sizes_fit(const Call& call) {
    return fits(call.n) && fits(call.c) && fits(call.h) && fits(call.w + 1);
}

// Calls use with a null pointer of the type that a dtype code names.
template <typename Half, typename BFloat16, typename Use, typename Result>
Result with_dtype(int32_t dtype, Result unknown, Use use) {
    switch (dtype) {
        case FACELATENT_F32: return use(static_cast<float*>(nullptr));
        case FACELATENT_F16: return use(static_cast<Half*>(nullptr));
        case FACELATENT_BF16: return use(static_cast<BFloat16*>(nullptr));
        case FACELATENT_F64: return use(static_cast<double*>(nullptr));
        default: return unknown;
    }
}

template <typename Pointer>
using Pointee = std::remove_pointer_t<Pointer>;

template <typename Half, typename BFloat16, typename Runner>
int launch_forward(const facelatent_epilogue* call, Runner runner) {
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (!sizes_fit(*call) || call->pad_top < 0 || call->pad_bottom < 0) return FACELATENT_BAD_SIZE;
    if (!call->n || !call->c || !call->h || !call->w) return FACELATENT_OK;
    return with_dtype<Half, BFloat16>(call->dtype, int(FACELATENT_BAD_DTYPE), [&](auto* type) {
        return forward_typed<Pointee<decltype(type)>>(forward_layer(*call), runner);
    });
}

template <typename Half, typename BFloat16>
int64_t gradient_segments(const facelatent_epilogue_backward* call) {
    if (!facelatent_abi_matches(call) || !sizes_fit(*call) || !call->n || !call->c || !call->h || !call->w) return -1;
    return with_dtype<Half, BFloat16>(call->dtype, int64_t(-1),
                                      [&](auto* type) { return segments_typed<Pointee<decltype(type)>>(*call); });
}

template <typename Half, typename BFloat16, typename Runner>
int launch_backward(const facelatent_epilogue_backward* call, Runner runner) {
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (!sizes_fit(*call)) return FACELATENT_BAD_SIZE;
    if (!call->n || !call->c || !call->h || !call->w) return FACELATENT_OK;
    return with_dtype<Half, BFloat16>(call->dtype, int(FACELATENT_BAD_DTYPE), [&](auto* type) {
        return backward_typed<Pointee<decltype(type)>>(*call, runner);
    });
}

template <typename R, typename Runner>
int skip_typed(const facelatent_skip_add& call, Runner& runner) {
    constexpr int WIDTH = VECTOR_BYTES / sizeof(R);
    Layer a = {};
    a.x = call.rgb;
    a.rgb = call.y;
    a.rgb_bias = call.bias;
    a.previous = call.previous;
    a.n = static_cast<int32_t>(call.n);
    a.h = static_cast<int32_t>(call.h);
    a.w = static_cast<int32_t>(call.w);
    a.rgb_limit = call.clamp < 0 ? INFINITY : call.clamp;
    const bool wide = a.w % WIDTH == 0 && aligned<R>(a.x, WIDTH, 0, 0) && aligned<R>(a.rgb, WIDTH, 0, 0);
    const int64_t threads = call.n * 3 * call.h * (wide ? call.w / WIDTH : call.w);
    const int64_t blocks = ceil_of(threads, THREADS);
    if (blocks > BLOCKS_MOST) return FACELATENT_BAD_SIZE;
    return wide ? runner.template skip<R, WIDTH>(a, blocks) : runner.template skip<R, 1>(a, blocks);
}

template <typename Runner>
int launch_skip_add(const facelatent_skip_add* call, Runner runner) {
    if (!facelatent_abi_matches(call)) return FACELATENT_BAD_ABI;
    if (!fits(call->n) || !fits(call->h) || !fits(call->w)) return FACELATENT_BAD_SIZE;
    if (!call->n || !call->h || !call->w) return FACELATENT_OK;
    if (call->dtype == FACELATENT_F32) return skip_typed<float>(*call, runner);
    if (call->dtype == FACELATENT_F64) return skip_typed<double>(*call, runner);
    return FACELATENT_BAD_DTYPE;
}

}  // namespace facelatent

// bias_act and its first two gradients on the CPU: one pass, runs of elements with one bias or with consecutive ones.

#include <algorithm>

#include "abi.h"
#include "arguments.h"
#include "cpu_types.h"
#include "pixel.h"

namespace facelatent {
namespace {

constexpr int64_t TASK = 1 << 15;  // elements that a thread takes at a time

template <typename T>
struct Run {
    const T *x, *g, *h, *b;  // b: one bias, or `count` of them
    T* y;
    int64_t count;
};

template <int order, Activation act, bool consecutive, typename T>
void run_of(const Run<T>& r, const BiasActScalars<Accumulator<T>>& scalars) {
    using A = Accumulator<T>;
    const T* __restrict x = r.x;
    T* __restrict y = r.y;
    const A b = r.b && !consecutive ? (A)*r.b : A(0);
    const int64_t count = r.count;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        const A u = (A)x[i] + (consecutive ? (A)r.b[i] : b);
        const A g = order > 0 ? (A)r.g[i] : A(0), h = order > 1 ? (A)r.h[i] : A(0);
        y[i] = (T)bias_act_element<order, act>(u, g, h, scalars);
    }
}

template <int order, Activation act, typename T>
int run(const facelatent_bias_act_arguments& a) {
    const BiasActScalars<Accumulator<T>> scalars{(Accumulator<T>)a.alpha, (Accumulator<T>)a.gain,
                                                 (Accumulator<T>)a.clamp};
    const bool consecutive = a.b && a.bias_step == 1 && a.bias_size > 1;
    const int64_t length = consecutive ? a.bias_size : a.bias_step;  // elements until the bias changes or repeats
    const int64_t tasks = (a.count + TASK - 1) / TASK;
    const auto at = [](const void* start, int64_t i) { return start ? (const T*)start + i : nullptr; };
#pragma omp parallel for num_threads(a.threads) if (tasks > 1) schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
        const int64_t end = std::min(a.count, (task + 1) * TASK);
        for (int64_t i = task * TASK; i < end;) {
            const int64_t next = std::min(end, (i / length + 1) * length);
            const int64_t bias = consecutive ? i % length : i / length % a.bias_size;
            const Run<T> r{at(a.x, i), at(a.g, i), at(a.h, i), at(a.b, bias), (T*)a.y + i, next - i};
            if (consecutive) run_of<order, act, true>(r, scalars);
            else run_of<order, act, false>(r, scalars);
            i = next;
        }
    }
    return FACELATENT_OK;
}

template <int order, typename T>
int run_activation(const facelatent_bias_act_arguments& a) {
    switch (a.activation) {
        case LINEAR: return run<order, LINEAR, T>(a);
        case RELU: return run<order, RELU, T>(a);
        case LRELU: return run<order, LRELU, T>(a);
        case TANH: return run<order, TANH, T>(a);
        case SIGMOID: return run<order, SIGMOID, T>(a);
        case ELU: return run<order, ELU, T>(a);
        case SELU: return run<order, SELU, T>(a);
        case SOFTPLUS: return run<order, SOFTPLUS, T>(a);
        case SWISH: return run<order, SWISH, T>(a);
        default: return FACELATENT_BAD_SIZE;
    }
}

template <typename T>
int run_order(const facelatent_bias_act_arguments& a) {
    switch (a.order) {
        case 0: return run_activation<0, T>(a);
        case 1: return run_activation<1, T>(a);
        case 2: return run_activation<2, T>(a);
        default: return FACELATENT_BAD_SIZE;
    }
}

}  // namespace
}  // namespace facelatent

FACELATENT_API int facelatent_bias_act_cpu(const facelatent_bias_act_arguments* a) {
    using namespace facelatent;
    if (!facelatent_abi_matches(a)) return FACELATENT_BAD_ABI;
    switch (a->dtype) {
        case FACELATENT_F32: return run_order<float>(*a);
        case FACELATENT_F16: return run_order<Half>(*a);
        case FACELATENT_BF16: return run_order<BFloat16>(*a);
        case FACELATENT_F64: return run_order<double>(*a);
        default: return FACELATENT_BAD_DTYPE;
    }
}

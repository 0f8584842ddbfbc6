// The oracle: one output pixel of upfirdn2d, one element of bias_act and of its first two gradients, on host and device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "abi.h"

namespace facelatent {

// The type that sums are kept in.
template <typename T>
struct AccumulatorOf {
    using type = float;
};
template <>
struct AccumulatorOf<double> {
    using type = double;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

FACELATENT_HD int64_t ceil_div(int64_t a, int64_t b) {  // b > 0, any a
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

// Geometry of one axis: out pixel o sees the taps k with in pixel i = (o * down - pad + k) / up, where that is whole.
struct Axis {
    int64_t in, pad;
    int up, down, taps;
};

struct Taps {
    int64_t first_in;      // in pixel of the first tap
    int first_tap, count;  // taps first_tap, first_tap + up, ... see first_in, first_in + 1, ...
};

// The taps of out pixel `out` that fall on in pixels that exist.
FACELATENT_HD Taps taps_of(const Axis& axis, int64_t out) {
    const int64_t origin = out * axis.down - axis.pad;
    int64_t first = ceil_div(origin, axis.up);
    int64_t last = origin + axis.taps > 0 ? (origin + axis.taps - 1) / axis.up : -1;
    if (first < 0) first = 0;
    if (last >= axis.in) last = axis.in - 1;
    const int count = last >= first ? (int)(last - first + 1) : 0;
    return {first, count ? (int)(first * axis.up - origin) : 0, count};
}

// Sum of filter * input. `filter` [taps_y, taps_x], in the order of a correlation.
template <typename T, typename A>
FACELATENT_HD A upfirdn2d_pixel(const T* x, int64_t stride_h, int64_t stride_w, const A* filter, const Axis& ax,
                                const Axis& ay, int64_t out_x, int64_t out_y) {
    const Taps tx = taps_of(ax, out_x), ty = taps_of(ay, out_y);
    A sum = 0;
    for (int j = 0; j < ty.count; ++j) {
        const T* row = x + (ty.first_in + j) * stride_h;
        const A* weights = filter + (ty.first_tap + j * ay.up) * ax.taps + tx.first_tap;
        for (int i = 0; i < tx.count; ++i) sum += (A)row[(tx.first_in + i) * stride_w] * weights[i * ax.up];
    }
    return sum;
}

enum Activation : int32_t { LINEAR, RELU, LRELU, TANH, SIGMOID, ELU, SELU, SOFTPLUS, SWISH };

constexpr double SELU_SCALE = 1.0507009873554804934193349852946;
constexpr double SELU_ALPHA = 1.6732632423543772848170429916717;

#if defined(__CUDA_ARCH__)
FACELATENT_HD float exp_of(float v) { return expf(v); }
#else
// The C library's expf would keep the compiler from vectorising what calls it. Within 3e-7 of it, relatively.
inline float exp_of(float v) {
    const float bounded = v > 89.0f ? 89.0f : (v < -87.0f ? -87.0f : v);
    const float whole = std::nearbyint(bounded * 1.44269504f);
    const float r = (float)(bounded - whole * 0.693147180559945309);  // in double: nothing is lost to cancellation
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int32_t bits = ((int32_t)whole + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return v < -87.0f ? 0.0f : p * power;
}
#endif
FACELATENT_HD double exp_of(double v) { return exp(v); }
FACELATENT_HD float expm1_of(float v) { return expm1f(v); }
FACELATENT_HD double expm1_of(double v) { return expm1(v); }
FACELATENT_HD float log1p_of(float v) { return log1pf(v); }
FACELATENT_HD double log1p_of(double v) { return log1p(v); }
FACELATENT_HD float tanh_of(float v) { return tanhf(v); }
FACELATENT_HD double tanh_of(double v) { return tanh(v); }

// Everything about sigmoid that does not overflow or cancel, from one exponential of a number that is not positive.
template <typename A>
struct Sigmoid {
    A value, slope, curvature;
    FACELATENT_HD explicit Sigmoid(A u) {
        const A e = exp_of(u < 0 ? u : -u), d = 1 / (1 + e);
        value = u < 0 ? e * d : d;
        slope = e * d * d;
        curvature = u < 0 ? slope * (1 - e) * d : slope * (e - 1) * d;
    }
};

// Comparisons are arranged so that a NaN falls where plain PyTorch lets it fall.
template <Activation act, typename A>
FACELATENT_HD A activation(A u, A alpha) {
    if constexpr (act == LINEAR) return u;
    if constexpr (act == RELU) return u < 0 ? A(0) : u;
    if constexpr (act == LRELU) return u > 0 ? u : u * alpha;
    if constexpr (act == TANH) return tanh_of(u);
    if constexpr (act == SIGMOID) return Sigmoid<A>(u).value;
    if constexpr (act == ELU) return u > 0 ? u : expm1_of(u);
    if constexpr (act == SELU) return A(SELU_SCALE) * (u > 0 ? u : A(SELU_ALPHA) * expm1_of(u));
    if constexpr (act == SOFTPLUS) return u > 20 ? u : log1p_of(exp_of(u));
    if constexpr (act == SWISH) return u * Sigmoid<A>(u).value;
}

template <Activation act, typename A>
FACELATENT_HD A first_derivative(A u, A alpha) {
    if constexpr (act == LINEAR) return 1;
    if constexpr (act == RELU) return u <= 0 ? A(0) : A(1);
    if constexpr (act == LRELU) return u > 0 ? A(1) : alpha;
    if constexpr (act == TANH) {
        const A y = tanh_of(u);
        return 1 - y * y;
    }
    if constexpr (act == SIGMOID) return Sigmoid<A>(u).slope;
    if constexpr (act == ELU) return u <= 0 ? exp_of(u) : A(1);
    if constexpr (act == SELU) return A(SELU_SCALE) * (u <= 0 ? A(SELU_ALPHA) * exp_of(u) : A(1));
    if constexpr (act == SOFTPLUS) return Sigmoid<A>(u).value;
    if constexpr (act == SWISH) {
        const Sigmoid<A> s(u);
        return s.value + u * s.slope;
    }
}

template <Activation act, typename A>
FACELATENT_HD A second_derivative(A u, A) {
    if constexpr (act == TANH) {
        const A y = tanh_of(u);
        return -2 * y * (1 - y * y);
    }
    if constexpr (act == SIGMOID) return Sigmoid<A>(u).curvature;
    if constexpr (act == ELU) return u < 0 ? exp_of(u) : A(0);
    if constexpr (act == SELU) return u < 0 ? A(SELU_SCALE * SELU_ALPHA) * exp_of(u) : A(0);
    if constexpr (act == SOFTPLUS) return Sigmoid<A>(u).slope;
    if constexpr (act == SWISH) {
        const Sigmoid<A> s(u);
        return 2 * s.slope + u * s.curvature;
    }
    return 0;
}

template <typename A>
struct BiasActScalars {
    A alpha, gain, clamp;  // clamp < 0: off
};

// torch.clamp: a NaN stays, and the gradient on the limits themselves is 1.
template <int order, Activation act, typename A>
FACELATENT_HD A bias_act_element(A u, A g, A h, const BiasActScalars<A>& s) {
    if constexpr (order == 0) {
        const A v = activation<act>(u, s.alpha) * s.gain;
        if (s.clamp < 0) return v;
        return v > s.clamp ? s.clamp : (v < -s.clamp ? -s.clamp : v);
    } else {
        A slope = order == 1 ? first_derivative<act>(u, s.alpha) : h * second_derivative<act>(u, s.alpha);
        slope *= g * s.gain;
        if (s.clamp < 0) return slope;
        const A v = activation<act>(u, s.alpha) * s.gain;
        return v >= -s.clamp && v <= s.clamp ? slope : A(0);
    }
}

}  // namespace facelatent

// One row of the fused epilogue on the CPU; loops are written so that compilers turn them into vector code.
#pragma once

#include <limits>
#include <vector>

#include "cpu_types.h"
#include "epilogue.h"

namespace facelatent {

// Assigning a whole BFloat16 keeps compilers from making vectors of the loop around it.
template <class T, class A>
inline void put(T& to, A value) {
    to = T(value);
}
template <class A>
inline void put(BFloat16& to, A value) {
    to.bits = BFloat16(float(value)).bits;
}

// What parameters and sums are kept in.
template <class T>
struct Accumulator {
    using type = float;
};
template <>
struct Accumulator<double> {
    using type = double;
};

// The parameters of one sample, none of them missing.
template <class A>
struct Sample {
    std::vector<A> demodulation, bias, style, rgb_weight;
    A slope, gain, limit;
};

template <class A>
std::vector<A> given_or(const void* values, int64_t first, int64_t count, A otherwise) {
    if (values == nullptr) return std::vector<A>(count, otherwise);
    const A* begin = static_cast<const A*>(values) + first;
    return std::vector<A>(begin, begin + count);
}

template <class A, class Call>
Sample<A> sample_of(const Call& call, int64_t n) {
    return {given_or<A>(call.demodulation, n * call.c, call.c, 1),
            given_or<A>(call.bias, 0, call.c, 0),
            given_or<A>(call.style, n * call.c, call.c, 1),
            given_or<A>(call.rgb_weight, n * 3 * call.c, 3 * call.c, 0),
            A(call.slope),
            A(call.gain),
            call.clamp < 0 ? std::numeric_limits<A>::infinity() : A(call.clamp)};
}

// [1, 3, 3, 1] / 8 with the gain of one axis, 2.
constexpr double OUTER = 0.25, INNER = 0.75;

// Four rows of `count` values to one.
template <class X, class Y>
void blur_columns(const X* const rows[4], int64_t count, Y* __restrict to) {
    using A = typename Accumulator<X>::type;
    const X *__restrict r0 = rows[0], *__restrict r1 = rows[1], *__restrict r2 = rows[2], *__restrict r3 = rows[3];
    for (int64_t i = 0; i < count; i++)
        put(to[i], A(OUTER) * (A(r0[i]) + A(r3[i])) + A(INNER) * (A(r1[i]) + A(r2[i])));
}

// rgb is filled if it is not null, y likewise; `step` is the distance of the colours.
template <bool BLUR, bool RGB, bool Y, class A, class X, class T>
void finish_pixels(const Sample<A>& sample, const X* x, int64_t c, int64_t w, const A* noise, T* y, A* rgb, int64_t step) {
    const A *__restrict demodulation = sample.demodulation.data(), *__restrict bias = sample.bias.data();
    const A *__restrict style = sample.style.data(), *__restrict weights = sample.rgb_weight.data();
    const A slope = sample.slope, gain = sample.gain, limit = sample.limit;
    for (int64_t column = 0; column < w; column++) {
        const X* __restrict in = x + column * c;
        T* __restrict out = Y ? y + column * c : nullptr;
        const A grain = noise ? noise[column] : A(0);
        A red = 0, green = 0, blue = 0;
#pragma omp simd reduction(+ : red, green, blue)
        for (int64_t i = 0; i < c; i++) {
            A b = A(in[i]);
            if (BLUR) b = A(OUTER) * (b + A(in[i + 3 * c])) + A(INNER) * (A(in[i + c]) + A(in[i + 2 * c]));
            A a = b * demodulation[i] + (grain + bias[i]);
            a = (a > 0 ? a : a * slope) * gain;
            a = a > limit ? limit : a;  // in this form a NaN stays one
            a = a < -limit ? -limit : a;
            if (RGB) red += a * weights[i], green += a * weights[i + c], blue += a * weights[i + 2 * c];
            if (Y) put(out[i], a * style[i]);
        }
        if (RGB) rgb[column] = red, rgb[column + step] = green, rgb[column + 2 * step] = blue;
    }
}

// One row of the result. Without blur only rows[0] is read; `work` holds (w + 3) * c values.
template <class A, class X, class T>
void epilogue_row(const Sample<A>& sample, bool blur, const X* const rows[4], int64_t c, int64_t w, const A* noise, T* y,
                  A* rgb, int64_t step, A* work) {
    if (!blur) {
        if (rgb && y) return finish_pixels<false, true, true>(sample, rows[0], c, w, noise, y, rgb, step);
        if (rgb) return finish_pixels<false, true, false>(sample, rows[0], c, w, noise, y, rgb, step);
        return finish_pixels<false, false, true>(sample, rows[0], c, w, noise, y, rgb, step);
    }
    for (int64_t i = 0; i < c; i++) work[i] = work[i + (w + 2) * c] = 0;
    blur_columns(rows, (w + 1) * c, work + c);
    if (rgb && y) return finish_pixels<true, true, true>(sample, work, c, w, noise, y, rgb, step);
    if (rgb) return finish_pixels<true, true, false>(sample, work, c, w, noise, y, rgb, step);
    finish_pixels<true, false, true>(sample, work, c, w, noise, y, rgb, step);
}

}  // namespace facelatent

// What one thread of the bias_act kernel does: a vector of 16 bytes of each tensor.
#pragma once

#include "pixel.h"
#include "vector.h"

namespace facelatent {

// Activations that share a kernel: those without a curvature, and those with an exponential.
enum class Family { PIECEWISE, SMOOTH };

enum class BiasKind : int32_t { SAME, CONSECUTIVE, SCATTERED };  // within a vector

template <typename A>
struct BiasActKernelArguments {
    const void *x, *b, *g, *h;
    void* y;
    int64_t count, bias_size, bias_step;
    BiasActScalars<A> scalars;
    int32_t activation;
    BiasKind bias_kind;
    bool aligned;  // all tensors, to 16 bytes
    bool small;    // indices fit 32 bits, whose division is far cheaper
};

template <typename T, int order, Family family>
struct BiasActThread {
    using A = Accumulator<T>;
    static constexpr int LANES = 16 / (int)sizeof(T);
    using Numbers = Vector<T, LANES>;
    using Arguments = BiasActKernelArguments<A>;

    static FACELATENT_HD void run(const Arguments& a, int64_t start) {
        if (start >= a.count) return;
        const int lanes = a.count - start < LANES ? (int)(a.count - start) : LANES;
        const bool whole = a.aligned && lanes == LANES;
        const Numbers none = {};
        const Numbers x = fetch(a.x, start, lanes, whole);
        const Numbers g = order > 0 ? fetch(a.g, start, lanes, whole) : none;
        const Numbers h = order > 1 ? fetch(a.h, start, lanes, whole) : none;
        A u[LANES];
        add_bias(a, start, lanes, x, u);
        Numbers y;
        act(a, u, g, h, &y);
        if (whole) {
            *(Numbers*)((T*)a.y + start) = y;
            return;
        }
        for (int i = 0; i < LANES; ++i)
            if (i < lanes) ((T*)a.y)[start + i] = y.v[i];
    }

  private:
    static FACELATENT_HD Numbers fetch(const void* from, int64_t start, int lanes, bool whole) {
        if (whole) return *(const Numbers*)((const T*)from + start);
        Numbers numbers = {};
        for (int i = 0; i < LANES; ++i)
            if (i < lanes) numbers.v[i] = ((const T*)from)[start + i];
        return numbers;
    }

    static FACELATENT_HD int64_t bias_index(const Arguments& a, int64_t i) {
        if (a.small) return (uint32_t)i / (uint32_t)a.bias_step % (uint32_t)a.bias_size;
        return i / a.bias_step % a.bias_size;
    }

    static FACELATENT_HD void add_bias(const Arguments& a, int64_t start, int lanes, const Numbers& x, A (&u)[LANES]) {
        const T* b = (const T*)a.b;
        if (!b || a.bias_kind == BiasKind::SAME) {
            const A bias = b ? (A)b[bias_index(a, start)] : A(0);
#pragma unroll
            for (int i = 0; i < LANES; ++i) u[i] = (A)x.v[i] + bias;
        } else if (a.bias_kind == BiasKind::CONSECUTIVE && lanes == LANES) {
            const Numbers biases = *(const Numbers*)(b + bias_index(a, start));
#pragma unroll
            for (int i = 0; i < LANES; ++i) u[i] = (A)x.v[i] + (A)biases.v[i];
        } else {
            for (int i = 0; i < LANES; ++i) u[i] = i < lanes ? (A)x.v[i] + (A)b[bias_index(a, start + i)] : A(0);
        }
    }

    template <Activation activation>
    static FACELATENT_HD void act_as(const Arguments& a, const A (&u)[LANES], const Numbers& g, const Numbers& h,
                                     Numbers* y) {
#pragma unroll
        for (int i = 0; i < LANES; ++i)
            y->v[i] = (T)bias_act_element<order, activation>(u[i], (A)g.v[i], (A)h.v[i], a.scalars);
    }

    static FACELATENT_HD void act(const Arguments& a, const A (&u)[LANES], const Numbers& g, const Numbers& h,
                                  Numbers* y) {
        if constexpr (family == Family::PIECEWISE) {
            switch (a.activation) {
                case LINEAR: return act_as<LINEAR>(a, u, g, h, y);
                case RELU: return act_as<RELU>(a, u, g, h, y);
                default: return act_as<LRELU>(a, u, g, h, y);
            }
        } else {
            switch (a.activation) {
                case TANH: return act_as<TANH>(a, u, g, h, y);
                case SIGMOID: return act_as<SIGMOID>(a, u, g, h, y);
                case ELU: return act_as<ELU>(a, u, g, h, y);
                case SELU: return act_as<SELU>(a, u, g, h, y);
                case SOFTPLUS: return act_as<SOFTPLUS>(a, u, g, h, y);
                default: return act_as<SWISH>(a, u, g, h, y);
            }
        }
    }
};

template <typename T, typename Call>
BiasActKernelArguments<Accumulator<T>> bias_act_arguments(const Call& c) {
    using A = Accumulator<T>;
    const int64_t lanes = 16 / sizeof(T);
    BiasActKernelArguments<A> a;
    a.x = c.x, a.b = c.b, a.g = c.g, a.h = c.h, a.y = c.y;
    a.count = c.count, a.bias_size = c.bias_size, a.bias_step = c.bias_step;
    a.scalars = {(A)c.alpha, (A)c.gain, (A)c.clamp};
    a.activation = c.activation;
    a.aligned = aligned(c.x, 16) && aligned(c.g, 16) && aligned(c.h, 16) && aligned(c.y, 16);
    a.small = c.count <= UINT32_MAX;
    a.bias_kind = BiasKind::SCATTERED;
    if (c.bias_step % lanes == 0 || c.bias_size == 1) a.bias_kind = BiasKind::SAME;
    else if (c.bias_step == 1 && c.bias_size % lanes == 0 && aligned(c.b, 16)) a.bias_kind = BiasKind::CONSECUTIVE;
    return a;
}

}  // namespace facelatent

// The fused layer epilogue one value at a time: the definition that the tiled kernels are tested against, and the
// numbers that both share. For the host and for the device.
#pragma once
#include <stdint.h>

#include "abi.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace facelatent {

// Values are computed in float, or in double where they are double; parameters and pictures are stored so too.
template <typename T>
struct Computed {
    using type = float;
};
template <>
struct Computed<double> {
    using type = double;
};
template <typename T>
using Real = typename Computed<T>::type;

template <typename T>
FACELATENT_HD Real<T> widen(T value) {
    return static_cast<Real<T>>(value);
}
template <typename T>
FACELATENT_HD T narrow(Real<T> value) {
    return static_cast<T>(value);
}
#ifdef __CUDACC__
template <>
FACELATENT_HD float widen<__half>(__half value) {
    return __half2float(value);
}
template <>
FACELATENT_HD __half narrow<__half>(float value) {
    return __float2half_rn(value);
}
template <>
FACELATENT_HD float widen<__nv_bfloat16>(__nv_bfloat16 value) {
    return __bfloat162float(value);
}
template <>
FACELATENT_HD __nv_bfloat16 narrow<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}
#endif

// One call, whatever asked for it: the forward pass, or its gradients.
struct Layer {
    const void* x;
    void* y;
    const void *demodulation, *noise, *bias, *style, *rgb_weight;
    void* rgb;
    // The gradients' own: those of y (as x) and of the picture, and where the sums of each block go.
    const void *gy, *grgb;
    void *partial, *gnoise;
    // What turns the colours into a picture, where that is wanted at once: see picture_pixel.
    const void *rgb_bias, *previous;
    int64_t x_batch_stride, x_row_stride, y_batch_stride, y_row_stride, noise_batch_stride;
    int64_t rgb_batch_stride, rgb_channel_stride, rgb_row_stride;
    int32_t n, c, h, w;             // of the result
    int32_t x_rows, x_columns;      // of x
    int32_t pad_y, pad_x;           // zeros that the blur sees above and to the left of x
    double slope, gain, limit;      // limit: of the value before the gain
    double rgb_limit;
    bool blur, accumulate;          // accumulate: add to rgb (or gnoise) what these channels give
};

// The blur: [1, 3, 3, 1] / 4 along each axis, which is [1, 3, 3, 1] / 8 with a gain of 2.
constexpr int TAPS = 4;
constexpr double BLUR_SCALE = 1.0 / 16;

template <typename R>
FACELATENT_HD R tap(int k) {
    return k == 1 || k == 2 ? R(3) : R(1);
}

// Without fmin and fmax, which turn a NaN into a limit.
template <typename R>
FACELATENT_HD R limited(R value, R limit) {
    value = value > limit ? limit : value;
    return value < -limit ? -limit : value;
}
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <>
FACELATENT_HD float limited<float>(float value, float limit) {
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(limit));
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(value) : "f"(-limit));
    return value;
}
#endif

template <typename R>
FACELATENT_HD R leaky(R value, R slope) {
    return value > R(0) ? value : value * slope;
}

template <typename R>
FACELATENT_HD R parameter(const void* values, int64_t index, R absent) {
    return values ? static_cast<const R*>(values)[index] : absent;
}

// What comes out of the blur, or x itself.
template <typename T>
FACELATENT_HD Real<T> blurred_pixel(const Layer& a, int64_t n, int c, int row, int column) {
    using R = Real<T>;
    const T* x = static_cast<const T*>(a.x) + n * a.x_batch_stride + c;
    if (!a.blur) return widen<T>(x[row * a.x_row_stride + int64_t(column) * a.c]);
    R sum = 0;
    for (int i = 0; i < TAPS; ++i) {
        for (int j = 0; j < TAPS; ++j) {
            const int y = row - a.pad_y + i, z = column - a.pad_x + j;
            if (y < 0 || y >= a.x_rows || z < 0 || z >= a.x_columns) continue;
            sum += tap<R>(i) * tap<R>(j) * widen<T>(x[y * a.x_row_stride + int64_t(z) * a.c]);
        }
    }
    return sum * R(BLUR_SCALE);
}

// blurred * demodulation + noise + bias.
template <typename T>
FACELATENT_HD Real<T> biased_pixel(const Layer& a, int64_t n, int c, int row, int column) {
    using R = Real<T>;
    const R value = blurred_pixel<T>(a, n, c, row, column) * parameter<R>(a.demodulation, n * a.c + c, 1);
    const R noise = parameter<R>(a.noise, n * a.noise_batch_stride + int64_t(row) * a.w + column, 0);
    return value + noise + parameter<R>(a.bias, c, 0);
}

// The activation before its gain.
template <typename T>
FACELATENT_HD Real<T> activation_pixel(const Layer& a, int64_t n, int c, int row, int column) {
    using R = Real<T>;
    return limited<R>(leaky<R>(biased_pixel<T>(a, n, c, row, column), R(a.slope)), R(a.limit));
}

template <typename T>
FACELATENT_HD Real<T> y_pixel(const Layer& a, int64_t n, int c, int row, int column) {
    using R = Real<T>;
    return activation_pixel<T>(a, n, c, row, column) * R(a.gain) * parameter<R>(a.style, n * a.c + c, 1);
}

template <typename T>
FACELATENT_HD Real<T> rgb_pixel(const Layer& a, int64_t n, int colour, int row, int column) {
    using R = Real<T>;
    R sum = 0;
    for (int c = 0; c < a.c; ++c) {
        const R weight = parameter<R>(a.rgb_weight, (n * 3 + colour) * a.c + c, 0);
        sum += weight * activation_pixel<T>(a, n, c, row, column) * R(a.gain);
    }
    return sum;
}

// The gradient of biased_pixel. PyTorch's clamp lets gradients pass at the limit itself.
template <typename T>
FACELATENT_HD Real<T> biased_gradient(const Layer& a, int64_t n, int c, int row, int column) {
    using R = Real<T>;
    const int64_t pixel = (n * a.h + row) * a.w + column;
    R g = a.gy ? widen<T>(static_cast<const T*>(a.gy)[pixel * a.c + c]) * parameter<R>(a.style, n * a.c + c, 1) : R(0);
    for (int k = 0; k < 3 && a.grgb; ++k) {
        const int64_t at = n * a.rgb_batch_stride + k * a.rgb_channel_stride + row * a.rgb_row_stride + column;
        g += static_cast<const R*>(a.grgb)[at] * parameter<R>(a.rgb_weight, (n * 3 + k) * a.c + c, 0);
    }
    const R value = biased_pixel<T>(a, n, c, row, column);
    const R slope = value > R(0) ? R(1) : R(a.slope);
    const R size = value * slope < R(0) ? -value * slope : value * slope;
    return size <= R(a.limit) ? g * R(a.gain) * slope : R(0);
}

// A pixel of a picture [h / 2, w / 2] enlarged twice with the same filter: two taps an axis, the others meet zeros.
template <typename R>
FACELATENT_HD R enlarged_pixel(const R* picture, int h, int w, int row, int column) {
    const int rows = h / 2, columns = w / 2;
    const int top = (row + 1) / 2 - 1, left = (column + 1) / 2 - 1;
    const R below = row % 2 ? R(0.25) : R(0.75), right = column % 2 ? R(0.25) : R(0.75);
    R sum = 0;
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            const int y = top + i, x = left + j;
            if (y < 0 || y >= rows || x < 0 || x >= columns) continue;
            sum += (i ? below : R(1) - below) * (j ? right : R(1) - right) * picture[int64_t(y) * columns + x];
        }
    }
    return sum;
}

// The picture so far: the colours of this layer, limited, on top of the previous picture [n, 3, h / 2, w / 2].
template <typename R>
FACELATENT_HD R picture_pixel(const Layer& a, R colour, int64_t n, int k, int row, int column) {
    colour = limited<R>(colour + parameter<R>(a.rgb_bias, k, 0), R(a.rgb_limit));
    if (!a.previous) return colour;
    const int64_t size = int64_t(a.h / 2) * (a.w / 2);
    return colour + enlarged_pixel(static_cast<const R*>(a.previous) + (n * 3 + k) * size, a.h, a.w, row, column);
}

}  // namespace facelatent

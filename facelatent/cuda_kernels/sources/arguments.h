// Arguments of the launchers of upfirdn2d and bias_act; mirrored by facelatent/cuda_kernels/arguments.py.
// Sizes and strides count elements. Pointers are host pointers but for the tensors of the CUDA launchers.
#pragma once

#include <cstdint>

#define FACELATENT_MAX_TAPS 32  // a side of a filter

typedef struct {
    int32_t abi, bytes, dtype, device;
    int32_t threads;          // of the CPU launcher
    int32_t up_x, up_y, down_x, down_y;
    int32_t taps_x, taps_y;   // at most FACELATENT_MAX_TAPS on the GPU
    int32_t separable;        // filter holds the taps_x factors along x, then the taps_y factors along y; else [taps_y, taps_x]
    int64_t pad_left, pad_top;
    int64_t n, c, in_h, in_w, out_h, out_w;
    int64_t x_stride[4], y_stride[4];  // n, c, h, w
    const double* filter;     // in the order of a correlation, with the gain
    const void* x;
    void* y;
    void* stream;
} facelatent_upfirdn2d_arguments;

// order 0: y = clamp(gain * act(x + b)); 1: y = gradient of that along g; 2: y = derivative of 1 by x, along h.
typedef struct {
    int32_t abi, bytes, dtype, device;
    int32_t threads, order, activation;
    int32_t reserved;
    int64_t count;            // elements of x, g, h and y, which share one dense layout
    int64_t bias_size;        // 1 without a bias
    int64_t bias_step;        // element i has the bias (i / bias_step) % bias_size
    double alpha, gain, clamp;  // clamp < 0: off
    const void *x, *b, *g, *h;  // b may be null; g from order 1, h in order 2
    void* y;
    void* stream;
} facelatent_bias_act_arguments;
